#include "driver/update_internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/file.h"
#include "driver/event.h"
#include "driver/member.h"
#include "driver/plan_internal.h"
#include "schemas/read.h"

/*
 * How it works: what the machine will be is built first, as its three files would tell it. It is
 * written to update.json, then done; when all is done update.json says so, and the files follow.
 * A crash before that point is undone (from what was intended back to what the files tell), one
 * after it is finished. Both directions are the same function, machine_transition().
 */
#define LOCK_MS        20000
#define FILE_MAX_BYTES ((size_t)32 * 1024 * 1024)
#define UPDATE_FILE    "update.json"

void machine_state_clear(MachineState *state)
{
    spec_machine_free(state->spec);
    machine_plan_free(state->plan);
    machine_boot_free(state->boot);
    *state = (MachineState){0};
}

/* --- the files -------------------------------------------------------------------------------- */

static bool state_load(MachineHost *host, const char *name, int dirfd, MachineState *out,
                       GError **error)
{
    out->spec = machine_spec_load(host, name, error);
    out->plan = out->spec ? machine_record_load(dirfd, error) : NULL;
    out->boot = out->plan ? machine_boot_load(dirfd, NULL) : NULL;
    return out->plan;
}

static bool write_intent(int dirfd, const MachineState *state, bool is_done, GError **error)
{
    g_autofree char *spec = spec_machine_to_json(state->spec);
    g_autofree char *record = machine_plan_to_json(state->plan);
    g_autofree char *boot = state->boot ? machine_boot_to_json(state->boot) : NULL;
    json_t *root = json_pack("{s:b,s:s,s:s,s:s*}", "is_done", is_done, "spec", spec, "record",
                             record, "boot", boot);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    bool is_ok = base_file_write_atomic(dirfd, UPDATE_FILE, text, strlen(text), 0600, error);
    explicit_bzero(text, strlen(text));
    free(text);
    explicit_bzero(spec, strlen(spec));
    return is_ok;
}

/* False without an error: there is none. */
static bool read_intent(int dirfd, MachineState *out, bool *out_is_done, GError **error)
{
    GError *problem = NULL;
    g_autofree char *text = base_file_read(dirfd, UPDATE_FILE, FILE_MAX_BYTES, NULL, &problem);
    if (!text) {
        if (!g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
            g_propagate_error(error, problem);
        } else {
            g_error_free(problem);
        }
        return false;
    }
    json_t *root = json_loads(text, 0, NULL);
    const char *spec = json_string_value(json_object_get(root, "spec"));
    const char *record = json_string_value(json_object_get(root, "record"));
    const char *boot = json_string_value(json_object_get(root, "boot"));
    *out_is_done = json_is_true(json_object_get(root, "is_done"));
    out->spec = spec ? spec_machine_from_json(spec, NULL) : NULL;
    out->plan = record ? machine_plan_from_json(record, NULL) : NULL;
    out->boot = boot ? machine_boot_from_json(boot) : NULL;
    json_decref(root);
    explicit_bzero(text, strlen(text));
    return out->spec && out->plan ? true
                                  : base_fail(error, VM_ERROR_STATE, UPDATE_FILE " is damaged");
}

static bool write_files(int dirfd, const MachineState *state, GError **error)
{
    g_autofree char *spec = spec_machine_to_json(state->spec);
    g_autofree char *record = machine_plan_to_json(state->plan);
    bool is_ok =
        (!state->boot || machine_boot_save(dirfd, state->boot, error)) &&
        base_file_write_atomic(dirfd, "record.json", record, strlen(record), 0600, error) &&
        base_file_write_atomic(dirfd, "spec.json", spec, strlen(spec), 0600, error);
    explicit_bzero(spec, strlen(spec));
    return is_ok;
}

static bool forget_intent(int dirfd, GError **error)
{
    if (unlinkat(dirfd, UPDATE_FILE, 0) < 0 && errno != ENOENT) {
        base_error_set_errno(error, errno, "cannot remove '" UPDATE_FILE "'");
        return false;
    }
    return true;
}

/* --- what it will be -------------------------------------------------------------------------- */

/* As if it had been written so: `show --spec` tells what was. */
static void mark(MachineSpec *spec, const char *path, bool is_written)
{
    BasePos pos = {"update", 0, 0};
    if (is_written) {
        spec_origin_keep(spec->origins, path, &pos);
    } else {
        g_hash_table_remove(spec->origins, path);
    }
}

static void mark_egress(MachineSpec *spec)
{
    const SpecEgress *egress = &spec->egress;
    mark(spec, "egress.hermetic", egress->is_hermetic);
    mark(spec, "egress.restricted", egress->is_restricted);
    mark(spec, "egress.default", egress->is_default_deny);
    mark(spec, "egress.allow", egress->allow && egress->allow->len);
    mark(spec, "egress.deny", egress->deny && egress->deny->len);
}

static void mark_nic(MachineSpec *spec, unsigned nic, const char *key)
{
    g_autofree char *item = g_strdup_printf("networks[%u]", nic);
    g_autofree char *member = g_strdup_printf("networks[%u].%s", nic, key);
    mark(spec, "networks", true);
    mark(spec, item, true);
    mark(spec, member, true);
}

static void clear_ports(GPtrArray *ports)
{
    for (unsigned i = 0; i < ports->len; i++) {
        SpecPort *port = g_ptr_array_index(ports, i);
        g_free(port->host_addr);
        g_free(port->pos.file);
        g_free(port);
    }
    g_ptr_array_set_size(ports, 0);
}

static void copy_ports(GPtrArray *to, const GPtrArray *from)
{
    clear_ports(to);
    for (unsigned i = 0; i < from->len; i++) {
        const SpecPort *port = g_ptr_array_index(from, i);
        SpecPort *copy = g_new0(SpecPort, 1);
        *copy = *port;
        copy->host_addr = g_strdup(port->host_addr);
        copy->pos.file = g_strdup(port->pos.file);
        g_ptr_array_add(to, copy);
    }
}

static bool change_nic(MachineState *to, const MachineChange *change, GError **error)
{
    bool has_rates = change->rate_in_bps || change->rate_out_bps;
    if (!has_rates && !change->is_link_down) {
        return true;
    }
    if (change->nic >= to->plan->nics->len || change->nic >= to->spec->networks->len) {
        return base_fail(error, VM_ERROR_NOT_FOUND, "it has no NIC %u", change->nic);
    }
    PlanNic *nic = g_ptr_array_index(to->plan->nics, change->nic);
    SpecNetwork *network = g_ptr_array_index(to->spec->networks, change->nic);
    if (has_rates && !nic->bridge) {
        return base_fail(error, VM_ERROR_NET, "the rate of NIC %u can't be limited: it is %s",
                         change->nic, nic->macvtap ? "a macvtap" : "on the user network");
    }
    if (change->is_link_down) {
        nic->is_link_down = network->is_link_down = *change->is_link_down;
        mark_nic(to->spec, change->nic, "link");
    }
    if (change->rate_in_bps) {
        nic->rate_in_bps = network->rate_in_bps = *change->rate_in_bps;
        mark_nic(to->spec, change->nic, "rate_in");
    }
    if (change->rate_out_bps) {
        nic->rate_out_bps = network->rate_out_bps = *change->rate_out_bps;
        mark_nic(to->spec, change->nic, "rate_out");
    }
    return true;
}

static bool is_same_way(const MachineForward *have, const PlanForward *want)
{
    return strcmp(have->proto, want->proto) == 0 && strcmp(have->host_addr, want->host_addr) == 0 &&
           have->guest_port == want->guest_port &&
           (want->host_port == 0 || want->host_port == have->host_port);
}

/* A port that was chosen stays, as long as it is asked for. */
static uint16_t port_there(GPtrArray *there, const PlanForward *want)
{
    for (unsigned i = 0; i < there->len; i++) {
        const MachineForward *have = g_ptr_array_index(there, i);
        if (is_same_way(have, want)) {
            uint16_t port = have->host_port;
            g_ptr_array_remove_index(there, i);
            return port;
        }
    }
    return want->host_port;
}

static void rebuild_forwards(MachineState *to)
{
    g_autoptr(GPtrArray) there = g_steal_pointer(&to->boot->forwards);
    to->boot->forwards = g_ptr_array_new_with_free_func(machine_forward_free);
    for (unsigned i = 0; i < to->plan->forwards->len; i++) {
        const PlanForward *from = g_ptr_array_index(to->plan->forwards, i);
        MachineForward *forward = g_new0(MachineForward, 1);
        *forward = (MachineForward){g_strdup(from->proto), g_strdup(from->host_addr),
                                    port_there(there, from), from->guest_port};
        g_ptr_array_add(to->boot->forwards, forward);
    }
}

static bool build(const MachineChange *change, MachineState *to, GError **error)
{
    g_autoptr(BaseReport) report = base_report_new();
    if (change->ports) {
        copy_ports(to->spec->ports, change->ports);
        mark(to->spec, "ports", to->spec->ports->len);
    }
    if (change->egress) {
        machine_egress_copy(&to->spec->egress, change->egress);
        mark_egress(to->spec);
    }
    if (!change_nic(to, change, error)) {
        return false;
    }
    PlanInput input = {.spec = to->spec, .net_reason = to->plan->net_reason};
    g_ptr_array_set_size(to->plan->forwards, 0);
    machine_plan_forwards(to->plan, &input, report);
    machine_plan_check_egress(to->plan, &input, report);
    if (!base_report_check(report, error)) {
        return false;
    }
    if (to->boot) {
        rebuild_forwards(to);
    }
    return true;
}

static bool is_same(const MachineState *a, const MachineState *b)
{
    g_autofree char *x = spec_machine_to_json(a->spec), *y = spec_machine_to_json(b->spec);
    g_autofree char *p = machine_plan_to_json(a->plan), *q = machine_plan_to_json(b->plan);
    return strcmp(x, y) == 0 && strcmp(p, q) == 0;
}

/* --- doing it --------------------------------------------------------------------------------- */

typedef struct {
    int dirfd;
} Intention;

static bool intend(MachineState *to, void *data, GError **error)
{
    const Intention *intention = data;
    return write_intent(intention->dirfd, to, false, error);
}

/* From what was intended back to what the files tell. */
static bool go_back(MachineHost *host, int dirfd, const MachineState *intended, MachineState *there,
                    GError **error)
{
    autofd int pidfd = there->boot ? machine_boot_open_qemu(there->boot) : -1;
    MachineState from = *intended;
    from.boot = intended->boot ? intended->boot : there->boot;
    MachineTransition back = {host, &from, there, pidfd >= 0, NULL, NULL};
    return machine_transition(&back, error) && forget_intent(dirfd, error);
}

static bool finish(int dirfd, const MachineState *to, GError **error)
{
    return write_files(dirfd, to, error) && forget_intent(dirfd, error);
}

bool machine_update_finish(MachineHost *host, const char *name, int dirfd, GError **error)
{
    g_auto(MachineState) intended = {NULL, NULL, NULL};
    g_auto(MachineState) there = {NULL, NULL, NULL};
    bool is_done = false;
    GError *problem = NULL;
    if (!read_intent(dirfd, &intended, &is_done, &problem)) {
        if (problem) {
            g_propagate_error(error, problem);
        }
        return !problem;
    }
    if (is_done) {
        return finish(dirfd, &intended, error);
    }
    return state_load(host, name, dirfd, &there, error) &&
           go_back(host, dirfd, &intended, &there, error);
}

static void tell(int dirfd, const MachineState *to, const MachineChange *change)
{
    json_t *what = json_array();
    const struct {
        bool is_changed;
        const char *name;
    } rows[] = {
        {change->ports, "ports"},
        {change->egress, "egress"},
        {change->is_link_down, "link"},
        {change->rate_in_bps || change->rate_out_bps, "rates"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].is_changed) {
            json_array_append_new(what, json_string(rows[i].name));
        }
    }
    json_t *members = json_pack("{s:o}", "what", what);
    char *text = json_dumps(members, JSON_COMPACT);
    if (to->boot) {
        machine_event_append(dirfd, "change", to->boot->boot, to->boot->start_ms, text, NULL);
    }
    free(text);
    json_decref(members);
}

static bool do_change(MachineHost *host, int dirfd, const MachineState *from, MachineState *to,
                      GError **error)
{
    autofd int pidfd = from->boot ? machine_boot_open_qemu(from->boot) : -1;
    Intention intention = {dirfd};
    MachineTransition there = {host, from, to, pidfd >= 0, intend, &intention};
    if (!machine_journal_begin(dirfd, JOURNAL_UPDATE, error)) {
        return false;
    }
    (void)base_failpoint("update.before");
    bool is_done = machine_transition(&there, error) && !base_failpoint("update.after") &&
                   write_intent(dirfd, to, true, error);
    if (is_done) {
        return finish(dirfd, to, error) && machine_journal_commit(dirfd, error);
    }
    if (error && !*error) {
        base_fail(error, VM_ERROR_HOST, "injected");
    }
    g_autoptr(GError) left = NULL;
    /* A copy: what is chosen on the way back is what was. */
    if (!go_back(host, dirfd, to, (MachineState *)from, &left)) {
        g_prefix_error(error, "[not all could be undone: %s; run `vm-run gc`] ", left->message);
        return false;
    }
    machine_journal_commit(dirfd, NULL);
    return false;
}

/* Somebody else's change came in between. */
static bool check_base(const MachineChange *change, const MachineState *now, GError **error)
{
    g_autofree char *spec = change->based_on ? spec_machine_to_json(now->spec) : NULL;
    bool is_same = !spec || !strcmp(spec, change->based_on);
    if (spec) {
        explicit_bzero(spec, strlen(spec));
    }
    return is_same || base_fail(error, VM_ERROR_STALE_PLAN,
                                "it was changed meanwhile by another command - try again");
}

static bool update_locked(MachineHost *host, const char *name, const MachineChange *change,
                          bool *out_is_changed, GError **error)
{
    bool is_removed = false;
    if (machine_store_has(host->store, name) && !machine_recover(host, name, &is_removed, error)) {
        return false;
    }
    autofd int dirfd = machine_store_open_machine(host->store, name, error);
    g_auto(MachineState) from = {NULL, NULL, NULL};
    g_auto(MachineState) to = {NULL, NULL, NULL};
    if (dirfd < 0 || !state_load(host, name, dirfd, &from, error) ||
        !check_base(change, &from, error) || !state_load(host, name, dirfd, &to, error) ||
        !build(change, &to, error)) {
        return false;
    }
    *out_is_changed = !is_same(&from, &to);
    if (!*out_is_changed) {
        return true;
    }
    if (!do_change(host, dirfd, &from, &to, error)) {
        return false;
    }
    tell(dirfd, &to, change);
    return true;
}

bool machine_update(MachineHost *host, const char *name, const MachineChange *change,
                    bool *out_is_changed, GError **error)
{
    g_autoptr(BaseLock) lock = machine_store_lock(host->store, name, LOCK_MS, error);
    bool is_changed = false;
    bool is_ok = lock && update_locked(host, name, change, &is_changed, error);
    machine_host_release(host);
    machine_nets_name_holder(host, error);
    if (lock && !is_ok) {
        g_prefix_error(error, "machine '%s': ", name);
    }
    if (lock && !machine_store_has(host->store, name)) {
        base_lock_free_and_unlink(g_steal_pointer(&lock));
    }
    if (is_ok && out_is_changed) {
        *out_is_changed = is_changed;
    }
    return is_ok;
}
