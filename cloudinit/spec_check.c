#include "cloudinit/check.h"

#include "cloudinit/keys.h"
#include "cloudinit/look.h"
#include "cloudinit/name.h"
#include "cloudinit/yaml_tree.h"

#include <string.h>

#define HOSTNAME_MAX_BYTES 253
#define LABEL_MAX_BYTES    63
#define META_KEY_MAX_BYTES 1000 /* a YAML key in one line may have 1024 characters */

typedef struct {
    const MachineSpec *spec;
    BaseReport *report;
} SpecLook;

static void complain(const SpecLook *look, const char *path, const BasePos *pos, const char *hint,
                     const char *format, ...) G_GNUC_PRINTF(5, 6);

/* pos: NULL: where the option was written. */
static void complain(const SpecLook *look, const char *path, const BasePos *pos, const char *hint,
                     const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    base_report_error(look->report, VM_ERROR_CI, pos ? pos : spec_machine_origin(look->spec, path),
                      hint, "%s: %s", path, what);
}

static bool is_made_of(const char *text, const char *allowed)
{
    return *text != '\0' && strspn(text, allowed) == strlen(text);
}

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

/* --- single values
 * ---------------------------------------------------------------------------------- */

static bool is_label(const char *label)
{
    size_t n = strlen(label);
    return n >= 1 && n <= LABEL_MAX_BYTES && is_made_of(label, LOWER UPPER DIGITS "-") &&
           label[0] != '-' && label[n - 1] != '-';
}

static void check_hostname(const SpecLook *look)
{
    const char *name = look->spec->hostname;
    if (!name) {
        return;
    }
    g_auto(GStrv) labels = g_strsplit(name, ".", -1);
    bool is_good = strlen(name) <= HOSTNAME_MAX_BYTES && !is_made_of(name, DIGITS ".");
    for (char **label = labels; *label; label++) {
        is_good = is_good && is_label(*label);
    }
    if (!is_good) {
        complain(look, "hostname", NULL, "use letters, digits and '-', at most 63 between dots",
                 "this is no host name");
    }
}

static void check_user(const SpecLook *look)
{
    const char *user = look->spec->user;
    if (user && !seed_user_name_is_valid(user)) {
        complain(look, "user", NULL, "use lower-case letters, digits, '_' and '-'",
                 "this is no login name");
    }
}

/* A name below the zoneinfo folder, which it must not leave. */
static void check_timezone(const SpecLook *look)
{
    const char *zone = look->spec->timezone;
    if (!zone) {
        return;
    }
    if (!is_made_of(zone, LOWER UPPER DIGITS "_+-/") || zone[0] == '/' || strstr(zone, "//") ||
        g_str_has_suffix(zone, "/")) {
        complain(look, "timezone", NULL, "use a name as Europe/Berlin", "this is no time zone");
    }
}

static void check_locale(const SpecLook *look)
{
    const char *locale = look->spec->locale;
    if (locale && (!is_made_of(locale, LOWER UPPER DIGITS "_.@-") || !g_ascii_isalpha(*locale))) {
        complain(look, "locale", NULL, "use a name as C.UTF-8 or de_DE.UTF-8", "this is no locale");
    }
}

static void check_hash(const SpecLook *look)
{
    g_autoptr(GError) error = NULL;
    if (look->spec->password_hash && !seed_password_hash_check(look->spec->password_hash, &error)) {
        complain(look, "password_hash", NULL, NULL, "%s", error->message);
    }
}

/* --- lists
 * -------------------------------------------------------------------------------------------- */

static const BasePos *item_pos(const SpecLook *look, const char *path)
{
    const BasePos *pos = spec_machine_origin(look->spec, path);
    if (pos) {
        return pos;
    }
    g_autofree char *list = g_strndup(path, strcspn(path, "["));
    return spec_machine_origin(look->spec, list);
}

static void check_packages(const SpecLook *look)
{
    const GPtrArray *packages = look->spec->packages;
    for (unsigned i = 0; packages && i < packages->len; i++) {
        const char *name = packages->pdata[i];
        if (!is_made_of(name, LOWER UPPER DIGITS ".+:~_=/@*^-") || strchr("-=", name[0])) {
            g_autofree char *path = g_strdup_printf("packages[%u]", i);
            complain(look, path, item_pos(look, path), "write a package name",
                     "this is no package");
        }
    }
    if (packages && packages->len > 0 && !seed_look_has_network(look->spec)) {
        base_report_warning(look->report, VM_ERROR_CI, item_pos(look, "packages"), NULL,
                            "packages: the machine has no network to fetch them from");
    }
}

static void check_run(const SpecLook *look)
{
    const GPtrArray *run = look->spec->run;
    for (unsigned i = 0; run && i < run->len; i++) {
        const char *command = run->pdata[i];
        if (command[strspn(command, " \t\n")] == '\0') {
            g_autofree char *path = g_strdup_printf("run[%u]", i);
            complain(look, path, item_pos(look, path), NULL, "an empty command");
        }
    }
}

static bool is_pem_certificate(const char *text)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----\n";
    static const char end[] = "-----END CERTIFICATE-----";
    const char *body = strstr(text, begin);
    const char *stop = body ? strstr(body, end) : NULL;
    if (!stop) {
        return false;
    }
    g_autofree char *base64 = g_strndup(body + strlen(begin), (gsize)(stop - body) - strlen(begin));
    return is_made_of(base64, LOWER UPPER DIGITS "+/=\r\n ");
}

static void check_ca_certs(const SpecLook *look)
{
    const GPtrArray *certs = look->spec->ca_certs;
    for (unsigned i = 0; certs && i < certs->len; i++) {
        g_autofree char *path = g_strdup_printf("ca_certs[%u]", i);
        if (strstr(certs->pdata[i], "PRIVATE KEY-----")) {
            base_report_error(look->report, VM_ERROR_SECRET, item_pos(look, path),
                              "give the certificate alone", "%s: holds a private key", path);
        } else if (!is_pem_certificate(certs->pdata[i])) {
            complain(look, path, item_pos(look, path), NULL, "this is no PEM certificate");
        }
    }
}

/* --- write_files
 * --------------------------------------------------------------------------------------- */

static bool is_file_path(const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    for (unsigned i = 1; *path == '/' && names[i]; i++) {
        bool is_name =
            *names[i] != '\0' && strcmp(names[i], ".") != 0 && strcmp(names[i], "..") != 0;
        if (!is_name) {
            return false;
        }
    }
    return *path == '/';
}

static bool is_owner(const char *owner)
{
    g_auto(GStrv) names = g_strsplit(owner, ":", -1);
    unsigned n = g_strv_length(names);
    for (unsigned i = 0; i < n; i++) {
        if (!is_made_of(names[i], LOWER UPPER DIGITS "_.-$") || names[i][0] == '-') {
            return false;
        }
    }
    return n == 1 || n == 2;
}

static void check_file(const SpecLook *look, const SpecWriteFile *file, unsigned i)
{
    g_autofree char *path = g_strdup_printf("write_files[%u]", i);
    size_t n_bits = file->permissions ? strlen(file->permissions) : 3;
    if (!file->path || !is_file_path(file->path)) {
        complain(look, path, &file->pos, "begin with '/', without . and ..",
                 "the path is not that of a file");
    }
    if (file->permissions &&
        (!is_made_of(file->permissions, "01234567") || n_bits < 3 || n_bits > 5)) {
        complain(look, path, &file->pos, "write them as in \"0644\"",
                 "the permissions are no octal number");
    }
    if (file->owner && !is_owner(file->owner)) {
        complain(look, path, &file->pos, "write it as root:root",
                 "the owner is not USER or USER:GROUP");
    }
    if (file->is_base64 && file->content && *file->content != '\0' &&
        !is_made_of(file->content, LOWER UPPER DIGITS "+/=\r\n ")) {
        complain(look, path, &file->pos, NULL, "the content is not base64");
    }
}

/* --- the texts of cloud_init
 * ---------------------------------------------------------------------------- */

static void check_vendor_data(const SpecLook *spec_look)
{
    const SpecText *text = &spec_look->spec->cloud_init.vendor_data;
    Look look = {.spec = spec_look->spec,
                 .report = spec_look->report,
                 .noun = "vendor-data",
                 .pos = text->pos,
                 .is_vendor = true};
    if (text->text) {
        seed_look_at_user_text(&look, text);
    }
}

static YamlTree *parse_map(const Look *look, const SpecText *text)
{
    g_autoptr(YamlTree) tree = seed_look_parse(look, text->text, text->n_bytes);
    if (tree && (!tree->root || tree->root->kind != YAML_MAP)) {
        seed_look_add(look, LOOK_FATAL, 1, 1, NULL, "must be a map, not %s",
                      tree->root ? seed_yaml_noun(tree->root) : "nothing");
        return NULL;
    }
    return g_steal_pointer(&tree);
}

static void check_network_members(const Look *look, const YamlNode *map, bool is_v2)
{
    static const char *const v1[] = {"version", "config", NULL};
    static const char *const v2[] = {
        "version", "renderer", "ethernets", "bonds",         "bridges",    "vlans",       "wifis",
        "modems",  "tunnels",  "vrfs",      "dummy-devices", "nm-devices", "openvswitch", NULL};
    const char *const *known = is_v2 ? v2 : v1;
    for (unsigned i = 0; i + 1 < map->items->len; i += 2) {
        const YamlNode *key = map->items->pdata[i];
        if (!g_strv_contains(known, key->text)) {
            const char *nearest = base_report_nearest(key->text, known);
            g_autofree char *hint = nearest ? g_strdup_printf("did you mean '%s'?", nearest) : NULL;
            g_autofree char *shown = base_report_escape(key->text, 60);
            LOOK_AT(look, LOOK_MISTAKE, key, hint, "unknown key '%s' of version %d", shown,
                    is_v2 ? 2 : 1);
        }
    }
}

static void check_network(const SpecLook *spec_look)
{
    const SpecText *text = &spec_look->spec->cloud_init.network_config;
    Look look = {.spec = spec_look->spec,
                 .report = spec_look->report,
                 .noun = "network-config",
                 .pos = text->pos};
    g_autoptr(YamlTree) tree = text->text ? parse_map(&look, text) : NULL;
    if (!tree) {
        return;
    }
    const YamlNode *inner = seed_yaml_value(tree->root, "network");
    const YamlNode *map = inner && inner->kind == YAML_MAP ? inner : tree->root;
    const YamlNode *version = seed_yaml_value(map, "version");
    bool is_known = version && version->kind == YAML_SCALAR &&
                    (strcmp(version->text, "1") == 0 || strcmp(version->text, "2") == 0);
    if (!is_known) {
        LOOK_AT(&look, LOOK_FATAL, version ? version : map, "begin with version: 2",
                "version must be 1 or 2");
        return;
    }
    check_network_members(&look, map, *version->text == '2');
}

static void check_meta_keys(const Look *look, const YamlNode *map)
{
    for (unsigned i = 0; i + 1 < map->items->len; i += 2) {
        const YamlNode *key = map->items->pdata[i];
        if (strlen(key->text) > META_KEY_MAX_BYTES) {
            LOOK_AT(look, LOOK_FATAL, key, NULL, "a key of more than %d bytes", META_KEY_MAX_BYTES);
        } else if (strcmp(key->text, "instance-id") == 0) {
            LOOK_AT(look, LOOK_NOTE, key, NULL, "'instance-id' is the machine's own and stays");
        } else if (key->is_duplicate) {
            g_autofree char *shown = base_report_escape(key->text, 60);
            LOOK_AT(look, LOOK_MISTAKE, key, "only the last one counts", "'%s' stands twice",
                    shown);
        }
    }
}

static void check_meta_data(const SpecLook *spec_look)
{
    const SpecText *text = &spec_look->spec->cloud_init.meta_data;
    Look look = {.spec = spec_look->spec,
                 .report = spec_look->report,
                 .noun = "meta-data",
                 .pos = text->pos};
    g_autoptr(YamlTree) tree = text->text ? parse_map(&look, text) : NULL;
    if (!tree) {
        return;
    }
    check_meta_keys(&look, tree->root);
    json_t *json = seed_yaml_to_json(tree->root);
    if (!json) {
        seed_look_add(&look, LOOK_FATAL, 1, 1, NULL, "its aliases unfold to more than is taken");
    }
    json_decref(json);
}

void seed_check_spec(const MachineSpec *spec, BaseReport *report)
{
    SpecLook look = {spec, report};
    check_hostname(&look);
    check_user(&look);
    check_timezone(&look);
    check_locale(&look);
    check_hash(&look);
    check_packages(&look);
    check_run(&look);
    check_ca_certs(&look);
    for (unsigned i = 0; spec->write_files && i < spec->write_files->len; i++) {
        check_file(&look, spec->write_files->pdata[i], i);
    }
    check_vendor_data(&look);
    check_network(&look);
    check_meta_data(&look);
}
