#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "driver/doctor.h"
#include "driver/facts.h"

/* What doctor judges: looked up by doctor_probe.c, or made up by a test. Owned by the probe; NULL:
 * none, or unknown. */
typedef struct {
    HostFacts *facts;                            /* libvirt's part is empty unless is_connected */
    char *user_name;                             /* of the account that runs this */
    bool account_in_kvm, process_in_kvm;         /* group kvm */
    bool account_in_libvirt, process_in_libvirt; /* group libvirt */
    bool has_qemu_account;                       /* libvirt-qemu or qemu exists */
    bool can_qemu_open_kvm;                      /* the user QEMU runs as */
    /* libvirt */
    bool is_connected;
    char *connect_error; /* why not */
    int connect_code;    /* VmError of it */
    char *connect_why;   /* why this connection was chosen */
    char *qemu_version;  /* what the emulator says of itself; NULL: it does not run */
    char *embed_root;    /* NULL: no embedded connection */
    char *blocker; /* folder that QEMU's user may not pass on the way to the state directory */
    /* state directory */
    char *state_dir;
    char *state_error;                /* why it can't be written */
    char *fs_type;                    /* "ext4", "nfs" ... of its nearest existing folder */
    uint64_t free_bytes, free_inodes; /* UINT64_MAX: unknown */
    /* networks */
    GPtrArray *amiss; /* of char*: what of the networks that are up is not as it should be; NULL:
                         unknown */
    GPtrArray *drops; /* of char*: rules of others that drop what networks forward; NULL: unknown */
    /* the rest */
    char *kernel;    /* a readable kernel image for libguestfs */
    bool has_kernel; /* readable or not */
    bool has_qemu_img, has_ssh, has_watch, has_embed, has_tun;
    int64_t now_s, built_s; /* clock, and the time this program was installed */
    uint64_t memory_available_bytes;
    unsigned long n_files_max; /* RLIMIT_NOFILE */
    int n_leftovers;           /* what `gc --dry-run` would remove; -1: unknown */
} DoctorProbe;

void doctor_probe_free(DoctorProbe *probe);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DoctorProbe, doctor_probe_free)

/* Looks at this host. */
DoctorProbe *doctor_probe_new(const char *state_dir, const char *connect);

/* The pure part: judges a probe. GPtrArray of MachineCheck. */
GPtrArray *doctor_judge(const DoctorProbe *probe);
