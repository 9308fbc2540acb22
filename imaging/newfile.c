#include "imaging/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_TMP_NAMES 16 /* tries; a clash of 32 random bits is an accident */

static bool open_named(ImgNewFile *file)
{
    for (int i = 0; i < N_TMP_NAMES; i++) {
        g_snprintf(file->tmp_name, sizeof(file->tmp_name), ".tmp-%08x", g_random_int());
        file->fd = openat(file->dirfd, file->tmp_name,
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file->fd >= 0 || errno != EEXIST) {
            break;
        }
    }
    if (file->fd < 0) {
        file->tmp_name[0] = '\0';
    }
    return file->fd >= 0;
}

/* A umask can only take bits away: 0600 survives all but odd ones, so the chmod is seldom made. */
static bool set_mode(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && ((st.st_mode & 07777) == 0600 || fchmod(fd, 0600) == 0);
}

static bool open_folder(ImgNewFile *file, int dirfd, const char *name)
{
    const char *slash = strrchr(name, '/');
    g_autofree char *folder = slash ? g_strndup(name, (gsize)(slash - name) + 1) : g_strdup(".");
    file->name = g_strdup(slash ? slash + 1 : name);
    file->dirfd = openat(dirfd, folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return file->dirfd >= 0;
}

ImgNewFile *img_new_file_open(int dirfd, const char *name, GError **error)
{
    g_autoptr(ImgNewFile) file = g_new0(ImgNewFile, 1);
    file->fd = file->dirfd = -1;
    if (!open_folder(file, dirfd, name)) {
        base_error_set_errno(error, errno, "cannot open the folder of '%s'", name);
        return NULL;
    }
    file->fd = openat(file->dirfd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    bool has_no_tmpfile =
        file->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL);
    if ((file->fd < 0 && !(has_no_tmpfile && open_named(file))) || !set_mode(file->fd)) {
        base_error_set_errno(error, errno, "cannot create a file in the folder of '%s'", name);
        return NULL;
    }
    return g_steal_pointer(&file);
}

/* linkat() by way of /proc, since AT_EMPTY_PATH wants CAP_DAC_READ_SEARCH (openat(2), O_TMPFILE).
 */
static bool link_nameless(const ImgNewFile *file)
{
    char self[32];
    g_snprintf(self, sizeof(self), "/proc/self/fd/%d", file->fd);
    return linkat(AT_FDCWD, self, file->dirfd, file->name, AT_SYMLINK_FOLLOW) == 0;
}

bool img_new_file_commit(ImgNewFile *file, GError **error)
{
    bool is_done = file->tmp_name[0] == '\0' ? link_nameless(file)
                                             : renameat2(file->dirfd, file->tmp_name, file->dirfd,
                                                         file->name, RENAME_NOREPLACE) == 0;
    if (!is_done) {
        base_error_set_errno(error, errno, "cannot create '%s'", file->name);
        return false;
    }
    file->tmp_name[0] = '\0';
    return true;
}

void img_new_file_free(ImgNewFile *file)
{
    if (!file) {
        return;
    }
    if (file->tmp_name[0] != '\0') {
        unlinkat(file->dirfd, file->tmp_name, 0);
    }
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->dirfd >= 0) {
        close(file->dirfd);
    }
    g_free(file->name);
    g_free(file);
}

bool img_new_file_write(ImgNewFile *file, const void *data, size_t n, uint64_t offset,
                        GError **error)
{
    size_t done = 0;
    while (done < n) {
        ssize_t put = pwrite(file->fd, (const char *)data + done, n - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            base_error_set_errno(error, errno, "cannot write %zu bytes", n);
            return false;
        }
        done += (size_t)put;
    }
    return true;
}
