#include "net/tap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/error.h"
#include "base/fd.h"
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/netns.h"

#define UUID "1b4e28ba-2fa1-5d2b-883f-b9a761bde3fb"

static bool has_flag(json_t *link, const char *flag)
{
    size_t i;
    json_t *value;
    bool is_found = false;
    json_array_foreach(json_object_get(link, "flags"), i, value)
    {
        is_found = is_found || !strcmp(json_string_value(value), flag);
    }
    return is_found;
}

typedef struct {
    char *name, *tag;
    NetTap tap;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->name = net_tap_name(UUID, 0);
    f->tag = net_tap_owner_tag(UUID, 0);
    f->tap = (NetTap){.name = f->name,
                      .owner_tag = f->tag,
                      .bridge = "br0",
                      .mac = "52:54:00:12:34:56",
                      .owner_uid = 1234,
                      .owner_gid = 4321};
    test_ip_run("link add br0 type bridge");
    test_ip_run("link set br0 mtu 1400 up");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    net_tap_remove(f->name, f->tag, NULL);
    test_ip_run("link del br0");
    g_free(f->name);
    g_free(f->tag);
    g_free(f);
    return if_nametoindex("br0") == 0 ? 0 : 1;
}

static void assert_created(const NetTap *tap)
{
    g_autoptr(GError) error = NULL;
    if (!net_tap_create(tap, &error)) {
        fail_msg("%s", error->message);
    }
}

static void assert_refused(const NetTap *tap, VmError code)
{
    g_autoptr(GError) error = NULL;
    assert_false(net_tap_create(tap, &error));
    if (!g_error_matches(error, VM_ERROR, (int)code)) {
        fail_msg("code %d, expected %d: %s", error->code, (int)code, error->message);
    }
    for (const char *c = error->message; *c; c++) {
        assert_true(*c >= ' ' && *c < 0x7f);
    }
}

static void test_name_and_tag_of_id_then_steady_short_and_distinct(void **state)
{
    (void)state;
    g_autofree char *name = net_tap_name(UUID, 0);
    g_autofree char *again = net_tap_name(UUID, 0);
    g_autofree char *second = net_tap_name(UUID, 1);
    g_autofree char *tag = net_tap_owner_tag(UUID, 1);
    assert_int_equal(strlen(name), IFNAMSIZ - 1);
    assert_true(g_str_has_prefix(name, "vmt"));
    assert_string_equal(name, again);
    assert_string_not_equal(name, second);
    assert_string_equal(tag, "vm-run:" UUID ":1");
}

static void test_create_then_everything_as_asked(void **state)
{
    Fixture *f = *state;
    assert_created(&f->tap);
    json_t *link = test_ip_link(f->name);
    json_t *data = json_object_get(json_object_get(link, "linkinfo"), "info_data");
    assert_string_equal(test_json_text(link, "master"), "br0");
    assert_string_equal(test_json_text(link, "address"), "fe:54:00:12:34:56");
    assert_string_equal(test_json_text(link, "inet6_addr_gen_mode"), "none");
    assert_string_equal(json_string_value(json_array_get(json_object_get(link, "altnames"), 0)),
                        f->tag);
    assert_int_equal(json_integer_value(json_object_get(link, "mtu")), 1400);
    assert_true(has_flag(link, "UP"));
    assert_string_equal(test_json_text(data, "type"), "tap");
    assert_true(json_is_true(json_object_get(data, "persist")));
    assert_true(json_is_false(json_object_get(data, "multi_queue")));
    assert_int_equal(json_integer_value(json_object_get(data, "user")), 1234);
    assert_int_equal(json_integer_value(json_object_get(data, "group")), 4321);
    json_decref(link);
}

static void test_create_again_then_no_change_at_all(void **state)
{
    Fixture *f = *state;
    autofd int watch = test_net_watch();
    assert_created(&f->tap);
    test_net_await_state(f->name, "DOWN"); /* its descriptor is closed: no carrier */
    test_net_await_state("br0", "DOWN");
    test_net_n_changes(watch);
    assert_created(&f->tap);
    assert_int_equal(test_net_n_changes(watch), 0);
    test_ip_run("link set br0 alias x"); /* the watch does see changes */
    assert_true(test_net_n_changes(watch) > 0);
}

static void test_create_over_disturbed_one_then_only_that_is_mended(void **state)
{
    Fixture *f = *state;
    assert_created(&f->tap);
    unsigned index = if_nametoindex(f->name);
    g_autofree char *down = g_strdup_printf("link set %s down nomaster mtu 1300", f->name);
    test_ip_run("%s", down);
    f->tap.owner_uid = 77;
    f->tap.mac = "52:54:00:aa:bb:cc";
    assert_created(&f->tap);
    assert_int_equal(if_nametoindex(f->name), index); /* mended, not made anew */
    json_t *link = test_ip_link(f->name);
    json_t *data = json_object_get(json_object_get(link, "linkinfo"), "info_data");
    assert_string_equal(test_json_text(link, "master"), "br0");
    assert_string_equal(test_json_text(link, "address"), "fe:54:00:aa:bb:cc");
    assert_int_equal(json_integer_value(json_object_get(link, "mtu")), 1400);
    assert_int_equal(json_integer_value(json_object_get(data, "user")), 77);
    json_decref(link);
}

static void test_create_name_of_foreign_link_then_untouched(void **state)
{
    Fixture *f = *state;
    g_autofree char *add = g_strdup_printf("tuntap add %s mode tap", f->name);
    g_autofree char *alt =
        g_strdup_printf("link property add dev %s altname vm-run:other:0", f->name);
    g_autofree char *del = g_strdup_printf("link del %s", f->name);
    test_ip_run("%s", add);
    test_ip_run("%s", alt);
    unsigned index = if_nametoindex(f->name);
    autofd int watch = test_net_watch();
    g_autoptr(GError) error = NULL;
    assert_refused(&f->tap, VM_ERROR_EXISTS);
    assert_false(net_tap_remove(f->name, f->tag, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_int_equal(test_net_n_changes(watch), 0);
    assert_int_equal(if_nametoindex(f->name), index);
    test_ip_run("%s", del);
}

static void test_create_tag_on_another_link_then_nothing_made(void **state)
{
    Fixture *f = *state;
    test_ip_run("link add vx0 type veth peer name vx1");
    g_autofree char *alt = g_strdup_printf("link property add dev vx0 altname %s", f->tag);
    test_ip_run("%s", alt);
    assert_refused(&f->tap, VM_ERROR_EXISTS);
    assert_int_equal(if_nametoindex(f->name), 0);
    assert_true(net_tap_remove(f->name, f->tag, NULL)); /* a veth is no tap of ours */
    assert_int_not_equal(if_nametoindex("vx0"), 0);
    test_ip_run("link del vx0");
}

static void test_create_and_remove_then_foreign_port_of_bridge_untouched(void **state)
{
    Fixture *f = *state;
    test_ip_run("link add vx0 type veth peer name vx1");
    test_ip_run("link set vx0 master br0 up");
    g_autofree char *before = test_ip("-details -json link show dev vx0");
    assert_created(&f->tap);
    assert_true(net_tap_remove(f->name, f->tag, NULL));
    g_autofree char *after = test_ip("-details -json link show dev vx0");
    assert_string_equal(before, after);
    test_ip_run("link del vx0");
}

static void test_create_without_bridge_then_not_found_and_nothing_made(void **state)
{
    Fixture *f = *state;
    test_ip_run("link add vx0 type veth peer name vx1");
    const char *const names[] = {"none", "vx0", "lo"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        f->tap.bridge = names[i];
        assert_refused(&f->tap, VM_ERROR_NOT_FOUND);
    }
    assert_int_equal(if_nametoindex(f->name), 0);
    test_ip_run("link del vx0");
}

static void test_create_hostile_words_then_refused_before_any_effect(void **state)
{
    Fixture *f = *state;
    const char *const names[] = {"",      ".",        "..",   "a/b", "../x",
                                 "a b",   "vmt%d",    "a\nb", "a:b", "sixteen-letters-",
                                 "\x1b[", "\xff\xfe", "a\x7f"};
    const char *const tags[] = {"", "x", "vm-run:a b", "vm-run:\x1b", "vm-run:/x", "vm-run:%d"};
    const char *const macs[] = {"",
                                "52:54:00:12:34",
                                "52:54:00:12:34:56:78",
                                "53:54:00:12:34:56",
                                "zz:54:00:12:34:56",
                                "52:54:00:12:34:5\n"};
    autofd int watch = test_net_watch();
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        NetTap bad_name = f->tap, bad_bridge = f->tap;
        bad_name.name = names[i];
        bad_bridge.bridge = names[i];
        assert_refused(&bad_name, VM_ERROR_NET);
        assert_refused(&bad_bridge, VM_ERROR_NET);
        bool is_bridge = true;
        assert_true(net_bridge_probe(names[i], &is_bridge, NULL));
        assert_false(is_bridge);
        assert_false(net_tap_remove(names[i], f->tag, NULL));
    }
    for (gsize i = 0; i < G_N_ELEMENTS(tags); i++) {
        NetTap bad = f->tap;
        bad.owner_tag = tags[i];
        assert_refused(&bad, VM_ERROR_NET);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(macs); i++) {
        NetTap bad = f->tap;
        bad.mac = macs[i];
        assert_refused(&bad, VM_ERROR_NET);
    }
    g_autofree char *long_tag = g_strdup_printf("vm-run:%0200d", 1);
    f->tap.owner_tag = long_tag;
    assert_refused(&f->tap, VM_ERROR_NET);
    f->tap.owner_tag = f->tag;
    assert_int_equal(test_net_n_changes(watch), 0);
}

static void test_create_owner_change_while_open_then_busy_and_untouched(void **state)
{
    Fixture *f = *state;
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    assert_created(&f->tap);
    autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC); /* as QEMU holds it */
    g_strlcpy(request.ifr_name, f->name, sizeof request.ifr_name);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    assert_created(&f->tap); /* nothing differs: fine while it runs */
    f->tap.owner_uid = 5;
    assert_refused(&f->tap, VM_ERROR_BUSY);
    json_t *link = test_ip_link(f->name);
    json_t *data = json_object_get(json_object_get(link, "linkinfo"), "info_data");
    assert_int_equal(json_integer_value(json_object_get(data, "user")), 1234);
    json_decref(link);
}

static void test_remove_present_absent_or_renamed_then_gone(void **state)
{
    Fixture *f = *state;
    g_autofree char *down = g_strdup_printf("link set %s down", f->name);
    g_autofree char *rename = g_strdup_printf("link set %s name renamed", f->name);
    assert_true(net_tap_remove(f->name, f->tag, NULL));
    assert_created(&f->tap);
    assert_true(net_tap_remove(f->name, f->tag, NULL));
    assert_int_equal(if_nametoindex(f->name), 0);
    assert_created(&f->tap);
    test_ip_run("%s", down);
    test_ip_run("%s", rename);
    assert_int_not_equal(if_nametoindex("renamed"), 0);
    assert_true(net_tap_remove(f->name, f->tag, NULL));
    assert_int_equal(if_nametoindex("renamed"), 0);
}

static void test_list_then_ours_only(void **state)
{
    Fixture *f = *state;
    g_autofree char *name = net_tap_name(UUID, 1);
    g_autofree char *tag = net_tap_owner_tag(UUID, 1);
    g_autofree char *expected = g_strdup_printf("%s %s", name, tag);
    NetTap second = f->tap;
    second.name = name;
    second.owner_tag = tag;
    test_ip_run("tuntap add foreign0 mode tap");
    assert_created(&f->tap);
    assert_created(&second);
    g_autoptr(GPtrArray) taps = net_tap_list(NULL);
    assert_int_equal(taps->len, 2);
    assert_string_equal(taps->pdata[1], expected);
    assert_true(net_tap_remove(name, tag, NULL));
    test_ip_run("link del foreign0");
}

static void test_create_by_two_processes_at_once_then_one_tap(void **state)
{
    Fixture *f = *state;
    pid_t pids[8];
    for (gsize i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            g_autoptr(GError) error = NULL;
            bool is_done = net_tap_create(&f->tap, &error);
            _exit(is_done || error->domain == VM_ERROR ? 0 : 1);
        }
    }
    for (gsize i = 0; i < G_N_ELEMENTS(pids); i++) {
        int status = 1;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_created(&f->tap); /* whatever they left can be completed, and is one link */
    g_autoptr(GPtrArray) taps = net_tap_list(NULL);
    assert_int_equal(taps->len, 1);
}

static json_t *port_of(json_t *link)
{
    return json_object_get(json_object_get(link, "linkinfo"), "info_slave_data");
}

static void test_create_then_port_guarded_learning_and_hairpin_as_asked(void **state)
{
    Fixture *f = *state;
    for (int is_hairpin = 0; is_hairpin < 2; is_hairpin++) {
        f->tap.is_hairpin = is_hairpin;
        assert_created(&f->tap); /* live, the second time */
        json_t *link = test_ip_link(f->name);
        assert_int_equal(json_is_true(json_object_get(port_of(link), "hairpin")), is_hairpin);
        assert_true(json_is_true(json_object_get(port_of(link), "guard")));
        assert_true(json_is_true(json_object_get(port_of(link), "learning")));
        assert_true(json_is_false(json_object_get(port_of(link), "isolated")));
        assert_true(json_is_false(json_object_get(port_of(link), "neigh_suppress")));
        json_decref(link);
    }
    test_ip_run("link set %s type bridge_slave isolated on guard off learning off", f->name);
    assert_created(&f->tap);
    json_t *link = test_ip_link(f->name);
    assert_true(json_is_true(json_object_get(port_of(link), "guard")));
    assert_true(json_is_true(json_object_get(port_of(link), "learning")));
    assert_true(json_is_false(json_object_get(port_of(link), "isolated")));
    json_decref(link);
}

static void test_create_link_down_then_made_but_down_and_changes_live(void **state)
{
    Fixture *f = *state;
    f->tap.is_link_down = true;
    assert_created(&f->tap);
    json_t *down = test_ip_link(f->name);
    assert_string_equal(test_json_text(down, "master"), "br0");
    assert_false(has_flag(down, "UP"));
    json_decref(down);
    unsigned index = if_nametoindex(f->name);
    for (int is_down = 0; is_down < 2; is_down++) {
        f->tap.is_link_down = is_down;
        assert_created(&f->tap);
        json_t *link = test_ip_link(f->name);
        assert_int_equal(has_flag(link, "UP"), !is_down);
        json_decref(link);
    }
    assert_int_equal(if_nametoindex(f->name), index);
    test_net_await_state("br0", "DOWN");
    autofd int watch = test_net_watch();
    assert_created(&f->tap);
    assert_int_equal(test_net_n_changes(watch), 0);
}

/* As libvirt opens n queues of it; -1: it can't. */
static int open_queue(const char *name, bool is_multi)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    request.ifr_flags = (short)(request.ifr_flags | (is_multi ? IFF_MULTI_QUEUE : 0));
    autofd int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    g_strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    return ioctl(fd, TUNSETIFF, &request) ? -1 : base_fd_steal(&fd);
}

static void test_create_with_queues_then_as_many_open_and_short_txqlen(void **state)
{
    Fixture *f = *state;
    f->tap.n_queues = 4;
    assert_created(&f->tap);
    json_t *link = test_ip_link(f->name);
    assert_int_equal(json_integer_value(json_object_get(link, "txqlen")), 32);
    json_decref(link);
    autofd int single = open_queue(f->name, false);
    assert_int_equal(single, -1);
    autofd int first = open_queue(f->name, true);
    autofd int second = open_queue(f->name, true);
    assert_true(first >= 0 && second >= 0);
    assert_created(&f->tap);

    f->tap.n_queues = 1; /* another kind, while it is open */
    assert_refused(&f->tap, VM_ERROR_BUSY);
    base_fd_close(&first);
    base_fd_close(&second);
    assert_created(&f->tap); /* made again */
    autofd int only = open_queue(f->name, false);
    assert_true(only >= 0);
    g_autoptr(GPtrArray) taps = net_tap_list(NULL);
    assert_int_equal(taps->len, 1);
}

static void test_bridge_probe_then_kind_decides(void **state)
{
    (void)state;
    bool is_bridge = false;
    assert_true(net_bridge_probe("br0", &is_bridge, NULL));
    assert_true(is_bridge);
    assert_true(net_bridge_probe("lo", &is_bridge, NULL));
    assert_false(is_bridge);
}

#define IN_BRIDGE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    if (!test_netns_enter()) {
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_name_and_tag_of_id_then_steady_short_and_distinct),
        IN_BRIDGE(test_create_then_everything_as_asked),
        IN_BRIDGE(test_create_again_then_no_change_at_all),
        IN_BRIDGE(test_create_over_disturbed_one_then_only_that_is_mended),
        IN_BRIDGE(test_create_name_of_foreign_link_then_untouched),
        IN_BRIDGE(test_create_tag_on_another_link_then_nothing_made),
        IN_BRIDGE(test_create_and_remove_then_foreign_port_of_bridge_untouched),
        IN_BRIDGE(test_create_without_bridge_then_not_found_and_nothing_made),
        IN_BRIDGE(test_create_hostile_words_then_refused_before_any_effect),
        IN_BRIDGE(test_create_owner_change_while_open_then_busy_and_untouched),
        IN_BRIDGE(test_remove_present_absent_or_renamed_then_gone),
        IN_BRIDGE(test_list_then_ours_only),
        IN_BRIDGE(test_create_by_two_processes_at_once_then_one_tap),
        IN_BRIDGE(test_create_then_port_guarded_learning_and_hairpin_as_asked),
        IN_BRIDGE(test_create_link_down_then_made_but_down_and_changes_live),
        IN_BRIDGE(test_create_with_queues_then_as_many_open_and_short_txqlen),
        IN_BRIDGE(test_bridge_probe_then_kind_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
