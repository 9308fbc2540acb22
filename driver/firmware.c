#include "driver/firmware.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

enum { DESCRIPTOR_MAX_BYTES = 256 * 1024 };

#define ARCH    "x86_64"
#define MACHINE "pc-q35-"

void machine_firmware_clear(Firmware *firmware)
{
    g_clear_pointer(&firmware->uefi_code, g_free);
    g_clear_pointer(&firmware->uefi_vars, g_free);
    g_clear_pointer(&firmware->uefi_secure_code, g_free);
    g_clear_pointer(&firmware->uefi_secure_vars, g_free);
}

static bool has_word(const json_t *list, const char *word)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (g_strcmp0(json_string_value(item), word) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_prefix(const json_t *list, const char *prefix)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        if (json_is_string(item) && g_str_has_prefix(json_string_value(item), prefix)) {
            return true;
        }
    }
    return false;
}

static bool is_for_us(const json_t *root)
{
    size_t i;
    json_t *target;
    if (!has_word(json_object_get(root, "interface-types"), "uefi")) {
        return false;
    }
    json_array_foreach(json_object_get(root, "targets"), i, target)
    {
        const char *arch = json_string_value(json_object_get(target, "architecture"));
        if (g_strcmp0(arch, ARCH) == 0 &&
            has_prefix(json_object_get(target, "machines"), MACHINE)) {
            return true;
        }
    }
    return false;
}

static const char *image(const json_t *mapping, const char *which)
{
    const json_t *object = json_object_get(mapping, which);
    const char *file = json_string_value(json_object_get(object, "filename"));
    const char *format = json_string_value(json_object_get(object, "format"));
    return file && g_strcmp0(format, "raw") == 0 && access(file, R_OK) == 0 ? file : NULL;
}

static void take(const json_t *root, Firmware *out)
{
    const json_t *mapping = json_object_get(root, "mapping");
    const json_t *features = json_object_get(root, "features");
    const char *device = json_string_value(json_object_get(mapping, "device"));
    const char *mode = json_string_value(json_object_get(mapping, "mode"));
    const char *code = image(mapping, "executable"), *vars = image(mapping, "nvram-template");
    if (!is_for_us(root) || g_strcmp0(device, "flash") != 0 ||
        (mode && strcmp(mode, "split") != 0) || !code || !vars) {
        return;
    }
    bool is_secure = has_word(features, "secure-boot") && has_word(features, "requires-smm");
    if (is_secure && has_word(features, "enrolled-keys") && !out->uefi_secure_code) {
        out->uefi_secure_code = g_strdup(code);
        out->uefi_secure_vars = g_strdup(vars);
    } else if (!has_word(features, "secure-boot") && !has_word(features, "requires-smm") &&
               !has_word(features, "amd-sev-es") && !out->uefi_code) {
        out->uefi_code = g_strdup(code);
        out->uefi_vars = g_strdup(vars);
    }
}

static void list_descriptors(const char *folder, GTree *paths)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        if (g_str_has_suffix(name, ".json")) {
            g_tree_replace(paths, g_strdup(name), g_build_filename(folder, name, NULL));
        }
    }
}

static int compare(gconstpointer a, gconstpointer b, gpointer data)
{
    (void)data;
    return strcmp(a, b);
}

static gboolean read_one(gpointer name, gpointer path, gpointer out)
{
    (void)name;
    size_t n = 0;
    g_autofree char *text = base_file_read_user(path, DESCRIPTOR_MAX_BYTES, &n, NULL);
    json_t *root = text ? json_loadb(text, n, 0, NULL) : NULL;
    take(root, out);
    json_decref(root);
    return FALSE;
}

void machine_firmware_find(const char *const *folders, Firmware *out)
{
    static const char *const usual[] = {"/usr/share/qemu/firmware", "/etc/qemu/firmware", NULL};
    g_autoptr(GTree) paths = g_tree_new_full(compare, NULL, g_free, g_free);
    *out = (Firmware){0};
    for (const char *const *folder = folders ? folders : usual; *folder; folder++) {
        list_descriptors(*folder, paths);
    }
    g_tree_foreach(paths, read_one, out);
}
