#pragma once
#include <jansson.h>
#include "driver/virt_ops.h"

/*
 * Frames between a program and its vm-run-embed, over a stream socket pair: a length in 4 bytes
 * (host order: one host), a JSON text, and descriptors that travel with the length. request
 * {"open": URI} once, then {"op": N, "uuid", "text", "number", "fds": [{"group", "is_writable"}]}
 *   reply     {"answer": TEXT} or {"code": VmError, "message": TEXT}
 */
#define VIRT_WIRE_MAX_FDS   64
#define VIRT_WIRE_MAX_BYTES (64u << 20)

/* Sends one frame; blocks until it is written. HOST when the other side is gone. */
bool virt_wire_send(int sock, json_t *message, const int *fds, unsigned n_fds, GError **error);

/* Receives one frame within timeout_ms (-1: for ever): TIMEOUT. NULL without error: the other side
 * has closed. Caller: json_decref(). fds (room for VIRT_WIRE_MAX_FDS) and n_fds may be NULL when
 * none are expected; received ones are CLOEXEC and the caller's. */
json_t *virt_wire_receive(int sock, int timeout_ms, int *fds, unsigned *n_fds, GError **error);

/* The operations over vm-run-embed, a VirtOps like the one of vm-run-libvirt.so. */
extern const VirtOps virt_remote_ops;
