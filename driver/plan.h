#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "driver/facts.h"
#include "driver/ident.h"
#include "imaging/header.h"
#include "schemas/machine_spec.h"

/*
 * The plan of one machine: what will be done, decided purely from spec, facts and identity (no I/O,
 * clock or randomness), as a list of steps. Done front to back by driver/step.h, undone by reading
 * the same list backwards. It is also the record: record.json is the plan as JSON, so a crash,
 * `stop` and `rm` find everything from it without the spec.
 */
typedef enum {
    STEP_DIRECTORY, /* the machine's folder with its record, spec and keys */
    STEP_LEASE,     /* one a NIC on a network: its addresses, as long as the machine is there */
    STEP_DISK,      /* one an own disk: overlay, copy or blank */
    STEP_SEED,
    STEP_RUN_DIR, /* the folder of its sockets */
    STEP_NETWORK, /* one a NIC on a network: the network is up */
    STEP_FILTER,  /* all NICs on networks: anti-spoofing, ports, egress, before the taps exist */
    STEP_TAP,     /* one a NIC on a bridge, or a macvtap */
    STEP_DEFINE,
    STEP_BOOT,
    STEP_FORWARD, /* user network: host ports, over our monitor */
    STEP_WATCH,
    STEP_N
} StepKind;

typedef struct {
    StepKind kind;
    unsigned index; /* of the disk or NIC */
} PlanStep;

typedef struct {
    char *name;       /* "root", or the spec's */
    char *file;       /* in the machine's folder: "root.qcow2" */
    char *target;     /* "vda" */
    ImgFormat format; /* of `file` */
    uint64_t virtual_bytes;
    bool is_readonly;
    bool is_copy; /* thin: false */
    SpecBus bus;
    /* the base below an overlay; path NULL: none */
    char *base_path;
    ImgFormat base_format;
    uint64_t base_virtual_bytes;
    uint64_t base_dev, base_ino, base_mtime_ns, base_file_bytes; /* identity when it was vetted */
} PlanDisk;

typedef struct {
    SpecNetKind kind; /* user, bridge, managed or macvtap */
    char *mac;
    char *netdev;    /* QEMU's id: "hostnet0" */
    unsigned queues; /* 0: one */
    bool is_link_down;
    bool is_vhost; /* the kernel moves its packets */
    /* kinds managed and bridge */
    char *network; /* "default", "bridge.br0"; NULL in records from before there were networks */
    char *bridge;
    char *libvirt_network;              /* where its address is reserved, NULL: nowhere */
    char *ip4, *ip6;                    /* literals; NULL: not known, the guest asks by DHCP */
    unsigned prefix4, prefix6;          /* 0: not known, so the guest asks for the address itself */
    char *gateway4, *gateway6;          /* of the default route, NULL: none */
    char **nameservers;                 /* literals, NULL: none */
    char *domain;                       /* NULL: none */
    uint32_t mtu;                       /* 0: 1500 */
    uint64_t rate_in_bps, rate_out_bps; /* 0: no limit */
    /* these and kind macvtap */
    char *tap, *tap_tag;
    char *macvtap; /* the link below it */
    SpecMacvtapMode macvtap_mode;
} PlanNic;

typedef struct {
    char *proto;        /* "tcp", "udp" */
    char *host_addr;    /* "*": all of this host's addresses */
    uint16_t host_port; /* 0: the next free one */
    uint16_t guest_port;
    bool is_ssh; /* the one `vm-run ssh` uses, made by us */
    BasePos pos; /* in the spec, not recorded */
} PlanForward;

typedef struct {
    MachineIdent *ident;
    unsigned generation; /* of the instance: a new one provisions again */
    char *instance_id;
    char *uri;
    bool is_test_driver;
    char *dir, *run_dir; /* absolute */
    /* the domain */
    SpecAccel accel; /* kvm or tcg, decided */
    char *emulator, *machine, *cpu_mode, *cpu_model;
    unsigned cpus;
    uint64_t memory_bytes;
    SpecFirmware firmware; /* bios, uefi or uefi-secure, decided */
    char *uefi_code, *uefi_vars;
    bool has_console, has_vnc;
    bool is_fd_mode; /* disks as descriptors */
    uid_t qemu_uid;
    gid_t qemu_gid;
    GPtrArray *disks;    /* of PlanDisk; [0] is the root disk */
    GPtrArray *nics;     /* of PlanNic */
    GPtrArray *forwards; /* of PlanForward: those of machine_plan_port_nic() */
    /* for people */
    char *image, *hostname, *login_user;
    char *tcg_reason; /* why `auto` chose TCG, NULL: it did not */
    char *net_reason; /* why `auto` chose the user network, NULL: it did not */
    GHashTable *tags; /* char* -> char* */
    GArray *steps;    /* of PlanStep */
} MachinePlan;

void machine_plan_free(MachinePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachinePlan, machine_plan_free)

/* What looking at one image gave; images[0] is the root disk's, the rest belong to spec->disks with
 * a source, in order. */
typedef struct {
    const char *path;
    ImgFormat format;
    uint64_t virtual_bytes, file_bytes;
    uint64_t dev, ino, mtime_ns;
} PlanImage;

typedef struct PlanNet PlanNet; /* plan_net.h */

typedef struct {
    const MachineSpec *spec;
    const HostFacts *facts;
    const MachineIdent *ident;
    const char *run_dir;
    unsigned generation;
    const PlanImage *images;
    unsigned n_images;
    const PlanNet *nets;    /* one a NIC of the spec, in order; NULL: all are of the kind it says */
    const char *net_reason; /* why `auto` became `user`, NULL: it did not */
} PlanInput;

/* Pure. Mistakes that only facts show (kvm asked for but not usable, disk smaller than the image,
 * no UEFI here ...) go to the report with the position of the option. NULL when there were errors.
 * Under 1 ms. */
MachinePlan *machine_plan_build(const PlanInput *input, BaseReport *report);

/* record.json and back. from_json: STATE for anything but our own whole record of this version. */
char *machine_plan_to_json(const MachinePlan *plan);
MachinePlan *machine_plan_from_json(const char *json, GError **error);

/* The domain XML, built with libxml2, transfer full; libvirt_xml patches of the spec applied (spec
 * may be NULL: none). */
char *machine_plan_domain_xml(const MachinePlan *plan, const MachineSpec *spec, GError **error);

const char *machine_step_name(StepKind kind);
