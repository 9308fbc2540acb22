#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "driver/embed/kvm_mask.h"
#include "driver/embed/reaper.h"
#include "driver/virt_wire.h"

/*
 * vm-run-embed: one connection to libvirt's embedded driver, for the program at the other end of
 * standard input (a socket). It serves requests (driver/virt_wire.h) one after the other and ends
 * with the socket: the root is free again then.
 *
 * It ends at once and closes nothing. libvirt has a thread for each running machine, which connects
 * to its QEMU again; what such a thread meets while libvirt is being taken down around it is a
 * crash (seen under load, libvirt 9.0), or an error, upon which it ends that QEMU. Files are
 * written whole and renamed, so an end at any moment is safe.
 */
extern const VirtOps virt_ops; /* driver/libvirt/module.c, linked in */

#define OPEN_TRIES_MS 10000 /* the root's last holder may be a process that is just ending */

static bool reply(int sock, const char *answer, const GError *error)
{
    json_t *message = error
                          ? json_pack("{s:i, s:s}", "code", error->code, "message", error->message)
                          : json_pack("{s:s}", "answer", answer);
    if (!message) {
        message = json_pack("{s:i, s:s}", "code", VM_ERROR_HOST, "message",
                            "libvirt's answer is not UTF-8");
    }
    bool is_sent = virt_wire_send(sock, message, NULL, 0, NULL);
    json_decref(message);
    return is_sent;
}

static void *open_root(const char *uri, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + OPEN_TRIES_MS * 1000;
    for (;;) {
        g_autoptr(GError) cause = NULL;
        void *impl = virt_ops.open(uri, &cause);
        if (impl || !g_error_matches(cause, VM_ERROR, VM_ERROR_BUSY) ||
            g_get_monotonic_time() > end_us) {
            if (!impl) {
                g_propagate_error(error, g_steal_pointer(&cause));
            }
            return impl;
        }
        g_usleep(50 * 1000);
    }
}

static void *serve_open(int sock)
{
    const char *uri = NULL;
    g_autoptr(GError) error = NULL;
    json_t *request = virt_wire_receive(sock, -1, NULL, NULL, NULL);
    void *impl =
        request && json_unpack(request, "{s:s}", "open", &uri) == 0 ? open_root(uri, &error) : NULL;
    bool is_told = uri && reply(sock, "true", error);
    json_decref(request);
    return is_told ? impl : NULL;
}

/* Fills args from the request, which keeps the texts; the descriptors go into `disks`. */
static bool unpack(json_t *request, const int *fds, unsigned n_fds, VirtDiskFd *disks, VirtOp *op,
                   VirtArgs *args)
{
    int number_of_op = -1;
    json_t *list = NULL;
    if (json_unpack(request, "{s:i, s?s, s?s, s:i, s:o}", "op", &number_of_op, "uuid", &args->uuid,
                    "text", &args->text, "number", &args->number, "fds", &list) != 0 ||
        number_of_op < 0 || number_of_op >= VIRT_OP_N || json_array_size(list) != n_fds) {
        return false;
    }
    for (unsigned i = 0; i < n_fds; i++) {
        json_t *item = json_array_get(list, i);
        disks[i] = (VirtDiskFd){json_string_value(json_object_get(item, "group")), fds[i],
                                json_is_true(json_object_get(item, "is_writable"))};
        if (!disks[i].group) {
            return false;
        }
    }
    *op = (VirtOp)number_of_op;
    args->fds = disks;
    args->n_fds = n_fds;
    return true;
}

/* One request; false: the other side is gone. */
static bool serve_call(int sock, void *impl)
{
    int fds[VIRT_WIRE_MAX_FDS];
    unsigned n_fds = 0;
    VirtDiskFd disks[VIRT_WIRE_MAX_FDS];
    VirtArgs args = {0};
    VirtOp op = VIRT_OP_N;
    json_t *request = virt_wire_receive(sock, -1, fds, &n_fds, NULL);
    if (!request) {
        return false;
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *answer = NULL;
    if (unpack(request, fds, n_fds, disks, &op, &args)) {
        answer = virt_ops.call(impl, op, &args, &error);
    } else {
        base_fail(&error, VM_ERROR_INTERNAL, "the libvirt process got a request it doesn't know");
    }
    for (unsigned i = 0; i < n_fds; i++) {
        base_fd_close(&fds[i]);
    }
    bool is_sent = reply(sock, answer, error);
    json_decref(request);
    return is_sent;
}

int main(void)
{
    autofd int sock = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sock < 0 || null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0) {
        perror("vm-run-embed");
        return 1;
    }
    close(null_fd);
    embed_kvm_mask();
    embed_reaper_begin();
    void *impl = serve_open(sock);
    if (!impl) {
        _exit(1);
    }
    while (serve_call(sock, impl)) {
    }
    _exit(0);
}
