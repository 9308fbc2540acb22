#pragma once
#include <jansson.h>
#include "driver/virt.h"

/*
 * What stands between driver/virt.h and the part that is linked with libvirt: one table of
 * operations, all called in the same way, so that a call can be served in this process
 * (vm-run-libvirt.so) or sent to another one (vm-run-embed, driver/virt_wire.h). Answers are JSON
 * texts: FACTS  object (caps.c)     STATE  number (VirtState)     FIND  object or null     LIST
 * array of objects (inventory.c) AGENT_STATE  boolean       AGENT_COMMAND, XML, MONITOR  string
 * STATS object (stats.c)  NETWORK_BY_BRIDGE, NETWORK_LEASE  object or null  NETWORK_RESERVE  string
 * (network.c)  others  true
 */
#define VIRT_OPS_ABI 3

typedef enum {
    VIRT_OP_FACTS,
    VIRT_OP_DEFINE, /* text: XML */
    VIRT_OP_START,  /* uuid, fds */
    VIRT_OP_STATE,  /* uuid, as all below unless said */
    VIRT_OP_SHUTDOWN,
    VIRT_OP_REBOOT,
    VIRT_OP_DESTROY,
    VIRT_OP_UNDEFINE,
    VIRT_OP_FIND, /* text: name */
    VIRT_OP_LIST, /* nothing */
    VIRT_OP_AGENT_STATE,
    VIRT_OP_AGENT_COMMAND, /* uuid, text, number: seconds */
    VIRT_OP_STATS,
    VIRT_OP_XML,
    VIRT_OP_MONITOR,           /* uuid, text: a line of HMP */
    VIRT_OP_SET_LINK,          /* uuid, text: MAC, number: 1 up, 0 down */
    VIRT_OP_NETWORK_BY_BRIDGE, /* text: bridge */
    VIRT_OP_NETWORK_RESERVE, /* text: {"network", "mac", "ip", "hostname"}, the last two or null */
    VIRT_OP_NETWORK_RELEASE, /* text: the same */
    VIRT_OP_NETWORK_LEASE,   /* text: the same without the last two */
    VIRT_OP_N
} VirtOp;

typedef struct {
    const char *uuid, *text; /* NULL where the operation has none */
    int number;
    const VirtDiskFd *fds;
    unsigned n_fds;
} VirtArgs;

/* Exported by vm-run-libvirt.so as `virt_ops`. impl is what open() gave; answers are transfer full
 * (g_free). */
typedef struct {
    unsigned abi; /* VIRT_OPS_ABI: first member for ever */
    void *(*open)(const char *uri, GError **error);
    char *(*call)(void *impl, VirtOp op, const VirtArgs *args, GError **error);
    void (*close)(void *impl);
} VirtOps;

/* How long opening may take: the first opening of an embedded root asks QEMU for its capabilities.
 */
#define VIRT_OPEN_EMBED_MS 60000
#define VIRT_OPEN_MS       20000
#define VIRT_CLOSE_MS      5000

/* The deadline of an operation, and its name for messages ("define domain"). */
unsigned virt_op_deadline_ms(VirtOp op, const VirtArgs *args);
const char *virt_op_name(VirtOp op);

/* The answer of `conn` as a value; NULL and an error. Caller: json_decref(). */
json_t *virt_call(VirtConn *conn, VirtOp op, const VirtArgs *args, GError **error);
/* Where networks are asked for: conn itself, or, of an embedded one, a connection to the host's
 * libvirtd, opened at the first call and closed with conn. NULL without error: nobody answers. */
VirtConn *virt_network_conn(VirtConn *conn, GError **error);

/* Which driver a libvirt URI means; VIRT_KIND_N: none that we serve (only qemu and test are). */
VirtKind virt_kind_of_uri(const char *uri);
/* The folder in qemu:///embed?root=..., transfer full; NULL: another URI, or none given. */
char *virt_embed_root_of_uri(const char *uri);

/* Path of vm-run-embed: beside the running program, one folder up (programs of the build tree's
 * tests), or in ../libexec/vm-run. Transfer full, NULL and HOST. */
char *virt_embed_program(GError **error);
