#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/* What this host is and can do: looked up, never changed. Plain data, an input of the pure plan. */
typedef enum {
    VIRT_KIND_EMBED,
    VIRT_KIND_SYSTEM,
    VIRT_KIND_SESSION,
    VIRT_KIND_TEST,
    VIRT_KIND_REMOTE,
    VIRT_KIND_N
} VirtKind;

typedef struct {
    VirtKind kind;
    char *uri;
    bool is_root;
    /* accelerator */
    bool has_cpu_virt;  /* vmx or svm in /proc/cpuinfo (arm64: true) */
    bool has_dev_kvm;   /* /dev/kvm exists */
    bool can_open_kvm;  /* read-write for the user QEMU runs as */
    bool is_kvm_listed; /* by libvirt */
    bool is_kvm_usable; /* all of these */
    char *kvm_reason;   /* why not: one sentence, NULL when usable */
    /* libvirt's part */
    char *libvirt_version, *qemu_version; /* "9.0.0", "7.2.22" */
    char *emulator;                       /* absolute path */
    char *machine_q35, *machine_pc;       /* canonical: "pc-q35-7.2" */
    char *uefi_code, *uefi_vars;          /* firmware images, NULL: none installed */
    char *uefi_secure_code, *uefi_secure_vars;
    bool has_fd_associate; /* disks can be passed as descriptors */
    /* the user QEMU runs as */
    uid_t qemu_uid;
    gid_t qemu_gid;
    bool is_netns_shared; /* QEMU will see links that we make */
    /* networks */
    bool has_net_admin; /* CAP_NET_ADMIN: links, addresses and rules can be made */
    bool has_tun;       /* /dev/net/tun exists */
    bool has_nft;       /* the kernel answers for nf_tables */
    bool has_dnsmasq;   /* is installed */
    bool has_vhost_net; /* /dev/vhost-net opens */
    unsigned n_cpus;
    uint64_t memory_bytes;
} HostFacts;

HostFacts *host_facts_new(void);
void host_facts_free(HostFacts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostFacts, host_facts_free)

/* The part that needs no libvirt: CPU flags, /dev/kvm, users (as for an embedded driver), firmware,
 * CPUs, memory. About 1 ms. */
void host_facts_probe_local(HostFacts *facts);
/* Sets is_kvm_usable and kvm_reason from the four facts above it. */
void host_facts_judge_kvm(HostFacts *facts);
/* Why managed networks can't be used here: one sentence, transfer full; NULL: they can. */
char *host_facts_network_reason(const HostFacts *facts);
/* Does this text of /proc/cpuinfo list vmx or svm? */
bool host_facts_cpu_has_virt(const char *cpuinfo);
