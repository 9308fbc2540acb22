#include "driver/embed/kvm_mask.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "driver/qemu_user.h"

#define KVM_NODE "/dev/kvm"

/* An empty file without permissions and without a name. */
static int make_stand_in(void)
{
    autofd int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0);
    return fd >= 0 && fchmod(fd, 0) == 0 ? base_fd_steal(&fd) : -1;
}

void embed_kvm_mask(void)
{
    QemuUser user = machine_qemu_user_embed();
    if (geteuid() != 0 || user.uid == 0 || access(KVM_NODE, F_OK) != 0 ||
        machine_qemu_user_can_open(&user, KVM_NODE)) {
        return;
    }
    autofd int fd = make_stand_in();
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    if (fd < 0 || unshare(CLONE_NEWNS) != 0 || mount("", "/", NULL, MS_REC | MS_SLAVE, NULL) != 0) {
        return;
    }
    (void)!mount(source, KVM_NODE, NULL, MS_BIND, NULL);
}
