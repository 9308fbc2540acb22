#include "cloudinit/look.h"

#include "cloudinit/seed.h"

#include <string.h>

/*
 * How it works: a key of user-data replaces the same key of vendor-data whole (maps are merged key
 * by key). What can survive that goes another way (seed.h); this file says what can't. The user's
 * own vendor-data stands before ours in one text, so there it is the user's key that loses.
 */

static bool is_scalar_text(const YamlNode *node, const char *text)
{
    return node && node->kind == YAML_SCALAR && text && strcmp(node->text, text) == 0;
}

/* As cloud-init's is_true(): these words in any case, quoted or not. */
static bool is_true(const YamlNode *node)
{
    static const char *const words[] = {"true", "1", "on", "yes", NULL};
    if (!node || node->kind != YAML_SCALAR) {
        return false;
    }
    g_autofree char *word = g_ascii_strdown(node->text, -1);
    return g_strv_contains(words, word);
}

/* One line: `key` of the text against our setting `ours` with this value. */
static void note_setting(const Look *look, const YamlNode *root, const char *key, const char *ours,
                         const char *value)
{
    const YamlNode *node = seed_yaml_key(root, key);
    if (!node || !value || is_scalar_text(seed_yaml_value(root, key), value)) {
        return;
    }
    g_autofree char *shown = base_report_escape(value, 60);
    g_autofree char *hint = g_strdup_printf("drop one of the two");
    if (look->is_vendor) {
        LOOK_AT(look, LOOK_NOTE, node, hint, "'%s' loses against the machine's %s '%s'", key, ours,
                shown);
    } else {
        LOOK_AT(look, LOOK_NOTE, node, hint, "'%s' wins over the machine's %s '%s'", key, ours,
                shown);
    }
}

static void note_user(const Look *look, const YamlNode *root)
{
    const YamlNode *key = seed_yaml_key(root, "user");
    const YamlNode *user = seed_yaml_value(root, "user");
    const char *ours = seed_login_user(look->spec);
    if (!user || look->is_vendor) {
        return;
    }
    const YamlNode *name = user->kind == YAML_MAP ? seed_yaml_value(user, "name") : user;
    if (!name || name->kind != YAML_SCALAR || strcmp(name->text, ours) == 0) {
        return;
    }
    g_autofree char *shown = base_report_escape(name->text, 60);
    g_autofree char *hint = g_strdup_printf("say `user: %s` in the machine too", shown);
    LOOK_AT(look, LOOK_NOTE, key, hint,
            "'user' makes '%s' the login user in place of '%s', whom vm-run logs in as", shown,
            ours);
}

static void note_lost_list(const Look *look, const YamlNode *root, const char *key,
                           const char *member, const char *lost)
{
    const YamlNode *map = seed_yaml_value(root, key);
    const YamlNode *node = seed_yaml_key(map, member);
    if (node && !look->is_vendor) {
        LOOK_AT(look, LOOK_NOTE, node, "put them in one place", "'%s.%s' replaces %s", key, member,
                lost);
    }
}

static void note_host_names(const Look *look, const YamlNode *root)
{
    const MachineSpec *spec = look->spec;
    const char *hostname = spec->hostname ? spec->hostname : spec->name;
    if (look->is_vendor) {
        return;
    }
    note_setting(look, root, "hostname", "host name", hostname);
    const YamlNode *fqdn = seed_yaml_value(root, "fqdn");
    size_t n = hostname ? strcspn(hostname, ".") : 0;
    bool is_same = fqdn && fqdn->kind == YAML_SCALAR && hostname &&
                   strncmp(fqdn->text, hostname, n) == 0 &&
                   (fqdn->text[n] == '.' || fqdn->text[n] == '\0');
    if (!is_same) {
        note_setting(look, root, "fqdn", "host name", hostname);
    }
    const YamlNode *preserve = seed_yaml_key(root, "preserve_hostname");
    if (preserve && is_true(seed_yaml_value(root, "preserve_hostname")) && hostname) {
        LOOK_AT(look, LOOK_NOTE, preserve, NULL,
                "with 'preserve_hostname' the guest keeps the image's "
                "host name");
    }
}

static void note_root(const Look *look, const YamlNode *root)
{
    const YamlNode *key = seed_yaml_key(root, "disable_root");
    if (key && !look->is_vendor && is_true(seed_yaml_value(root, "disable_root")) &&
        strcmp(seed_login_user(look->spec), "root") == 0) {
        LOOK_AT(look, LOOK_NOTE, key, NULL,
                "'disable_root' shuts out root, whom vm-run logs in as");
    }
}

static bool is_vendor_disabled(const YamlNode *root)
{
    const YamlNode *enabled = seed_yaml_value(seed_yaml_value(root, "vendor_data"), "enabled");
    return enabled && !is_true(enabled);
}

static void note_vendor_disabled(const Look *look, const YamlNode *root)
{
    if (is_vendor_disabled(root) && !look->is_vendor) {
        const YamlNode *key = seed_yaml_key(seed_yaml_value(root, "vendor_data"), "enabled");
        LOOK_AT(look, LOOK_NOTE, key, NULL,
                "'vendor_data: {enabled: false}' drops the machine's user '%s', run, packages, "
                "write_files "
                "and everything else but host name, keys and network",
                seed_login_user(look->spec));
    }
}

/* A list of modules in user-data replaces the image's; ours need these two. */
static void note_module_list(const Look *look, const YamlNode *root, const char *key,
                             const char *module, const char *lost)
{
    const YamlNode *list = seed_yaml_value(root, key);
    if (!list || list->kind != YAML_LIST || look->is_vendor) {
        return;
    }
    for (unsigned i = 0; i < list->items->len; i++) {
        const YamlNode *item = list->items->pdata[i];
        const YamlNode *name =
            item->kind == YAML_LIST && item->items->len > 0 ? item->items->pdata[0] : item;
        if (name->kind == YAML_SCALAR) {
            g_autofree char *word = g_strdup(name->text);
            if (strcmp(g_strdelimit(word, "-", '_'), module) == 0) {
                return;
            }
        }
    }
    LOOK_AT(look, LOOK_NOTE, seed_yaml_key(root, key), NULL, "'%s' without %s drops %s", key,
            module, lost);
}

/* --- can anybody log in?
 * --------------------------------------------------------------------------- */

static bool list_has_password(const YamlNode *users)
{
    for (unsigned i = 0; users && users->kind == YAML_LIST && i < users->items->len; i++) {
        const YamlNode *user = users->items->pdata[i];
        if (seed_yaml_key(user, "passwd") || seed_yaml_key(user, "hashed_passwd") ||
            seed_yaml_key(user, "plain_text_passwd")) {
            return true;
        }
    }
    return false;
}

static bool has_password(const MachineSpec *spec, const YamlNode *root)
{
    return (!is_vendor_disabled(root) && (spec->password_hash || spec->password)) ||
           seed_yaml_key(root, "password") || seed_yaml_key(root, "chpasswd") ||
           list_has_password(seed_yaml_value(root, "users"));
}

static bool has_key_of_its_own(const YamlNode *root)
{
    const YamlNode *users = seed_yaml_value(root, "users");
    for (unsigned i = 0; users && users->kind == YAML_LIST && i < users->items->len; i++) {
        const YamlNode *user = users->items->pdata[i];
        if (seed_yaml_key(user, "ssh_authorized_keys") ||
            seed_yaml_key(user, "ssh-authorized-keys") || seed_yaml_key(user, "ssh_import_id")) {
            return true;
        }
    }
    return seed_yaml_key(root, "ssh_authorized_keys") || seed_yaml_key(root, "ssh_import_id");
}

/* Over the network our own key opens the login user, unless vendor-data (that makes this user) is
 * off; at the console only a password helps. */
static void note_no_login(const Look *look, const YamlNode *root)
{
    const MachineSpec *spec = look->spec;
    if (look->is_vendor || look->is_part || has_password(spec, root)) {
        return;
    }
    bool is_disabled = is_vendor_disabled(root);
    bool has_ssh = seed_look_has_network(spec) && (!is_disabled || has_key_of_its_own(root) ||
                                                   (spec->ssh_keys && spec->ssh_keys->len > 0));
    if (!has_ssh) {
        const YamlNode *vendor = is_disabled ? seed_yaml_key(root, "vendor_data") : NULL;
        seed_look_add(look, LOOK_NOTE, vendor ? vendor->line : 1, vendor ? vendor->col : 1,
                      seed_look_has_network(spec) ? "add ssh_keys or a password_hash"
                                                  : "add a password_hash for the console",
                      "no way to log in: %s and no password",
                      seed_look_has_network(spec) ? "no key of a user that the guest has"
                                                  : "no network");
    }
}

void seed_look_at_displaced(const Look *look, const YamlNode *root)
{
    const MachineSpec *spec = look->spec;
    note_setting(look, root, "timezone", "time zone", spec->timezone);
    note_setting(look, root, "locale", "locale", spec->locale);
    note_host_names(look, root);
    note_user(look, root);
    note_root(look, root);
    if (spec->ca_certs && spec->ca_certs->len > 0) {
        note_lost_list(look, root, "ca_certs", "trusted", "the machine's ca_certs");
    }
    note_lost_list(look, root, "ssh_keys", "ed25519_private",
                   "the host key by which vm-run knows this guest");
    note_vendor_disabled(look, root);
    note_module_list(look, root, "cloud_final_modules", "scripts_vendor",
                     "the machine's run, packages, write_files and password");
    note_module_list(look, root, "cloud_init_modules", "users_groups", "the login user");
    note_no_login(look, root);
}
