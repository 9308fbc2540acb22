#include "driver/embed_root.h"

#include <string.h>
#include <unistd.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"

enum { CONF_MAX_BYTES = 64 * 1024, LOCK_ROUNDS = 10 };

/*
 * Each row was found necessary or wrong without (libvirt 9.0, QEMU 7.2, as root): no daemon for
 * logs; no cgroups, since theirs stay when QEMU ends unseen; no mount namespace, since sockets and
 * logs lie outside of libvirt's own folders; ownership is managed for what libvirt makes itself
 * (its sockets, secrets, NVRAM); our disks come as descriptors or with relabel='no' and are never
 * touched. seccomp stays on.
 */
static const char conf_rows[] = "stdio_handler = \"file\"\n"
                                "cgroup_controllers = [ ]\n"
                                "namespaces = [ ]\n"
                                "dynamic_ownership = 1\n"
                                "remember_owner = 0\n"
                                "security_driver = \"none\"\n";

char *machine_embed_conf(const QemuUser *user, bool is_root)
{
    g_autofree char *who = is_root ? g_strdup_printf("user = \"+%u\"\ngroup = \"+%u\"\n",
                                                     (unsigned)user->uid, (unsigned)user->gid)
                                   : g_strdup("");
    return g_strconcat("# Written by vm-run at each use: changes are lost.\n", who, conf_rows,
                       NULL);
}

bool machine_embed_root_check(const char *root, const QemuUser *user, GError **error)
{
    if (strlen(root) > MACHINE_EMBED_ROOT_MAX) {
        return base_fail(error, VM_ERROR_PATH,
                         "the path '%s' is too long for QEMU's sockets (%zu bytes, %d at most) - "
                         "choose a shorter one with --state-dir",
                         root, strlen(root), MACHINE_EMBED_ROOT_MAX);
    }
    g_autofree char *blocker = machine_qemu_user_blocker(user, root);
    if (blocker) {
        return base_fail(error, VM_ERROR_DENIED,
                         "QEMU runs as uid %u, which may not pass through '%s' - chmod o+x '%s', "
                         "or choose another place with --state-dir",
                         (unsigned)user->uid, blocker, blocker);
    }
    return true;
}

static bool write_conf(int etc_fd, const QemuUser *user, GError **error)
{
    g_autofree char *wanted = machine_embed_conf(user, geteuid() == 0);
    g_autofree char *now = base_file_read(etc_fd, "qemu.conf", CONF_MAX_BYTES, NULL, NULL);
    return g_strcmp0(now, wanted) == 0 ||
           base_file_write_whole(etc_fd, "qemu.conf", wanted, strlen(wanted), 0600, error);
}

bool machine_embed_root_prepare(const char *root, const QemuUser *user, GError **error)
{
    if (!machine_embed_root_check(root, user, error)) {
        return false;
    }
    mode_t mode = geteuid() == 0 ? 0711 : 0700; /* QEMU is another user when we are root */
    g_autofree char *etc = g_build_filename(root, "etc", NULL);
    g_autofree char *lib = g_build_filename(root, "lib", NULL); /* libvirt would make it 0700 */
    autofd int root_fd = base_dir_open_make(root, mode, error);
    autofd int lib_fd = root_fd >= 0 ? base_dir_open_make(lib, mode, error) : -1;
    autofd int etc_fd = lib_fd >= 0 ? base_dir_open_make(etc, 0700, error) : -1;
    return etc_fd >= 0 && write_conf(etc_fd, user, error);
}

/* Who holds the lock, as its file says: only compared. */
static char *read_holder(int dirfd, const char *name)
{
    return base_file_read(dirfd, name, CONF_MAX_BYTES, NULL, NULL);
}

static BaseLock *lock_in_turn(int dirfd, const char *name, int wait_ms, GError **error)
{
    g_autofree char *before = read_holder(dirfd, name);
    for (int round = 1;; round++) {
        g_autoptr(GError) busy = NULL;
        BaseLock *lock = base_lock_take(dirfd, name, wait_ms, &busy);
        if (lock) {
            return lock;
        }
        g_autofree char *now = read_holder(dirfd, name);
        if (round == LOCK_ROUNDS || g_strcmp0(before, now) == 0 ||
            !g_error_matches(busy, VM_ERROR, VM_ERROR_BUSY)) {
            g_propagate_error(error, g_steal_pointer(&busy));
            return NULL;
        }
        g_free(before);
        before = g_steal_pointer(&now);
    }
}

BaseLock *machine_embed_root_lock(const char *root, int wait_ms, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(root);
    g_autofree char *base = g_path_get_basename(root);
    g_autofree char *name = g_strconcat(base, ".lock", NULL);
    autofd int fd = base_dir_open_make(folder, geteuid() == 0 ? 0711 : 0700, error);
    BaseLock *lock = fd >= 0 ? lock_in_turn(fd, name, wait_ms, error) : NULL;
    if (!lock) {
        g_prefix_error(error, "embedded libvirt '%s': ", root);
    }
    return lock;
}
