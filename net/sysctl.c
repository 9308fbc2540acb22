#include "net/sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/report.h"

static const char *const folders[] = {
    [NET_SYSCTL_IPV4] = "/proc/sys/net/ipv4/conf",
    [NET_SYSCTL_IPV6] = "/proc/sys/net/ipv6/conf",
};
_Static_assert(G_N_ELEMENTS(folders) == NET_SYSCTL_FAMILY_N, "a folder for each family");

enum { VALUE_MAX_BYTES = 32 };

/* The kernel takes nearly anything as a link's name; here it must be one component of a path. */
static bool check_names(const char *link, const char *key, GError **error)
{
    bool is_good = *key != '\0';
    for (const char *c = key; *c; c++) {
        is_good = is_good && (g_ascii_islower(*c) || g_ascii_isdigit(*c) || *c == '_');
    }
    if (!is_good) {
        return base_fail(error, VM_ERROR_INTERNAL, "this is no setting of a link");
    }
    if (!*link || strlen(link) >= IFNAMSIZ || strchr(link, '/') || !strcmp(link, ".") ||
        !strcmp(link, "..")) {
        g_autofree char *shown = base_report_escape(link, 60);
        return base_fail(error, VM_ERROR_NET, "'%s' is no name of a network link", shown);
    }
    return true;
}

/* The descriptor of the setting; -1 with errno. Below /proc/sys there are no links to follow, and
 * the names were checked to be one component each. */
static int open_key(NetSysctlFamily family, const char *link, const char *key, int flags)
{
    g_autofree char *path = g_build_filename(folders[family], link, key, NULL);
    return open(path, flags | O_NOFOLLOW | O_CLOEXEC);
}

static bool fail(GError **error, const char *verb, NetSysctlFamily family, const char *link,
                 const char *key)
{
    base_error_set_errno(error, errno, "cannot %s '%s/%s/%s'", verb, folders[family], link, key);
    return false;
}

bool net_sysctl_read(NetSysctlFamily family, const char *link, const char *key, int *out_value,
                     GError **error)
{
    char text[VALUE_MAX_BYTES] = "";
    if (!check_names(link, key, error)) {
        return false;
    }
    autofd int fd = open_key(family, link, key, O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) {
        return fail(error, "read", family, link, key);
    }
    *out_value = atoi(text);
    return true;
}

bool net_sysctl_ensure(NetSysctlFamily family, const char *link, const char *key, int value,
                       GError **error)
{
    int found = 0;
    char text[VALUE_MAX_BYTES];
    if (!net_sysctl_read(family, link, key, &found, error)) {
        return false;
    }
    if (found == value) {
        return true;
    }
    int n = g_snprintf(text, sizeof text, "%d", value);
    autofd int fd = open_key(family, link, key, O_WRONLY);
    return (fd >= 0 && write(fd, text, (size_t)n) == n) || fail(error, "set", family, link, key);
}

bool net_sysctl_exists(NetSysctlFamily family, const char *key)
{
    autofd int fd = open_key(family, "all", key, O_PATH);
    return fd >= 0;
}
