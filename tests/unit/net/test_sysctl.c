#include "net/sysctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "net/bridge.h"
#include "net/tap.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_trace.h"
#include "tests/unit/net/netns.h"

#define TAG "vm-run:abcdefgh:net:lab"

static void test_ensure_then_written_once_and_read(void **state)
{
    (void)state;
    int value = -1;
    test_ip_run("link add up.100 type veth peer name up@1");
    const char *const links[] = {"up.100", "up@1", "lo", "all"};
    for (gsize i = 0; i < G_N_ELEMENTS(links); i++) {
        for (int wanted = 1; wanted >= 0; wanted--) {
            assert_true(
                net_sysctl_ensure(NET_SYSCTL_IPV4, links[i], "route_localnet", wanted, NULL));
            assert_true(net_sysctl_read(NET_SYSCTL_IPV4, links[i], "route_localnet", &value, NULL));
            assert_int_equal(value, wanted);
            assert_int_equal(test_sysctl("ipv4/conf/%s/route_localnet", links[i]), wanted);
        }
    }
    test_ip_run("link del up.100");
}

static bool ensure(void *data)
{
    return net_sysctl_ensure(NET_SYSCTL_IPV4, "lo", "forwarding", *(int *)data, NULL);
}

static void test_ensure_what_is_then_not_opened_for_writing(void **state)
{
    (void)state;
    int value = 1;
    test_sysctl_set("ipv4/conf/lo/forwarding", 0);
    assert_int_equal(test_trace(ensure, &value, 0).n_write_opens, 1);
    assert_int_equal(test_trace(ensure, &value, 0).n_write_opens, 0);
}

static void test_exists_then_as_the_kernel_has_it(void **state)
{
    (void)state;
    assert_true(net_sysctl_exists(NET_SYSCTL_IPV4, "forwarding"));
    assert_false(net_sysctl_exists(NET_SYSCTL_IPV4, "no_such_setting"));
    assert_false(net_sysctl_exists(NET_SYSCTL_IPV4, "accept_ra"));
}

static void test_hostile_names_then_refused(void **state)
{
    (void)state;
    const char *const links[] = {"",         ".",      "..",         "../../ipv4/conf/lo",
                                 "lo/../lo", "/lo",    "lo/",        "sixteen-letters-",
                                 "a/b",      "../all", "../../../x", "no_such"};
    for (gsize i = 0; i < G_N_ELEMENTS(links); i++) {
        g_autoptr(GError) error = NULL;
        bool is_last = i + 1 == G_N_ELEMENTS(links);
        assert_false(net_sysctl_ensure(NET_SYSCTL_IPV4, links[i], "forwarding", 1, &error));
        assert_int_equal(error->code, is_last ? VM_ERROR_NOT_FOUND : VM_ERROR_NET);
    }
    const char *const keys[] = {"", "..", "../lo/forwarding", "Forwarding", "for warding"};
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        int value;
        assert_false(net_sysctl_read(NET_SYSCTL_IPV4, "lo", keys[i], &value, NULL));
    }
}

/* As a container has it. */
static bool make_read_only(void)
{
    return !unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
           !mount("/proc/sys", "/proc/sys", NULL, MS_BIND, NULL) &&
           !mount(NULL, "/proc/sys", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
}

/* 0: as it should be. */
static int work_read_only(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = net_bridge_name(TAG);
    NetTap tap = {.name = "vmtx", .owner_tag = "vm-run:x:0", .bridge = "br0"};
    NetBridge bridge = {.name = name, .owner_tag = TAG, .mode = SPEC_NET_MODE_NAT, .n_bits4 = 24};
    base_ip_parse("10.87.0.1", &bridge.gateway4);
    net_bridge_mac(TAG, bridge.mac);
    if (!make_read_only()) {
        return 1;
    }
    if (!net_tap_create(&tap, &error) || !net_tap_remove("vmtx", "vm-run:x:0", &error)) {
        printf("%s\n", error->message);
        return 2;
    }
    if (net_bridge_create(&bridge, &error) || error->code != VM_ERROR_HOST ||
        !strstr(error->message, "/proc/sys/net/ipv")) {
        printf("%s\n", error ? error->message : "made");
        return 3;
    }
    return net_bridge_remove(name, TAG, NULL) && !if_nametoindex(name) ? 0 : 4;
}

static void test_proc_sys_read_only_then_a_tap_goes_and_a_bridge_says_why(void **state)
{
    (void)state;
    test_ip_run("link add br0 type bridge");
    pid_t pid = fork();
    if (pid == 0) {
        _exit(work_read_only());
    }
    int status = 1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    test_ip_run("link del br0");
}

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ensure_then_written_once_and_read),
        cmocka_unit_test(test_ensure_what_is_then_not_opened_for_writing),
        cmocka_unit_test(test_exists_then_as_the_kernel_has_it),
        cmocka_unit_test(test_hostile_names_then_refused),
        cmocka_unit_test(test_proc_sys_read_only_then_a_tap_goes_and_a_bridge_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
