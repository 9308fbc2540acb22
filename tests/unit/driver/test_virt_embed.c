/*
 * The embedded driver with a real QEMU (TCG): tests/golden/domain/reference.xml is defined and
 * started with descriptors in a 0700 folder, found again by a second connection, seen dead after a
 * kill, destroyed, and leaves nothing. The disk is blank, so that SeaBIOS says "No bootable
 * device." and nothing needs a guest. With TEST_GUEST_IMAGE=FILE (the tiny guest) the guest is
 * booted too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "virt_rig.h"

static void test_facts_say_what_this_libvirt_offers(void **context)
{
    (void)context;
    assert_true(g_str_has_prefix(rig.facts->machine_q35, "pc-q35-"));
    assert_true(g_str_has_prefix(rig.facts->machine_pc, "pc-i440fx-"));
    assert_int_equal(access(rig.facts->emulator, X_OK), 0);
    assert_true(rig.facts->has_fd_associate);
    assert_true(rig.facts->is_netns_shared);
    assert_int_equal(rig.facts->is_kvm_usable, rig.facts->kvm_reason == NULL);
}

static void test_reference_domain_starts_and_nothing_is_chowned(void **context)
{
    (void)context;
    g_autofree char *xml = reference_xml();
    g_autoptr(GError) error = NULL;
    if (!virt_define(conn(), xml, &error)) {
        fail_msg("%s", error->message);
    }
    assert_true(virt_define(conn(), xml, NULL));
    assert_state(VIRT_STATE_OFF);
    start_reference();
    assert_state(VIRT_STATE_RUNNING);
    assert_int_equal(owner_of_process(qemu_pid()), rig.facts->qemu_uid);
    assert_disks_untouched();
    assert_true(serial_says(g_getenv("TEST_GUEST_IMAGE") ? "GRUB" : "No bootable device", 60000));
}

static void test_second_connection_finds_it_running(void **context)
{
    (void)context;
    reopen();
    assert_state(VIRT_STATE_RUNNING);
    VirtDomain *found = virt_find_by_name(conn(), NAME, NULL);
    g_autofree char *owner = g_strdup_printf("%s\nvm-run:%s:" NAME, rig.state, rig.state);
    assert_string_equal(found->owner, owner);
    assert_int_equal(found->state, VIRT_STATE_RUNNING);
    virt_domain_free(found);
    g_autoptr(GPtrArray) list = virt_list_ours(conn(), NULL);
    assert_int_equal(list->len, 1);

    VirtStats stats;
    assert_true(virt_stats(conn(), UUID, &stats, NULL));
    assert_int_equal(stats.n_vcpus, 1);
    assert_int_equal(stats.mem_actual_bytes, 256 << 20);
    assert_true(stats.cpu_time_ns > 0 && stats.cpu_user_ns > 0 && stats.mem_rss_bytes > 1 << 20);
    g_autofree char *xml = virt_domain_xml(conn(), UUID, NULL);
    assert_non_null(strstr(xml, "vmrun.status"));
    g_autoptr(GError) again = NULL;
    assert_false(virt_start(conn(), UUID, NULL, 0, &again));
    assert_true(g_error_matches(again, VM_ERROR, VM_ERROR_BUSY));
}

static bool is_link_down(void)
{
    g_autofree char *xml = virt_domain_xml(conn(), UUID, NULL);
    return strstr(xml, "<link state='down'/>");
}

static void test_cable_is_unplugged_and_plugged_again(void **context)
{
    (void)context;
    g_autoptr(GError) error = NULL;
    for (unsigned i = 0; i < 6; i++) {
        bool is_up = i >= 3;
        if (!virt_set_link(conn(), UUID, "52:54:00:11:22:33", is_up, &error)) {
            fail_msg("%s", error->message);
        }
        assert_int_equal(is_link_down(), !is_up);
    }
    assert_false(virt_set_link(conn(), UUID, "52:54:00:00:00:99", true, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_NOT_FOUND));
}

static void test_other_process_waits_for_the_root(void **context)
{
    (void)context;
    if (strcmp(rig.wish, "embed") != 0) {
        skip(); /* only embedded roots are held */
    }
    close_connection();
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t child = fork();
    if (child == 0) {
        MachineConnection *held = machine_connection_open(rig.state, rig.wish, NULL);
        byte = held != NULL;
        bool is_told = write(ready[1], &byte, 1) == 1;
        g_usleep(700 * 1000);
        machine_connection_close(held);
        _exit(is_told ? 0 : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    gint64 before_us = g_get_monotonic_time();
    open_connection();
    assert_true(g_get_monotonic_time() - before_us > 300 * 1000);
    assert_state(VIRT_STATE_RUNNING);
    waitpid(child, NULL, 0);
    close(ready[0]);
    close(ready[1]);
}

static void test_killed_unseen_then_the_next_connection_says_off(void **context)
{
    (void)context;
    close_connection();
    pid_t pid = qemu_pid();
    autofd int pidfd = base_proc_open(pid, base_proc_start_ticks(pid));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_true(base_proc_wait_end(pidfd, 10000, NULL));
    open_connection();
    assert_state(VIRT_STATE_OFF);
    g_autoptr(GPtrArray) list = virt_list_ours(conn(), NULL);
    assert_int_equal(((VirtDomain *)list->pdata[0])->state, VIRT_STATE_OFF);
}

static void test_started_again_destroyed_and_undefined_leaves_nothing(void **context)
{
    (void)context;
    start_reference();
    pid_t pid = qemu_pid();
    autofd int pidfd = base_proc_open(pid, base_proc_start_ticks(pid));
    g_autoptr(GError) error = NULL;
    reopen();
    if (!virt_destroy(conn(), UUID, &error)) {
        fail_msg("%s", error->message);
    }
    assert_true(base_proc_wait_end(pidfd, 0, NULL));
    assert_state(VIRT_STATE_OFF);
    assert_true(virt_destroy(conn(), UUID, NULL));
    assert_true(virt_undefine(conn(), UUID, NULL));
    assert_state(VIRT_STATE_ABSENT);
    assert_disks_untouched();
    assert_nothing_left();
}

static void test_start_without_descriptors_fails_closed_with_one_line(void **context)
{
    (void)context;
    g_autofree char *xml = reference_xml();
    g_autoptr(GError) error = NULL;
    assert_true(virt_define(conn(), xml, NULL));
    assert_false(virt_start(conn(), UUID, NULL, 0, &error));
    assert_null(strchr(error->message, '\n'));
    assert_state(VIRT_STATE_OFF);
    assert_true(virt_undefine(conn(), UUID, NULL));
}

static void test_start_with_a_bad_qemu_argument_quotes_qemu(void **context)
{
    (void)context;
    g_autofree char *xml = replaced(reference_xml(), "shutdown=poweroff", "shutdown=nonsense");
    g_autoptr(GError) error = NULL;
    assert_true(virt_define(conn(), xml, NULL));
    static const char *const groups[] = {"disk0", "disk0-base", "seed"};
    VirtDiskFd disks[3];
    int fd = open(rig.base, O_RDWR | O_CLOEXEC);
    for (unsigned i = 0; i < 3; i++) {
        disks[i] = (VirtDiskFd){groups[i], fd, true};
    }
    assert_false(virt_start(conn(), UUID, disks, 3, &error));
    close(fd);
    assert_non_null(strstr(error->message, "nonsense"));
    assert_null(strchr(error->message, '\n'));
    assert_null(strstr(error->message, "Z qemu-system"));
    assert_true(virt_undefine(conn(), UUID, NULL));
    assert_nothing_left();
}

/* UEFI variables lie where the machine's other files do, but QEMU opens them by path. */
static void test_uefi_starts_and_undefine_keeps_its_variables(void **context)
{
    (void)context;
    if (!rig.facts->uefi_code) {
        skip(); /* "skipped": no UEFI firmware is installed */
    }
    g_autofree char *vars = g_build_filename(rig.run, "nvram.fd", NULL);
    g_autofree char *bytes = NULL;
    gsize n = 0;
    assert_true(g_file_get_contents(rig.facts->uefi_vars, &bytes, &n, NULL));
    assert_true(g_file_set_contents(vars, bytes, (gssize)n, NULL));
    g_autofree char *boot =
        g_strdup_printf("<loader readonly='yes' type='pflash'>%s</loader><nvram>%s</nvram>",
                        rig.facts->uefi_code, vars);
    g_autofree char *xml = replaced(reference_xml(), "<bios useserial='yes'/>\n", boot);
    g_autoptr(GError) error = NULL;
    if (!virt_define(conn(), xml, &error)) {
        fail_msg("%s", error->message);
    }
    start_reference();
    assert_state(VIRT_STATE_RUNNING);
    assert_true(virt_destroy(conn(), UUID, NULL));
    assert_true(virt_undefine(conn(), UUID, NULL));
    assert_state(VIRT_STATE_ABSENT);
    assert_int_equal(access(vars, F_OK), 0);
    g_unlink(vars);
    assert_nothing_left();
}

/* A root of the longest path that is allowed, and the longest name: every socket still fits. */
static void test_longest_root_and_name_start(void **context)
{
    (void)context;
    if (strcmp(rig.wish, "embed") != 0) {
        skip(); /* only embedded roots have a limit */
    }
    size_t n_pad = MACHINE_EMBED_ROOT_MAX - strlen("/libvirt") - strlen(rig.state) - 1;
    g_autofree char *pad = g_strnfill(n_pad, 'p');
    g_autofree char *name = g_strnfill(63, 'n');
    g_autofree char *element = g_strdup_printf("<name>%s</name>", name);
    char *usual = rig.state;
    g_autofree char *xml = replaced(reference_xml(), "<name>" NAME "</name>", element);
    rig.state = g_build_filename(usual, pad, NULL);
    reopen();
    g_autoptr(GError) error = NULL;
    if (!virt_define(conn(), xml, &error)) {
        fail_msg("%s", error->message);
    }
    start_reference();
    assert_state(VIRT_STATE_RUNNING);
    assert_true(virt_destroy(conn(), UUID, NULL));
    assert_true(virt_undefine(conn(), UUID, NULL));
    g_free(rig.state);
    rig.state = usual;
    reopen();
}

static void test_library_process_killed_then_error_and_next_open_works(void **context)
{
    (void)context;
    if (strcmp(rig.wish, "embed") != 0) {
        skip(); /* only embedded roots have a process */
    }
    g_autofree char *children = g_strdup_printf("/proc/self/task/%d/children", (int)getpid());
    g_autofree char *pids = NULL;
    g_autoptr(GError) error = NULL;
    VirtState state;
    assert_true(g_file_get_contents(children, &pids, NULL, NULL));
    assert_int_equal(kill((pid_t)atoi(pids), SIGKILL), 0);
    assert_false(virt_state(conn(), UUID, &state, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_HOST));
    assert_false(virt_state(conn(), UUID, &state, NULL));
    reopen();
    assert_state(VIRT_STATE_ABSENT);
}

static void test_stopped_daemon_then_bounded_error_and_next_open_works(void **context)
{
    (void)context;
    g_autofree char *text = NULL;
    if (strcmp(rig.wish, "qemu:///system") != 0 ||
        !g_file_get_contents("/run/libvirtd.pid", &text, NULL, NULL)) {
        skip(); /* needs a libvirtd of this test: tests/quick/virt-system.sh */
    }
    pid_t daemon = (pid_t)atoi(text);
    VirtState state;
    g_autoptr(GError) hung = NULL;
    assert_int_equal(kill(daemon, SIGSTOP), 0);
    gint64 before_us = g_get_monotonic_time();
    assert_false(virt_state(conn(), UUID, &state, &hung));
    close_connection();
    gint64 took_us = g_get_monotonic_time() - before_us;
    assert_int_equal(kill(daemon, SIGCONT), 0);
    assert_true(hung->code == VM_ERROR_TIMEOUT || hung->code == VM_ERROR_HOST);
    assert_true(took_us < 25 * G_USEC_PER_SEC);
    open_connection();
    assert_state(VIRT_STATE_ABSENT);
}

/* --- with a guest ------------------------------------------------------- */

static bool is_agent_up(void)
{
    bool is_connected = false;
    return virt_agent_is_connected(conn(), UUID, &is_connected, NULL) && is_connected;
}

static void boot_guest(const char *agent_channel)
{
    g_autofree char *log = g_build_filename(rig.dir, "serial.log", NULL);
    g_unlink(log);
    g_autofree char *xml = replaced(reference_xml(), "org.qemu.guest_agent.0", agent_channel);
    assert_true(virt_define(conn(), xml, NULL));
    start_reference();
    assert_true(serial_says("tiny: ready", 180000));
}

static void test_guest_agent_answers(void **context)
{
    (void)context;
    boot_guest("org.qemu.guest_agent.0");
    gint64 end_us = g_get_monotonic_time() + 30 * G_USEC_PER_SEC;
    while (!is_agent_up() && g_get_monotonic_time() < end_us) {
        g_usleep(200 * 1000);
    }
    reopen(); /* a fresh connection knows it at once */
    assert_true(is_agent_up());
    g_autoptr(GError) error = NULL;
    g_autofree char *answer =
        virt_agent_command(conn(), UUID, "{\"execute\":\"guest-ping\"}", 10, &error);
    if (!answer) {
        fail_msg("%s", error->message);
    }
    assert_non_null(strstr(answer, "return"));
}

static void test_guest_reboot_keeps_the_process(void **context)
{
    (void)context;
    pid_t pid = qemu_pid();
    g_autofree char *log = g_build_filename(rig.dir, "serial.log", NULL);
    assert_int_equal(truncate(log, 0), 0);
    assert_true(virt_reboot(conn(), UUID, NULL));
    close_connection();
    assert_true(serial_says("tiny: ready", 180000));
    open_connection();
    assert_int_equal(qemu_pid(), pid);
    assert_state(VIRT_STATE_RUNNING);
}

static void test_guest_without_agent_reboots_by_keys(void **context)
{
    (void)context;
    boot_guest("org.example.nobody");
    assert_false(is_agent_up());
    test_guest_reboot_keeps_the_process(context);
    assert_true(virt_destroy(conn(), UUID, NULL));
    assert_true(virt_undefine(conn(), UUID, NULL));
}

static void test_guest_shutdown_ends_the_process(void **context)
{
    (void)context;
    pid_t pid = qemu_pid();
    autofd int pidfd = base_proc_open(pid, base_proc_start_ticks(pid));
    g_autoptr(GError) error = NULL;
    if (!virt_shutdown(conn(), UUID, &error)) {
        fail_msg("%s", error->message);
    }
    close_connection(); /* nobody listens: QEMU ends by itself */
    assert_true(base_proc_wait_end(pidfd, 60000, NULL));
    open_connection();
    assert_state(VIRT_STATE_OFF);
    assert_true(virt_undefine(conn(), UUID, NULL));
    assert_nothing_left();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_say_what_this_libvirt_offers),
        cmocka_unit_test(test_reference_domain_starts_and_nothing_is_chowned),
        cmocka_unit_test(test_second_connection_finds_it_running),
        cmocka_unit_test(test_cable_is_unplugged_and_plugged_again),
        cmocka_unit_test(test_other_process_waits_for_the_root),
        cmocka_unit_test(test_killed_unseen_then_the_next_connection_says_off),
        cmocka_unit_test(test_started_again_destroyed_and_undefined_leaves_nothing),
        cmocka_unit_test(test_start_without_descriptors_fails_closed_with_one_line),
        cmocka_unit_test(test_start_with_a_bad_qemu_argument_quotes_qemu),
        cmocka_unit_test(test_uefi_starts_and_undefine_keeps_its_variables),
        cmocka_unit_test(test_longest_root_and_name_start),
        cmocka_unit_test(test_library_process_killed_then_error_and_next_open_works),
        cmocka_unit_test(test_stopped_daemon_then_bounded_error_and_next_open_works),
    };
    const struct CMUnitTest guest_tests[] = {
        cmocka_unit_test(test_guest_agent_answers),
        cmocka_unit_test(test_guest_reboot_keeps_the_process),
        cmocka_unit_test(test_guest_shutdown_ends_the_process),
        cmocka_unit_test(test_guest_without_agent_reboots_by_keys),
    };
    if (g_getenv("TEST_GUEST_IMAGE")) {
        return cmocka_run_group_tests(guest_tests, setup, teardown);
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
