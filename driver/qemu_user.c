#include "driver/qemu_user.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ACCOUNT_BYTES = 16384, GROUPS_MAX = 256 };

/* Accounts of the libvirt packages, Debian's first. */
static const char *const package_users[] = {"libvirt-qemu", "qemu"};

static bool find_user(const char *name, QemuUser *out)
{
    g_autofree char *buffer = g_malloc(ACCOUNT_BYTES);
    struct passwd account, *found = NULL;
    if (getpwnam_r(name, &account, buffer, ACCOUNT_BYTES, &found) != 0 || !found) {
        return false;
    }
    *out = (QemuUser){account.pw_uid, account.pw_gid};
    return true;
}

static bool find_group(const char *name, gid_t *out)
{
    g_autofree char *buffer = g_malloc(ACCOUNT_BYTES);
    struct group group, *found = NULL;
    if (getgrnam_r(name, &group, buffer, ACCOUNT_BYTES, &found) != 0 || !found) {
        return false;
    }
    *out = group.gr_gid;
    return true;
}

/* The packages' user with the group of the same name, as the packages configure it. */
static QemuUser package_user(void)
{
    QemuUser user = {geteuid(), getegid()};
    for (unsigned i = 0; i < G_N_ELEMENTS(package_users); i++) {
        if (find_user(package_users[i], &user)) {
            find_group(package_users[i], &user.gid);
            return user;
        }
    }
    return user;
}

QemuUser machine_qemu_user_embed(void)
{
    return geteuid() == 0 ? package_user() : (QemuUser){geteuid(), getegid()};
}

/* The last `key = "value"` of a libvirt configuration file, NULL: none. Comments begin with '#'. */
static char *conf_value(const char *text, const char *key)
{
    g_autofree char *value = NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) sides = g_strsplit(g_strstrip(lines[i]), "=", 2);
        if (!sides[0] || !sides[1] || strcmp(g_strstrip(sides[0]), key) != 0) {
            continue;
        }
        const char *quoted = g_strstrip(sides[1]);
        const char *end = *quoted == '"' ? strchr(quoted + 1, '"') : NULL;
        if (end) {
            g_free(value);
            value = g_strndup(quoted + 1, (size_t)(end - quoted - 1));
        }
    }
    return g_steal_pointer(&value);
}

/* "+64055" is a number, anything else a name. */
static bool is_number(const char *text, guint64 *out)
{
    return *text == '+' && g_ascii_string_to_unsigned(text + 1, 10, 0, G_MAXUINT32 - 1, out, NULL);
}

QemuUser machine_qemu_user_system(const char *conf_text)
{
    QemuUser user = package_user();
    g_autofree char *user_text = conf_text ? conf_value(conf_text, "user") : NULL;
    g_autofree char *group_text = conf_text ? conf_value(conf_text, "group") : NULL;
    guint64 number = 0;
    if (user_text && is_number(user_text, &number)) {
        user.uid = (uid_t)number;
    } else if (user_text) {
        find_user(user_text, &user);
    }
    if (group_text && is_number(group_text, &number)) {
        user.gid = (gid_t)number;
    } else if (group_text) {
        find_group(group_text, &user.gid);
    }
    return user;
}

static bool is_in_group(const QemuUser *user, gid_t gid)
{
    g_autofree char *buffer = g_malloc(ACCOUNT_BYTES);
    struct passwd account, *found = NULL;
    gid_t groups[GROUPS_MAX];
    int n = GROUPS_MAX;
    if (gid == user->gid) {
        return true;
    }
    if (getpwuid_r(user->uid, &account, buffer, ACCOUNT_BYTES, &found) != 0 || !found ||
        getgrouplist(account.pw_name, user->gid, groups, &n) < 0) {
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return gid == account.pw_gid;
}

/* bits: as the last octal digit of a mode. */
static bool is_allowed(const QemuUser *user, const struct stat *st, unsigned bits)
{
    if (user->uid == 0) {
        return true;
    }
    unsigned shift = st->st_uid == user->uid ? 6 : is_in_group(user, st->st_gid) ? 3 : 0;
    return ((st->st_mode >> shift) & bits) == bits;
}

bool machine_qemu_user_can_open(const QemuUser *user, const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && is_allowed(user, &st, 06);
}

/* Can `user` look up a name in this folder? */
static bool can_pass(const QemuUser *user, const char *folder)
{
    struct stat st;
    if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode) || is_allowed(user, &st, 01)) {
        return true; /* what isn't there, or is no folder, blocks nobody */
    }
    if (geteuid() != 0) {
        return false;
    }
    /* The kernel knows about ACLs; file system ids are this thread's alone. */
    g_autofree char *inside = g_build_filename(folder, ".", NULL);
    setfsgid(user->gid);
    setfsuid(user->uid);
    bool is_ok = stat(inside, &st) == 0;
    setfsuid(geteuid());
    setfsgid(getegid());
    return is_ok;
}

char *machine_qemu_user_blocker(const QemuUser *user, const char *path)
{
    g_autofree char *prefix = g_strdup("/");
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (unsigned i = 0; parts[i]; i++) {
        if (*parts[i]) {
            char *longer = g_build_filename(prefix, parts[i], NULL);
            g_free(prefix);
            prefix = longer;
        }
        if (!can_pass(user, prefix)) {
            return g_steal_pointer(&prefix);
        }
    }
    return NULL;
}
