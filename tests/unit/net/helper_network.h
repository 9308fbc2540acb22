#pragma once
#include "net/network.h"

/*
 * A state directory of a test, with a store id of its own (so also a folder of its own below
 * /run/vm-run), and members to put into networks. Everything is below net_test_end()'s feet.
 */
typedef struct {
    char *dir, *id;
    NetStore *store;
    GPtrArray *networks; /* opened by the helpers; closed at the end, also of a test that failed */
} TestStore;

void test_store_begin(TestStore *store);
/* Takes down what is up, ends supervisors, removes all files. */
void test_store_end(TestStore *store);

/* A spec as `networks: NAME: {...}` gives it: pairs of option and text, NULL-terminated. */
NetworkSpec *test_spec(const char *name, ...) G_GNUC_NULL_TERMINATED;
/* Defines it; fails the test when that fails. Borrowed; one handle at a time. */
NetNetwork *test_define(TestStore *store, const NetworkSpec *spec);
NetNetwork *test_open(TestStore *store, const char *name);
/* Gives the lock back, as a command that ends does. */
void test_close(TestStore *store);
/* "ST:UUID:0" with a uuid that follows from the machine's name; chosen, not put. */
NetMember *test_member(TestStore *store, NetNetwork *network, const char *machine);
char *test_uuid(const char *machine);

void test_up(NetNetwork *network);
void test_put(NetNetwork *network, const NetMember *member);
/* Lines of a check; transfer full. */
GPtrArray *test_check(NetNetwork *network);

/* What the name resolves to at `server`, "rcode 3" for none: "10.0.0.5,10.0.0.6", sorted. qtype 1,
 * 28, 12. "silence": no answer within the time, "refused": nobody listens. Transfer full. */
char *test_dns(const BaseIp *server, const char *name, unsigned qtype, unsigned timeout_ms);

/* Counts what the kernel tells of links, addresses and routes of this namespace from now on. */
int test_rtnl_listen(void);
unsigned test_rtnl_count(int fd);
/* Waits until nothing has come for 1.2 s: the kernel tells of carriers once a second. */
void test_rtnl_settle(int fd);

/* Runs a program; fails the test when it does not end with 0. Output: transfer full. */
char *test_run(const char *program, ...) G_GNUC_NULL_TERMINATED;
