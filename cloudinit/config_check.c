#include "cloudinit/look.h"

#include "cloudinit/config_keys.h"
#include "cloudinit/keys.h"

#include <string.h>

/* Names in messages are cut: a key may be a megabyte long. */
#define SHOWN_BYTES 60

static char *shown(const YamlNode *node)
{
    return base_report_escape(node->kind == YAML_SCALAR ? node->text : "", SHOWN_BYTES);
}

static bool is_merge_key(const YamlNode *key)
{
    return key->is_plain && strcmp(key->text, "<<") == 0;
}

static void check_unknown(const Look *look, const ConfigKey *table, const YamlNode *key,
                          const char *where)
{
    const char *nearest = seed_config_key_nearest(table, key->text);
    g_autofree char *name = shown(key);
    g_autofree char *hint = nearest ? g_strdup_printf("did you mean '%s'?", nearest) : NULL;
    LOOK_AT(look, LOOK_MISTAKE, key, hint ? hint : "cloud-init would ignore it",
            "%sunknown key '%s'", where, name);
}

static void check_deprecated(const Look *look, const ConfigKey *row, const YamlNode *key,
                             const char *where)
{
    if (row->replacement) {
        g_autofree char *hint = g_strdup_printf("use '%s'", row->replacement);
        LOOK_AT(look, LOOK_NOTE, key, *row->replacement == '\0' ? NULL : hint,
                "%s'%s' is going out of use", where, row->name);
    }
}

/* where: "" or "users[0]: ". */
static void check_map(const Look *look, const ConfigKey *table, const YamlNode *map,
                      const char *where)
{
    for (unsigned i = 0; i + 1 < map->items->len; i += 2) {
        const YamlNode *key = map->items->pdata[i];
        const YamlNode *value = map->items->pdata[i + 1];
        if (is_merge_key(key)) {
            continue;
        }
        const ConfigKey *row = seed_config_key_find(table, key->text);
        if (!row) {
            check_unknown(look, table, key, where);
        } else if (!seed_config_type_fits(row, value)) {
            g_autofree char *nouns = seed_config_type_nouns(row->types);
            LOOK_AT(look, LOOK_MISTAKE, value, NULL, "%s'%s' must be %s, not %s", where, row->name,
                    nouns, seed_yaml_noun(value));
        } else {
            check_deprecated(look, row, key, where);
        }
    }
}

/* --- elements of lists
 * ---------------------------------------------------------------------------- */

typedef void (*CheckItem)(const Look *look, const YamlNode *item, const char *where);

static void check_items(const Look *look, const YamlNode *root, const char *key, CheckItem check)
{
    const YamlNode *list = seed_yaml_value(root, key);
    for (unsigned i = 0; list && list->kind == YAML_LIST && i < list->items->len; i++) {
        g_autofree char *where = g_strdup_printf("%s[%u]: ", key, i);
        check(look, list->items->pdata[i], where);
    }
}

static bool is_string(const YamlNode *node)
{
    return node->kind == YAML_SCALAR && seed_yaml_scalar_type(node) == YAML_STRING;
}

/* A command is a shell line, or a list of words (numbers are taken as words). */
static void check_command(const Look *look, const YamlNode *item, const char *where)
{
    bool is_good = item->kind == YAML_LIST || is_string(item);
    for (unsigned i = 0; is_good && item->kind == YAML_LIST && i < item->items->len; i++) {
        const YamlNode *word = item->items->pdata[i];
        is_good = word->kind == YAML_SCALAR && seed_yaml_scalar_type(word) != YAML_NULL;
    }
    if (!is_good) {
        const char *hint =
            item->kind == YAML_MAP ? "put quotes around a command with ': ' in it" : NULL;
        LOOK_AT(look, LOOK_MISTAKE, item, hint,
                "%sa command must be a string or a list of strings, not %s", where,
                seed_yaml_noun(item));
    }
}

/* "nginx", [nginx, 1.2], or since 23.4 {apt: [...]}. */
static void check_package(const Look *look, const YamlNode *item, const char *where)
{
    if (item->kind == YAML_SCALAR && !is_string(item)) {
        LOOK_AT(look, LOOK_MISTAKE, item, NULL, "%sa package must be a string, not %s", where,
                seed_yaml_noun(item));
    }
}

static void check_key_line(const Look *look, const YamlNode *item, const char *where)
{
    if (!is_string(item)) {
        LOOK_AT(look, LOOK_MISTAKE, item, NULL, "%sa key must be a string, not %s", where,
                seed_yaml_noun(item));
    } else if (strstr(item->text, "PRIVATE KEY-----")) {
        LOOK_AT(look, LOOK_MISTAKE, item, "give the public half (.pub)",
                "%sthis is a private key, and the guest would keep it", where);
    }
}

static void check_permissions(const Look *look, const YamlNode *file, const char *where)
{
    const YamlNode *bits = seed_yaml_value(file, "permissions");
    if (bits && is_string(bits) &&
        (*bits->text == '\0' || strspn(bits->text, "01234567o") != strlen(bits->text))) {
        LOOK_AT(look, LOOK_MISTAKE, bits, "write them as in '0644'",
                "%sthe permissions are no octal number", where);
    }
}

static void check_encoding(const Look *look, const YamlNode *file, const char *where)
{
    static const char *const encodings[] = {"gz",         "gzip",     "gz+base64", "gzip+base64",
                                            "gz+b64",     "gzip+b64", "b64",       "base64",
                                            "text/plain", NULL};
    const YamlNode *encoding = seed_yaml_value(file, "encoding");
    if (encoding && is_string(encoding) && !g_strv_contains(encodings, encoding->text)) {
        g_autofree char *name = shown(encoding);
        LOOK_AT(look, LOOK_MISTAKE, encoding, "use b64, gz or gz+b64", "%sunknown encoding '%s'",
                where, name);
    }
}

static void check_file(const Look *look, const YamlNode *item, const char *where)
{
    if (item->kind != YAML_MAP) {
        LOOK_AT(look, LOOK_MISTAKE, item, NULL,
                "%sa file must be a map with path and content, not %s", where,
                seed_yaml_noun(item));
        return;
    }
    check_map(look, seed_write_file_keys, item, where);
    const YamlNode *path = seed_yaml_value(item, "path");
    if (!path && !seed_yaml_value(item, "<<")) {
        LOOK_AT(look, LOOK_MISTAKE, item, NULL, "%sthe path is missing", where);
    } else if (path && is_string(path) && *path->text != '/') {
        LOOK_AT(look, LOOK_MISTAKE, path, NULL, "%sthe path must be absolute", where);
    }
    check_permissions(look, item, where);
    check_encoding(look, item, where);
}

static void check_user(const Look *look, const YamlNode *item, const char *where)
{
    if (is_string(item)) {
        return; /* "default", or the name of a user */
    }
    if (item->kind == YAML_LIST) {
        return; /* a list of names */
    }
    if (item->kind != YAML_MAP) {
        LOOK_AT(look, LOOK_MISTAKE, item, NULL, "%sa user must be a name or a map, not %s", where,
                seed_yaml_noun(item));
        return;
    }
    check_map(look, seed_user_keys, item, where);
    check_items(look, item, "ssh_authorized_keys", check_key_line);
    check_items(look, item, "ssh-authorized-keys", check_key_line);
    if (!seed_yaml_value(item, "name") && !seed_yaml_value(item, "snapuser") &&
        !seed_yaml_value(item, "<<")) {
        LOOK_AT(look, LOOK_MISTAKE, item, "cloud-init would ignore it", "%sa user without a name",
                where);
    }
}

/* --- the whole ----------------------------------------------------------------------------------
 */

static void check_inner_map(const Look *look, const YamlNode *root, const char *key,
                            const ConfigKey *table)
{
    const YamlNode *map = seed_yaml_value(root, key);
    if (map && map->kind == YAML_MAP) {
        g_autofree char *where = g_strdup_printf("%s: ", key);
        check_map(look, table, map, where);
    }
}

/* At any depth: PyYAML takes the last one and says nothing. */
static void check_duplicates(const Look *look, const YamlTree *tree)
{
    for (unsigned i = 0; i < tree->nodes->len; i++) {
        const YamlNode *key = tree->nodes->pdata[i];
        if (key->is_duplicate) {
            g_autofree char *name = shown(key);
            LOOK_AT(look, LOOK_MISTAKE, key, "only the last one counts", "'%s' stands twice", name);
        }
    }
}

void seed_look_at_config(const Look *look, const YamlTree *tree)
{
    const YamlNode *root = tree->root;
    check_duplicates(look, tree);
    check_map(look, seed_config_keys, root, "");
    check_items(look, root, "runcmd", check_command);
    check_items(look, root, "bootcmd", check_command);
    check_items(look, root, "packages", check_package);
    check_items(look, root, "ssh_authorized_keys", check_key_line);
    check_items(look, root, "write_files", check_file);
    check_items(look, root, "users", check_user);
    check_inner_map(look, root, "user", seed_user_keys);
    check_inner_map(look, root, "chpasswd", seed_chpasswd_keys);
    check_inner_map(look, root, "ca_certs", seed_ca_certs_keys);
    check_inner_map(look, root, "ca-certs", seed_ca_certs_keys);
    check_inner_map(look, root, "power_state", seed_power_state_keys);
}
