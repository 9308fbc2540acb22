#include "cloudinit/vendor.h"

#include "cloudinit/check.h"
#include "cloudinit/feeder.h"
#include "cloudinit/json_text.h"
#include "cloudinit/mime.h"
#include "cloudinit/name.h"

#include <string.h>

/* The parts with what they borrow from. */
typedef struct {
    GArray *parts; /* of MimePart */
    GPtrArray *names;
    GPtrArray *bytes;
} PartList;

static void part_add(PartList *list, const char *type, const char *filename, GBytes *bytes)
{
    char *name = g_strdup(filename);
    g_ptr_array_add(list->names, name);
    g_ptr_array_add(list->bytes, bytes);
    MimePart part = {.type = type, .filename = name, .bytes = bytes};
    g_array_append_val(list->parts, part);
}

static void part_add_text(PartList *list, const char *type, const char *filename, const char *text)
{
    part_add(list, type, filename, g_bytes_new(text, strlen(text)));
}

/* --- the user's own vendor-data ------------------------------------------------------------------
 */

static const char *kind_mime_type(SeedKind kind)
{
    static const char *const types[] = {
        [SEED_KIND_CLOUD_CONFIG] = "text/cloud-config",
        [SEED_KIND_SCRIPT] = "text/x-shellscript",
        [SEED_KIND_MIME] = NULL,
        [SEED_KIND_JINJA] = "text/jinja2",
        [SEED_KIND_GZIP] = "application/gzip",
        [SEED_KIND_BOOTHOOK] = "text/cloud-boothook",
        [SEED_KIND_INCLUDE] = "text/x-include-url",
        [SEED_KIND_CONFIG_ARCHIVE] = "text/cloud-config-archive",
        [SEED_KIND_PART_HANDLER] = "text/part-handler",
        [SEED_KIND_EMPTY] = NULL,
        [SEED_KIND_UNKNOWN] = "text/plain",
    };
    return types[kind];
}

static void add_users_own(PartList *list, const SpecText *text)
{
    SeedKind kind = text->text ? seed_kind_detect(text->text, text->n_bytes) : SEED_KIND_EMPTY;
    if (kind != SEED_KIND_EMPTY) {
        part_add(list, kind_mime_type(kind), "user-vendor-data",
                 g_bytes_new(text->text, text->n_bytes));
    }
}

/* --- cloud-config ------------------------------------------------------------------------------
 */

static void set_text(json_t *object, const char *key, const char *text)
{
    if (text) {
        json_object_set_new(object, key, seed_json_string(text));
    }
}

/* What the image says of its default user (groups, shell, locked password) stays; the name is ours.
 */
static void set_user(json_t *config, const MachineSpec *spec)
{
    const char *name = seed_login_user(spec);
    json_t *user = json_object();
    set_text(user, "name", name);
    if (strcmp(name, "root") == 0) {
        json_object_set_new(config, "disable_root", json_false());
    } else {
        set_text(user, "sudo", "ALL=(ALL) NOPASSWD:ALL");
    }
    json_object_set_new(config, "user", user);
}

static json_t *json_strings(const GPtrArray *texts)
{
    json_t *list = json_array();
    for (unsigned i = 0; texts && i < texts->len; i++) {
        json_array_append_new(list, seed_json_string(texts->pdata[i]));
    }
    return list;
}

static bool has_items(const GPtrArray *array)
{
    return array && array->len > 0;
}

static char *config_text(const json_t *config)
{
    g_autofree char *json = seed_json_text(config, TRUE);
    return g_strconcat("#cloud-config\n", json, "\n", NULL);
}

static void add_config(PartList *list, const SeedInput *input)
{
    const MachineSpec *spec = input->spec;
    json_t *config = json_object();
    set_user(config, spec);
    set_text(config, "timezone", spec->timezone);
    set_text(config, "locale", spec->locale);
    set_text(config, "manage_etc_hosts", "localhost");
    if (has_items(spec->ca_certs)) {
        json_object_set_new(config, "ca_certs",
                            json_pack("{s:o}", "trusted", json_strings(spec->ca_certs)));
    }
    if (input->host_key) {
        json_t *keys = json_object();
        set_text(keys, "ed25519_private", input->host_key->private_openssh);
        set_text(keys, "ed25519_public", input->host_key->public_line);
        json_object_set_new(config, "ssh_keys", keys);
    }
    g_autofree char *text = config_text(config);
    part_add_text(list, "text/cloud-config", "vm-config", text);
    json_decref(config);
}

/* --- scripts -------------------------------------------------------------------------------------
 */

static void add_password(PartList *list, const SeedInput *input)
{
    const char *user = seed_login_user(input->spec);
    const char *hash = input->password_hash;
    if (!hash || !seed_user_name_is_valid(user) || !seed_password_hash_check(hash, NULL)) {
        return;
    }
    g_autofree char *text = g_strconcat("#!/bin/sh\n"
                                        "exec chpasswd -e <<'VM_RUN_END'\n",
                                        user, ":", hash, "\nVM_RUN_END\n", NULL);
    part_add_text(list, "text/x-shellscript", "vm-10-password", text);
}

/* A script that has cloud-init's module apply `config`. The config is JSON in one line that begins
 * with '{', so it can't be the line that ends it. The two forms of the command line: cloud-init
 * takes --file before the subcommand up to 23, and after it in later versions; argparse ends with 2
 * when it doesn't know an option. */
static void add_module(PartList *list, const char *filename, const char *module, json_t *config)
{
    g_autofree char *json = seed_json_text(config, FALSE);
    g_autofree char *text = g_strconcat("#!/bin/sh\n"
                                        "config=$(mktemp /run/vm-run-config.XXXXXX) || exit 1\n"
                                        "cat >\"$config\" <<'VM_RUN_END'\n",
                                        json,
                                        "\nVM_RUN_END\n"
                                        "cloud-init --file \"$config\" single --name ",
                                        module,
                                        " --frequency always\n"
                                        "status=$?\n"
                                        "if [ $status -eq 2 ]; then\n"
                                        "    cloud-init single --file \"$config\" --name ",
                                        module,
                                        " --frequency always\n"
                                        "    status=$?\n"
                                        "fi\n"
                                        "rm -f \"$config\"\n"
                                        "exit $status\n",
                                        NULL);
    part_add_text(list, "text/x-shellscript", filename, text);
    json_decref(config);
}

static json_t *file_json(const SpecWriteFile *file)
{
    json_t *json = json_object();
    set_text(json, "path", file->path);
    set_text(json, "content", file->content ? file->content : "");
    if (file->is_base64) {
        set_text(json, "encoding", "b64");
    }
    set_text(json, "owner", file->owner ? file->owner : "root:root");
    set_text(json, "permissions", file->permissions ? file->permissions : "0644");
    if (file->is_append) {
        json_object_set_new(json, "append", json_true());
    }
    return json;
}

static void add_files(PartList *list, const MachineSpec *spec)
{
    if (!has_items(spec->write_files)) {
        return;
    }
    json_t *files = json_array();
    for (unsigned i = 0; i < spec->write_files->len; i++) {
        json_array_append_new(files, file_json(spec->write_files->pdata[i]));
    }
    add_module(list, "vm-20-files", "write_files", json_pack("{s:o}", "write_files", files));
}

static void add_packages(PartList *list, const MachineSpec *spec)
{
    if (!has_items(spec->packages)) {
        return;
    }
    json_t *config =
        json_pack("{s:o, s:b, s:b, s:b}", "packages", json_strings(spec->packages),
                  "package_update", 1, "package_upgrade", 0, "package_reboot_if_required", 0);
    add_module(list, "vm-30-packages", "package_update_upgrade_install", config);
}

static void add_run(PartList *list, const MachineSpec *spec)
{
    for (unsigned i = 0; spec->run && i < spec->run->len; i++) {
        g_autofree char *name = g_strdup_printf("vm-40-run-%04u", i);
        g_autofree char *text = g_strconcat("#!/bin/sh\n", spec->run->pdata[i], "\n", NULL);
        part_add_text(list, "text/x-shellscript", name, text);
    }
}

GBytes *seed_vendor_build(const SeedInput *input)
{
    g_autoptr(GArray) parts = g_array_new(FALSE, FALSE, sizeof(MimePart));
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) bytes = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    PartList list = {parts, names, bytes};
    add_users_own(&list, &input->spec->cloud_init.vendor_data);
    add_config(&list, input);
    if (input->has_status_port) {
        part_add_text(&list, "text/cloud-boothook", "vm-feeder", seed_feeder_text());
    }
    add_password(&list, input);
    add_files(&list, input->spec);
    add_packages(&list, input->spec);
    add_run(&list, input->spec);
    return seed_mime_build((const MimePart *)(const void *)parts->data, parts->len);
}
