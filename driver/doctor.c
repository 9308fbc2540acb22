#include "driver/doctor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include "base/error.h"
#include "driver/doctor_probe.h"
#include "driver/embed_root.h"

#define MIB ((uint64_t)1024 * 1024)
#define GIB (1024 * MIB)

enum {
    LOW_INODES = 1000,
    LOW_FILES = 1024,
    DAY_S = 24 * 3600,
};

static const char *const level_names[] = {"pass", "warn", "fail"};
G_STATIC_ASSERT(G_N_ELEMENTS(level_names) == DOCTOR_N);

const char *machine_check_level_name(DoctorLevel level)
{
    return level_names[level];
}

void machine_check_free(MachineCheck *check)
{
    if (check) {
        g_free(check->text);
        g_free(check->remedy);
        g_free(check);
    }
}

/* --- verdicts --------------------------------------------------------------------------------- */

G_GNUC_PRINTF(2, 3) static void pass(MachineCheck *check, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    check->text = g_strdup_vprintf(format, args);
    va_end(args);
}

/* remedy: transfer full. */
G_GNUC_PRINTF(4, 5)
static void find_fault(MachineCheck *check, DoctorLevel level, char *remedy, const char *format,
                       ...)
{
    va_list args;
    va_start(args, format);
    check->text = g_strdup_vprintf(format, args);
    va_end(args);
    check->level = level;
    check->remedy = remedy;
}

/* --- checks: each looks at a few members; one that doesn't concern this host says nothing ----- */

static void check_cpu(const DoctorProbe *p, MachineCheck *check)
{
    if (p->facts->has_cpu_virt) {
        pass(check, "this CPU offers virtualization");
        return;
    }
    find_fault(check, DOCTOR_WARN,
               g_strdup("enable VT-x/AMD-V in the firmware, or nested virtualization on the outer "
                        "host; without it guests run, several times slower"),
               "%sthis CPU offers no virtualization: using TCG",
               p->facts->has_dev_kvm ? "/dev/kvm is there but " : "");
}

static void check_kvm(const DoctorProbe *p, MachineCheck *check)
{
    const HostFacts *facts = p->facts;
    if (facts->is_kvm_usable) {
        pass(check, "/dev/kvm works for the user QEMU runs as");
    } else if (!facts->has_cpu_virt && (!facts->has_dev_kvm || p->can_qemu_open_kvm)) {
        return; /* nothing to gain */
    } else if (!facts->has_dev_kvm) {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo modprobe kvm_intel (or kvm_amd)"),
                   "/dev/kvm is missing: using TCG");
    } else if (!p->can_qemu_open_kvm && p->account_in_kvm && !p->process_in_kvm) {
        find_fault(check, DOCTOR_WARN, g_strdup("log out and in again"),
                   "the account '%s' is in the group kvm but this session is not", p->user_name);
    } else if (!p->can_qemu_open_kvm && facts->is_root) {
        find_fault(
            check, DOCTOR_WARN, g_strdup("chgrp kvm /dev/kvm && chmod 660 /dev/kvm"),
            "/dev/kvm does not open for uid %u, the user QEMU runs as%s", (unsigned)facts->qemu_uid,
            facts->kind == VIRT_KIND_SYSTEM
                ? "; a libvirtd then asks QEMU for its capabilities at every call, for seconds"
                : "");
    } else if (!p->can_qemu_open_kvm) {
        find_fault(check, DOCTOR_WARN,
                   g_strdup_printf("sudo usermod -aG kvm %s, then log in again", p->user_name),
                   "/dev/kvm does not open for the account '%s'", p->user_name);
    } else if (p->is_connected) {
        find_fault(check, DOCTOR_WARN, g_strdup("install the QEMU package that supports KVM"), "%s",
                   facts->kvm_reason ? facts->kvm_reason : "KVM is not usable");
    }
}

static char *libvirt_remedy(const DoctorProbe *p)
{
    if (p->connect_code == VM_ERROR_DENIED && p->account_in_libvirt && !p->process_in_libvirt) {
        return g_strdup(
            "log out and in again: the account is in the group libvirt, this session is not");
    }
    if (p->connect_code == VM_ERROR_DENIED && p->facts->kind == VIRT_KIND_SYSTEM) {
        return g_strdup_printf("sudo usermod -aG libvirt %s, then log in again; or --connect embed",
                               p->user_name);
    }
    if (p->facts->kind == VIRT_KIND_SYSTEM) {
        return g_strdup("sudo systemctl start libvirtd; or --connect embed");
    }
    if (p->connect_code == VM_ERROR_BUSY) {
        return g_strdup("wait for the process that is named, or end it");
    }
    if (p->connect_code == VM_ERROR_UNSUPPORTED) {
        return g_strdup("choose another --connect (or VM_RUN_URI, LIBVIRT_DEFAULT_URI)");
    }
    return g_strdup(
        "sudo apt-get install libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86");
}

static void check_libvirt(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->is_connected) {
        find_fault(check, DOCTOR_FAIL, libvirt_remedy(p), "%s", p->connect_error);
        return;
    }
    if (!p->facts->has_fd_associate && p->facts->kind != VIRT_KIND_TEST) {
        find_fault(check, DOCTOR_WARN,
                   g_strdup("use libvirt 9.0 or later on this host where you can"),
                   "libvirt %s (%s) can't take disks as descriptors: they are opened by path",
                   p->facts->libvirt_version, p->facts->uri);
        return;
    }
    pass(check, "libvirt %s at %s (%s)", p->facts->libvirt_version, p->facts->uri, p->connect_why);
}

static void check_qemu(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->is_connected || p->facts->kind == VIRT_KIND_TEST ||
        p->facts->kind == VIRT_KIND_REMOTE) {
        return;
    }
    if (!p->qemu_version) {
        find_fault(check, DOCTOR_FAIL, g_strdup("sudo apt-get install qemu-system-x86"),
                   "QEMU (%s) does not run",
                   p->facts->emulator ? p->facts->emulator : "qemu-system-x86_64");
        return;
    }
    pass(check, "QEMU %s (%s, %s)", p->qemu_version, p->facts->emulator, p->facts->machine_q35);
}

static void check_qemu_user(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->facts->is_root || p->facts->kind == VIRT_KIND_TEST) {
        return;
    }
    if (!p->has_qemu_account || p->facts->qemu_uid == 0) {
        find_fault(check, DOCTOR_WARN,
                   g_strdup("sudo apt-get install libvirt-daemon-system: it makes the account "
                            "libvirt-qemu"),
                   "QEMU runs as root, since there is no account for it");
        return;
    }
    pass(check, "QEMU runs as uid %u", (unsigned)p->facts->qemu_uid);
}

static void check_path(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->blocker) {
        pass(check, "QEMU's user can reach '%s'", p->state_dir);
        return;
    }
    find_fault(
        check, DOCTOR_FAIL,
        g_strdup_printf("chmod o+x '%s', or choose another place with --state-dir", p->blocker),
        "QEMU runs as uid %u, which may not pass through '%s'", (unsigned)p->facts->qemu_uid,
        p->blocker);
}

static void check_firmware(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->facts->uefi_code) {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo apt-get install ovmf"),
                   "no UEFI firmware is installed: only BIOS machines start");
    } else if (!p->facts->uefi_secure_code) {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo apt-get install ovmf"),
                   "UEFI firmware is there, one with Secure Boot keys is not");
    } else {
        pass(check, "UEFI firmware is there, with and without Secure Boot");
    }
}

static void check_state_dir(const DoctorProbe *p, MachineCheck *check)
{
    if (p->state_error) {
        find_fault(check, DOCTOR_FAIL,
                   g_strdup("give the folder to this account, or choose another with --state-dir"),
                   "%s", p->state_error);
        return;
    }
    pass(check, "the state directory '%s' can be written", p->state_dir);
}

static void check_space(const DoctorProbe *p, MachineCheck *check)
{
    bool is_full = p->free_bytes < 256 * MIB;
    if (is_full || p->free_bytes < 2 * GIB || p->free_inodes < LOW_INODES) {
        find_fault(check, is_full ? DOCTOR_FAIL : DOCTOR_WARN,
                   g_strdup("free some space, or choose another place with --state-dir"),
                   "%" PRIu64 " MiB and %" PRIu64 " files are left at '%s': guests stop when it is "
                   "full",
                   p->free_bytes / MIB, p->free_inodes, p->state_dir);
        return;
    }
    pass(check, "%" PRIu64 " GiB are free at '%s'", p->free_bytes / GIB, p->state_dir);
}

static void check_file_system(const DoctorProbe *p, MachineCheck *check)
{
    static const struct {
        const char *type, *why;
    } rows[] = {
        {"nfs", "locks and crash safety depend on the server"},
        {"cifs", "locks and crash safety depend on the server"},
        {"9p", "locks and crash safety depend on the host behind it"},
        {"fuse", "locks and crash safety depend on the program behind it"},
        {"tmpfs", "everything there is lost at the next boot"},
        {"ramfs", "everything there is lost at the next boot"},
    };
    const char *type = p->fs_type ? p->fs_type : "unknown";
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (strcmp(type, rows[i].type) == 0) {
            find_fault(check, DOCTOR_WARN, g_strdup("choose a local disk with --state-dir"),
                       "the state directory is on %s: %s", type, rows[i].why);
            return;
        }
    }
    pass(check, "the state directory is on %s", type);
}

static void check_socket_path(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->embed_root) {
        return;
    }
    size_t n = strlen(p->embed_root);
    if (n > MACHINE_EMBED_ROOT_MAX) {
        find_fault(check, DOCTOR_FAIL, g_strdup("choose a shorter path with --state-dir"),
                   "'%s' is too long for QEMU's sockets (%zu bytes, %d at most)", p->embed_root, n,
                   MACHINE_EMBED_ROOT_MAX);
        return;
    }
    pass(check, "QEMU's sockets fit below '%s'", p->embed_root);
}

static void check_netns(const DoctorProbe *p, MachineCheck *check)
{
    if (p->facts->kind != VIRT_KIND_SYSTEM) {
        return;
    }
    if (!p->facts->is_netns_shared) {
        find_fault(check, DOCTOR_FAIL, g_strdup("use --connect embed here"),
                   "libvirtd is in another network namespace: its QEMU can't use links made here");
        return;
    }
    pass(check, "libvirtd is in our network namespace");
}

static void check_tun(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->facts->is_root) {
        return; /* bridges are root's */
    }
    if (!p->has_tun) {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo modprobe tun"),
                   "/dev/net/tun is missing: networks of kind bridge don't work");
        return;
    }
    pass(check, "/dev/net/tun is there");
}

static void check_networks(const DoctorProbe *p, MachineCheck *check)
{
    bool is_said = !p->facts->is_netns_shared || !p->has_tun; /* above */
    if (!p->facts->is_root || p->facts->kind == VIRT_KIND_TEST || is_said) {
        return; /* networks are root's */
    }
    g_autofree char *reason = host_facts_network_reason(p->facts);
    if (reason) {
        find_fault(check, DOCTOR_WARN,
                   g_strdup(p->facts->has_dnsmasq ? "until then machines get the user network"
                                                  : "sudo apt-get install dnsmasq-base"),
                   "managed networks don't work: %s", reason);
        return;
    }
    pass(check, "managed networks work");
}

static void check_firewall(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->drops) {
        return;
    }
    if (p->drops->len > 0) {
        g_autoptr(GString) all = g_string_new(NULL);
        for (guint i = 0; i < p->drops->len; i++) {
            g_string_append_printf(all, "%s%s", i ? "; " : "", (char *)p->drops->pdata[i]);
        }
        find_fault(check, DOCTOR_WARN,
                   g_strdup("let the networks' bridges through there (docs/networking.md)"), "%s",
                   all->str);
        return;
    }
    pass(check, "no rule of another program drops what networks forward");
}

static void check_rules(const DoctorProbe *p, MachineCheck *check)
{
    if (!p->amiss) {
        return; /* no network is up */
    }
    if (p->amiss->len > 0) {
        find_fault(check, DOCTOR_WARN,
                   g_strdup("vm-run network check --fix; until then guests may forge addresses, "
                            "and ports may not answer"),
                   "%u thing%s of the networks %s not as it should be: %s%s", p->amiss->len,
                   p->amiss->len == 1 ? "" : "s", p->amiss->len == 1 ? "is" : "are",
                   (char *)g_ptr_array_index(p->amiss, 0), p->amiss->len > 1 ? " (the first)" : "");
        return;
    }
    pass(check, "the networks that are up are as they should be");
}

static void check_parts(const DoctorProbe *p, MachineCheck *check)
{
    if (p->has_watch && p->has_embed) {
        pass(check, "all parts of vm-run are installed");
        return;
    }
    find_fault(check, DOCTOR_FAIL, g_strdup("install vm-run again"), "%s is missing",
               p->has_watch ? "vm-run-embed" : "vm-run-watch");
}

static void check_qemu_img(const DoctorProbe *p, MachineCheck *check)
{
    if (p->has_qemu_img) {
        pass(check, "qemu-img is there");
        return;
    }
    find_fault(check, DOCTOR_WARN, g_strdup("sudo apt-get install qemu-utils"),
               "qemu-img is missing: images can't be converted");
}

static void check_ssh(const DoctorProbe *p, MachineCheck *check)
{
    if (p->has_ssh) {
        pass(check, "an ssh client is there");
        return;
    }
    find_fault(check, DOCTOR_WARN, g_strdup("sudo apt-get install openssh-client"),
               "no ssh client: `vm-run ssh` does not work, `vm-run console` does");
}

static void check_libguestfs(const DoctorProbe *p, MachineCheck *check)
{
    if (p->kernel) {
        pass(check, "libguestfs can read the kernel '%s'", p->kernel);
    } else if (p->has_kernel) {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo chmod +r /boot/vmlinuz-*"),
                   "the kernels in /boot are not readable for '%s': `vm-run image inspect` does "
                   "not work",
                   p->user_name);
    } else {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo apt-get install linux-image-cloud-amd64"),
                   "there is no kernel in /boot: `vm-run image inspect` does not work");
    }
}

static void check_clock(const DoctorProbe *p, MachineCheck *check)
{
    if (p->now_s + DAY_S < p->built_s) {
        find_fault(check, DOCTOR_WARN, g_strdup("sudo timedatectl set-ntp true"),
                   "the clock is behind the day this program was installed: guests take their time "
                   "from it, and certificates fail");
        return;
    }
    pass(check, "the clock is plausible");
}

static void check_memory(const DoctorProbe *p, MachineCheck *check)
{
    if (p->memory_available_bytes < 512 * MIB) {
        bool is_gone = p->memory_available_bytes < 128 * MIB;
        find_fault(check, is_gone ? DOCTOR_FAIL : DOCTOR_WARN,
                   g_strdup("end something, or give machines less with --memory"),
                   "only %" PRIu64 " MiB of memory are available", p->memory_available_bytes / MIB);
        return;
    }
    pass(check, "%" PRIu64 " MiB of memory are available, %u CPUs", p->memory_available_bytes / MIB,
         p->facts->n_cpus);
}

static void check_limits(const DoctorProbe *p, MachineCheck *check)
{
    if (p->n_files_max < LOW_FILES) {
        find_fault(check, DOCTOR_WARN, g_strdup("ulimit -n 4096"),
                   "a process may open %lu files only", p->n_files_max);
        return;
    }
    pass(check, "a process may open %lu files", p->n_files_max);
}

static void check_leftovers(const DoctorProbe *p, MachineCheck *check)
{
    if (p->n_leftovers < 0) {
        return;
    }
    if (p->n_leftovers > 0) {
        find_fault(
            check, DOCTOR_WARN, g_strdup("vm-run gc --dry-run lists it, vm-run gc removes it"),
            "crashes left %d thing%s behind", p->n_leftovers, p->n_leftovers == 1 ? "" : "s");
        return;
    }
    pass(check, "nothing is left over");
}

typedef struct {
    const char *id;
    void (*check)(const DoctorProbe *probe, MachineCheck *check);
} CheckRow;

static const CheckRow rows[] = {
    {"cpu", check_cpu},
    {"kvm", check_kvm},
    {"libvirt", check_libvirt},
    {"qemu", check_qemu},
    {"qemu-user", check_qemu_user},
    {"firmware", check_firmware},
    {"state-dir", check_state_dir},
    {"state-path", check_path},
    {"state-space", check_space},
    {"state-fs", check_file_system},
    {"socket-path", check_socket_path},
    {"netns", check_netns},
    {"tun", check_tun},
    {"networks", check_networks},
    {"firewall", check_firewall},
    {"network-rules", check_rules},
    {"parts", check_parts},
    {"qemu-img", check_qemu_img},
    {"ssh", check_ssh},
    {"libguestfs", check_libguestfs},
    {"clock", check_clock},
    {"memory", check_memory},
    {"limits", check_limits},
    {"leftovers", check_leftovers},
};

GPtrArray *doctor_judge(const DoctorProbe *probe)
{
    GPtrArray *checks = g_ptr_array_new_with_free_func((GDestroyNotify)machine_check_free);
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        MachineCheck *check = g_new0(MachineCheck, 1);
        check->id = rows[i].id;
        rows[i].check(probe, check);
        if (check->text) {
            g_ptr_array_add(checks, check);
        } else {
            machine_check_free(check);
        }
    }
    return checks;
}

GPtrArray *machine_doctor(const char *state_dir, const char *connect)
{
    g_autoptr(DoctorProbe) probe = doctor_probe_new(state_dir, connect);
    return doctor_judge(probe);
}
