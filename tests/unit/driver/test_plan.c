#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>
#include <libxml/parser.h>

#include "driver/plan.h"
#include "schemas/spec.h"

typedef struct {
    MachineSpec *spec;
    HostFacts *facts;
    MachineIdent *ident;
    BaseReport *report;
    PlanImage image;
} Given;

static HostFacts *some_facts(void)
{
    HostFacts *facts = host_facts_new();
    facts->kind = VIRT_KIND_EMBED;
    facts->uri = g_strdup("qemu:///embed?root=/s/libvirt");
    facts->kvm_reason = g_strdup("this CPU offers no virtualization");
    facts->emulator = g_strdup("/usr/bin/qemu-system-x86_64");
    facts->machine_q35 = g_strdup("pc-q35-7.2");
    facts->machine_pc = g_strdup("pc-i440fx-7.2");
    facts->has_fd_associate = true;
    facts->is_netns_shared = true;
    facts->qemu_uid = 64055;
    facts->qemu_gid = 107;
    return facts;
}

static int set_up(void **state)
{
    Given *g = g_new0(Given, 1);
    g->report = base_report_new();
    g->spec = spec_machine_new();
    g->spec->name = g_strdup("web");
    spec_machine_set(g->spec, "image", "/images/debian.qcow2", "test", g->report);
    g->facts = some_facts();
    g->ident = machine_ident_new("/s", "web");
    g->image = (PlanImage){.path = "/images/debian.qcow2",
                           .format = IMG_FORMAT_QCOW2,
                           .virtual_bytes = 2ull << 30,
                           .file_bytes = 1000,
                           .dev = 1,
                           .ino = 2,
                           .mtime_ns = 3};
    *state = g;
    return 0;
}

static int tear_down(void **state)
{
    Given *g = *state;
    spec_machine_free(g->spec);
    host_facts_free(g->facts);
    machine_ident_free(g->ident);
    base_report_free(g->report);
    g_free(g);
    return 0;
}

static MachinePlan *build(Given *g)
{
    spec_machine_finish(g->spec, g->report);
    PlanInput input = {.spec = g->spec,
                       .facts = g->facts,
                       .ident = g->ident,
                       .run_dir = "/run/vm-run/x.y",
                       .generation = 1,
                       .images = &g->image,
                       .n_images = 1};
    return machine_plan_build(&input, g->report);
}

static void assert_only_error(Given *g, VmError code, const char *part)
{
    assert_int_equal(base_report_n_errors(g->report), 1);
    const BaseReportItem *item = base_report_item(g->report, 0);
    assert_int_equal(item->code, code);
    g_autofree char *text = base_report_item_text(item);
    assert_non_null(strstr(text, part));
}

static void test_plan_of_a_plain_spec_lists_steps_in_order(void **state)
{
    Given *g = *state;
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    const StepKind expected[] = {STEP_DIRECTORY, STEP_DISK, STEP_SEED,    STEP_RUN_DIR,
                                 STEP_DEFINE,    STEP_BOOT, STEP_FORWARD, STEP_WATCH};
    assert_int_equal(plan->steps->len, G_N_ELEMENTS(expected));
    for (unsigned i = 0; i < plan->steps->len; i++) {
        assert_int_equal(g_array_index(plan->steps, PlanStep, i).kind, expected[i]);
    }
    assert_int_equal(plan->accel, SPEC_ACCEL_TCG);
    assert_string_equal(plan->cpu_mode, "maximum");
    assert_string_equal(plan->tcg_reason, "this CPU offers no virtualization");
}

static void test_plan_twice_is_the_same_bytes(void **state)
{
    Given *g = *state;
    g_autoptr(MachinePlan) one = build(g);
    g_autofree char *first = machine_plan_to_json(one);
    g_autofree char *first_xml = machine_plan_domain_xml(one, g->spec, NULL);
    for (int i = 0; i < 100; i++) {
        PlanInput input = {.spec = g->spec,
                           .facts = g->facts,
                           .ident = g->ident,
                           .run_dir = "/run/vm-run/x.y",
                           .generation = 1,
                           .images = &g->image,
                           .n_images = 1};
        g_autoptr(MachinePlan) two = machine_plan_build(&input, g->report);
        g_autofree char *second = machine_plan_to_json(two);
        g_autofree char *second_xml = machine_plan_domain_xml(two, g->spec, NULL);
        assert_string_equal(first, second);
        assert_string_equal(first_xml, second_xml);
    }
}

static void test_plan_as_record_comes_back_equal(void **state)
{
    Given *g = *state;
    spec_machine_set(g->spec, "tags", "team=core", "test", g->report);
    spec_machine_set(g->spec, "ports", "8080:80", "test", g->report);
    g_autoptr(MachinePlan) plan = build(g);
    g_autofree char *json = machine_plan_to_json(plan);
    g_autoptr(GError) error = NULL;
    g_autoptr(MachinePlan) back = machine_plan_from_json(json, &error);
    assert_null(error);
    g_autofree char *again = machine_plan_to_json(back);
    assert_string_equal(json, again);
    assert_int_equal(back->steps->len, plan->steps->len);
    g_autofree char *xml = machine_plan_domain_xml(plan, NULL, NULL);
    g_autofree char *xml_back = machine_plan_domain_xml(back, NULL, NULL);
    assert_string_equal(xml, xml_back);
}

static void test_plan_record_damaged_at_any_byte_is_refused_or_whole(void **state)
{
    Given *g = *state;
    g_autoptr(MachinePlan) plan = build(g);
    g_autofree char *json = machine_plan_to_json(plan);
    size_t n = strlen(json);
    for (size_t cut = 0; cut < n - 2; cut++) {
        g_autofree char *torn = g_strndup(json, cut);
        g_autoptr(GError) error = NULL;
        assert_null(machine_plan_from_json(torn, &error));
        assert_int_equal(error->code, VM_ERROR_STATE);
    }
    for (size_t at = 0; at < n; at++) {
        json[at] ^= 1; /* must not crash, whatever comes out */
        machine_plan_free(machine_plan_from_json(json, NULL));
        json[at] ^= 1;
    }
}

static void test_plan_with_kvm_asked_for_but_unusable_is_a_host_error(void **state)
{
    Given *g = *state;
    spec_machine_set(g->spec, "accel", "kvm", "--accel", g->report);
    g_autoptr(MachinePlan) plan = build(g);
    assert_null(plan);
    assert_only_error(g, VM_ERROR_HOST, "no virtualization");
}

static void test_plan_with_disk_smaller_than_image_is_a_range_error(void **state)
{
    Given *g = *state;
    spec_machine_set(g->spec, "disk", "1GiB", "--disk", g->report);
    g_autoptr(MachinePlan) plan = build(g);
    assert_null(plan);
    assert_only_error(g, VM_ERROR_RANGE, "2GiB");
}

static void test_plan_with_uefi_and_no_firmware_is_a_host_error(void **state)
{
    Given *g = *state;
    spec_machine_set(g->spec, "firmware", "uefi", "--set firmware", g->report);
    g_autoptr(MachinePlan) plan = build(g);
    assert_null(plan);
    assert_only_error(g, VM_ERROR_HOST, "ovmf");
}

static void test_plan_with_kvm_usable_takes_the_host_cpu(void **state)
{
    Given *g = *state;
    g->facts->is_kvm_usable = true;
    g_autoptr(MachinePlan) plan = build(g);
    assert_int_equal(plan->accel, SPEC_ACCEL_KVM);
    assert_null(plan->tcg_reason);
    g_autofree char *xml = machine_plan_domain_xml(plan, NULL, NULL);
    assert_non_null(strstr(xml, "<domain"));
    assert_non_null(strstr(xml, "type=\"kvm\""));
    assert_non_null(strstr(xml, "host-passthrough"));
}

static void test_plan_bridge_in_another_namespace_is_refused(void **state)
{
    Given *g = *state;
    spec_machine_set(g->spec, "networks", "bridge=br0", "--network", g->report);
    g->facts->is_netns_shared = false;
    g_autoptr(MachinePlan) plan = build(g);
    assert_null(plan);
    assert_only_error(g, VM_ERROR_HOST, "namespace");
}

static void test_plan_bridge_gets_a_tap_step_and_a_mark(void **state)
{
    Given *g = *state;
    spec_machine_set(g->spec, "networks", "bridge=br0", "--network", g->report);
    g_autoptr(MachinePlan) plan = build(g);
    assert_non_null(plan);
    const PlanNic *nic = g_ptr_array_index(plan->nics, 0);
    assert_int_equal(strlen(nic->tap), 15);
    assert_non_null(strstr(nic->tap_tag, plan->ident->store_id));
    assert_true(strlen(nic->tap_tag) <= 127);
    unsigned n_taps = 0;
    for (unsigned i = 0; i < plan->steps->len; i++) {
        n_taps += g_array_index(plan->steps, PlanStep, i).kind == STEP_TAP;
    }
    assert_int_equal(n_taps, 1);
    assert_int_equal(plan->forwards->len, 0);
}

static void test_plan_hatch_patch_sets_what_its_xpath_names(void **state)
{
    Given *g = *state;
    g_autoptr(MachinePlan) plan = build(g);
    SpecXmlPatch attribute = {.xpath = (char *)"/domain/clock/@offset",
                              .value = (char *)"local\"time<"};
    SpecXmlPatch element = {.xpath = (char *)"/domain/devices",
                            .value = (char *)"<watchdog model='i6300esb'/>"};
    g_ptr_array_set_free_func(g->spec->libvirt_xml, NULL);
    g_ptr_array_add(g->spec->libvirt_xml, &attribute);
    g_ptr_array_add(g->spec->libvirt_xml, &element);
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = machine_plan_domain_xml(plan, g->spec, &error);
    assert_null(error);
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
    assert_non_null(doc);
    xmlFreeDoc(doc);
    assert_non_null(strstr(xml, "i6300esb"));
    element.xpath = (char *)"/domain/nothing";
    g_autofree char *none = machine_plan_domain_xml(plan, g->spec, &error);
    assert_null(none);
    assert_int_equal(error->code, VM_ERROR_SCHEMA);
    g_ptr_array_set_size(g->spec->libvirt_xml, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan_of_a_plain_spec_lists_steps_in_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_plan_twice_is_the_same_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plan_as_record_comes_back_equal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plan_record_damaged_at_any_byte_is_refused_or_whole,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plan_with_kvm_asked_for_but_unusable_is_a_host_error,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plan_with_disk_smaller_than_image_is_a_range_error,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_plan_with_uefi_and_no_firmware_is_a_host_error, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_plan_with_kvm_usable_takes_the_host_cpu, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_plan_bridge_in_another_namespace_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_plan_bridge_gets_a_tap_step_and_a_mark, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_plan_hatch_patch_sets_what_its_xpath_names, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
