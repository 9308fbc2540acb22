#include "tests/unit/net/helper_network.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/rtnetlink.h>
#include <cmocka.h>
#include "base/child.h"
#include "base/dir.h"
#include "net/network_internal.h"
#include "net/tap.h"

void test_store_begin(TestStore *store)
{
    static int n;
    GError *error = NULL;
    store->dir = g_strdup("/tmp/vm-net-test-XXXXXX");
    assert_non_null(g_mkdtemp_full(store->dir, 0711));
    g_autofree char *text = g_strdup_printf("%s-%d", store->dir, n++);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    store->id = g_strndup(hash, 8);
    store->networks = g_ptr_array_new_with_free_func((GDestroyNotify)net_network_close);
    store->store = net_store_open(store->dir, store->id, &error);
    assert_null(error);
    assert_non_null(store->store);
}

static bool nobody(const char *uuid, void *data)
{
    (void)uuid;
    (void)data;
    return false;
}

void test_store_end(TestStore *store)
{
    static const NetGcMachines none = {nobody, nobody, NULL};
    GError *error = NULL;
    test_close(store);
    GPtrArray *taps = net_tap_list(NULL); /* of a test that failed */
    for (guint i = 0; taps && i < taps->len; i++) {
        g_auto(GStrv) words = g_strsplit(taps->pdata[i], " ", 2);
        net_tap_remove(words[0], words[1], NULL);
    }
    g_ptr_array_unref(taps);
    char **names = net_store_names(store->store, NULL);
    for (char **name = names; *name; name++) { /* kept ones too */
        NetNetwork *network = net_network_open(store->store, *name, 5000, NULL);
        if (network) {
            network->record->is_kept = false;
            net_record_save(network->record, network->dirfd, NULL);
            net_network_close(network);
        }
    }
    g_strfreev(names);
    GPtrArray *texts = net_store_gc(store->store, &none, false, &error);
    assert_null(error);
    g_ptr_array_unref(texts);
    net_store_close(store->store);
    assert_true(base_dir_remove_tree(AT_FDCWD, store->dir, &error));
    g_ptr_array_unref(store->networks);
    g_free(store->dir);
    g_free(store->id);
}

NetworkSpec *test_spec(const char *name, ...)
{
    g_autoptr(BaseReport) report = base_report_new();
    NetworkSpec *spec = spec_network_new();
    spec->name = g_strdup(name);
    va_list arguments;
    va_start(arguments, name);
    for (const char *option; (option = va_arg(arguments, const char *));) {
        const char *text = va_arg(arguments, const char *);
        assert_true(spec_network_set(spec, option, text, text, report));
    }
    va_end(arguments);
    spec_network_finish(spec, report);
    if (base_report_n_errors(report)) {
        fail_msg("%s", base_report_item(report, 0)->what);
    }
    return spec;
}

NetNetwork *test_define(TestStore *store, const NetworkSpec *spec)
{
    GError *error = NULL;
    NetNetwork *network = net_network_define(store->store, spec, 5000, NULL, &error);
    if (!network) {
        fail_msg("define '%s': %s", spec->name, error ? error->message : "no error");
    }
    g_ptr_array_add(store->networks, network);
    return network;
}

void test_close(TestStore *store)
{
    g_ptr_array_set_size(store->networks, 0);
}

NetNetwork *test_open(TestStore *store, const char *name)
{
    GError *error = NULL;
    NetNetwork *network = net_network_open(store->store, name, 5000, &error);
    if (!network) {
        fail_msg("open '%s': %s", name, error ? error->message : "no error");
    }
    g_ptr_array_add(store->networks, network);
    return network;
}

void test_up(NetNetwork *network)
{
    GError *error = NULL;
    if (!net_network_up(network, &error)) {
        fail_msg("up: %s", error->message);
    }
}

void test_put(NetNetwork *network, const NetMember *member)
{
    GError *error = NULL;
    if (!net_network_put_member(network, member, &error)) {
        fail_msg("put: %s", error->message);
    }
}

GPtrArray *test_check(NetNetwork *network)
{
    GError *error = NULL;
    GPtrArray *lines = g_ptr_array_new_with_free_func(g_free);
    if (!net_network_check(network, false, lines, NULL, &error)) {
        fail_msg("check: %s", error->message);
    }
    return lines;
}

/* --- DNS -------------------------------------------------------------------------------------- */

static size_t write_name(uint8_t *to, const char *name)
{
    size_t n = 0;
    g_auto(GStrv) labels = g_strsplit(name, ".", -1);
    for (char **label = labels; *label; label++) {
        to[n++] = (uint8_t)strlen(*label);
        memcpy(to + n, *label, strlen(*label));
        n += strlen(*label);
    }
    to[n++] = 0;
    return n;
}

/* One name at `at`; where it ends. */
static size_t read_name(const uint8_t *data, size_t n, size_t at, GString *out)
{
    size_t end = 0;
    for (int hops = 0; at < n && hops < 64; hops++) {
        if (data[at] >= 0xc0) {
            end = end ? end : at + 2;
            at = (size_t)(data[at] & 0x3f) << 8 | data[at + 1];
            continue;
        }
        if (data[at] == 0) {
            return end ? end : at + 1;
        }
        g_string_append_printf(out, "%s%.*s", out->len ? "." : "", data[at], data + at + 1);
        at += data[at] + 1u;
    }
    return n;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *read_answers(const uint8_t *data, size_t n, size_t n_question)
{
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    unsigned n_answers = (unsigned)data[6] << 8 | data[7];
    size_t at = n_question;
    for (unsigned i = 0; i < n_answers && at + 12 <= n; i++) {
        g_autoptr(GString) ignored = g_string_new(NULL);
        at = read_name(data, n, at, ignored);
        unsigned type = (unsigned)data[at] << 8 | data[at + 1];
        size_t n_data = (size_t)data[at + 8] << 8 | data[at + 9];
        at += 10;
        if (type == 12) {
            GString *name = g_string_new(NULL);
            read_name(data, n, at, name);
            g_ptr_array_add(texts, g_string_free(name, FALSE));
        } else {
            BaseIp ip = {.n_bytes = (uint8_t)n_data};
            char text[BASE_IP_TEXT_BYTES];
            memcpy(ip.bytes, data + at, MIN(n_data, sizeof ip.bytes));
            g_ptr_array_add(texts, g_strdup(base_ip_format(&ip, text)));
        }
        at += n_data;
    }
    g_ptr_array_sort(texts, compare_texts);
    g_ptr_array_add(texts, NULL);
    return data[3] & 15 ? g_strdup_printf("rcode %d", data[3] & 15)
                        : g_strjoinv(",", (char **)texts->pdata);
}

static int connect_dns(const BaseIp *server)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
    bool is_4 = server->n_bytes == 4;
    memcpy(&in4.sin_addr, server->bytes, 4);
    memcpy(&in6.sin6_addr, server->bytes, 16);
    int fd = socket(is_4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, is_4 ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6,
                is_4 ? sizeof in4 : sizeof in6)) {
        close(fd);
        return -1;
    }
    return fd;
}

char *test_dns(const BaseIp *server, const char *name, unsigned qtype, unsigned timeout_ms)
{
    uint8_t query[512] = {1, 2, 1, 0, 0, 1}, answer[2048];
    size_t n = 12 + write_name(query + 12, name);
    const uint8_t tail[4] = {0, (uint8_t)qtype, 0, 1};
    memcpy(query + n, tail, sizeof tail);
    n += sizeof tail;
    int fd = connect_dns(server);
    struct pollfd in = {.fd = fd, .events = POLLIN};
    char *result = NULL;
    if (fd < 0 || send(fd, query, n, 0) < 0) {
        result = g_strdup("refused");
    } else if (poll(&in, 1, (int)timeout_ms) == 0) {
        result = g_strdup("silence");
    } else {
        ssize_t n_read = recv(fd, answer, sizeof answer, 0);
        result =
            n_read >= (ssize_t)n ? read_answers(answer, (size_t)n_read, n) : g_strdup("refused");
    }
    close(fd);
    return result;
}

int test_rtnl_listen(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK,
                                  .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR |
                                               RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE |
                                               RTMGRP_IPV6_ROUTE};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

void test_rtnl_settle(int fd)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};
    while (poll(&in, 1, 1200) > 0) {
        test_rtnl_count(fd);
    }
}

unsigned test_rtnl_count(int fd)
{
    char message[8192];
    unsigned n = 0;
    while (recv(fd, message, sizeof message, 0) > 0) {
        n++;
    }
    return n;
}

char *test_uuid(const char *machine)
{
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, machine, -1);
    return g_strdup_printf("%.8s-%.4s-5%.3s-a%.3s-%.12s", hash, hash + 8, hash + 12, hash + 16,
                           hash + 20);
}

NetMember *test_member(TestStore *store, NetNetwork *network, const char *machine)
{
    GError *error = NULL;
    g_autofree char *uuid = test_uuid(machine);
    NetMember *member = net_member_new();
    member->owner = g_strdup_printf("%s:%s:0", store->id, uuid);
    member->machine = g_strdup(machine);
    member->network = g_strdup(network->record->name);
    member->bridge = g_strdup(network->record->bridge);
    if (!net_network_choose(network, member, &error)) {
        fail_msg("choose for '%s': %s", machine, error->message);
    }
    return member;
}

char *test_run(const char *program, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    g_ptr_array_add(argv, (char *)program);
    va_list arguments;
    va_start(arguments, program);
    for (char *word; (word = va_arg(arguments, char *));) {
        g_ptr_array_add(argv, word);
    }
    va_end(arguments);
    g_ptr_array_add(argv, NULL);
    BaseChild child = BASE_CHILD_INIT;
    child.argv = (const char *const *)argv->pdata;
    child.timeout_ms = 30000;
    GError *error = NULL;
    char *output = NULL;
    if (!base_child_run(&child, &output, NULL, &error)) {
        fail_msg("%s: %s", program, error->message);
    }
    return output;
}
