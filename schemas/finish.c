#include <string.h>
#include "schemas/read.h"
#include "schemas/rules.h"

/* What a rule needs to complain. */
typedef struct {
    MachineSpec *spec;
    BaseReport *report;
    char *prefix; /* "vms.web." or "" */
} Rules;

static void complain(const Rules *r, VmError code, const char *path, const char *hint,
                     const char *what)
{
    base_report_error(r->report, code, spec_machine_origin(r->spec, path), hint, "%s%s: %s",
                      r->prefix, path, what);
}

/* --- what must be there ----------------------------------------------------------------------- */

static void check_required(const Rules *r)
{
    const BasePos *at = spec_machine_origin(r->spec, "name");
    for (unsigned i = 0; i < spec_machine_table.n_options; i++) {
        const SpecOption *row = &spec_machine_table.options[i];
        if (row->is_required && !spec_machine_origin(r->spec, row->info.path)) {
            base_report_error(r->report, VM_ERROR_SCHEMA, at, NULL, "%s%s: is missing", r->prefix,
                              row->info.path);
        }
    }
    if (!r->spec->name && !at) {
        base_report_error(r->report, VM_ERROR_SCHEMA, NULL, "pass --name", "name: is missing");
    }
}

static void check_image(const Rules *r)
{
    const MachineSpec *spec = r->spec;
    if (spec->image && g_str_has_prefix(spec->image, "http://") && !spec->sha256 &&
        !spec_machine_origin(spec, "sha256")) {
        complain(r, VM_ERROR_SCHEMA, "image", "add sha256, or use https://",
                 "a http: URL needs sha256, since anybody on the way can change it");
    }
}

static void check_board(const Rules *r)
{
    const MachineSpec *spec = r->spec;
    if (spec->accel == SPEC_ACCEL_TCG && spec->cpu_model &&
        (g_str_equal(spec->cpu_model, "host") ||
         g_str_equal(spec->cpu_model, "host-passthrough"))) {
        complain(r, VM_ERROR_SCHEMA, "cpu_model", "use max, or another accel",
                 "'host' needs KVM, and accel is tcg");
    }
    if (spec->firmware == SPEC_FIRMWARE_UEFI_SECURE && spec->machine != SPEC_MACHINE_Q35) {
        complain(r, VM_ERROR_SCHEMA, "firmware", "use machine q35",
                 "uefi-secure needs machine q35");
    }
}

static void check_password(const Rules *r)
{
    const MachineSpec *spec = r->spec;
    if (spec->password && spec->password_hash) {
        complain(r, VM_ERROR_SCHEMA, "password", "keep password_hash",
                 "stands beside password_hash");
    } else if (spec->password && !spec->is_plain_password_allowed) {
        complain(r, VM_ERROR_SECRET, "password",
                 "use password_hash, or accept it with allow_plain_password: true",
                 "a password stands here in plain text");
    }
}

/* --- disks, networks, ports ------------------------------------------------------------------- */

static bool has_disk(const MachineSpec *spec, const char *name)
{
    for (unsigned i = 0; i < spec->disks->len; i++) {
        const SpecDisk *disk = g_ptr_array_index(spec->disks, i);
        if (g_strcmp0(disk->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void name_disks(MachineSpec *spec)
{
    unsigned number = 1;
    for (unsigned i = 0; i < spec->disks->len; i++) {
        SpecDisk *disk = g_ptr_array_index(spec->disks, i);
        while (!disk->name) {
            g_autofree char *name = g_strdup_printf("disk%u", number++);
            disk->name = has_disk(spec, name) ? NULL : g_steal_pointer(&name);
        }
    }
}

/* " in line 3", or nothing for what came from a flag. Transfer full. */
static char *first_place(const BasePos *pos)
{
    return pos->line ? g_strdup_printf(", first in line %u", pos->line) : g_strdup("");
}

static void check_disks(const Rules *r)
{
    static const char *const own[] = {"root", "seed", NULL};
    const GPtrArray *disks = r->spec->disks;
    for (unsigned i = 0; i < disks->len; i++) {
        const SpecDisk *disk = g_ptr_array_index(disks, i);
        if (g_strv_contains(own, disk->name)) {
            base_report_error(r->report, VM_ERROR_NAME, &disk->pos, "choose another name",
                              "%sdisks[%u].name: '%s' is a disk that every machine has", r->prefix,
                              i, disk->name);
        }
        for (unsigned k = 0; k < i; k++) {
            const SpecDisk *other = g_ptr_array_index(disks, k);
            if (g_str_equal(disk->name, other->name)) {
                g_autofree char *first = first_place(&other->pos);
                base_report_error(r->report, VM_ERROR_SCHEMA, &disk->pos, "choose another name",
                                  "%sdisks[%u].name: '%s' stands twice%s", r->prefix, i, disk->name,
                                  first);
                break;
            }
        }
    }
}

static void check_macs(const Rules *r)
{
    const GPtrArray *networks = r->spec->networks;
    for (unsigned i = 0; i < networks->len; i++) {
        const SpecNetwork *network = g_ptr_array_index(networks, i);
        for (unsigned k = 0; k < i && network->mac; k++) {
            const SpecNetwork *other = g_ptr_array_index(networks, k);
            if (g_strcmp0(network->mac, other->mac) == 0) {
                g_autofree char *first = first_place(&other->pos);
                base_report_error(r->report, VM_ERROR_NET, &network->pos, NULL,
                                  "%snetworks[%u].mac: '%s' stands twice%s", r->prefix, i,
                                  network->mac, first);
                break;
            }
        }
    }
}

/* Without a word about networks a machine has one; `none` stands alone and means no interface at
 * all. */
static void settle_networks(const Rules *r)
{
    GPtrArray *networks = r->spec->networks;
    bool is_silent = !spec_machine_origin(r->spec, "networks");
    bool is_refused = spec_machine_origin(r->spec, "networks[0]") != NULL; /* reported already */
    if (networks->len == 0 && (is_silent || is_refused)) {
        SpecNetwork *network = g_new0(SpecNetwork, 1);
        network->kind = SPEC_NET_USER;
        g_ptr_array_add(networks, network);
    }
    for (unsigned i = 0; i < networks->len; i++) {
        SpecNetwork *network = g_ptr_array_index(networks, i);
        if (network->kind != SPEC_NET_NONE) {
            continue;
        }
        if (networks->len > 1) {
            base_report_error(r->report, VM_ERROR_SCHEMA, &network->pos, NULL,
                              "%snetworks[%u]: 'none' stands beside other networks", r->prefix, i);
            return;
        }
        g_free(network->pos.file);
        g_free(network);
        g_ptr_array_set_size(networks, 0);
        g_hash_table_remove(r->spec->origins, "networks[0]");
    }
}

/* Or one that was written and refused: then the ports are not to blame. */
static bool has_user_network(const MachineSpec *spec)
{
    g_autofree char *beyond = g_strdup_printf("networks[%u]", spec->networks->len);
    if (spec_machine_origin(spec, beyond)) {
        return true;
    }
    for (unsigned i = 0; i < spec->networks->len; i++) {
        const SpecNetwork *network = g_ptr_array_index(spec->networks, i);
        if (network->kind == SPEC_NET_USER) {
            return true;
        }
    }
    return false;
}

static bool is_any_addr(const char *addr)
{
    return g_str_equal(addr, "0.0.0.0") || g_str_equal(addr, "::");
}

static bool is_same_listener(const SpecPort *a, const SpecPort *b)
{
    const char *addr_a = a->host_addr ? a->host_addr : "127.0.0.1";
    const char *addr_b = b->host_addr ? b->host_addr : "127.0.0.1";
    bool is_addr = g_str_equal(addr_a, addr_b) || is_any_addr(addr_a) || is_any_addr(addr_b);
    bool is_proto =
        a->proto == b->proto || a->proto == SPEC_PROTO_BOTH || b->proto == SPEC_PROTO_BOTH;
    bool is_range = a->host_first <= b->host_last && b->host_first <= a->host_last;
    return is_addr && is_proto && is_range && a->host_first != 0 && b->host_first != 0;
}

static void check_ports(const Rules *r)
{
    const GPtrArray *ports = r->spec->ports;
    if (ports->len > 0 && !has_user_network(r->spec)) {
        complain(r, VM_ERROR_SCHEMA, "ports", "add network user, or reach the guest on its bridge",
                 "ports need a user network");
    }
    for (unsigned i = 0; i < ports->len; i++) {
        const SpecPort *port = g_ptr_array_index(ports, i);
        for (unsigned k = 0; k < i; k++) {
            const SpecPort *other = g_ptr_array_index(ports, k);
            if (is_same_listener(port, other)) {
                g_autofree char *first = first_place(&other->pos);
                base_report_error(r->report, VM_ERROR_PORT, &port->pos, "use another host port",
                                  "%sports[%u]: host port %u is mapped twice%s", r->prefix, i,
                                  MAX(port->host_first, other->host_first), first);
                break;
            }
        }
    }
}

/* --- all of it -------------------------------------------------------------------------------- */

bool spec_name_check(const char *name, const BasePos *pos, BaseReport *report)
{
    const char *why = NULL;
    if (spec_rule_name(name, &why)) {
        return true;
    }
    base_report_error(report, VM_ERROR_NAME, pos, NULL, "name '%s' %s", name, why);
    return false;
}

void spec_machine_finish(MachineSpec *spec, BaseReport *report)
{
    const BasePos *at = spec_machine_origin(spec, "name");
    bool is_from_file = at && at->line > 0;
    g_autofree char *prefix = is_from_file ? g_strdup_printf("vms.%s.", spec->name) : g_strdup("");
    Rules rules = {spec, report, prefix};
    spec_read_defaults(&spec_machine_table, spec->origins, spec);
    const char *why;
    bool has_name = spec->name && spec_rule_name(spec->name, &why); /* else it was reported */
    if (!spec->hostname && !spec_machine_origin(spec, "hostname") && has_name) {
        spec->hostname = g_strdup(spec->name);
    }
    name_disks(spec);
    settle_networks(&rules);
    check_required(&rules);
    check_image(&rules);
    check_board(&rules);
    check_password(&rules);
    check_disks(&rules);
    check_macs(&rules);
    check_ports(&rules);
}
