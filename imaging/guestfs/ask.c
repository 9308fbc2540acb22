#include "imaging/guestfs/ask.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>

#include "schemas/yaml.h"

#define N_FILESYSTEMS_MAX (size_t)64
#define N_KERNELS_MAX     16
#define N_TEXT_MAX        (INT64_C(256) * 1024)

/* Lists of libguestfs are NULL-terminated, they and their strings from malloc(). */

static void list_free(char **list)
{
    for (char **at = list; at && *at; at++) {
        free(*at);
    }
    free(list);
}

static void list_clear(char ***list)
{
    list_free(*list);
}
#define autolist __attribute__((cleanup(list_clear))) char **

/* Takes the malloc'ed text. Bytes of the guest: what is no UTF-8 becomes U+FFFD. */
static json_t *take_text(char *text)
{
    if (!text || !*text || strcmp(text, "unknown") == 0) {
        free(text);
        return json_null();
    }
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    free(text);
    json_t *value = json_string(valid);
    return value ? value : json_null();
}

/* --- file systems ----------------------------------------------------------------------------- */

static json_t *ask_size(guestfs_h *g, const char *device)
{
    int64_t bytes = guestfs_blockdev_getsize64(g, device);
    return bytes >= 0 ? json_integer(bytes) : json_null(); /* a subvolume has none */
}

json_t *guestfs_ask_filesystems(guestfs_h *g)
{
    json_t *array = json_array();
    autolist pairs = guestfs_list_filesystems(g);
    for (size_t i = 0; pairs && pairs[i] && pairs[i + 1] && i < 2 * N_FILESYSTEMS_MAX; i += 2) {
        json_t *object = json_object();
        json_object_set_new(object, "device", take_text(strdup(pairs[i])));
        json_object_set_new(object, "type", take_text(strdup(pairs[i + 1])));
        json_object_set_new(object, "size", ask_size(g, pairs[i]));
        json_object_set_new(object, "label", take_text(guestfs_vfs_label(g, pairs[i])));
        json_array_append_new(array, object);
    }
    return array;
}

/* --- operating system ------------------------------------------------------------------------- */

static json_t *ask_version(guestfs_h *g, const char *root)
{
    int major = guestfs_inspect_get_major_version(g, root);
    int minor = guestfs_inspect_get_minor_version(g, root);
    if (major < 0 || (major == 0 && minor <= 0)) {
        return json_null();
    }
    g_autofree char *text =
        minor > 0 ? g_strdup_printf("%d.%d", major, minor) : g_strdup_printf("%d", major);
    return json_string(text);
}

static int by_length(const void *a, const void *b)
{
    size_t x = strlen(((char *const *)a)[0]), y = strlen(((char *const *)b)[0]);
    return (x > y) - (x < y);
}

/* Mounts what the system's fstab says, outer folders first; what can't be mounted is left out. */
static void mount_all(guestfs_h *g, const char *root)
{
    autolist pairs = guestfs_inspect_get_mountpoints(g, root);
    size_t n = 0;
    while (pairs && pairs[n] && pairs[n + 1]) {
        n += 2;
    }
    if (n > 0) {
        qsort(pairs, n / 2, 2 * sizeof(*pairs), by_length);
    }
    for (size_t i = 0; i < n; i += 2) {
        guestfs_mount_ro(g, pairs[i + 1], pairs[i]);
    }
}

json_t *guestfs_ask_os(guestfs_h *g)
{
    static const struct {
        const char *key;
        char *(*ask)(guestfs_h *, const char *);
    } rows[] = {
        {"type", guestfs_inspect_get_type},
        {"distro", guestfs_inspect_get_distro},
        {"product", guestfs_inspect_get_product_name},
        {"arch", guestfs_inspect_get_arch},
        {"hostname", guestfs_inspect_get_hostname},
        {"package_format", guestfs_inspect_get_package_format},
    };
    autolist roots = guestfs_inspect_os(g);
    if (!roots || !roots[0]) {
        return json_null();
    }
    json_t *object = json_object();
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_object_set_new(object, rows[i].key, take_text(rows[i].ask(g, roots[0])));
    }
    json_object_set_new(object, "version", ask_version(g, roots[0]));
    mount_all(g, roots[0]);
    return object;
}

/* --- files of the system ---------------------------------------------------------------------- */

static bool is_file(guestfs_h *g, const char *path)
{
    return guestfs_is_file_opts(g, path, GUESTFS_IS_FILE_OPTS_FOLLOWSYMLINKS, 1, -1) > 0;
}

json_t *guestfs_ask_guest_agent(guestfs_h *g)
{
    return json_boolean(is_file(g, "/usr/sbin/qemu-ga") || is_file(g, "/usr/bin/qemu-ga"));
}

json_t *guestfs_ask_sshd(guestfs_h *g)
{
    return json_boolean(is_file(g, "/usr/sbin/sshd"));
}

/* A text file of moderate size, NULL when there is none. */
static char *read_text(guestfs_h *g, const char *path, size_t *out_n)
{
    if (!is_file(g, path) || guestfs_filesize(g, path) > N_TEXT_MAX) {
        return NULL;
    }
    return guestfs_read_file(g, path, out_n);
}

/* What stands in quotes after `name =`, NULL: nothing that looks like a version. */
static char *quoted_after(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    at = at ? at + strlen(name) + strspn(at + strlen(name), " =") : NULL;
    if (!at || (*at != '"' && *at != '\'')) {
        return NULL;
    }
    size_t n = strcspn(at + 1, "\"'\n@"); /* '@': a placeholder that the packager didn't fill */
    return n > 0 && (at[n + 1] == '"' || at[n + 1] == '\'') ? g_strndup(at + 1, n) : NULL;
}

/* cloudinit/version.py, in Python's words: the package's version, else upstream's. */
static json_t *ask_cloud_init_version(guestfs_h *g)
{
    size_t n = 0;
    autolist paths = guestfs_glob_expand(g, "/usr/lib/python3*/*-packages/cloudinit/version.py");
    g_autofree char *text = paths && paths[0] ? read_text(g, paths[0], &n) : NULL;
    if (!text) {
        return json_null();
    }
    char *version = quoted_after(text, "_PACKAGED_VERSION");
    return take_text(version ? version : quoted_after(text, "__VERSION__"));
}

/* system_info.default_user.name of /etc/cloud/cloud.cfg. A cloud.cfg that our reader refuses (it
 * knows no anchors) tells nothing. */
static json_t *ask_default_user(guestfs_h *g)
{
    size_t n = 0;
    g_autofree char *text = read_text(g, "/etc/cloud/cloud.cfg", &n);
    if (!text) {
        return json_null();
    }
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(SpecNode) node = spec_yaml_parse(text, n, NULL, report);
    static const char *const keys[] = {"system_info", "default_user", "name"};
    const SpecNode *at = node;
    for (size_t i = 0; at && i < G_N_ELEMENTS(keys); i++) {
        at = at->kind == SPEC_NODE_MAP ? spec_node_get(at, keys[i]) : NULL;
    }
    return at && at->kind == SPEC_NODE_SCALAR ? take_text(strdup(at->text)) : json_null();
}

json_t *guestfs_ask_cloud_init(guestfs_h *g)
{
    bool is_there = is_file(g, "/usr/bin/cloud-init") || is_file(g, "/etc/cloud/cloud.cfg");
    json_t *object = json_object();
    json_object_set_new(object, "present", json_boolean(is_there));
    json_object_set_new(object, "version", is_there ? ask_cloud_init_version(g) : json_null());
    json_object_set_new(object, "default_user", is_there ? ask_default_user(g) : json_null());
    return object;
}

/* Is the driver there, as a module (packed or not) or built in? */
static json_t *ask_driver(guestfs_h *g, const char *kernel, const char *driver, const char *builtin)
{
    g_autofree char *pattern =
        g_strdup_printf("/lib/modules/%s/kernel/drivers/*/%s.ko*", kernel, driver);
    autolist found = guestfs_glob_expand(g, pattern);
    g_autofree char *name = g_strdup_printf("/%s.ko", driver);
    return json_boolean((found && found[0]) || (builtin && strstr(builtin, name)));
}

json_t *guestfs_ask_kernels(guestfs_h *g)
{
    json_t *array = json_array();
    bool has_modules =
        guestfs_is_dir_opts(g, "/lib/modules", GUESTFS_IS_DIR_OPTS_FOLLOWSYMLINKS, 1, -1) > 0;
    autolist names = has_modules ? guestfs_ls(g, "/lib/modules") : NULL;
    for (size_t i = 0; names && names[i] && i < N_KERNELS_MAX; i++) {
        size_t n = 0;
        g_autofree char *path = g_strdup_printf("/lib/modules/%s/modules.builtin", names[i]);
        g_autofree char *builtin = read_text(g, path, &n);
        json_t *object = json_object();
        json_object_set_new(object, "version", take_text(strdup(names[i])));
        json_object_set_new(object, "virtio_blk", ask_driver(g, names[i], "virtio_blk", builtin));
        json_object_set_new(object, "virtio_net", ask_driver(g, names[i], "virtio_net", builtin));
        json_array_append_new(array, object);
    }
    return array;
}
