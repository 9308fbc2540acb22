#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/report.h"

static bool is_no_name(const char *last)
{
    return !*last || !strcmp(last, ".") || !strcmp(last, "..");
}

int base_path_open_parent(int dirfd, const char *name, const char **out_last, GError **error)
{
    const char *slash = strrchr(name, '/');
    const char *last = slash ? slash + 1 : name;
    if (is_no_name(last)) {
        g_autofree char *shown = base_path_show(dirfd, name);
        base_fail(error, VM_ERROR_PATH, "'%s' names no file in a folder", shown);
        return -1;
    }
    g_autofree char *parent = NULL;
    if (slash) {
        parent = g_strndup(name, (size_t)MAX(slash - name, 1)); /* "/x" lies in "/" */
    }
    int fd = openat(dirfd, parent ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int errnum = errno;
        g_autofree char *shown = base_path_show(dirfd, parent ? parent : ".");
        base_error_set_errno(error, errnum, "cannot open folder '%s'", shown);
        return -1;
    }
    *out_last = last;
    return fd;
}

char *base_path_show(int dirfd, const char *name)
{
    if (dirfd == AT_FDCWD || *name == '/') {
        return base_report_escape(name, 0);
    }
    char folder[PATH_MAX];
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", dirfd);
    ssize_t n = readlink(link, folder, sizeof folder - 1);
    if (n < 0) {
        return base_report_escape(name, 0);
    }
    folder[n] = '\0';
    g_autofree char *path =
        !strcmp(name, ".") ? g_strdup(folder) : g_strdup_printf("%s/%s", folder, name);
    return base_report_escape(path, 0);
}
