#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>
#include "driver/facts.h"

/*
 * The small interface behind which libvirt lives: vm-run-libvirt.so, loaded at the first open (a
 * program linked with libvirt starts 8 ms later and 14 MB larger). Implemented in driver/libvirt/,
 * the only folder that includes <libvirt/...>. Every call blocks, with a deadline of its own;
 * libvirt's event loop runs on a thread of the part, with keepalive on remote connections. Errors
 * come in our domain: HOST (daemon down, code 38 ...), NOT_FOUND (no domain), EXISTS, UNSUPPORTED
 * (code 3), TIMEOUT, DENIED.
 */
typedef struct VirtConn VirtConn;

typedef enum {
    VIRT_STATE_ABSENT, /* no such domain */
    VIRT_STATE_OFF,    /* defined, no QEMU */
    VIRT_STATE_RUNNING,
    VIRT_STATE_PAUSED,   /* also: stopped by an I/O error */
    VIRT_STATE_STOPPING, /* shut down inside, QEMU not gone yet */
} VirtState;

typedef struct {
    const char *group; /* fdgroup of the domain XML */
    int fd;            /* borrowed */
    bool is_writable;
} VirtDiskFd;

typedef struct {
    char *name;
    char *uuid;
    char *owner; /* text of our <vm:owner> metadata ("<state dir>\n<machine full id>"), NULL: not
                    ours */
    VirtState state;
} VirtDomain;
void virt_domain_free(VirtDomain *domain);

/* uri NULL is not allowed here: see machine_connection_choose(). An embedded root must be locked by
 * the caller (one process at a time). */
VirtConn *virt_open(const char *uri, GError **error);
void virt_close(VirtConn *conn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VirtConn, virt_close)

/* Fills the libvirt part of facts: emulator, machine types, QEMU version, kvm listed, firmware,
 * has_fd_associate. */
bool virt_facts(VirtConn *conn, HostFacts *facts, GError **error);

/* Define with VIR_DOMAIN_DEFINE_VALIDATE; the same XML twice is success. */
bool virt_define(VirtConn *conn, const char *xml, GError **error);
/* virDomainFDAssociate for each, then create. n_fds may be 0 (path mode). */
bool virt_start(VirtConn *conn, const char *uuid, const VirtDiskFd *fds, unsigned n_fds,
                GError **error);
/* Looked at again with a monitor call (state straight after opening is stale). */
bool virt_state(VirtConn *conn, const char *uuid, VirtState *out_state, GError **error);
/* Asks the guest to end: by ACPI, and by its agent when that answers. Takes about a second with an
 * agent (4 s at most), without waiting for the guest. */
bool virt_shutdown(VirtConn *conn, const char *uuid, GError **error);
bool virt_reboot(VirtConn *conn, const char *uuid, GError **error);
/* SIGTERM, SIGKILL; success when there is no such domain or it is off already. */
bool virt_destroy(VirtConn *conn, const char *uuid, GError **error);
/* With managed save, snapshot and checkpoint metadata, and the QEMU log of an embedded driver; the
 * file of UEFI variables stays. Absent is success. */
bool virt_undefine(VirtConn *conn, const char *uuid, GError **error);
/* The domain named `name`, whoever owns it; NULL without error: none. Transfer full. */
VirtDomain *virt_find_by_name(VirtConn *conn, const char *name, GError **error);
/* All domains with our metadata. GPtrArray of VirtDomain, transfer full. */
GPtrArray *virt_list_ours(VirtConn *conn, GError **error);
/* Is the guest agent's channel connected? */
bool virt_agent_is_connected(VirtConn *conn, const char *uuid, bool *out_connected, GError **error);
/* One guest agent command (QMP JSON text), answer transfer full, at most timeout_s. */
char *virt_agent_command(VirtConn *conn, const char *uuid, const char *command, int timeout_s,
                         GError **error);

typedef struct {
    uint64_t cpu_time_ns, cpu_user_ns, cpu_system_ns;
    unsigned n_vcpus;
    uint64_t mem_actual_bytes, mem_rss_bytes, mem_unused_bytes,
        mem_usable_bytes; /* unused, usable: 0 unknown */
    uint64_t net_rx_bytes, net_tx_bytes;
    uint64_t disk_rd_bytes, disk_wr_bytes, disk_allocation_bytes;
} VirtStats;
bool virt_stats(VirtConn *conn, const char *uuid, VirtStats *out, GError **error);
/* One line for QEMU's human monitor; what it said, transfer full. */
char *virt_monitor(VirtConn *conn, const char *uuid, const char *line, GError **error);
/* Plugs or unplugs the cable of the NIC with this MAC, of the running domain and of its definition;
 * idempotent. The host's tap stays up. NOT_FOUND: no such domain or NIC. */
bool virt_set_link(VirtConn *conn, const char *uuid, const char *mac, bool is_up, GError **error);
/* The live domain's XML. Transfer full. */
char *virt_domain_xml(VirtConn *conn, const char *uuid, GError **error);
