#pragma once
#include <stdbool.h>
#include <jansson.h>
#include <sys/types.h>
#include <glib.h>

/*
 * iproute2 as the other opinion: what our code made is read and disturbed by it; and watchers of
 * what changes in this network namespace.
 */

/* Output of `ip WORDS` (split at spaces), transfer full; NULL, and said, when it failed. */
char *test_ip(const char *format, ...) G_GNUC_PRINTF(1, 2);
void test_ip_run(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Output of any command, as above. */
char *test_command(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* `ip -details -json link show dev NAME`, NULL: there is none. Transfer full. */
json_t *test_ip_link(const char *name);
/* A text member of a JSON object, "" when it has none. */
const char *test_json_text(json_t *object, const char *key);

/* Everything of the namespace that a test may change: links with their alternative names,
 * addresses, routes of all tables, IPv4 and IPv6 settings. Transfer full. */
char *test_net_census(void);

/* A listener for changes of links, addresses and routes. */
int test_net_watch(void);
/* How many came since; rtnetlink notifies before it acknowledges, so nothing has to be waited for.
 */
unsigned test_net_n_changes(int fd);

/* Waits for what the kernel does by and by, from a work queue, and fails the test after 10 s: until
 * the link's operstate is this ("UP", "DOWN"); until its IPv6 address is in use. */
void test_net_await_state(const char *name, const char *state);
void test_net_await_address(const char *address);

/* One setting below /proc/sys/net/; path without that. -1: there is none. */
int test_sysctl(const char *format, ...) G_GNUC_PRINTF(1, 2);
void test_sysctl_set(const char *path, int value);
