#include "driver/event.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "driver/event_line.h"

/*
 * How following works: the file itself is watched for IN_MODIFY, its directory only for names that
 * come and go (the machine's disks are in that directory too, and each of their writes would be an
 * event). next() first empties the inotify queue and then reads: whatever is written after the
 * reading makes the descriptor readable again. The machine is gone when the file that was open has
 * no name any more: a removal takes the files before the directory, and the directory's own
 * IN_DELETE_SELF comes late where another process has it open.
 */
struct MachineFollower {
    char *dir;
    char *path;
    int inotify_fd;
    int file_wd;     /* -1: none */
    int file_fd;     /* -1: there is no file yet */
    uint64_t offset; /* of the first byte that was not given out */
    GString *unread; /* bytes from `offset` on */
};

bool machine_event_append(int machine_dirfd, const char *type, unsigned boot,
                          uint64_t start_boottime_ms, const char *members_json, GError **error)
{
    return machine_event_append_late(machine_dirfd, type, boot, start_boottime_ms, 0, members_json,
                                     error);
}

bool machine_event_append_late(int machine_dirfd, const char *type, unsigned boot,
                               uint64_t start_boottime_ms, uint64_t age_ms,
                               const char *members_json, GError **error)
{
    json_error_t json_error;
    json_auto_t *members = json_loads(members_json, JSON_REJECT_DUPLICATES, &json_error);
    if (!json_is_object(members)) {
        return base_fail(error, VM_ERROR_INTERNAL, "event '%s': members are no JSON object: %s",
                         type, members ? "another type" : json_error.text);
    }
    EventStamp stamp = {.boot = boot, .start_ms = start_boottime_ms, .age_ms = age_ms};
    int errnum = event_line_append(machine_dirfd, true, &stamp, type, members);
    if (errnum != 0) {
        base_error_set_errno(error, errnum, "cannot append to '" EVENT_FILE "'");
    }
    return errnum == 0;
}

void machine_follower_free(MachineFollower *follower)
{
    if (!follower) {
        return;
    }
    base_fd_close(&follower->inotify_fd);
    base_fd_close(&follower->file_fd);
    g_string_free(follower->unread, TRUE);
    g_free(follower->path);
    g_free(follower->dir);
    g_free(follower);
}

/* Opens the file when it has come (again). */
static void follower_open_file(MachineFollower *follower)
{
    if (follower->file_fd >= 0) {
        return;
    }
    int fd = open(follower->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return;
    }
    follower->file_fd = fd;
    follower->file_wd = inotify_add_watch(follower->inotify_fd, follower->path,
                                          IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF);
}

MachineFollower *machine_follower_new(const char *machine_dir, uint64_t offset, GError **error)
{
    g_autoptr(MachineFollower) follower = g_new0(MachineFollower, 1);
    follower->dir = g_strdup(machine_dir);
    follower->path = g_build_filename(machine_dir, EVENT_FILE, NULL);
    follower->offset = offset;
    follower->unread = g_string_new(NULL);
    follower->file_wd = follower->file_fd = -1;
    follower->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (follower->inotify_fd < 0) {
        base_error_set_errno(error, errno, "cannot follow '%s'", machine_dir);
        return NULL;
    }
    if (inotify_add_watch(follower->inotify_fd, machine_dir,
                          IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF |
                              IN_ONLYDIR) < 0) {
        base_error_set_errno(error, errno, "cannot follow '%s'", machine_dir);
        return NULL;
    }
    follower_open_file(follower);
    return g_steal_pointer(&follower);
}

int machine_follower_fd(const MachineFollower *follower)
{
    return follower->inotify_fd;
}

uint64_t machine_follower_offset(const MachineFollower *follower)
{
    return follower->offset;
}

static void follower_drain(MachineFollower *follower)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    while (read(follower->inotify_fd, events, sizeof events) > 0) {
        continue;
    }
}

/* Reads on; false: nothing new. A file that became shorter is read from its beginning. */
static bool follower_read(MachineFollower *follower)
{
    struct stat file;
    if (follower->file_fd < 0 || fstat(follower->file_fd, &file) != 0) {
        return false;
    }
    if ((uint64_t)file.st_size < follower->offset) {
        follower->offset = 0;
        g_string_truncate(follower->unread, 0);
    }
    char bytes[16384];
    ssize_t n = pread(follower->file_fd, bytes, sizeof bytes,
                      (off_t)(follower->offset + follower->unread->len));
    if (n <= 0) {
        return false;
    }
    g_string_append_len(follower->unread, bytes, n);
    return true;
}

static char *follower_take_line(MachineFollower *follower)
{
    while (follower->unread->len > 0 && follower->unread->str[0] == '\n') { /* no event */
        g_string_erase(follower->unread, 0, 1);
        follower->offset++;
    }
    char *end = memchr(follower->unread->str, '\n', follower->unread->len);
    if (!end) {
        if (follower->unread->len > 2 * EVENT_LINE_MAX) { /* no line of ours */
            follower->offset += follower->unread->len;
            g_string_truncate(follower->unread, 0);
        }
        return NULL;
    }
    gsize n = (gsize)(end - follower->unread->str);
    char *line = g_strndup(follower->unread->str, n);
    g_string_erase(follower->unread, 0, (gssize)n + 1);
    follower->offset += n + 1;
    return line;
}

static bool follower_is_gone(MachineFollower *follower)
{
    struct stat named, opened;
    if (follower->file_fd < 0) {
        return stat(follower->dir, &named) != 0 && errno == ENOENT;
    }
    if (lstat(follower->path, &named) != 0) {
        return errno == ENOENT || errno == ENOTDIR;
    }
    /* another machine of this name by now */
    return fstat(follower->file_fd, &opened) == 0 && named.st_ino != opened.st_ino;
}

char *machine_follower_next(MachineFollower *follower, bool *out_is_gone)
{
    *out_is_gone = false;
    char *line = follower_take_line(follower);
    if (line) {
        return line;
    }
    follower_drain(follower);
    follower_open_file(follower);
    do {
        line = follower_take_line(follower);
    } while (!line && follower_read(follower));
    if (!line) {
        *out_is_gone = follower_is_gone(follower);
    }
    return line;
}
