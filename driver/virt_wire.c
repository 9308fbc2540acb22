#include "driver/virt_wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/error.h"

typedef union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * VIRT_WIRE_MAX_FDS)];
} FdBuffer;

static bool send_all(int sock, const char *bytes, size_t n, GError **error)
{
    while (n > 0) {
        ssize_t done = send(sock, bytes, n, MSG_NOSIGNAL);
        if (done < 0 && errno != EINTR) {
            base_error_set_errno(error, errno, "cannot talk to the libvirt process");
            return false;
        }
        bytes += MAX(done, 0);
        n -= (size_t)MAX(done, 0);
    }
    return true;
}

static bool send_length(int sock, uint32_t length, const int *fds, unsigned n_fds, GError **error)
{
    FdBuffer control = {0};
    struct iovec piece = {.iov_base = &length, .iov_len = sizeof length};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (n_fds > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        struct cmsghdr *item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(item), fds, sizeof(int) * n_fds);
    }
    ssize_t done;
    do {
        done = sendmsg(sock, &header, MSG_NOSIGNAL);
    } while (done < 0 && errno == EINTR);
    if (done != sizeof length) {
        base_error_set_errno(error, done < 0 ? errno : EPIPE, "cannot talk to the libvirt process");
        return false;
    }
    return true;
}

bool virt_wire_send(int sock, json_t *message, const int *fds, unsigned n_fds, GError **error)
{
    g_assert(n_fds <= VIRT_WIRE_MAX_FDS);
    char *text = json_dumps(message, JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    bool is_sent =
        n > 0 && n <= VIRT_WIRE_MAX_BYTES
            ? send_length(sock, (uint32_t)n, fds, n_fds, error) && send_all(sock, text, n, error)
            : base_fail(error, VM_ERROR_RANGE, "a text for libvirt is not UTF-8 or is too large");
    free(text);
    return is_sent;
}

/* Waits until there is something to read (or the end of it). */
static bool wait_readable(int sock, gint64 end_us, GError **error)
{
    for (;;) {
        int left_ms = -1;
        if (end_us > 0) {
            left_ms = (int)CLAMP((end_us - g_get_monotonic_time() + 999) / 1000, 0, G_MAXINT);
        }
        struct pollfd item = {.fd = sock, .events = POLLIN};
        int n = poll(&item, 1, left_ms);
        if (n > 0) {
            return true;
        }
        if (n == 0) {
            return base_fail(error, VM_ERROR_TIMEOUT, "the libvirt process did not answer in time");
        }
        if (errno != EINTR) {
            base_error_set_errno(error, errno, "cannot wait for the libvirt process");
            return false;
        }
    }
}

static void take_fds(struct msghdr *header, int *fds, unsigned *n_fds)
{
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t n = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
            if (fds && *n_fds < VIRT_WIRE_MAX_FDS) {
                fds[(*n_fds)++] = fd;
            } else {
                close(fd);
            }
        }
    }
}

/* Reads n bytes; out_is_end: the other side closed. Descriptors that come with them are taken. */
static bool receive_all(int sock, void *bytes, size_t n, gint64 end_us, int *fds, unsigned *n_fds,
                        bool *out_is_end, GError **error)
{
    for (size_t got = 0; got < n;) {
        FdBuffer control;
        struct iovec piece = {.iov_base = (char *)bytes + got, .iov_len = n - got};
        struct msghdr header = {.msg_iov = &piece,
                                .msg_iovlen = 1,
                                .msg_control = control.bytes,
                                .msg_controllen = sizeof control.bytes};
        if (!wait_readable(sock, end_us, error)) {
            return false;
        }
        ssize_t done = recvmsg(sock, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (done == 0 || (done < 0 && errno == ECONNRESET)) {
            *out_is_end = true;
            return false;
        }
        if (done < 0 && errno != EINTR && errno != EAGAIN) {
            base_error_set_errno(error, errno, "cannot hear the libvirt process");
            return false;
        }
        if (done > 0) {
            take_fds(&header, fds, n_fds);
            got += (size_t)done;
        }
    }
    return true;
}

json_t *virt_wire_receive(int sock, int timeout_ms, int *fds, unsigned *n_fds, GError **error)
{
    gint64 end_us = timeout_ms < 0 ? 0 : g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    uint32_t length = 0;
    unsigned none = 0;
    bool is_end = false;
    n_fds = n_fds ? n_fds : &none;
    *n_fds = 0;
    if (!receive_all(sock, &length, sizeof length, end_us, fds, n_fds, &is_end, error)) {
        return NULL;
    }
    if (length > VIRT_WIRE_MAX_BYTES) {
        base_fail(error, VM_ERROR_INTERNAL, "the libvirt process sent a frame of %u bytes", length);
        return NULL;
    }
    g_autofree char *text = g_malloc(length + 1);
    if (!receive_all(sock, text, length, end_us, NULL, &none, &is_end, error)) {
        return NULL;
    }
    json_t *message = json_loadb(text, length, 0, NULL);
    if (!message) {
        base_fail(error, VM_ERROR_INTERNAL, "the libvirt process sent what is not JSON");
    }
    return message;
}
