#include "driver/embed/kvm_mask.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "driver/qemu_user.h"

#define KVM_NODE "/dev/kvm"

/* An empty file that nobody may open; transfer full, NULL on failure. */
static char *make_stand_in(void)
{
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "vm-run-no-kvm-XXXXXX", NULL);
    autofd int fd = g_mkstemp_full(path, O_RDWR | O_CLOEXEC, 0600);
    return fd >= 0 && fchmod(fd, 0) == 0 ? g_steal_pointer(&path) : NULL;
}

void embed_kvm_mask(void)
{
    QemuUser user = machine_qemu_user_embed();
    if (geteuid() != 0 || user.uid == 0 || access(KVM_NODE, F_OK) != 0 ||
        machine_qemu_user_can_open(&user, KVM_NODE)) {
        return;
    }
    if (unshare(CLONE_NEWNS) != 0 || mount("", "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) {
        return;
    }
    g_autofree char *stand_in = make_stand_in();
    if (stand_in) {
        (void)!mount(stand_in, KVM_NODE, NULL, MS_BIND, NULL);
        unlink(stand_in);
    }
}
