#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/report.h"
#include "schemas/network_spec.h"

/*
 * One machine, described: plain data that the option table (schemas/machine_options.c) fills.
 * Every string is UTF-8 without NUL and control characters, checked by its row. Defaults are
 * filled in by spec_machine_finish(); a member says what its default is. Owned by the spec.
 */
typedef enum { SPEC_ARCH_X86_64, SPEC_ARCH_N } SpecArch;
typedef enum { SPEC_MACHINE_Q35, SPEC_MACHINE_PC, SPEC_MACHINE_N } SpecMachineType;
typedef enum {
    SPEC_FIRMWARE_AUTO, /* bios, unless the image can only boot by UEFI (unknown: bios) */
    SPEC_FIRMWARE_BIOS,
    SPEC_FIRMWARE_UEFI,
    SPEC_FIRMWARE_UEFI_SECURE,
    SPEC_FIRMWARE_N
} SpecFirmware;
typedef enum { SPEC_ACCEL_AUTO, SPEC_ACCEL_KVM, SPEC_ACCEL_TCG, SPEC_ACCEL_N } SpecAccel;
typedef enum {
    SPEC_DISPLAY_NONE,
    SPEC_DISPLAY_VNC,
    SPEC_DISPLAY_N
} SpecDisplay; /* vnc: a unix socket */
typedef enum {
    SPEC_IMAGE_FORMAT_AUTO,
    SPEC_IMAGE_FORMAT_QCOW2,
    SPEC_IMAGE_FORMAT_RAW,
    SPEC_IMAGE_FORMAT_N
} SpecImageFormat;
typedef enum { SPEC_CHECK_STRICT, SPEC_CHECK_WARN, SPEC_CHECK_OFF, SPEC_CHECK_N } SpecCheck;
typedef enum {
    SPEC_NET_NONE,
    SPEC_NET_USER,
    SPEC_NET_BRIDGE,
    SPEC_NET_AUTO,    /* nothing asked: the network `default` for root where it works, else user */
    SPEC_NET_MANAGED, /* a network by its name */
    SPEC_NET_MACVTAP,
    SPEC_NET_N
} SpecNetKind;
typedef enum {
    SPEC_MACVTAP_BRIDGE,
    SPEC_MACVTAP_VEPA,
    SPEC_MACVTAP_PRIVATE,
    SPEC_MACVTAP_PASSTHROUGH,
    SPEC_MACVTAP_N
} SpecMacvtapMode;
typedef enum { SPEC_PROTO_TCP, SPEC_PROTO_UDP, SPEC_PROTO_BOTH, SPEC_PROTO_N } SpecProto;
typedef enum { SPEC_BUS_VIRTIO, SPEC_BUS_SCSI, SPEC_BUS_N } SpecBus;
/* How far a start is followed before it counts as done; each includes those before it. */
typedef enum {
    SPEC_WAIT_STARTED,
    SPEC_WAIT_BOOT,
    SPEC_WAIT_SSH,
    SPEC_WAIT_CLOUD_INIT,
    SPEC_WAIT_READY,
    SPEC_WAIT_N
} SpecWait;

/* What `ready: [...]` lists; tcp, http and exec are refused as not supported yet. */
enum { SPEC_READY_BOOT = 1, SPEC_READY_SSH = 2, SPEC_READY_CLOUD_INIT = 4, SPEC_READY_AGENT = 8 };

/*
 * A text that the user gave inline (a text of several lines, or a map, which becomes a document
 * with the bytes it was written with) or as a file (a text of one line is its path). Line L, column
 * C of the text is line pos.line + L - 1, column pos.col + C - 1 of pos.file: exactly for files,
 * block maps and literal blocks, by the line for the rest. A map of user-data or vendor-data gets a
 * line
 * "#cloud-config" before it, and pos is counted from there.
 */
typedef struct {
    char *text; /* the bytes, NUL-terminated, NULL: not given */
    size_t n_bytes;
    BasePos pos;
    bool is_file;
} SpecText;

typedef struct {
    char *name;          /* unique in the machine, [a-z0-9-]; "disk1".. when not given */
    uint64_t size_bytes; /* required for a new blank disk */
    char *source;        /* an existing image (checked like `image`, overlaid), NULL: blank */
    bool is_readonly;
    SpecBus bus;
    BasePos pos;
} SpecDisk;

typedef struct {
    SpecNetKind kind;
    char *network; /* kind managed: its name */
    char *bridge;  /* kind bridge: a bridge of this host, or of a managed or libvirt network */
    char *macvtap; /* kind macvtap: the link below it */
    SpecMacvtapMode macvtap_mode;       /* bridge */
    char *mac;                          /* lower case, NULL: from the machine's id */
    char *ip, *ip6;                     /* literals, fixed; NULL: chosen */
    bool is_default_route;              /* true for the first NIC */
    unsigned queues;                    /* 1 */
    uint64_t rate_in_bps, rate_out_bps; /* towards and from the guest, 0: no limit */
    bool is_link_down;                  /* false */
    BasePos pos;
} SpecNetwork;

typedef struct {                    /* host range -> guest range of equal length */
    char *host_addr;                /* NULL: 127.0.0.1 for `user` networks */
    uint16_t host_first, host_last; /* 0,0: the next free one */
    uint16_t guest_first, guest_last;
    SpecProto proto;
    BasePos pos;
} SpecPort;

typedef struct {
    char *path;    /* absolute */
    char *content; /* may hold any bytes when is_base64 (then it is the base64 text) */
    bool is_base64;
    char *owner;       /* "root:root" when not given */
    char *permissions; /* "0644" when not given; octal text */
    bool is_append;
    BasePos pos;
} SpecWriteFile;

typedef struct { /* libvirt_xml: an XPath and the text or XML element that goes there */
    char *xpath;
    char *value;
    BasePos pos;
} SpecXmlPatch;

typedef struct {
    SpecText user_data;      /* byte for byte */
    SpecText vendor_data;    /* the user's own part beside ours */
    SpecText network_config; /* replaces ours */
    SpecText meta_data;      /* a map; merged over ours except instance-id */
    SpecCheck schema;        /* strict */
} SpecCloudInit;

typedef struct {
    uint64_t boot_ms;  /* 5 min: kernel and init seen */
    uint64_t ready_ms; /* 15 min: everything that is waited for */
    uint64_t stop_ms;  /* 30 s: grace before destroy */
} SpecTimeouts;

typedef struct MachineSpec {
    char *name;                   /* RFC 1123 label; from the key below `vms:` or --name */
    char *image;                  /* path or http(s) URL; required */
    char *sha256;                 /* of the image file, lower-case hex; required for plain http */
    SpecImageFormat image_format; /* auto: what the header says, decided once */
    bool is_thin;                 /* true: overlay; false: full copy */
    unsigned cpus;                /* 1 */
    uint64_t memory_bytes;        /* 1 GiB */
    uint64_t disk_bytes;          /* 0: the image's own virtual size */
    GPtrArray *disks;             /* of SpecDisk */
    SpecArch arch;
    SpecMachineType machine;
    SpecFirmware firmware;
    char *cpu_model; /* NULL: host under KVM, max under TCG */
    SpecAccel accel;
    char *hostname;      /* the name */
    char *user;          /* login user; NULL: the default of seed_login_user() */
    GPtrArray *ssh_keys; /* of char*: "agent", a path, or a literal key, not yet resolved */
    char *password_hash; /* $6$ or $y$, secret */
    char *password;      /* plain, secret; only with is_plain_password_allowed */
    bool is_plain_password_allowed;
    char *timezone;         /* NULL: the image's */
    char *locale;           /* NULL: the image's */
    GPtrArray *packages;    /* of char* */
    GPtrArray *write_files; /* of SpecWriteFile */
    GPtrArray *run;         /* of char*: shell commands, in order, once per instance */
    GPtrArray *ca_certs;    /* of char*: PEM texts */
    SpecCloudInit cloud_init;
    GPtrArray *networks; /* of SpecNetwork; empty list: one `user` network unless given as [] */
    GPtrArray *ports;    /* of SpecPort: of the first NIC that can have some */
    char *port_range;    /* "FIRST-LAST" for `auto` host ports, NULL: the network's */
    SpecEgress egress;   /* what the guest may reach; needs a managed network or a bridge */
    GPtrArray *network_specs; /* of NetworkSpec: those of the file that its NICs name */
    bool is_console;          /* true: serial console with log */
    SpecDisplay display;      /* none */
    unsigned ready; /* set of SPEC_READY_* bits; 0: ssh (where it can be reached) and cloud-init */
    SpecTimeouts timeouts;
    GHashTable *tags;       /* char* -> char* */
    GPtrArray *libvirt_xml; /* of SpecXmlPatch; unsupported escape hatch */
    GPtrArray *qemu_args;   /* of char*; unsupported escape hatch */
    GHashTable *origins; /* char* option path ("timezone", "cloud_init.user_data") -> BasePos*: what
                            was written */
} MachineSpec;

MachineSpec *spec_machine_new(void);
void spec_machine_free(MachineSpec *spec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineSpec, spec_machine_free)

/* Where option `path` was written, NULL when it was not. Borrowed. */
const BasePos *spec_machine_origin(const MachineSpec *spec, const char *path);

/* text <-> enum value for the tables of machine_options.c ("uefi-secure" ...): the name of `value`,
 * borrowed. */
const char *spec_firmware_name(SpecFirmware value);
const char *spec_accel_name(SpecAccel value);
const char *spec_machine_type_name(SpecMachineType value);
const char *spec_wait_name(SpecWait value);
const char *spec_net_kind_name(SpecNetKind value);
const char *spec_proto_name(SpecProto value);
bool spec_wait_from_text(const char *text, SpecWait *out_value);
