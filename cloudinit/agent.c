#include "cloudinit/keys.h"

#include "base/fd.h"
#include "cloudinit/ssh_wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* draft-miller-ssh-agent, section 6.1 */
#define AGENTC_REQUEST_IDENTITIES 11
#define AGENT_IDENTITIES_ANSWER   12

#define ANSWER_MAX_BYTES (256 * 1024)

/* The agent's socket with the time until which it may be waited for. */
typedef struct {
    int fd;
    gint64 deadline_us;
} Agent;

static bool agent_wait(const Agent *agent, short events, GError **error)
{
    for (;;) {
        gint64 left_us = agent->deadline_us - g_get_monotonic_time();
        struct pollfd poller = {.fd = agent->fd, .events = events};
        int n_ready = left_us > 0 ? poll(&poller, 1, (int)(left_us / 1000) + 1) : 0;
        if (n_ready > 0) {
            return true;
        }
        if (n_ready == 0) {
            return base_fail(error, VM_ERROR_TIMEOUT, "the ssh agent does not answer");
        }
        if (errno != EINTR) {
            base_error_set_errno(error, errno, "cannot wait for the ssh agent");
            return false;
        }
    }
}

static bool agent_send(const Agent *agent, const uint8_t *bytes, size_t n_bytes, GError **error)
{
    while (n_bytes > 0) {
        if (!agent_wait(agent, POLLOUT, error)) {
            return false;
        }
        ssize_t n = send(agent->fd, bytes, n_bytes, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            base_error_set_errno(error, errno, "cannot write to the ssh agent");
            return false;
        }
        bytes += n > 0 ? n : 0;
        n_bytes -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool agent_receive(const Agent *agent, uint8_t *bytes, size_t n_bytes, GError **error)
{
    while (n_bytes > 0) {
        if (!agent_wait(agent, POLLIN, error)) {
            return false;
        }
        ssize_t n = recv(agent->fd, bytes, n_bytes, 0);
        if (n == 0) {
            return base_fail(error, VM_ERROR_CI, "the ssh agent hung up in mid-answer");
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            base_error_set_errno(error, errno, "cannot read from the ssh agent");
            return false;
        }
        bytes += n > 0 ? n : 0;
        n_bytes -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

static int agent_open(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        base_fail(error, VM_ERROR_CI, "SSH_AUTH_SOCK is longer than a socket path can be");
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int errnum = errno;
        g_autofree char *shown = base_report_escape(path, 200);
        base_error_set_errno(error, errnum, "cannot reach the ssh agent at '%s'", shown);
        return -1;
    }
    return base_fd_steal(&fd);
}

/* The body of the answer to `request`, type byte first. */
static GByteArray *agent_ask(const Agent *agent, uint8_t request, GError **error)
{
    const uint8_t message[5] = {0, 0, 0, 1, request};
    uint8_t head[4];
    if (!agent_send(agent, message, sizeof message, error) ||
        !agent_receive(agent, head, sizeof head, error)) {
        return NULL;
    }
    SshReader reader;
    seed_ssh_reader_init(&reader, head, sizeof head);
    uint32_t n_bytes = seed_ssh_read_u32(&reader);
    if (n_bytes == 0 || n_bytes > ANSWER_MAX_BYTES) {
        base_fail(error, VM_ERROR_CI, "what SSH_AUTH_SOCK names does not speak as an ssh agent");
        return NULL;
    }
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_byte_array_set_size(body, n_bytes);
    return agent_receive(agent, body->data, n_bytes, error) ? g_steal_pointer(&body) : NULL;
}

/* A comment is free text of somebody's agent: what can't stand in a line becomes '_'. */
static char *comment_clean(const uint8_t *bytes, size_t n_bytes)
{
    char *comment = g_utf8_make_valid((const char *)bytes, (gssize)n_bytes);
    for (char *c = comment; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '_';
        }
    }
    return comment;
}

static char *identity_line(const uint8_t *blob, size_t n_blob, const uint8_t *comment,
                           size_t n_comment)
{
    SshReader reader;
    seed_ssh_reader_init(&reader, blob, n_blob);
    size_t n_type;
    const uint8_t *type = seed_ssh_read_string(&reader, &n_type);
    if (!type || n_type == 0 || n_type > 64) {
        return NULL;
    }
    g_autofree char *name = g_strndup((const char *)type, n_type);
    g_autofree char *base64 = g_base64_encode(blob, n_blob);
    g_autofree char *text = comment_clean(comment, n_comment);
    g_autofree char *line = g_strjoin(" ", name, base64, *text == '\0' ? NULL : text, NULL);
    return seed_key_check(line, NULL) ? g_steal_pointer(&line) : NULL;
}

static GPtrArray *identities_parse(const GByteArray *body, GError **error)
{
    SshReader reader;
    seed_ssh_reader_init(&reader, body->data, body->len);
    const uint8_t *type = seed_ssh_read_bytes(&reader, 1);
    uint32_t n_keys = seed_ssh_read_u32(&reader);
    bool is_answer = type && *type == AGENT_IDENTITIES_ANSWER && !reader.is_failed;
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (uint32_t i = 0; is_answer && i < n_keys; i++) {
        size_t n_blob;
        size_t n_comment;
        const uint8_t *blob = seed_ssh_read_string(&reader, &n_blob);
        const uint8_t *comment = seed_ssh_read_string(&reader, &n_comment);
        is_answer = !reader.is_failed;
        char *line = is_answer ? identity_line(blob, n_blob, comment, n_comment) : NULL;
        if (line) {
            g_ptr_array_add(lines, line);
        }
    }
    if (!is_answer) {
        base_fail(error, VM_ERROR_CI, "the ssh agent's answer is not a list of keys");
        return NULL;
    }
    if (lines->len == 0) {
        base_fail(error, VM_ERROR_CI,
                  "the ssh agent holds no key that can be used - add one with ssh-add");
        return NULL;
    }
    return g_steal_pointer(&lines);
}

GPtrArray *seed_agent_list(const char *socket_path, int timeout_ms, GError **error)
{
    const char *path = socket_path ? socket_path : g_getenv("SSH_AUTH_SOCK");
    if (!path || *path == '\0') {
        base_fail(error, VM_ERROR_CI,
                  "no ssh agent: SSH_AUTH_SOCK is not set - start one, or name a key file");
        return NULL;
    }
    Agent agent = {.deadline_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000};
    autofd int fd = agent_open(path, error);
    agent.fd = fd;
    if (fd < 0) {
        return NULL;
    }
    g_autoptr(GByteArray) body = agent_ask(&agent, AGENTC_REQUEST_IDENTITIES, error);
    return body ? identities_parse(body, error) : NULL;
}
