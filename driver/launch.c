#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "driver/host.h"
#include "driver/watch.h"

/*
 * How it works: the person's command starts `vm-run-watch --exec`, which starts the starter
 * (`vm-run internal-start`) as its child, so that QEMU, once daemonized, becomes the watcher's
 * child. The request goes through a pipe (a spec may hold secrets: nothing is in argv or the
 * environment); the pipe stays open as a sign of life: when the asker is gone or cancels, it
 * closes, and the starter undoes its work. Progress and the result come back as JSON lines.
 */
#define REPLY_MAX_BYTES (4 * 1024 * 1024)

/* --- the asker -------------------------------------------------------------------------------- */

static char *request_text(MachineHost *host, const char *name, const MachineSpec *spec,
                          const MachineStartOptions *options)
{
    g_autofree char *spec_json = spec ? spec_machine_to_json(spec) : NULL;
    json_t *root =
        json_pack("{s:i,s:s,s:s*,s:s,s:s*,s:s*,s:b,s:b,s:s*,s:s*}", "v", 1, "state_dir",
                  host->store->dir, "connect", host->connect, "name", name, "spec", spec_json,
                  "command", options->command, "is_rm", options->is_rm, "is_new", options->is_new,
                  "cache_dir", options->cache_dir, "network", options->network);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (spec_json) {
        explicit_bzero(spec_json, strlen(spec_json));
    }
    char *line = g_strconcat(text, "\n", NULL);
    explicit_bzero(text, strlen(text));
    free(text);
    return line;
}

static bool write_all(int fd, const char *text, GError **error)
{
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno != EINTR) {
            base_error_set_errno(error, errno, "the starter ended early");
            return false;
        }
        text += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* One line of the starter's; true when it was the result. */
static bool take_reply(const char *line, size_t n, const MachineCallbacks *cb, bool *out_ok,
                       GError **error)
{
    json_t *reply = json_loadb(line, n, 0, NULL);
    const char *result = json_string_value(json_object_get(reply, "result"));
    const char *state = json_string_value(json_object_get(reply, "state"));
    if (!result && state && cb && cb->progress) {
        cb->progress((int)json_integer_value(json_object_get(reply, "stage")), state,
                     json_string_value(json_object_get(reply, "text")),
                     (int)json_integer_value(json_object_get(reply, "permille")), cb->data);
    }
    if (result) {
        *out_ok = strcmp(result, "ok") == 0;
        const char *message = json_string_value(json_object_get(reply, "message"));
        if (!*out_ok) {
            g_set_error_literal(error, VM_ERROR,
                                (int)json_integer_value(json_object_get(reply, "code")),
                                message ? message : "");
        }
    }
    bool is_result = result != NULL;
    json_decref(reply);
    return is_result;
}

/* Waits for the result, passing progress on; a cancelled asker closes its request and still waits
 * for the undoing. */
static bool follow_starter(int *request_fd, int reply_fd, const MachineCallbacks *cb,
                           GError **error)
{
    g_autoptr(GString) buffer = g_string_new(NULL);
    bool is_ok = false;
    for (;;) {
        if (*request_fd >= 0 && cb && cb->cancelled && cb->cancelled(cb->data)) {
            base_fd_close(request_fd);
        }
        struct pollfd fd = {reply_fd, POLLIN, 0};
        if (poll(&fd, 1, 500) < 0 && errno != EINTR) {
            base_error_set_errno(error, errno, "the starter");
            return false;
        }
        if (!fd.revents) {
            continue;
        }
        char bytes[4096];
        ssize_t n = read(reply_fd, bytes, sizeof bytes);
        if (n == 0 || buffer->len > REPLY_MAX_BYTES) {
            return base_fail(
                error, VM_ERROR_INTERNAL,
                "the starter ended without a result - run `vm-run gc`, then try again");
        }
        g_string_append_len(buffer, bytes, n > 0 ? n : 0);
        for (char *end; (end = memchr(buffer->str, '\n', buffer->len));) {
            size_t n_line = (size_t)(end - buffer->str);
            if (take_reply(buffer->str, n_line, cb, &is_ok, error)) {
                return is_ok;
            }
            g_string_erase(buffer, 0, (gssize)n_line + 1);
        }
    }
}

static char *starter_program(GError **error)
{
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    char *program = folder ? g_build_filename(folder, "vm-run", NULL) : NULL;
    if (!program || access(program, X_OK) < 0) {
        base_fail(error, VM_ERROR_HOST, "'%s' is not there", program ? program : "vm-run");
        g_clear_pointer(&program, g_free);
    }
    return program;
}

bool machine_launch(MachineHost *host, const char *name, MachineSpec *spec,
                    const MachineStartOptions *options, const MachineCallbacks *callbacks,
                    GError **error)
{
    g_autofree char *watch = machine_watch_program(error);
    g_autofree char *program = watch ? starter_program(error) : NULL;
    int request[2] = {-1, -1}, reply[2] = {-1, -1};
    if (!program) {
        return false;
    }
    if (pipe2(request, O_CLOEXEC) < 0 || pipe2(reply, O_CLOEXEC) < 0) {
        base_error_set_errno(error, errno, "cannot make a pipe");
        return false;
    }
    autofd int request_read = request[0], request_write = request[1], reply_read = reply[0],
               reply_write = reply[1];
    const char *argv[] = {program, "internal-start", NULL};
    pid_t pid = machine_watch_exec(watch, argv, request_read, reply_write, STDERR_FILENO,
                                   (int[]){-1}, error);
    if (pid < 0) {
        return false;
    }
    base_fd_close(&request_read);
    base_fd_close(&reply_write);
    g_autofree char *text = request_text(host, name, spec, options);
    bool is_ok = write_all(request_write, text, error) &&
                 follow_starter(&request_write, reply_read, callbacks, error);
    explicit_bzero(text, strlen(text));
    return is_ok;
}

/* --- the starter ------------------------------------------------------------------------------ */

typedef struct {
    int request_fd, reply_fd;
} Starter;

static void send_json(int fd, json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT);
    g_autofree char *line = g_strconcat(text ? text : "{}", "\n", NULL);
    free(text);
    json_decref(message);
    write_all(fd, line, NULL);
}

static void send_progress(int stage, const char *state, const char *text, int permille, void *data)
{
    const Starter *s = data;
    send_json(s->reply_fd, json_pack("{s:i,s:s,s:s*,s:i}", "stage", stage, "state", state, "text",
                                     text, "permille", permille));
}

/* The asker has closed its end: it is gone, or it changed its mind. */
static bool asker_is_gone(void *data)
{
    const Starter *s = data;
    struct pollfd fd = {s->request_fd, POLLIN, 0};
    return poll(&fd, 1, 0) > 0 && (fd.revents & (POLLHUP | POLLERR));
}

static char *read_request(int fd)
{
    GString *text = g_string_new(NULL);
    char bytes[8192];
    while (text->len < REPLY_MAX_BYTES * 4 && !(text->len && text->str[text->len - 1] == '\n')) {
        ssize_t n = read(fd, bytes, sizeof bytes);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        g_string_append_len(text, bytes, n > 0 ? n : 0);
    }
    return g_string_free(text, FALSE);
}

static bool start_requested(const json_t *request, Starter *starter, GError **error)
{
    const char *name = json_string_value(json_object_get(request, "name"));
    const char *spec_json = json_string_value(json_object_get(request, "spec"));
    if (!name) {
        return base_fail(error, VM_ERROR_INTERNAL, "internal-start: no request");
    }
    g_autoptr(MachineHost) host =
        machine_host_new(json_string_value(json_object_get(request, "state_dir")),
                         json_string_value(json_object_get(request, "connect")), false, error);
    g_autoptr(MachineSpec) spec =
        host && spec_json ? spec_machine_from_json(spec_json, error) : NULL;
    if (!host || (spec_json && !spec)) {
        return false;
    }
    MachineStartOptions options = {
        .command = json_string_value(json_object_get(request, "command")),
        .is_rm = json_is_true(json_object_get(request, "is_rm")),
        .is_new = json_is_true(json_object_get(request, "is_new")),
        .cache_dir = json_string_value(json_object_get(request, "cache_dir")),
        .network = json_string_value(json_object_get(request, "network")),
    };
    MachineCallbacks callbacks = {send_progress, asker_is_gone, starter};
    return machine_start(host, name, spec, &options, &callbacks, error);
}

int machine_launch_starter_main(int request_fd, int reply_fd)
{
    Starter starter = {request_fd, reply_fd};
    char *text = read_request(request_fd);
    json_t *request = json_loads(text, 0, NULL);
    explicit_bzero(text, strlen(text));
    g_free(text);
    g_autoptr(GError) error = NULL;
    bool is_ok = start_requested(request, &starter, &error);
    json_decref(request);
    if (is_ok) {
        send_json(reply_fd, json_pack("{s:s}", "result", "ok"));
        return 0;
    }
    int code = error->domain == VM_ERROR ? error->code : VM_ERROR_INTERNAL;
    send_json(reply_fd, json_pack("{s:s,s:i,s:s}", "result", "error", "code", code, "message",
                                  error->message));
    return base_error_row(code)->exit_status;
}
