#include "schemas/finish.h"

#include <string.h>
#include "schemas/read.h"
#include "schemas/rules.h"

void spec_rules_complain(const SpecRules *r, VmError code, const char *path, const char *hint,
                         const char *what)
{
    base_report_error(r->report, code, spec_machine_origin(r->spec, path), hint, "%s%s: %s",
                      r->prefix, path, what);
}

/* --- what must be there ----------------------------------------------------------------------- */

static void check_required(const SpecRules *r)
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

static void check_image(const SpecRules *r)
{
    const MachineSpec *spec = r->spec;
    if (spec->image && g_str_has_prefix(spec->image, "http://") && !spec->sha256 &&
        !spec_machine_origin(spec, "sha256")) {
        spec_rules_complain(r, VM_ERROR_SCHEMA, "image", "add sha256, or use https://",
                            "a http: URL needs sha256, since anybody on the way can change it");
    }
}

static void check_board(const SpecRules *r)
{
    const MachineSpec *spec = r->spec;
    if (spec->accel == SPEC_ACCEL_TCG && spec->cpu_model &&
        (g_str_equal(spec->cpu_model, "host") ||
         g_str_equal(spec->cpu_model, "host-passthrough"))) {
        spec_rules_complain(r, VM_ERROR_SCHEMA, "cpu_model", "use max, or another accel",
                            "'host' needs KVM, and accel is tcg");
    }
    if (spec->firmware == SPEC_FIRMWARE_UEFI_SECURE && spec->machine != SPEC_MACHINE_Q35) {
        spec_rules_complain(r, VM_ERROR_SCHEMA, "firmware", "use machine q35",
                            "uefi-secure needs machine q35");
    }
}

static void check_password(const SpecRules *r)
{
    const MachineSpec *spec = r->spec;
    if (spec->password && spec->password_hash) {
        spec_rules_complain(r, VM_ERROR_SCHEMA, "password", "keep password_hash",
                            "stands beside password_hash");
    } else if (spec->password && !spec->is_plain_password_allowed) {
        spec_rules_complain(r, VM_ERROR_SECRET, "password",
                            "use password_hash, or accept it with allow_plain_password: true",
                            "a password stands here in plain text");
    }
}

/* --- disks ------------------------------------------------------------------------------------ */

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

char *spec_rules_first_place(const BasePos *pos)
{
    return pos->line ? g_strdup_printf(", first in line %u", pos->line) : g_strdup("");
}

static void check_disks(const SpecRules *r)
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
                g_autofree char *first = spec_rules_first_place(&other->pos);
                base_report_error(r->report, VM_ERROR_SCHEMA, &disk->pos, "choose another name",
                                  "%sdisks[%u].name: '%s' stands twice%s", r->prefix, i, disk->name,
                                  first);
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
    SpecRules rules = {.spec = spec, .report = report, .prefix = prefix};
    spec_read_defaults(&spec_machine_table, spec->origins, spec);
    const char *why;
    bool has_name = spec->name && spec_rule_name(spec->name, &why); /* else it was reported */
    if (!spec->hostname && !spec_machine_origin(spec, "hostname") && has_name) {
        spec->hostname = g_strdup(spec->name);
    }
    name_disks(spec);
    spec_finish_nics(&rules);
    check_required(&rules);
    check_image(&rules);
    check_board(&rules);
    check_password(&rules);
    check_disks(&rules);
    spec_check_nics(&rules);
    spec_check_ports(&rules);
    spec_check_egress(&rules);
}
