#include "tests/unit/net/helper_ip.h"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/child.h"
#include "base/fd.h"

static char *run(const char *first, const char *words)
{
    g_auto(GStrv) rest = g_strsplit(words, " ", -1);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_autoptr(GError) error = NULL;
    char *out = NULL;
    BaseChild child = BASE_CHILD_INIT;
    if (first) {
        g_ptr_array_add(argv, (gpointer)first);
    }
    for (char **word = rest; *word; word++) {
        if (**word) {
            g_ptr_array_add(argv, *word);
        }
    }
    g_ptr_array_add(argv, NULL);
    child.argv = (const char *const *)argv->pdata;
    if (!base_child_run(&child, &out, NULL, &error)) {
        print_message("%s %s: %s\n", first ? first : "", words, error->message);
    }
    return out;
}

char *test_ip(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *words = g_strdup_vprintf(format, args);
    va_end(args);
    return run("ip", words);
}

void test_ip_run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *words = g_strdup_vprintf(format, args);
    va_end(args);
    g_free(run("ip", words));
}

char *test_command(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *words = g_strdup_vprintf(format, args);
    va_end(args);
    return run(NULL, words);
}

json_t *test_ip_link(const char *name)
{
    g_autofree char *text = test_ip("-details -json link show dev %s", name);
    json_t *list = json_loads(text ? text : "", 0, NULL);
    json_t *link = json_incref(json_array_get(list, 0));
    json_decref(list);
    return link;
}

const char *test_json_text(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void add_output(GString *to, char *text)
{
    g_string_append(to, text ? text : "?\n");
    g_free(text);
}

char *test_net_census(void)
{
    GString *all = g_string_new(NULL);
    add_output(all, test_ip("-o link show"));
    add_output(all, test_ip("-o address show"));
    add_output(all, test_ip("-4 route show table all"));
    add_output(all, test_ip("-6 route show table all"));
    add_output(all, test_command("sysctl -N -a --pattern ^net.ipv[46].conf"));
    add_output(all, test_command("sysctl -a --pattern forwarding|accept_ra$|route_localnet"));
    return g_string_free(all, FALSE);
}

int test_net_watch(void)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK,
                               .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                            RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE |
                                            RTMGRP_IPV4_RULE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    return fd;
}

unsigned test_net_n_changes(int fd)
{
    char buffer[16384];
    unsigned n = 0;
    while (recv(fd, buffer, sizeof buffer, 0) > 0) {
        n++;
    }
    return n;
}

static bool has_state(const char *name, const char *state)
{
    json_t *link = test_ip_link(name);
    bool has = !strcmp(test_json_text(link, "operstate"), state);
    json_decref(link);
    return has;
}

static bool has_address(const char *address, const char *unused)
{
    (void)unused;
    g_autofree char *routes = test_ip("-6 route show table local");
    g_autofree char *wanted = g_strdup_printf("local %s ", address);
    return routes && strstr(routes, wanted);
}

static void await(bool (*has)(const char *what, const char *state), const char *what,
                  const char *state)
{
    gint64 end_us = g_get_monotonic_time() + 10L * G_USEC_PER_SEC;
    autofd int watch = test_net_watch();
    while (!has(what, state)) {
        struct pollfd event = {.fd = watch, .events = POLLIN};
        assert_true(g_get_monotonic_time() < end_us);
        poll(&event, 1, 1000);
        test_net_n_changes(watch);
    }
}

void test_net_await_state(const char *name, const char *state)
{
    await(has_state, name, state);
}

void test_net_await_address(const char *address)
{
    await(has_address, address, NULL);
}

static int open_sysctl(const char *path, int flags)
{
    g_autofree char *whole = g_strconcat("/proc/sys/net/", path, NULL);
    return open(whole, flags | O_CLOEXEC);
}

int test_sysctl(const char *format, ...)
{
    char text[32] = "";
    va_list args;
    va_start(args, format);
    g_autofree char *path = g_strdup_vprintf(format, args);
    va_end(args);
    autofd int fd = open_sysctl(path, O_RDONLY);
    return fd >= 0 && read(fd, text, sizeof text - 1) > 0 ? (int)g_ascii_strtoll(text, NULL, 10)
                                                          : -1;
}

void test_sysctl_set(const char *path, int value)
{
    char text[32];
    autofd int fd = open_sysctl(path, O_WRONLY);
    int n = g_snprintf(text, sizeof text, "%d", value);
    assert_true(fd >= 0 && write(fd, text, (size_t)n) == n);
}
