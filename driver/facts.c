#include "driver/facts.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "base/fd.h"
#include "driver/firmware.h"
#include "driver/qemu_user.h"
#include "net/nft.h"

#define KVM_NODE "/dev/kvm"

HostFacts *host_facts_new(void)
{
    return g_new0(HostFacts, 1);
}

void host_facts_free(HostFacts *facts)
{
    if (!facts) {
        return;
    }
    char *texts[] = {
        facts->uri,       facts->kvm_reason,       facts->libvirt_version, facts->qemu_version,
        facts->emulator,  facts->machine_q35,      facts->machine_pc,      facts->uefi_code,
        facts->uefi_vars, facts->uefi_secure_code, facts->uefi_secure_vars};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    g_free(facts);
}

bool host_facts_cpu_has_virt(const char *cpuinfo)
{
    const char *flags = strstr(cpuinfo, "\nflags");
    if (!flags) {
        return false;
    }
    const char *end = strchr(flags + 1, '\n');
    g_autofree char *line =
        g_strndup(flags + 1, end ? (size_t)(end - flags - 1) : strlen(flags + 1));
    g_auto(GStrv) words = g_strsplit_set(line, " \t:", -1);
    return g_strv_contains((const char *const *)words, "vmx") ||
           g_strv_contains((const char *const *)words, "svm");
}

/* All CPUs have the same flags here; one CPU's lines are far below this. */
static bool probe_cpu_virt(void)
{
#if defined(__x86_64__) || defined(__i386__)
    char text[16384];
    autofd int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    text[MAX(n, 0)] = '\0';
    return host_facts_cpu_has_virt(text);
#else
    return true;
#endif
}

/* By the ids of the user QEMU runs as; when that is us, by doing it. */
static bool probe_kvm_open(const QemuUser *user, bool has_cpu_virt)
{
    if (!machine_qemu_user_can_open(user, KVM_NODE) && user->uid != geteuid()) {
        return false;
    }
    autofd int fd = open(KVM_NODE, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    if (!has_cpu_virt) {
        return true; /* nothing more is asked of it: such nodes answer and their guests hang */
    }
    autofd int machine = ioctl(fd, KVM_CREATE_VM, 0UL);
    return machine >= 0;
}

/* The effective capabilities of this thread, as capabilities(7) numbers them. */
static bool has_capability(unsigned number)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    return syscall(SYS_capget, &header, data) == 0 &&
           (data[CAP_TO_INDEX(number)].effective & CAP_TO_MASK(number)) != 0;
}

static bool has_program(const char *name)
{
    g_autofree char *found = g_find_program_in_path(name);
    g_autofree char *usual = g_build_filename("/usr/sbin", name, NULL);
    return found || access(usual, X_OK) == 0;
}

static void probe_network(HostFacts *facts)
{
    uint32_t generation;
    facts->has_net_admin = has_capability(CAP_NET_ADMIN);
    facts->has_tun = access("/dev/net/tun", F_OK) == 0;
    facts->has_nft = facts->has_net_admin && net_nft_generation(&generation, NULL);
    facts->has_dnsmasq = has_program("dnsmasq");
    autofd int vhost = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
    facts->has_vhost_net = vhost >= 0;
}

void host_facts_probe_local(HostFacts *facts)
{
    cpu_set_t set;
    struct sysinfo info;
    Firmware firmware;
    QemuUser user = machine_qemu_user_embed();
    facts->is_root = geteuid() == 0;
    facts->qemu_uid = user.uid;
    facts->qemu_gid = user.gid;
    facts->is_netns_shared = true;
    facts->has_cpu_virt = probe_cpu_virt();
    facts->has_dev_kvm = access(KVM_NODE, F_OK) == 0;
    facts->can_open_kvm = facts->has_dev_kvm && probe_kvm_open(&user, facts->has_cpu_virt);
    facts->n_cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    facts->memory_bytes = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : 0;
    probe_network(facts);
    machine_firmware_find(NULL, &firmware);
    g_free(facts->uefi_code);
    g_free(facts->uefi_vars);
    g_free(facts->uefi_secure_code);
    g_free(facts->uefi_secure_vars);
    facts->uefi_code = firmware.uefi_code;
    facts->uefi_vars = firmware.uefi_vars;
    facts->uefi_secure_code = firmware.uefi_secure_code;
    facts->uefi_secure_vars = firmware.uefi_secure_vars;
}

static char *kvm_reason(const HostFacts *facts)
{
    if (!facts->has_cpu_virt && facts->has_dev_kvm) {
        return g_strdup(KVM_NODE " is there but this CPU offers no virtualization");
    }
    if (!facts->has_cpu_virt) {
        return g_strdup("this CPU offers no virtualization (neither vmx nor svm)");
    }
    if (!facts->has_dev_kvm) {
        return g_strdup(KVM_NODE " is missing: the module kvm_intel or kvm_amd is not loaded");
    }
    if (!facts->can_open_kvm) {
        return g_strdup_printf(KVM_NODE " does not open for uid %u, the user QEMU runs as",
                               (unsigned)facts->qemu_uid);
    }
    if (!facts->is_kvm_listed) {
        return g_strdup("libvirt does not list KVM for this QEMU");
    }
    return NULL;
}

void host_facts_judge_kvm(HostFacts *facts)
{
    g_free(facts->kvm_reason);
    facts->kvm_reason = kvm_reason(facts);
    facts->is_kvm_usable = !facts->kvm_reason;
}

char *host_facts_network_reason(const HostFacts *facts)
{
    bool is_local = facts->kind == VIRT_KIND_EMBED || facts->kind == VIRT_KIND_SYSTEM ||
                    facts->kind == VIRT_KIND_SESSION;
    const struct {
        bool is_well;
        const char *reason;
    } rows[] = {
        {is_local, "libvirt is not on this host"},
        {facts->is_root, "it needs root"},
        {facts->has_net_admin, "it needs the capability CAP_NET_ADMIN"},
        {facts->is_netns_shared, "libvirtd lives in another network namespace"},
        {facts->has_tun, "/dev/net/tun is missing: the module tun is not loaded"},
        {facts->has_nft, "the kernel has no nf_tables: the module nf_tables is not loaded"},
        {facts->has_dnsmasq, "dnsmasq is not installed"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (!rows[i].is_well) {
            return g_strdup(rows[i].reason);
        }
    }
    return NULL;
}
