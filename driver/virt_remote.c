#include "driver/virt_wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/child.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/path.h"

/*
 * How it works: an embedded libvirt belongs to its process until that process ends, closing the
 * connection doesn't free the root (libvirt 9.0). So each connection is a process, vm-run-embed,
 * and closing it is its end. What comes with that: a call that hangs is ended for good, and this
 * program never carries libvirt.
 */
#define MARGIN_MS 3000 /* the other side keeps the same deadline; it should speak first */

typedef struct {
    pid_t pid;
    int pidfd, sock;
    char *uri;
    bool is_hung; /* nothing more is asked of it */
} Remote;

/* Where vm-run-embed is: beside the program, one folder up (programs of the build tree's tests), or
 * in ../libexec/vm-run. */
char *virt_embed_program(GError **error)
{
    static const char *const places[] = {"", "..", "../libexec/vm-run"};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : g_strdup(".");
    for (unsigned i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(folder, places[i], "vm-run-embed", NULL);
        if (access(path, X_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    base_fail(error, VM_ERROR_HOST,
              "vm-run-embed is not installed beside '%s' - install vm-run again", self);
    return NULL;
}

static void remote_free(Remote *remote)
{
    if (remote->pid > 0) {
        while (waitpid(remote->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    base_fd_close(&remote->pidfd);
    base_fd_close(&remote->sock);
    g_free(remote->uri);
    g_free(remote);
}

/* Some of libvirt's parts keep their folders outside the embedded root, in the caller's home: they
 * are told to be inside. It looks for QEMU in PATH. */
static char **own_folders(const char *uri)
{
    static const char *const names[] = {"XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
                                        "XDG_STATE_HOME", "XDG_RUNTIME_DIR"};
    g_autofree char *root = virt_embed_root_of_uri(uri);
    g_autoptr(GPtrArray) env = g_ptr_array_new();
    for (unsigned i = 0; root && i < G_N_ELEMENTS(names); i++) {
        g_ptr_array_add(env, g_strdup_printf("%s=%s/home", names[i], root));
    }
    if (!g_getenv("PATH")) {
        g_ptr_array_add(env, g_strdup("PATH=/usr/sbin:/usr/bin"));
    }
    g_ptr_array_add(env, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&env), FALSE);
}

static void remote_kill(Remote *remote)
{
    remote->is_hung = true;
    if (remote->pidfd >= 0) {
        pidfd_send_signal(remote->pidfd, SIGKILL, NULL, 0);
    }
}

static void remote_close(void *impl)
{
    Remote *remote = impl;
    base_fd_close(&remote->sock);
    struct pollfd item = {.fd = remote->pidfd, .events = POLLIN};
    if (remote->pidfd >= 0 && poll(&item, 1, VIRT_CLOSE_MS + MARGIN_MS) != 1) {
        remote_kill(remote);
    }
    remote_free(remote);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Remote, remote_close)

static Remote *remote_start(const char *uri, GError **error)
{
    g_autofree char *program = virt_embed_program(error);
    int pair[2];
    if (!program) {
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        base_error_set_errno(error, errno, "cannot make a socket pair");
        return NULL;
    }
    autofd int theirs = pair[1];
    g_autoptr(Remote) remote = g_new0(Remote, 1);
    *remote = (Remote){.pid = -1, .pidfd = -1, .sock = pair[0], .uri = g_strdup(uri)};
    const char *argv[] = {program, NULL};
    g_auto(GStrv) env = own_folders(uri);
    BaseChild child = BASE_CHILD_INIT;
    child.argv = argv;
    child.extra_env = (const char *const *)env;
    child.stdin_fd = theirs;
    child.is_new_session = true;
    remote->pid = base_child_spawn(&child, &remote->pidfd, error);
    return remote->pid > 0 ? g_steal_pointer(&remote) : NULL;
}

/* The answer in `reply` (stolen; NULL: the process is gone). */
static char *unpack(Remote *remote, json_t *reply, GError **error)
{
    const char *answer = NULL, *message = NULL;
    int code = VM_ERROR_INTERNAL;
    char *result = NULL;
    if (!reply) {
        remote->is_hung = true;
        base_fail(error, VM_ERROR_HOST, "the libvirt process (%s) ended unexpectedly", remote->uri);
    } else if (json_unpack(reply, "{s:s}", "answer", &answer) == 0) {
        result = g_strdup(answer);
    } else if (json_unpack(reply, "{s:i, s:s}", "code", &code, "message", &message) == 0) {
        g_set_error_literal(error, VM_ERROR, code, message);
    } else {
        base_fail(error, VM_ERROR_INTERNAL, "the libvirt process sent no answer");
    }
    json_decref(reply);
    return result;
}

/* Sends `request` (stolen) and waits for the answer. */
static char *ask(Remote *remote, json_t *request, const int *fds, unsigned n_fds,
                 unsigned deadline_ms, GError **error)
{
    g_autoptr(GError) cause = NULL;
    json_t *reply = NULL;
    if (virt_wire_send(remote->sock, request, fds, n_fds, &cause)) {
        reply = virt_wire_receive(remote->sock, (int)(deadline_ms + MARGIN_MS), NULL, NULL, &cause);
    }
    json_decref(request);
    if (cause) {
        remote_kill(remote);
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    return unpack(remote, reply, error);
}

static void *remote_open(const char *uri, GError **error)
{
    g_autoptr(Remote) remote = remote_start(uri, error);
    if (!remote) {
        return NULL;
    }
    g_autofree char *answer =
        ask(remote, json_pack("{s:s}", "open", uri), NULL, 0, VIRT_OPEN_EMBED_MS, error);
    return answer ? g_steal_pointer(&remote) : NULL;
}

static json_t *pack_fds(const VirtArgs *args)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < args->n_fds; i++) {
        json_array_append_new(list, json_pack("{s:s, s:b}", "group", args->fds[i].group,
                                              "is_writable", args->fds[i].is_writable));
    }
    return list;
}

static char *remote_call(void *impl, VirtOp op, const VirtArgs *args, GError **error)
{
    Remote *remote = impl;
    int fds[VIRT_WIRE_MAX_FDS];
    if (remote->is_hung) {
        base_fail(error, VM_ERROR_HOST, "the libvirt process (%s) is gone", remote->uri);
        return NULL;
    }
    if (args->n_fds > VIRT_WIRE_MAX_FDS) {
        base_fail(error, VM_ERROR_RANGE, "more than %d disks", VIRT_WIRE_MAX_FDS);
        return NULL;
    }
    for (unsigned i = 0; i < args->n_fds; i++) {
        fds[i] = args->fds[i].fd;
    }
    json_t *request = json_pack("{s:i, s:s*, s:s*, s:i, s:o}", "op", (int)op, "uuid", args->uuid,
                                "text", args->text, "number", args->number, "fds", pack_fds(args));
    if (!request) {
        base_fail(error, VM_ERROR_RANGE, "a text for libvirt is not UTF-8");
        return NULL;
    }
    return ask(remote, request, fds, args->n_fds, virt_op_deadline_ms(op, args), error);
}

const VirtOps virt_remote_ops = {
    .abi = VIRT_OPS_ABI,
    .open = remote_open,
    .call = remote_call,
    .close = remote_close,
};
