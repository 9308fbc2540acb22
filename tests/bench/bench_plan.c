/* bench-plan N: the median time of deciding one machine (a root disk, a data disk, two networks,
 * two ports), as one JSON line: {"ours_ms": the pure plan, "xml_ms": plan and domain XML, "n": N}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "driver/plan.h"
#include "schemas/spec.h"

static int by_value(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

static double median_ms(gint64 *ns, unsigned n)
{
    qsort(ns, n, sizeof(*ns), by_value);
    return (double)ns[n / 2] / 1e6;
}

static gint64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static MachineSpec *some_spec(BaseReport *report)
{
    static const char *const settings[][2] = {
        {"image", "/images/debian.qcow2"},
        {"disk", "20GiB"},
        {"disks", "[{name: data, size: 10GiB}]"},
        {"networks", "user"},
        {"ports", "8080:80"},
        {"ports", "8443:443"},
        {"tags", "team=core"},
        {"cpus", "4"},
        {"memory", "4GiB"},
    };
    MachineSpec *spec = spec_machine_new();
    spec->name = g_strdup("web");
    for (unsigned i = 0; i < G_N_ELEMENTS(settings); i++) {
        spec_machine_set(spec, settings[i][0], settings[i][1], "bench-plan", report);
    }
    spec_machine_finish(spec, report);
    return spec;
}

static HostFacts *some_facts(void)
{
    HostFacts *facts = host_facts_new();
    facts->kind = VIRT_KIND_SYSTEM;
    facts->uri = g_strdup("qemu:///system");
    facts->kvm_reason = g_strdup("this CPU offers no virtualization");
    facts->emulator = g_strdup("/usr/bin/qemu-system-x86_64");
    facts->machine_q35 = g_strdup("pc-q35-7.2");
    facts->machine_pc = g_strdup("pc-i440fx-7.2");
    facts->has_fd_associate = true;
    facts->is_netns_shared = true;
    facts->is_root = true;
    facts->qemu_uid = 64055;
    facts->qemu_gid = 64055;
    return facts;
}

static bool plan_once(const PlanInput *input, BaseReport *report, gint64 *plan_ns, gint64 *xml_ns)
{
    gint64 before_ns = now_ns();
    g_autoptr(MachinePlan) plan = machine_plan_build(input, report);
    gint64 planned_ns = now_ns();
    g_autofree char *xml = plan ? machine_plan_domain_xml(plan, input->spec, NULL) : NULL;
    *xml_ns = now_ns() - before_ns;
    *plan_ns = planned_ns - before_ns;
    return xml != NULL;
}

int main(int argc, char **argv)
{
    unsigned n = argc == 2 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    if (n == 0) {
        fprintf(stderr, "usage: bench-plan N\n");
        return 2;
    }
    BaseReport *report = base_report_new();
    MachineSpec *spec = some_spec(report);
    HostFacts *facts = some_facts();
    MachineIdent *ident = machine_ident_new("/var/lib/vm-run", "web");
    PlanImage image = {"/images/debian.qcow2", IMG_FORMAT_QCOW2, 2ull << 30, 1000, 1, 2, 3};
    PlanInput input = {spec, facts, ident, "/run/vm-run/x.y", 1, &image, 1, NULL, NULL};
    g_autofree gint64 *plan_ns = g_new0(gint64, n);
    g_autofree gint64 *xml_ns = g_new0(gint64, n);
    bool is_good = base_report_n_errors(report) == 0;
    for (unsigned i = 0; i < n && is_good; i++) {
        is_good = plan_once(&input, report, &plan_ns[i], &xml_ns[i]);
    }
    GError *error = NULL;
    if (is_good) {
        printf("{\"ours_ms\": %.6f, \"xml_ms\": %.6f, \"n\": %u}\n", median_ms(plan_ns, n),
               median_ms(xml_ns, n), n);
    } else if (!base_report_check(report, &error)) {
        fprintf(stderr, "bench-plan: %s\n", error->message);
        g_error_free(error);
    }
    machine_ident_free(ident);
    host_facts_free(facts);
    spec_machine_free(spec);
    base_report_free(report);
    return is_good ? 0 : 1;
}
