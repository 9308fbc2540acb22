#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <jansson.h>
#include "driver/event_line.h"

/* What DIR/watch.json says (driver/watch.h). Texts are borrowed from `json`. */
#define WATCH_FILE      "watch.json"
#define WATCH_LOCK_FILE "watch.lock"

/* The same numbers as SPEC_READY_* of schemas/machine_spec.h, which the program may not include
 * (GLib). */
enum { READY_BOOT = 1, READY_SSH = 2, READY_CLOUD_INIT = 4, READY_AGENT = 8 };

typedef struct {
    json_t *json; /* owned */
    const char *name;
    EventStamp stamp;
    pid_t qemu_pid;
    uint64_t qemu_start; /* clock ticks since boot */
    const char *qmp, *serial_log, *status, *ssh_addr;
    uint16_t ssh_port;
    uint64_t log_limit_bytes, log_offset;
    bool has_agent, wants_cloud_init;
    uint64_t stall_ms, boot_ms, ready_ms;
    unsigned ready;     /* READY_* */
    char **end_command; /* owned, NULL-terminated; NULL: none */
} WatchConfig;

/* Loads WATCH_FILE of dirfd. On failure: false, and the reason in `why`. */
bool watch_config_load(WatchConfig *config, int dirfd, char *why, size_t n_why);
void watch_config_clear(WatchConfig *config);
