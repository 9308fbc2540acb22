#include "driver/plan_internal.h"

#include <string.h>

#include "cloudinit/seed.h"
#include "schemas/spec.h"

/*
 * How it works: facts and spec decide accelerator, firmware and machine type; every file, link, MAC
 * and address is named from the machine's identity; then the steps are listed in the one order in
 * which they are done.
 */

static const char *const step_names[] = {
    [STEP_DIRECTORY] = "directory", [STEP_LEASE] = "lease",     [STEP_DISK] = "disk",
    [STEP_SEED] = "seed",           [STEP_RUN_DIR] = "run-dir", [STEP_NETWORK] = "network",
    [STEP_FILTER] = "filter",       [STEP_TAP] = "tap",         [STEP_DEFINE] = "define",
    [STEP_BOOT] = "boot",           [STEP_FORWARD] = "forward", [STEP_WATCH] = "watch",
};
G_STATIC_ASSERT(G_N_ELEMENTS(step_names) == STEP_N);

const char *machine_step_name(StepKind kind)
{
    return step_names[kind];
}

static void plan_disk_free(void *data)
{
    PlanDisk *disk = data;
    g_free(disk->name);
    g_free(disk->file);
    g_free(disk->target);
    g_free(disk->base_path);
    g_free(disk);
}

static void plan_nic_free(void *data)
{
    PlanNic *nic = data;
    char *texts[] = {nic->mac, nic->netdev,  nic->network,  nic->bridge, nic->libvirt_network,
                     nic->ip4, nic->ip6,     nic->gateway4, nic->domain, nic->gateway6,
                     nic->tap, nic->tap_tag, nic->macvtap};
    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    g_strfreev(nic->nameservers);
    g_free(nic);
}

static void plan_forward_free(void *data)
{
    PlanForward *forward = data;
    g_free(forward->proto);
    g_free(forward->host_addr);
    g_free(forward->pos.file);
    g_free(forward);
}

MachinePlan *machine_plan_new(void)
{
    MachinePlan *plan = g_new0(MachinePlan, 1);
    plan->disks = g_ptr_array_new_with_free_func(plan_disk_free);
    plan->nics = g_ptr_array_new_with_free_func(plan_nic_free);
    plan->forwards = g_ptr_array_new_with_free_func(plan_forward_free);
    plan->tags = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    plan->steps = g_array_new(FALSE, FALSE, sizeof(PlanStep));
    return plan;
}

void machine_plan_free(MachinePlan *plan)
{
    if (!plan) {
        return;
    }
    machine_ident_free(plan->ident);
    char *strings[] = {plan->instance_id, plan->uri,        plan->dir,       plan->run_dir,
                       plan->emulator,    plan->machine,    plan->cpu_mode,  plan->cpu_model,
                       plan->uefi_code,   plan->uefi_vars,  plan->image,     plan->hostname,
                       plan->login_user,  plan->tcg_reason, plan->net_reason};
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_ptr_array_unref(plan->disks);
    g_ptr_array_unref(plan->nics);
    g_ptr_array_unref(plan->forwards);
    g_hash_table_unref(plan->tags);
    g_array_unref(plan->steps);
    g_free(plan);
}

/* --- decisions -------------------------------------------------------------------------------- */

static void decide_accel(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    const HostFacts *facts = in->facts;
    plan->accel = in->spec->accel;
    if (plan->accel == SPEC_ACCEL_AUTO) {
        plan->accel = facts->is_kvm_usable ? SPEC_ACCEL_KVM : SPEC_ACCEL_TCG;
        if (!facts->is_kvm_usable && !plan->is_test_driver) {
            plan->tcg_reason = g_strdup(facts->kvm_reason);
        }
    } else if (plan->accel == SPEC_ACCEL_KVM && !facts->is_kvm_usable) {
        base_report_error(report, VM_ERROR_HOST, spec_machine_origin(in->spec, "accel"),
                          "leave accel out, or set it to tcg (emulation)", "accel: kvm: %s",
                          facts->kvm_reason ? facts->kvm_reason : "KVM is not usable here");
    }
}

static void decide_cpu(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    const MachineSpec *spec = in->spec;
    plan->cpus = spec->cpus;
    plan->memory_bytes = spec->memory_bytes;
    if (!spec->cpu_model) {
        plan->cpu_mode = g_strdup(plan->accel == SPEC_ACCEL_KVM ? "host-passthrough" : "maximum");
    } else if (strcmp(spec->cpu_model, "max") == 0) {
        plan->cpu_mode = g_strdup("maximum");
    } else if (strcmp(spec->cpu_model, "host") == 0) {
        plan->cpu_mode = g_strdup("host-passthrough");
    } else {
        plan->cpu_mode = g_strdup("custom");
        plan->cpu_model = g_strdup(spec->cpu_model);
    }
    if (plan->accel == SPEC_ACCEL_TCG && strcmp(plan->cpu_mode, "host-passthrough") == 0) {
        base_report_error(report, VM_ERROR_SCHEMA, spec_machine_origin(spec, "cpu_model"),
                          "use 'max' or a named model",
                          "cpu_model: 'host' needs KVM, and this machine runs by TCG");
    }
}

static void decide_firmware(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    const HostFacts *facts = in->facts;
    plan->firmware =
        in->spec->firmware == SPEC_FIRMWARE_AUTO ? SPEC_FIRMWARE_BIOS : in->spec->firmware;
    if (plan->firmware == SPEC_FIRMWARE_BIOS) {
        return;
    }
    bool is_secure = plan->firmware == SPEC_FIRMWARE_UEFI_SECURE;
    plan->uefi_code = g_strdup(is_secure ? facts->uefi_secure_code : facts->uefi_code);
    plan->uefi_vars = g_strdup(is_secure ? facts->uefi_secure_vars : facts->uefi_vars);
    if (!plan->uefi_code || !plan->uefi_vars) {
        base_report_error(report, VM_ERROR_HOST, spec_machine_origin(in->spec, "firmware"),
                          "install the package ovmf",
                          "firmware: %s: no such firmware is installed here",
                          spec_firmware_name(plan->firmware));
    }
}

static void decide_machine(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    const HostFacts *facts = in->facts;
    bool is_q35 = in->spec->machine == SPEC_MACHINE_Q35;
    const char *machine = is_q35 ? facts->machine_q35 : facts->machine_pc;
    plan->machine = g_strdup(machine ? machine : plan->is_test_driver ? "pc" : NULL);
    plan->emulator = g_strdup(facts->emulator);
    if (!plan->is_test_driver && (!plan->machine || !plan->emulator)) {
        base_report_error(report, VM_ERROR_HOST, spec_machine_origin(in->spec, "machine"),
                          "install the package qemu-system-x86",
                          "machine: libvirt knows no QEMU with a '%s' machine here",
                          spec_machine_type_name(in->spec->machine));
    }
}

/* --- disks ------------------------------------------------------------------------------------ */

static char *disk_target(SpecBus bus, unsigned index)
{
    const char *prefix = bus == SPEC_BUS_SCSI ? "sd" : "vd";
    return index < 26 ? g_strdup_printf("%s%c", prefix, 'a' + index)
                      : g_strdup_printf("%s%c%c", prefix, 'a' + index / 26 - 1, 'a' + index % 26);
}

static void disk_set_base(PlanDisk *disk, const PlanImage *image, bool is_thin)
{
    disk->is_copy = !is_thin;
    disk->format = is_thin ? IMG_FORMAT_QCOW2 : image->format;
    disk->base_path = g_strdup(image->path);
    disk->base_format = image->format;
    disk->base_virtual_bytes = image->virtual_bytes;
    disk->base_file_bytes = image->file_bytes;
    disk->base_dev = image->dev;
    disk->base_ino = image->ino;
    disk->base_mtime_ns = image->mtime_ns;
}

static uint64_t disk_size(uint64_t wanted, uint64_t base, const char *what, const BasePos *pos,
                          BaseReport *report)
{
    if (wanted && wanted < base) {
        g_autofree char *have = spec_format_size(base);
        g_autofree char *want = spec_format_size(wanted);
        base_report_error(report, VM_ERROR_RANGE, pos, "leave it out, or make it larger",
                          "%s: %s is smaller than its image, which has %s", what, want, have);
    }
    return wanted ? wanted : base;
}

static void plan_disks(MachinePlan *plan, const PlanInput *in, BaseReport *report)
{
    const MachineSpec *spec = in->spec;
    PlanDisk *root = g_new0(PlanDisk, 1);
    root->name = g_strdup("root");
    root->target = disk_target(SPEC_BUS_VIRTIO, 0);
    disk_set_base(root, &in->images[0], spec->is_thin);
    root->file = g_strdup_printf("root.%s", img_format_name(root->format));
    root->virtual_bytes = disk_size(spec->disk_bytes, in->images[0].virtual_bytes, "disk",
                                    spec_machine_origin(spec, "disk"), report);
    g_ptr_array_add(plan->disks, root);

    unsigned n_seen[SPEC_BUS_N] = {[SPEC_BUS_VIRTIO] = 1}, image = 1;
    for (unsigned i = 0; i < spec->disks->len; i++) {
        const SpecDisk *from = g_ptr_array_index(spec->disks, i);
        PlanDisk *disk = g_new0(PlanDisk, 1);
        disk->name = g_strdup(from->name);
        disk->file = g_strdup_printf("disk-%s.qcow2", from->name);
        disk->bus = from->bus;
        disk->target = disk_target(from->bus, n_seen[from->bus]++);
        disk->format = IMG_FORMAT_QCOW2;
        disk->is_readonly = from->is_readonly;
        disk->virtual_bytes = from->size_bytes;
        if (from->source && image < in->n_images) {
            disk_set_base(disk, &in->images[image], true);
            disk->virtual_bytes = disk_size(from->size_bytes, in->images[image++].virtual_bytes,
                                            from->name, &from->pos, report);
        }
        g_ptr_array_add(plan->disks, disk);
    }
}

/* --- the list --------------------------------------------------------------------------------- */

static void add_step(MachinePlan *plan, StepKind kind, unsigned index)
{
    PlanStep step = {kind, index};
    g_array_append_val(plan->steps, step);
}

static const PlanNic *plan_nic_at(const MachinePlan *plan, unsigned i)
{
    return g_ptr_array_index(plan->nics, i);
}

static bool has_network(const PlanNic *nic)
{
    return nic->network != NULL;
}

static bool has_tap(const PlanNic *nic)
{
    return nic->tap && (nic->bridge || nic->macvtap); /* libvirt's test driver has no bridge */
}

/* One step for each NIC that is asked for; how many. */
static unsigned add_nic_steps(MachinePlan *plan, StepKind kind, bool (*is_asked)(const PlanNic *))
{
    unsigned n = 0;
    for (unsigned i = 0; i < plan->nics->len; i++) {
        if (is_asked(plan_nic_at(plan, i))) {
            add_step(plan, kind, i);
            n++;
        }
    }
    return n;
}

/* The one order. Also called for a plan that was read back from its record. */
void machine_plan_list_steps(MachinePlan *plan)
{
    add_step(plan, STEP_DIRECTORY, 0);
    add_nic_steps(plan, STEP_LEASE, has_network);
    for (unsigned i = 0; i < plan->disks->len; i++) {
        add_step(plan, STEP_DISK, i);
    }
    add_step(plan, STEP_SEED, 0);
    add_step(plan, STEP_RUN_DIR, 0);
    if (add_nic_steps(plan, STEP_NETWORK, has_network)) {
        add_step(plan, STEP_FILTER, 0);
    }
    add_nic_steps(plan, STEP_TAP, has_tap);
    add_step(plan, STEP_DEFINE, 0);
    add_step(plan, STEP_BOOT, 0);
    if (!plan->is_test_driver) {
        int port_nic = machine_plan_port_nic(plan);
        bool is_user =
            port_nic >= 0 && plan_nic_at(plan, (unsigned)port_nic)->kind == SPEC_NET_USER;
        if (plan->forwards->len && is_user) {
            add_step(plan, STEP_FORWARD, 0);
        }
        add_step(plan, STEP_WATCH, 0);
    }
}

static void plan_identity(MachinePlan *plan, const PlanInput *in)
{
    const MachineIdent *ident = in->ident;
    plan->ident = machine_ident_new(ident->state_dir, ident->name);
    plan->generation = in->generation;
    plan->instance_id = machine_ident_instance_id(ident, in->generation);
    plan->uri = g_strdup(in->facts->uri);
    plan->is_test_driver = in->facts->kind == VIRT_KIND_TEST;
    plan->dir = g_build_filename(ident->state_dir, "machines", ident->name, NULL);
    plan->run_dir = g_strdup(in->run_dir);
    plan->is_fd_mode = in->facts->has_fd_associate;
    plan->qemu_uid = in->facts->qemu_uid;
    plan->qemu_gid = in->facts->qemu_gid;
    plan->has_console = in->spec->is_console;
    plan->has_vnc = in->spec->display == SPEC_DISPLAY_VNC;
    plan->net_reason = g_strdup(in->net_reason);
    plan->image = g_strdup(in->spec->image);
    plan->hostname = g_strdup(in->spec->hostname);
    plan->login_user = g_strdup(seed_login_user(in->spec));
    GHashTableIter iter;
    void *key, *value;
    g_hash_table_iter_init(&iter, in->spec->tags);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        g_hash_table_insert(plan->tags, g_strdup(key), g_strdup(value));
    }
}

MachinePlan *machine_plan_build(const PlanInput *input, BaseReport *report)
{
    g_assert(input->n_images >= 1);
    unsigned n_before = base_report_n_errors(report);
    g_autoptr(MachinePlan) plan = machine_plan_new();
    plan_identity(plan, input);
    decide_accel(plan, input, report);
    decide_cpu(plan, input, report);
    decide_machine(plan, input, report);
    decide_firmware(plan, input, report);
    plan_disks(plan, input, report);
    machine_plan_nics(plan, input, report);
    machine_plan_forwards(plan, input, report);
    machine_plan_list_steps(plan);
    return base_report_n_errors(report) > n_before ? NULL : g_steal_pointer(&plan);
}
