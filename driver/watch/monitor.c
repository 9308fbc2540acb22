#include "driver/watch/monitor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver/watch/connect.h"
#include "driver/watch/state.h"

#define MESSAGE_MAX  65536
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 5000
#define AGENT_PORT   "org.qemu.guest_agent.0"

/* Ids of our requests; a port's name is asked for by ID_PORT + its index. */
enum { ID_CAPABILITIES = 1, ID_STATUS, ID_DEVICES, ID_AGENT_CHARDEV, ID_CHARDEVS, ID_PORT };

static void retry_later(Monitor *monitor)
{
    if (monitor->fd >= 0) {
        loop_remove(&monitor->watch->loop, &monitor->source);
        close(monitor->fd);
        monitor->fd = -1;
    }
    monitor->is_live = false;
    loop_timer_in(&monitor->watch->loop, &monitor->retry, monitor->retry_ms);
    monitor->retry_ms = monitor->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : monitor->retry_ms * 2;
}

/* arguments: stolen, NULL: none. A request that does not fit into the socket's buffer is a broken
 * connection. */
static void request(Monitor *monitor, int id, const char *command, json_t *arguments)
{
    json_t *json =
        json_pack("{s:s, s:i, s:o*}", "execute", command, "id", id, "arguments", arguments);
    char text[512];
    size_t n = json ? json_dumpb(json, text, sizeof text - 1, JSON_COMPACT) : 0;
    json_decref(json);
    if (monitor->fd < 0 || n == 0 || n >= sizeof text - 1) {
        return;
    }
    text[n++] = '\n';
    if (send(monitor->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n) {
        shutdown(monitor->fd, SHUT_RDWR); /* reading says so in its turn */
    }
}

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text ? text : "";
}

/* --- is the guest agent's port open? Which device that is, is asked by the port's name. ------- */

static void ask_agent(Monitor *monitor)
{
    monitor->n_ports = 0;
    monitor->agent_device[0] = '\0';
    if (monitor->watch->config.has_agent) {
        request(monitor, ID_DEVICES, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"));
    }
}

static void ask_property(Monitor *monitor, int id, const char *device, const char *property)
{
    char path[128];
    snprintf(path, sizeof path, "/machine/peripheral/%s", device);
    request(monitor, id, "qom-get", json_pack("{s:s, s:s}", "path", path, "property", property));
}

static void take_devices(Monitor *monitor, const json_t *devices)
{
    for (size_t i = 0; i < json_array_size(devices) && monitor->n_ports < MONITOR_PORTS_MAX; i++) {
        const json_t *device = json_array_get(devices, i);
        const char *name = text_of(device, "name");
        if (strcmp(text_of(device, "type"), "child<virtserialport>") == 0 && strlen(name) < 64) {
            strcpy(monitor->ports[monitor->n_ports], name);
            ask_property(monitor, ID_PORT + (int)monitor->n_ports++, name, "name");
        }
    }
}

static void take_port(Monitor *monitor, unsigned i, const json_t *name)
{
    const char *text = json_string_value(name);
    if (i < monitor->n_ports && text && strcmp(text, AGENT_PORT) == 0) {
        strcpy(monitor->agent_device, monitor->ports[i]);
        ask_property(monitor, ID_AGENT_CHARDEV, monitor->agent_device, "chardev");
    }
}

static void take_chardevs(Monitor *monitor, const json_t *chardevs)
{
    for (size_t i = 0; i < json_array_size(chardevs); i++) {
        const json_t *chardev = json_array_get(chardevs, i);
        if (strcmp(text_of(chardev, "label"), monitor->agent_chardev) == 0) {
            boot_agent(&monitor->watch->boot,
                       json_is_true(json_object_get(chardev, "frontend-open")));
        }
    }
}

/* --- pauses -------------------------------------------------------------------------------------
 */

/* detail: stolen, NULL: none. */
static void paused(Monitor *monitor, const char *reason, json_t *detail)
{
    if (monitor->is_paused) {
        json_decref(detail);
        return;
    }
    monitor->is_paused = true;
    journal_write_vital(&monitor->watch->journal, "paused",
                        json_pack("{s:s, s:o*}", "reason", reason, "detail", detail));
}

static void on_io_error(Monitor *monitor, const json_t *data)
{
    if (strcmp(text_of(data, "action"), "stop") != 0) {
        return;
    }
    char detail[256];
    const char *node = text_of(data, "node-name");
    int n = snprintf(detail, sizeof detail, "%s of '%s' failed: %s", text_of(data, "operation"),
                     *node ? node : text_of(data, "device"),
                     json_is_true(json_object_get(data, "nospace")) ? "no space left on the host"
                                                                    : text_of(data, "reason"));
    paused(monitor, "io-error",
           event_text(detail, (size_t)n < sizeof detail ? (size_t)n : sizeof detail - 1));
}

static void on_stop(Monitor *monitor, const json_t *data)
{
    (void)data;
    if (monitor->watch->end.cause[0] == '\0') { /* not the stop that goes with a shutdown */
        paused(monitor, "host", NULL);
    }
}

static void on_resume(Monitor *monitor, const json_t *data)
{
    (void)data;
    if (monitor->is_paused) {
        monitor->is_paused = false;
        journal_write_vital(&monitor->watch->journal, "resumed", NULL);
    }
}

/* --- messages ------------------------------------------------------------------------------------
 */

static void on_shutdown(Monitor *monitor, const json_t *data)
{
    end_cause(&monitor->watch->end, text_of(data, "reason"));
}

static void on_reset(Monitor *monitor, const json_t *data)
{
    end_cause(&monitor->watch->end, NULL);
    boot_reset(&monitor->watch->boot, json_is_true(json_object_get(data, "guest")));
}

static void on_panicked(Monitor *monitor, const json_t *data)
{
    (void)data;
    boot_stall(&monitor->watch->boot, STALL_PANIC, "the guest's kernel says that it panicked");
}

static void on_port(Monitor *monitor, const json_t *data)
{
    if (monitor->agent_device[0] && strcmp(text_of(data, "id"), monitor->agent_device) == 0) {
        boot_agent(&monitor->watch->boot, json_is_true(json_object_get(data, "open")));
    }
}

static const struct {
    const char *name;
    void (*happened)(Monitor *monitor, const json_t *data);
} events[] = {
    {"SHUTDOWN", on_shutdown},       {"RESET", on_reset},          {"STOP", on_stop},
    {"RESUME", on_resume},           {"VSERPORT_CHANGE", on_port}, {"BLOCK_IO_ERROR", on_io_error},
    {"GUEST_PANICKED", on_panicked},
};

static void take_status(Monitor *monitor, const json_t *status)
{
    const char *text = text_of(status, "status");
    if (strcmp(text, "shutdown") == 0) {
        end_cause(&monitor->watch->end, "guest-shutdown");
    } else if (strcmp(text, "guest-panicked") == 0) {
        end_cause(&monitor->watch->end, "guest-panic");
    } else if (strcmp(text, "io-error") == 0) {
        paused(monitor, "io-error", NULL);
    } else if (strcmp(text, "paused") == 0) {
        paused(monitor, "host", NULL);
    } else if (strcmp(text, "running") == 0) {
        on_resume(monitor, NULL);
    }
}

static void take_answer(Monitor *monitor, json_int_t id, const json_t *value)
{
    switch (id) {
    case ID_CAPABILITIES:
        monitor->is_live = monitor->was_live = true;
        watch_say_ok(monitor->watch);
        monitor->retry_ms = RETRY_MIN_MS;
        request(monitor, ID_STATUS, "query-status", NULL);
        ask_agent(monitor);
        break;
    case ID_STATUS:
        take_status(monitor, value);
        break;
    case ID_DEVICES:
        take_devices(monitor, value);
        break;
    case ID_AGENT_CHARDEV:
        snprintf(monitor->agent_chardev, sizeof monitor->agent_chardev, "%s",
                 json_string_value(value) ? json_string_value(value) : "");
        request(monitor, ID_CHARDEVS, "query-chardev", NULL);
        break;
    case ID_CHARDEVS:
        take_chardevs(monitor, value);
        break;
    default:
        if (id >= ID_PORT) {
            take_port(monitor, (unsigned)(id - ID_PORT), value);
        }
    }
}

static void take_message(Monitor *monitor, const char *line, size_t n)
{
    json_t *message = json_loadb(line, n, 0, NULL);
    const char *event = text_of(message, "event");
    const json_t *value = json_object_get(message, "return");
    if (json_object_get(message, "QMP")) {
        request(monitor, ID_CAPABILITIES, "qmp_capabilities", NULL);
    } else if (value) {
        take_answer(monitor, json_integer_value(json_object_get(message, "id")), value);
    }
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (strcmp(event, events[i].name) == 0) {
            events[i].happened(monitor, json_object_get(message, "data"));
        }
    }
    json_decref(message);
}

/* One reading; false: nothing more now, or ever. */
static bool read_some(Monitor *monitor)
{
    size_t n;
    char *line;
    long n_read = monitor->fd >= 0 ? line_buffer_fill(&monitor->lines, monitor->fd) : 0;
    if (n_read < 0 && errno == EAGAIN) {
        return false;
    }
    if (n_read <= 0) {
        retry_later(monitor);
        return false;
    }
    while ((line = line_buffer_next(&monitor->lines, &n))) {
        take_message(monitor, line, n);
    }
    return true;
}

void monitor_drain(Monitor *monitor)
{
    for (int i = 0; i < 64 && monitor->fd >= 0 && read_some(monitor); i++) {
        continue;
    }
}

static void monitor_ready(void *data, uint32_t ready)
{
    Monitor *monitor = data;
    (void)ready;
    if (read_some(monitor)) {
        loop_rest(&monitor->watch->loop, &monitor->source, 10);
    }
}

static void monitor_connect(void *data)
{
    Monitor *monitor = data;
    monitor->fd = connect_unix(monitor->watch->config.qmp);
    line_buffer_reset(&monitor->lines);
    if (monitor->fd < 0 ||
        !loop_add(&monitor->watch->loop, &monitor->source, monitor->fd, EPOLLIN)) {
        watch_say_ok(monitor->watch); /* nothing to wait for */
        retry_later(monitor);
    }
}

void monitor_init(Monitor *monitor, Watch *watch)
{
    *monitor = (Monitor){.watch = watch, .fd = -1, .retry_ms = RETRY_MIN_MS};
    monitor->retry.expired = monitor_connect;
    monitor->retry.data = monitor;
    loop_source_init(&monitor->source, monitor_ready, monitor);
}

void monitor_begin(Monitor *monitor)
{
    if (line_buffer_init(&monitor->lines, MESSAGE_MAX)) {
        monitor_connect(monitor);
    }
}

void monitor_end(Monitor *monitor)
{
    loop_remove(&monitor->watch->loop, &monitor->source);
    loop_timer_stop(&monitor->retry);
    if (monitor->fd >= 0) {
        close(monitor->fd);
        monitor->fd = -1;
    }
    line_buffer_clear(&monitor->lines);
}
