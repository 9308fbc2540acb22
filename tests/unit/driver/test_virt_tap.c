/*
 * The embedded driver in a network namespace of this test's own: taps (one queue, several) and a
 * macvtap that we made go into the reference domain as <interface type='ethernet'>, QEMU holds
 * them, and they outlive it however it ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/child.h"
#include "net/macvtap.h"
#include "net/tap.h"
#include "tests/unit/net/netns.h"
#include "virt_rig.h"

#define MAC "52:54:00:11:22:33"
#define TAG "vm-run:abcdefgh:" UUID ":0"

static void ip(const char *words)
{
    g_autofree char *line = g_strconcat("ip ", words, NULL);
    g_auto(GStrv) argv = g_strsplit(line, " ", -1);
    BaseChild child = BASE_CHILD_INIT;
    g_autoptr(GError) error = NULL;
    child.argv = (const char *const *)argv;
    if (!base_child_run(&child, NULL, NULL, &error)) {
        fail_msg("%s: %s", line, error->message);
    }
}

static int begin(void **context)
{
    int status = setup(context);
    if (status == 0) {
        ip("link add br0 type bridge");
        ip("link set br0 up");
        ip("link add up0 type veth peer name up1");
        ip("link set up0 up");
        ip("link set up1 up");
    }
    return status;
}

static bool is_there(const char *link)
{
    return if_nametoindex(link) != 0;
}

/* Does QEMU have this file open? */
static bool qemu_has(const char *file)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", (int)qemu_pid());
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;
    bool has = false;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *target = g_file_read_link(path, NULL);
        has |= g_strcmp0(target, file) == 0;
    }
    return has;
}

/* Starts the reference domain with the link as its NIC. */
static void start_with(const char *link, const char *driver)
{
    g_autofree char *interface =
        g_strdup_printf("<interface type='ethernet'>\n      <mac address='" MAC "'/>"
                        "<target dev='%s' managed='no'/>%s",
                        link, driver);
    g_autofree char *xml = replaced(
        reference_xml(), "<interface type='user'>\n      <mac address='" MAC "'/>", interface);
    g_autoptr(GError) error = NULL;
    if (!virt_define(conn(), xml, &error)) {
        fail_msg("%s", error->message);
    }
    start_reference();
    assert_state(VIRT_STATE_RUNNING);
    assert_int_equal(owner_of_process(qemu_pid()), rig.facts->qemu_uid);
}

/* Ends it as a stop does (libvirt), or as a crash does (nobody listens). */
static void end(bool is_crash)
{
    if (is_crash) {
        pid_t pid = qemu_pid();
        autofd int pidfd = base_proc_open(pid, base_proc_start_ticks(pid));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_true(base_proc_wait_end(pidfd, 10000, NULL));
    }
    reopen();
    assert_true(virt_destroy(conn(), UUID, NULL));
    assert_true(virt_undefine(conn(), UUID, NULL));
    assert_state(VIRT_STATE_ABSENT);
    assert_disks_untouched();
    if (!is_crash) { /* a killed QEMU leaves its sockets to whoever owns their folder */
        assert_nothing_left();
    }
}

static void try_tap(unsigned n_queues, const char *driver)
{
    g_autofree char *name = net_tap_name(UUID, n_queues);
    NetTap tap = {.name = name,
                  .owner_tag = TAG,
                  .bridge = "br0",
                  .mac = MAC,
                  .n_queues = n_queues,
                  .owner_uid = rig.facts->qemu_uid,
                  .owner_gid = rig.facts->qemu_gid};
    g_autoptr(GError) error = NULL;
    if (!net_tap_create(&tap, &error)) {
        fail_msg("%s", error->message);
    }
    for (unsigned i = 0; i < 2; i++) {
        start_with(name, driver);
        assert_true(qemu_has("/dev/net/tun"));
        assert_true(serial_says("No bootable device", 60000));
        end(i == 1);
        assert_true(is_there(name));
    }
    assert_true(net_tap_remove(name, TAG, NULL));
    assert_false(is_there(name));
}

static void test_tap_outlives_its_domain(void **context)
{
    (void)context;
    try_tap(1, "");
}

static void test_tap_of_two_queues_outlives_its_domain(void **context)
{
    (void)context;
    try_tap(2, "<driver queues='2'/>");
}

static void test_macvtap_outlives_its_domain(void **context)
{
    (void)context;
    g_autofree char *name = net_macvtap_name(UUID, 0);
    NetMacvtap macvtap = {
        .name = name, .owner_tag = TAG, .lower = "up0", .mode = NET_MACVTAP_BRIDGE, .mac = MAC};
    g_autoptr(GError) error = NULL;
    if (!net_macvtap_create(&macvtap, &error)) {
        fail_msg("%s", error->message);
    }
    g_autofree char *node = g_strdup_printf("/dev/tap%u", if_nametoindex(name));
    for (unsigned i = 0; i < 2; i++) {
        start_with(name, "");
        assert_true(qemu_has(node));
        end(i == 1);
        assert_true(is_there(name));
    }
    assert_true(net_macvtap_remove(name, TAG, NULL));
    assert_false(is_there(name));
    assert_int_equal(access(node, F_OK), -1);
}

static void test_cable_leaves_the_hosts_tap_up(void **context)
{
    (void)context;
    g_autofree char *name = net_tap_name(UUID, 0);
    NetTap tap = {.name = name,
                  .owner_tag = TAG,
                  .bridge = "br0",
                  .mac = MAC,
                  .n_queues = 1,
                  .owner_uid = rig.facts->qemu_uid,
                  .owner_gid = rig.facts->qemu_gid};
    assert_true(net_tap_create(&tap, NULL));
    start_with(name, "<link state='down'/>");
    GPtrArray *taps = net_tap_list(NULL);
    assert_int_equal(taps->len, 1);
    g_ptr_array_unref(taps);
    g_autoptr(GError) error = NULL;
    if (!virt_set_link(conn(), UUID, MAC, true, &error)) {
        fail_msg("%s", error->message);
    }
    g_autofree char *xml = virt_domain_xml(conn(), UUID, NULL);
    assert_null(strstr(xml, "state='down'"));
    assert_true(virt_set_link(conn(), UUID, MAC, false, NULL));
    assert_true(net_tap_create(&tap, NULL)); /* still as it should be: nothing to do */
    end(false);
    assert_true(net_tap_remove(name, TAG, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tap_outlives_its_domain),
        cmocka_unit_test(test_tap_of_two_queues_outlives_its_domain),
        cmocka_unit_test(test_macvtap_outlives_its_domain),
        cmocka_unit_test(test_cable_leaves_the_hosts_tap_up),
    };
    if (!test_netns_enter()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, begin, teardown);
}
