#include "net/macvtap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "net/link_birth.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

#define UUID "1b4e28ba-2fa1-5d2b-883f-b9a761bde3fb"
#define TAG  "vm-run:" UUID ":0"
#define MAC  "52:54:00:12:34:56"

typedef struct {
    char *name;
    NetMacvtap macvtap;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->name = net_macvtap_name(UUID, 0);
    f->macvtap = (NetMacvtap){
        .name = f->name, .owner_tag = TAG, .lower = "low0", .mode = NET_MACVTAP_BRIDGE, .mac = MAC};
    test_ip_run("link add low0 mtu 1400 type veth peer name low1");
    test_ip_run("link set low1 mtu 1400 addrgenmode none up");
    test_ip_run("link set low0 addrgenmode none up");
    test_net_await_state("low0", "UP");
    test_net_await_state("low1", "UP");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    net_macvtap_remove(f->name, TAG, NULL);
    if (if_nametoindex("low0")) {
        test_ip_run("link del low0");
    }
    g_free(f->name);
    g_free(f);
    return 0;
}

static void assert_created(const NetMacvtap *macvtap)
{
    g_autoptr(GError) error = NULL;
    if (!net_macvtap_create(macvtap, &error)) {
        fail_msg("%s", error->message);
    }
}

static void assert_refused(const NetMacvtap *macvtap, VmError code)
{
    g_autoptr(GError) error = NULL;
    assert_false(net_macvtap_create(macvtap, &error));
    if (!g_error_matches(error, VM_ERROR, (int)code)) {
        fail_msg("code %d, expected %d: %s", error->code, (int)code, error->message);
    }
}

static char *differences(const NetMacvtap *macvtap)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    assert_true(net_macvtap_check(macvtap, lines, NULL));
    g_ptr_array_add(lines, NULL);
    return g_strjoinv("\n", (char **)lines->pdata);
}

static void test_create_each_mode_then_as_asked_and_usable(void **state)
{
    Fixture *f = *state;
    static const struct {
        const char *name, *shown;
    } modes[] = {{"bridge", "bridge"},
                 {"vepa", "vepa"},
                 {"private", "private"},
                 {"passthrough", "passthru"}};
    g_autofree char *before = test_net_census();
    for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
        assert_true(net_macvtap_mode_parse(modes[i].name, &f->macvtap.mode));
        assert_string_equal(net_macvtap_mode_name(f->macvtap.mode), modes[i].name);
        assert_created(&f->macvtap);
        json_t *link = test_ip_link(f->name);
        json_t *data = json_object_get(json_object_get(link, "linkinfo"), "info_data");
        assert_string_equal(test_json_text(data, "mode"), modes[i].shown);
        assert_string_equal(test_json_text(link, "address"), MAC);
        assert_string_equal(test_json_text(link, "link"), "low0");
        assert_string_equal(test_json_text(link, "group"), "default");
        assert_string_equal(test_json_text(link, "operstate"), "UP");
        assert_int_equal(json_integer_value(json_object_get(link, "mtu")), 1400);
        json_decref(link);
        assert_int_equal(test_sysctl("ipv6/conf/%s/disable_ipv6", f->name), 1);

        g_autofree char *node = g_strdup_printf("/dev/tap%u", if_nametoindex(f->name));
        struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
        autofd int fd = open(node, O_RDWR | O_CLOEXEC); /* as libvirt does */
        assert_true(fd >= 0);
        assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
        g_autofree char *lines = differences(&f->macvtap);
        assert_string_equal(lines, "");
        base_fd_close(&fd);
        assert_true(net_macvtap_remove(f->name, TAG, NULL));
        assert_int_equal(access(node, F_OK), -1);
        g_autofree char *after = test_net_census(); /* passthrough: the lower link's MAC is back */
        assert_string_equal(before, after);
    }
    NetMacvtapMode mode;
    assert_false(net_macvtap_mode_parse("bogus", &mode));
}

static void test_create_three_times_then_the_second_and_third_change_nothing(void **state)
{
    Fixture *f = *state;
    assert_created(&f->macvtap);
    test_net_await_state(f->name, "UP");
    autofd int watch = test_net_watch();
    assert_created(&f->macvtap);
    assert_created(&f->macvtap);
    assert_int_equal(test_net_n_changes(watch), 0);
    f->macvtap.is_link_down = true;
    assert_created(&f->macvtap);
    json_t *link = test_ip_link(f->name);
    assert_string_equal(test_json_text(link, "operstate"), "DOWN");
    json_decref(link);
    assert_true(test_net_n_changes(watch) > 0);
}

static void test_create_disturbed_one_then_mended(void **state)
{
    Fixture *f = *state;
    assert_created(&f->macvtap);
    test_ip_run("link set %s down mtu 1300 address 52:54:00:00:00:01", f->name);
    g_autofree char *lines = differences(&f->macvtap);
    assert_non_null(strstr(lines, "is down"));
    assert_non_null(strstr(lines, "MTU 1300, not 1400"));
    assert_non_null(strstr(lines, "another MAC"));
    assert_created(&f->macvtap);
    g_autofree char *none = differences(&f->macvtap);
    assert_string_equal(none, "");
    f->macvtap.mode = NET_MACVTAP_VEPA;
    assert_refused(&f->macvtap, VM_ERROR_BUSY);
}

static void test_create_where_it_cant_be_then_refused_and_nothing_made(void **state)
{
    Fixture *f = *state;
    f->macvtap.lower = "nope0";
    assert_refused(&f->macvtap, VM_ERROR_NOT_FOUND);
    f->macvtap.lower = "low0";
    test_ip_run("link set low0 down");
    assert_refused(&f->macvtap, VM_ERROR_HOST);
    test_ip_run("link set low0 up");
    test_ip_run("link add br0 type bridge");
    test_ip_run("link set low0 master br0");
    assert_refused(&f->macvtap, VM_ERROR_BUSY);
    test_ip_run("link del br0");
    test_ip_run("link add link low0 name other0 type macvlan mode passthru");
    assert_refused(&f->macvtap, VM_ERROR_BUSY); /* that one has it for itself */
    assert_int_equal(if_nametoindex(f->name), 0);
    test_ip_run("link del other0");
    f->macvtap.mac = "53:54:00:12:34:56";
    assert_refused(&f->macvtap, VM_ERROR_NET);
    f->macvtap.mac = MAC;
    f->macvtap.lower = "../x";
    assert_refused(&f->macvtap, VM_ERROR_NET);
    f->macvtap.lower = "low0";
    test_ip_run("link add link low0 name %s type macvtap mode bridge", f->name); /* foreign */
    unsigned index = if_nametoindex(f->name);
    assert_refused(&f->macvtap, VM_ERROR_EXISTS);
    assert_false(net_macvtap_remove(f->name, TAG, NULL));
    assert_int_equal(if_nametoindex(f->name), index);
    test_ip_run("link del %s", f->name);
}

static void test_one_cut_off_before_its_tag_then_swept_or_made_anew(void **state)
{
    Fixture *f = *state;
    g_autofree char *add =
        g_strdup_printf("link add link low0 name %s group %u type macvtap mode private", f->name,
                        net_link_birth_group(f->name));
    test_ip_run("%s", add);
    g_autoptr(GPtrArray) swept = net_macvtap_sweep(false, NULL);
    assert_int_equal(swept->len, 1);
    assert_int_equal(if_nametoindex(f->name), 0);
    test_ip_run("%s", add);
    assert_created(&f->macvtap);
    g_autofree char *none = differences(&f->macvtap);
    assert_string_equal(none, "");
    g_autoptr(GPtrArray) ours = net_macvtap_list(NULL);
    assert_int_equal(ours->len, 1);
    assert_true(g_str_has_suffix(ours->pdata[0], " " TAG));
}

#define ON_LINK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        ON_LINK(test_create_each_mode_then_as_asked_and_usable),
        ON_LINK(test_create_three_times_then_the_second_and_third_change_nothing),
        ON_LINK(test_create_disturbed_one_then_mended),
        ON_LINK(test_create_where_it_cant_be_then_refused_and_nothing_made),
        ON_LINK(test_one_cut_off_before_its_tag_then_swept_or_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
