#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include <glib.h>

/* Who QEMU runs as, and what that user can reach. */
typedef struct {
    uid_t uid;
    gid_t gid;
} QemuUser;

/* Under an embedded driver: ours, unless we are root and there is the user of the libvirt packages
 * ("libvirt-qemu" on Debian, else "qemu"). */
QemuUser machine_qemu_user_embed(void);

/* Under a system libvirtd: user and group of its qemu.conf (conf_text NULL: unreadable or missing),
 * else the packages' user. */
QemuUser machine_qemu_user_system(const char *conf_text);

/* May `user` (with the groups of its account) read and write `path`, by owner, group and mode? */
bool machine_qemu_user_can_open(const QemuUser *user, const char *path);

/* The first folder on the way to `path` (absolute; itself included when it is one) that `user` may
 * not pass through, transfer full; NULL: none. When we are not that user and not root, only the
 * mode bits are looked at, else ACLs count too. */
char *machine_qemu_user_blocker(const QemuUser *user, const char *path);
