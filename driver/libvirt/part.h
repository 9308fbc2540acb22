#pragma once
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <jansson.h>
#include "base/error.h"
#include "driver/virt_ops.h"

/*
 * Inside the part: one connection, and the handlers of its operations. A handler runs on a thread
 * of its own with a deadline (job.h), so it may block, keeps nothing of its arguments and touches
 * nothing but its connection.
 */
typedef struct {
    virConnectPtr conn; /* NULL until opened and after closing */
    char *uri;
    VirtKind kind;
    gint n_stuck; /* calls that were given up and still run */
} VirtPart;

VirtPart *virt_part_new(const char *uri);
VirtPart *virt_part_ref(VirtPart *part);
void virt_part_unref(VirtPart *part);

/* The answer (JSON text, transfer full) or NULL and an error. */
typedef char *(*VirtHandler)(VirtPart *part, const VirtArgs *args, GError **error);

char *virt_op_facts(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_define(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_start(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_state(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_shutdown(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_reboot(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_destroy(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_undefine(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_find(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_list(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_agent_state(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_agent_command(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_stats(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_xml(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_monitor(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_set_link(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_network_by_bridge(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_network_reserve(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_network_release(VirtPart *part, const VirtArgs *args, GError **error);
char *virt_op_network_lease(VirtPart *part, const VirtArgs *args, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virNetwork, virNetworkFree)

/* The domain with this uuid; NULL and NOT_FOUND (or another error). Caller: virDomainFree. */
virDomainPtr virt_part_lookup(VirtPart *part, const char *uuid, GError **error);
/* Straight after opening, an embedded driver shows what it remembers until it has talked to QEMU:
 * makes it talk. */
void virt_part_freshen(VirtPart *part, virDomainPtr domain);
/* libvirt's view of the domain, in our words; ABSENT when it vanished. */
VirtState virt_part_state(virDomainPtr domain);

/* The one door for libvirt's errors: sets `error` from the last one of this thread: "<formatted>:
 * <what libvirt says>". */
void virt_error_set(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* `value` (stolen) as text. */
char *virt_answer(json_t *value);
char *virt_answer_true(void);

/* Once a process: registers the event loop and its thread, and makes libvirt silent (it writes to
 * stderr by itself). */
bool virt_library_begin(GError **error);
/* A thread that gets no signals of the program. */
GThread *virt_thread_new(const char *name, GThreadFunc func, gpointer data, GError **error);
