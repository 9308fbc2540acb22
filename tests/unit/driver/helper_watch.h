#pragma once
#include <stdbool.h>
#include <sys/types.h>
#include <glib.h>
#include <jansson.h>
#include "driver/event.h"

/*
 * A machine for tests of the watcher: a folder with watch.json and events.jsonl, a real QEMU (or,
 * where QEMU can't be made to end as wanted, another process) and the watcher above it. The test
 * plays the guest's side where no guest runs: it writes the serial log, listens on the status
 * socket and on a port that is the guest's ssh.
 */
typedef struct {
    char dir[64];
    char *watch_program;
    pid_t qemu_pid;
    json_t *config; /* watch.json */
    MachineFollower *follower;
    GPtrArray *seen; /* of json_t*: events so far */
    int starter_out; /* what the starter says */
} TestMachine;

/* What the process in QEMU's place is. */
typedef enum {
    TEST_QEMU_STOPPED, /* QEMU whose CPUs stand still */
    TEST_QEMU_BOOTS,   /* QEMU that boots DIR/boot.img */
    TEST_QEMU_NONE     /* a process that sleeps, and exits with 7 on SIGUSR1 */
} TestQemu;

TestMachine *test_machine_new(void);
void test_machine_free(TestMachine *machine); /* ends watcher and QEMU, removes the folder */

/* Members of watch.json that differ from the defaults: one more before start. value: stolen. */
void test_machine_set(TestMachine *machine, const char *member, json_t *value);
/* A boot sector that runs this code (at most 400 bytes), then halts; text (may be NULL) is written
 * to the first serial port before it. */
void test_machine_boot_sector(TestMachine *machine, const void *code, size_t n, const char *text);
/* Below a new watcher: starts QEMU as libvirt does (daemonized), writes watch.json, begins. more:
 * further arguments of QEMU, NULL-terminated, NULL: none. */
void test_machine_start(TestMachine *machine, TestQemu kind, const char *const *more);
/* main() of a test program: the starter's part, when argv asks for it; -1: run the tests. */
int test_machine_starter_main(int argc, char **argv);

pid_t test_machine_watcher(const TestMachine *machine); /* 0: none */
/* What QEMU answers to one command on the test's own monitor. */
void test_machine_qmp(TestMachine *machine, const char *command);

/* The next event of this type whose member has this value (NULL: any), read or waited for; fails
 * the test after 40 s. Borrowed. */
json_t *test_machine_await(TestMachine *machine, const char *type, const char *member,
                           const char *value);
/* The stage events so far and those of the next ms, as "firmware+ kernel+ firmware- ..." (+ begin,
 * - done, ! failed; details in brackets). Transfer full. */
char *test_machine_stages(TestMachine *machine, int ms);
/* Reads for ms and says whether such an event is among all those seen so far. */
bool test_machine_has(TestMachine *machine, int ms, const char *type, const char *member,
                      const char *value);
unsigned test_machine_count(TestMachine *machine, const char *type, const char *member,
                            const char *value);
const char *test_event_text(const json_t *event, const char *member); /* "" when missing */

/* Appends bytes to the serial log. */
void test_machine_serial(TestMachine *machine, const char *bytes, ssize_t n);
/* A listening status socket at DIR/s, before start; -1 on failure. */
int test_machine_listen_status(TestMachine *machine);
bool test_await_gone(pid_t pid, int ms);
/* Waits until the path exists (or not). */
bool test_await_path(const char *path, bool is_there, int ms);
