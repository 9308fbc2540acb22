#pragma once
#include <glib.h>

/*
 * A lock: flock(2) on a file of its own, freed by the kernel when the holder dies. A forked child
 * shares it (exec closes it), so a process that stays behind must give it back or be meant to hold.
 */
typedef struct BaseLock BaseLock;

/* Takes the lock on `name` in dirfd (AT_FDCWD allowed), making the file (0600) when it is absent
 * and waiting at most timeout_ms (0: try once, -1: for ever). The file then says who holds it (pid,
 * command, since). On timeout: VM_ERROR_BUSY "... is held by pid 123 (vm-run start) since 12 s".
 * Re-checks after locking that `name` is still the locked inode. Not a regular file: VM_ERROR_PATH.
 */
BaseLock *base_lock_take(int dirfd, const char *name, int timeout_ms, GError **error);

void base_lock_free(BaseLock *lock);            /* gives it back; NULL is fine */
void base_lock_free_and_unlink(BaseLock *lock); /* removes the file while still holding it */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BaseLock, base_lock_free)
