#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/proc.h"
#include "driver/host.h"
#include "driver/watch.h"

#define EVENTS_TAIL_BYTES (256 * 1024)

static const char *const status_names[] = {
    [MACHINE_STATUS_STARTING] = "starting", [MACHINE_STATUS_RUNNING] = "running",
    [MACHINE_STATUS_STOPPING] = "stopping", [MACHINE_STATUS_STOPPED] = "stopped",
    [MACHINE_STATUS_BROKEN] = "broken",
};
G_STATIC_ASSERT(G_N_ELEMENTS(status_names) == MACHINE_STATUS_N);

const char *machine_status_name(MachineStatus status)
{
    return status_names[status];
}

static void nic_free(void *data)
{
    MachineNic *nic = data;
    char *texts[] = {nic->kind, nic->network, nic->mac, nic->bridge,
                     nic->tap,  nic->macvtap, nic->ip4, nic->ip6};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    g_free(nic);
}

static MachineView *view_new(void)
{
    MachineView *view = g_new0(MachineView, 1);
    view->nics = g_ptr_array_new_with_free_func(nic_free);
    view->forwards = g_ptr_array_new_with_free_func(machine_forward_free);
    view->tags = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return view;
}

void machine_view_free(MachineView *view)
{
    if (!view) {
        return;
    }
    char *strings[] = {view->name,       view->uuid,      view->full_id,      view->dir,
                       view->run_dir,    view->created,   view->started,      view->uri,
                       view->accel,      view->image,     view->image_format, view->hostname,
                       view->login_user, view->stage,     view->stage_state,  view->end_reason,
                       view->end_detail, view->provision, view->ssh_addr,     view->console_socket,
                       view->serial_log, view->net_reason};
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_ptr_array_unref(view->nics);
    g_ptr_array_unref(view->forwards);
    g_hash_table_unref(view->tags);
    g_free(view);
}

/* --- filling ---------------------------------------------------------------------------------- */

static void fill_from_plan(MachineView *view, MachinePlan *plan)
{
    const PlanDisk *root = g_ptr_array_index(plan->disks, 0);
    view->name = g_strdup(plan->ident->name);
    view->uuid = g_strdup(plan->ident->uuid);
    view->full_id = g_strdup(plan->ident->full_id);
    view->dir = g_strdup(plan->dir);
    view->run_dir = g_strdup(plan->run_dir);
    view->uri = g_strdup(plan->uri);
    view->accel = g_strdup(spec_accel_name(plan->accel));
    view->net_reason = g_strdup(plan->net_reason);
    view->image = g_strdup(plan->image);
    view->image_format = g_strdup(img_format_name(root->base_format));
    view->cpus = plan->cpus;
    view->memory_bytes = plan->memory_bytes;
    view->disk_bytes = root->virtual_bytes;
    view->hostname = g_strdup(plan->hostname);
    view->login_user = g_strdup(plan->login_user);
    if (plan->has_console) {
        view->console_socket = g_build_filename(plan->run_dir, "c", NULL);
        view->serial_log = g_build_filename(plan->dir, "serial.log", NULL);
    }
    for (unsigned i = 0; i < plan->nics->len; i++) {
        const PlanNic *from = g_ptr_array_index(plan->nics, i);
        MachineNic *nic = g_new0(MachineNic, 1);
        *nic = (MachineNic){
            .kind = g_strdup(spec_net_kind_name(from->kind)),
            .network = g_strdup(from->network),
            .mac = g_strdup(from->mac),
            .bridge = g_strdup(from->bridge),
            .tap = g_strdup(from->tap),
            .macvtap = g_strdup(from->macvtap),
            .ip4 = g_strdup(from->ip4),
            .ip6 = g_strdup(from->ip6),
            .is_link_down = from->is_link_down,
        };
        g_ptr_array_add(view->nics, nic);
    }
    GHashTable *tags = view->tags;
    view->tags = plan->tags;
    plan->tags = tags;
}

static uint64_t uptime_s(uint64_t start_ticks)
{
    uint64_t now_ms = machine_boottime_ms(),
             start_ms = start_ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    return now_ms > start_ms ? (now_ms - start_ms) / 1000 : 0;
}

static void fill_from_boot(MachineView *view, MachineBoot *boot)
{
    view->started = g_strdup(boot->started);
    view->is_rm = boot->is_rm;
    autofd int pidfd = machine_boot_open_qemu(boot);
    if (pidfd < 0) {
        return;
    }
    view->status = MACHINE_STATUS_RUNNING;
    view->qemu_pid = boot->qemu_pid;
    view->uptime_s = uptime_s(boot->qemu_start);
    GPtrArray *forwards = view->forwards;
    view->forwards = boot->forwards;
    boot->forwards = forwards;
    if (boot->ssh_port) {
        view->ssh_addr = g_strdup(boot->ssh_addr ? boot->ssh_addr : "127.0.0.1");
        view->ssh_port = boot->ssh_port;
    }
}

static void replace(char **at, const json_t *value)
{
    g_free(*at);
    *at = g_strdup(json_string_value(value));
}

static void fill_from_event(MachineView *view, const json_t *event)
{
    const char *type = json_string_value(json_object_get(event, "type"));
    unsigned boot = (unsigned)json_integer_value(json_object_get(event, "boot"));
    if (!type || boot != view->boot) {
        return;
    }
    if (strcmp(type, "stage") == 0) {
        replace(&view->stage, json_object_get(event, "stage"));
        replace(&view->stage_state, json_object_get(event, "state"));
    } else if (strcmp(type, "provision") == 0) {
        replace(&view->provision, json_object_get(event, "status"));
    } else if (strcmp(type, "end") == 0) {
        replace(&view->end_reason, json_object_get(event, "reason"));
        replace(&view->end_detail, json_object_get(event, "detail"));
    } else if (strcmp(type, "stop") == 0 && view->status == MACHINE_STATUS_RUNNING) {
        view->status = MACHINE_STATUS_STOPPING;
    }
}

/* The last part of the events: what happened lately is all that a view tells. */
static char *read_tail(int dirfd)
{
    autofd int fd = openat(dirfd, "events.jsonl", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        return NULL;
    }
    off_t from = st.st_size > EVENTS_TAIL_BYTES ? st.st_size - EVENTS_TAIL_BYTES : 0;
    char *text = g_malloc0(EVENTS_TAIL_BYTES + 1);
    ssize_t n = pread(fd, text, EVENTS_TAIL_BYTES, from);
    text[n > 0 ? n : 0] = 0;
    return text;
}

static void fill_from_events(MachineView *view, int dirfd)
{
    g_autofree char *text = read_tail(dirfd);
    char *at = text;
    while (at && *at) {
        char *end = strchr(at, '\n');
        json_t *event = end ? json_loadb(at, (size_t)(end - at), 0, NULL) : NULL;
        if (event) {
            fill_from_event(view, event);
            json_decref(event);
        }
        at = end ? end + 1 : NULL;
    }
}

MachineView *machine_view_load(MachineHost *host, const char *name, GError **error)
{
    autofd int dirfd = machine_store_open_machine(host->store, name, error);
    g_autoptr(MachinePlan) plan = dirfd >= 0 ? machine_record_load(dirfd, error) : NULL;
    if (!plan) {
        return NULL;
    }
    g_autoptr(MachineView) view = view_new();
    view->status = MACHINE_STATUS_STOPPED;
    fill_from_plan(view, plan);
    machine_history_load(dirfd, &view->created, &view->boot);
    g_autoptr(MachineBoot) boot = machine_boot_load(dirfd, NULL);
    if (boot) {
        fill_from_boot(view, boot);
    }
    Journal journal;
    machine_journal_read(dirfd, &journal);
    bool is_changing = journal.op == JOURNAL_UPDATE && machine_journal_is_alive(&journal);
    if (journal.is_open && !is_changing) {
        bool is_start = journal.op == JOURNAL_START || journal.op == JOURNAL_START_NEW;
        view->status = !machine_journal_is_alive(&journal) ? MACHINE_STATUS_BROKEN
                       : is_start                          ? MACHINE_STATUS_STARTING
                                                           : MACHINE_STATUS_STOPPING;
    }
    fill_from_events(view, dirfd);
    view->watcher_pid = machine_watch_pid(view->dir);
    return g_steal_pointer(&view);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void put(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static json_t *nics_json(const MachineView *view)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < view->nics->len; i++) {
        const MachineNic *nic = g_ptr_array_index(view->nics, i);
        json_t *item = json_object();
        put(item, "kind", nic->kind);
        put(item, "network", nic->network ? nic->network : nic->kind);
        put(item, "mac", nic->mac);
        put(item, "bridge", nic->bridge);
        put(item, "tap", nic->tap);
        put(item, "ip4", nic->ip4);
        put(item, "ip6", nic->ip6);
        put(item, "link", nic->is_link_down ? "down" : "up");
        if (nic->macvtap) {
            put(item, "macvtap", nic->macvtap);
        }
        json_array_append_new(list, item);
    }
    return list;
}

static json_t *forwards_json(const MachineView *view)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < view->forwards->len; i++) {
        const MachineForward *f = g_ptr_array_index(view->forwards, i);
        json_array_append_new(list, json_pack("{s:s,s:s,s:i,s:i}", "proto", f->proto, "host_addr",
                                              f->host_addr, "host_port", f->host_port, "guest_port",
                                              f->guest_port));
    }
    return list;
}

static json_t *ssh_json(const MachineView *view)
{
    if (!view->ssh_addr) {
        return json_null();
    }
    g_autofree char *key = g_build_filename(view->dir, "id_ed25519", NULL);
    return json_pack("{s:s,s:i,s:s*,s:s}", "addr", view->ssh_addr, "port", view->ssh_port, "user",
                     view->login_user, "key", key);
}

char *machine_view_to_json(const MachineView *view)
{
    json_t *root = json_pack("{s:i}", "v", 1);
    const struct {
        const char *key;
        const char *text;
    } texts[] = {
        {"name", view->name},
        {"uuid", view->uuid},
        {"status", machine_status_name(view->status)},
        {"dir", view->dir},
        {"created", view->created},
        {"started", view->started},
        {"uri", view->uri},
        {"accel", view->accel},
        {"image", view->image},
        {"hostname", view->hostname},
        {"login_user", view->login_user},
        {"stage", view->stage},
        {"stage_state", view->stage_state},
        {"provision", view->provision},
        {"net_reason", view->net_reason},
        {"end_reason", view->end_reason},
        {"end_detail", view->end_detail},
        {"console", view->console_socket},
        {"serial_log", view->serial_log},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(root, texts[i].key, texts[i].text);
    }
    json_object_set_new(root, "boot", json_integer(view->boot));
    json_object_set_new(root, "uptime_s", json_integer((json_int_t)view->uptime_s));
    json_object_set_new(root, "cpus", json_integer(view->cpus));
    json_object_set_new(root, "memory_bytes", json_integer((json_int_t)view->memory_bytes));
    json_object_set_new(root, "disk_bytes", json_integer((json_int_t)view->disk_bytes));
    json_object_set_new(root, "rm", json_boolean(view->is_rm));
    json_object_set_new(root, "qemu_pid", json_integer(view->qemu_pid));
    json_object_set_new(root, "watcher_pid", json_integer(view->watcher_pid));
    json_object_set_new(root, "nics", nics_json(view));
    json_object_set_new(root, "forwards", forwards_json(view));
    json_object_set_new(root, "ssh", ssh_json(view));
    json_t *tags = json_object();
    GHashTableIter iter;
    void *key, *value;
    g_hash_table_iter_init(&iter, view->tags);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        put(tags, key, value);
    }
    json_object_set_new(root, "tags", tags);
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(root);
    char *out = g_strdup(text);
    free(text);
    return out;
}
