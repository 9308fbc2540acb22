#include "cloudinit/config_keys.h"

#include "base/report.h"

#include <string.h>

#define STR  KEY_STRING
#define BOOL KEY_BOOL
#define LIST KEY_LIST
#define MAP  KEY_MAP
#define NUM  KEY_NUMBER
/* PyYAML turns unquoted words and digits into other types, where cloud-init then takes their text.
 */
#define TEXT (KEY_STRING | KEY_NUMBER)
#define NAME (KEY_STRING | KEY_NUMBER | KEY_BOOL)
#define END                                                                                        \
    {                                                                                              \
        NULL, 0, NULL                                                                              \
    }

const ConfigKey seed_config_keys[] = {
    {"allow_public_ssh_keys", BOOL, NULL},
    {"ansible", MAP, NULL},
    {"apk_repos", MAP, NULL},
    {"apt", MAP, NULL},
    {"apt_pipelining", NUM | BOOL | STR, NULL},
    {"apt_reboot_if_required", BOOL, "package_reboot_if_required"},
    {"apt_update", BOOL, "package_update"},
    {"apt_upgrade", BOOL, "package_upgrade"},
    {"authkey_hash", STR, NULL},
    {"autoinstall", MAP, NULL},
    {"bootcmd", LIST, NULL},
    {"byobu_by_default", STR, NULL},
    {"ca-certs", MAP, "ca_certs"},
    {"ca_certs", MAP, NULL},
    {"chef", MAP, NULL},
    {"chpasswd", MAP, NULL},
    {"cloud_config_modules", LIST, NULL},
    {"cloud_final_modules", LIST, NULL},
    {"cloud_init_modules", LIST, NULL},
    {"create_hostname_file", BOOL, NULL},
    {"datasource", MAP, NULL},
    {"datasource_list", LIST, NULL},
    {"debug", MAP, NULL},
    {"def_log_file", STR, NULL},
    {"device_aliases", MAP, NULL},
    {"disable_ec2_metadata", BOOL, NULL},
    {"disable_root", BOOL, NULL},
    {"disable_root_opts", STR, NULL},
    {"disk_setup", MAP, NULL},
    {"drivers", MAP, NULL},
    {"fan", MAP, NULL},
    {"final_message", STR, NULL},
    {"fqdn", TEXT, NULL},
    {"fs_setup", LIST, NULL},
    {"groups", STR | LIST | MAP, NULL},
    {"growpart", MAP, NULL},
    {"grub-dpkg", MAP, "grub_dpkg"},
    {"grub_dpkg", MAP, NULL},
    {"hostname", TEXT, NULL},
    {"keyboard", MAP, NULL},
    {"landscape", MAP, NULL},
    {"launch-index", NUM | STR, NULL},
    {"locale", STR | BOOL, NULL},
    {"locale_configfile", STR, NULL},
    {"log_cfgs", LIST, NULL},
    {"lxd", MAP, NULL},
    {"manage_etc_hosts", BOOL | STR, NULL},
    {"manage_resolv_conf", BOOL, NULL},
    {"manual_cache_clean", BOOL, NULL},
    {"mcollective", MAP, NULL},
    {"merge_how", STR | LIST | MAP, NULL},
    {"merge_type", STR | LIST | MAP, NULL},
    {"migrate", BOOL, NULL},
    {"mount_default_fields", LIST, NULL},
    {"mounts", LIST, NULL},
    {"no_ssh_fingerprints", BOOL, NULL},
    {"ntp", MAP | KEY_NULL, NULL},
    {"output", MAP, NULL},
    {"package_reboot_if_required", BOOL, NULL},
    {"package_update", BOOL, NULL},
    {"package_upgrade", BOOL, NULL},
    {"packages", LIST, NULL},
    {"password", TEXT, NULL},
    {"phone_home", MAP, NULL},
    {"power_state", MAP, NULL},
    {"prefer_fqdn_over_hostname", BOOL, NULL},
    {"preserve_hostname", BOOL, NULL},
    {"puppet", MAP, NULL},
    {"random_seed", MAP, NULL},
    {"reporting", MAP, NULL},
    {"resize_rootfs", BOOL | STR, NULL},
    {"resolv_conf", MAP, NULL},
    {"rh_subscription", MAP, NULL},
    {"rsyslog", MAP | LIST, NULL},
    {"runcmd", LIST, NULL},
    {"salt_minion", MAP, NULL},
    {"snap", MAP, NULL},
    {"spacewalk", MAP, NULL},
    {"ssh", MAP, NULL},
    {"ssh_authorized_keys", LIST, NULL},
    {"ssh_deletekeys", BOOL, NULL},
    {"ssh_fp_console_blacklist", LIST, NULL},
    {"ssh_genkeytypes", LIST, NULL},
    {"ssh_import_id", LIST, NULL},
    {"ssh_key_console_blacklist", LIST, NULL},
    {"ssh_keys", MAP, NULL},
    {"ssh_publish_hostkeys", MAP, NULL},
    {"ssh_pwauth", BOOL | STR, NULL},
    {"ssh_quiet_keygen", BOOL, NULL},
    {"swap", MAP, NULL},
    {"syslog_fix_perms", STR | LIST, NULL},
    {"system_info", MAP, NULL},
    {"timezone", STR, NULL},
    {"ubuntu_advantage", MAP, "ubuntu_pro"},
    {"ubuntu_pro", MAP, NULL},
    {"unverified_modules", LIST, NULL},
    {"updates", MAP, NULL},
    {"user", STR | MAP, NULL},
    {"users", LIST | STR | MAP, NULL},
    {"vendor_data", MAP, NULL},
    {"vendor_data2", MAP, NULL},
    {"wireguard", MAP | KEY_NULL, NULL},
    {"write_files", LIST, NULL},
    {"yum_repo_dir", STR, NULL},
    {"yum_repos", MAP, NULL},
    {"zypper", MAP, NULL},
    END,
};

const ConfigKey seed_user_keys[] = {
    {"create_groups", BOOL, NULL},
    {"doas", LIST, NULL},
    {"expiredate", KEY_ANY, NULL}, /* a date is a time in YAML */
    {"gecos", NAME, NULL},
    {"groups", STR | LIST | MAP, NULL},
    {"hashed_passwd", STR, NULL},
    {"homedir", STR, NULL},
    {"inactive", KEY_ANY, NULL},
    {"lock-passwd", BOOL, "lock_passwd"},
    {"lock_passwd", BOOL, NULL},
    {"name", NAME, NULL},
    {"no-create-home", BOOL, "no_create_home"},
    {"no-log-init", BOOL, "no_log_init"},
    {"no-user-group", BOOL, "no_user_group"},
    {"no_create_home", BOOL, NULL},
    {"no_log_init", BOOL, NULL},
    {"no_user_group", BOOL, NULL},
    {"passwd", TEXT, NULL},
    {"plain_text_passwd", TEXT, NULL},
    {"primary-group", STR, "primary_group"},
    {"primary_group", NAME, NULL},
    {"selinux-user", STR, "selinux_user"},
    {"selinux_user", STR, NULL},
    {"shell", STR, NULL},
    {"snapuser", STR, NULL},
    {"ssh-authorized-keys", LIST, "ssh_authorized_keys"},
    {"ssh-import-id", LIST, "ssh_import_id"},
    {"ssh_authorized_keys", LIST, NULL},
    {"ssh_import_id", LIST, NULL},
    {"ssh_redirect_user", BOOL, NULL},
    {"sudo", STR | LIST | BOOL | KEY_NULL, NULL},
    {"system", BOOL, NULL},
    {"uid", NUM | STR, NULL},
    END,
};

const ConfigKey seed_write_file_keys[] = {
    {"append", BOOL, NULL},
    {"content", KEY_ANY & ~(KEY_LIST | KEY_MAP), NULL},
    {"defer", BOOL, NULL},
    {"encoding", STR, NULL},
    {"owner", STR, NULL},
    {"path", STR, NULL},
    {"permissions", STR, NULL},
    {"source", MAP, NULL},
    END,
};

const ConfigKey seed_chpasswd_keys[] = {
    {"expire", BOOL, NULL},
    {"list", STR | LIST, "users"},
    {"users", LIST, NULL},
    END,
};

const ConfigKey seed_ca_certs_keys[] = {
    {"remove-defaults", BOOL, "remove_defaults"},
    {"remove_defaults", BOOL, NULL},
    {"trusted", LIST, NULL},
    END,
};

const ConfigKey seed_power_state_keys[] = {
    {"condition", STR | BOOL | LIST, NULL},
    {"delay", NUM | STR, NULL},
    {"message", STR, NULL},
    {"mode", STR, NULL},
    {"timeout", NUM, NULL},
    END,
};

const ConfigKey *seed_config_key_find(const ConfigKey *table, const char *name)
{
    for (const ConfigKey *key = table; key->name; key++) {
        if (strcmp(key->name, name) == 0) {
            return key;
        }
    }
    return NULL;
}

const char *seed_config_key_nearest(const ConfigKey *table, const char *name)
{
    g_autofree char *word = g_ascii_strdown(name, -1);
    g_strdelimit(word, "-", '_');
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const ConfigKey *key = table; key->name; key++) {
        if (!key->replacement) {
            g_ptr_array_add(names, (char *)key->name);
        }
    }
    g_ptr_array_add(names, NULL);
    return base_report_nearest(word, (const char *const *)names->pdata);
}

static unsigned node_type(const YamlNode *node)
{
    if (node->kind != YAML_SCALAR) {
        return node->kind == YAML_LIST ? KEY_LIST : KEY_MAP;
    }
    switch (seed_yaml_scalar_type(node)) {
    case YAML_INT:
    case YAML_FLOAT:
        return KEY_NUMBER;
    case YAML_BOOL:
        return KEY_BOOL;
    case YAML_NULL:
        return KEY_NULL;
    case YAML_STRING:
        return KEY_STRING;
    case YAML_TIME:
        break;
    }
    return 0;
}

bool seed_config_type_fits(const ConfigKey *key, const YamlNode *value)
{
    return key->types == KEY_ANY || (node_type(value) & key->types) != 0;
}

char *seed_config_type_nouns(unsigned types)
{
    static const struct {
        unsigned type;
        const char *noun;
    } nouns[] = {
        {KEY_STRING, "a string"}, {KEY_NUMBER, "a number"}, {KEY_BOOL, "true or false"},
        {KEY_NULL, "nothing"},    {KEY_LIST, "a list"},     {KEY_MAP, "a map"},
    };
    GString *text = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(nouns); i++) {
        if (types & nouns[i].type) {
            g_string_append_printf(text, "%s%s", text->len > 0 ? " or " : "", nouns[i].noun);
        }
    }
    return g_string_free(text, FALSE);
}
