#pragma once
#include <stdbool.h>
#include <glib.h>
#include "base/lock.h"
#include "driver/qemu_user.h"

/*
 * The root folder of an embedded libvirt: STATE/libvirt. libvirt keeps its definitions, sockets,
 * logs and its cache of QEMU's capabilities in it; what we put there is etc/qemu.conf.
 */

/* The longest root: QEMU's monitor socket ROOT/lib/qemu/domain-NNN-<20 characters>/monitor.sock
 * must fit in the 107 bytes of a unix socket path. */
#define MACHINE_EMBED_ROOT_MAX 53

/* Text of etc/qemu.conf for QEMU as `user`; is_root: are we root? Transfer full. */
char *machine_embed_conf(const QemuUser *user, bool is_root);

/* Checks the root's path (length: PATH; a folder on the way that QEMU's user may not pass: DENIED),
 * makes the folder and writes its qemu.conf when that is missing or another. The caller holds the
 * root's lock. What was made stays. */
bool machine_embed_root_prepare(const char *root, const QemuUser *user, GError **error);

/* The path check alone, for doctor. */
bool machine_embed_root_check(const char *root, const QemuUser *user, GError **error);

/*
 * Takes the root's lock, ROOT.lock beside it (its folder is made when it is missing). Waits wait_ms
 * for a holder that stays the same, and on while holders change, so that many starts at once queue
 * and one that hangs is named: BUSY "... is held by pid 7 (vm-run start) since 31 s". Ten times
 * wait_ms at most.
 */
BaseLock *machine_embed_root_lock(const char *root, int wait_ms, GError **error);
