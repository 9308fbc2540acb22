#pragma once
#include <stdbool.h>
#include <stddef.h>

/*
 * The status feeder: a boothook that starts a small background shell in the guest. It follows
 * cloud-init's log and writes lines to the virtio-serial port "vmrun.status" (a write that nobody
 * reads blocks the feeder, never the boot). One of each boot:
 *
 *   hello UPTIME            the feeder runs; lines of before are told next, with the time at which
 * they are told UPTIME LOGLINE          a line of cloud-init.log that begins or ends a stage or
 * module, or a warning or error (cut at 1000 bytes) ssh UPTIME              ssh.service
 * (sshd.service, ssh.socket) is active; without systemd: somebody listens on port 22, told at the
 * end result JSON             /run/cloud-init/result.json in one line; missing when there is none
 *   done UPTIME STATUS      cloud-init has ended: done | degraded | error | unknown (no result
 * file); the feeder ends after it
 *
 * UPTIME is seconds with a fraction, as in /proc/uptime. The guest is free to write anything else:
 * a reader takes what it knows. Facts: cloud-init 22.4.2 cmd/main.py (result.json is written before
 * the finish line of the final stage), 24 (same lines).
 *
 * The reader below needs nothing but libc, so that the watcher can use it.
 */
#define SEED_STATUS_PORT     "vmrun.status"
#define SEED_STATUS_LINE_MAX 4096

typedef enum {
    SEED_STATUS_OTHER, /* not of the protocol */
    SEED_STATUS_HELLO,
    SEED_STATUS_STAGE_BEGIN,  /* stage is set: init-local, init-network, modules-config,
                                 modules-final */
    SEED_STATUS_STAGE_END,    /* and outcome */
    SEED_STATUS_MODULE_BEGIN, /* stage and module are set: "config-runcmd", "check-cache",
                                 "search-NoCloud" ... */
    SEED_STATUS_MODULE_END,
    SEED_STATUS_LOG, /* a warning or an error; text */
    SEED_STATUS_SSH,
    SEED_STATUS_RESULT, /* text: the JSON */
    SEED_STATUS_DONE    /* outcome; DEGRADED and UNKNOWN too */
} SeedStatusKind;

typedef enum {
    SEED_OUTCOME_SUCCESS,
    SEED_OUTCOME_WARN,
    SEED_OUTCOME_FAIL,
    SEED_OUTCOME_DEGRADED,
    SEED_OUTCOME_UNKNOWN
} SeedOutcome;

typedef struct {
    SeedStatusKind kind;
    double uptime_s; /* 0 where the line has none */
    SeedOutcome outcome;
    char stage[48];
    char module[64];
    const char *text; /* the description, log line or JSON: borrowed from the line, never NULL */
} SeedStatus;

/* One line without its end. Anything is fine; what does not fit gives OTHER. Pure, no allocation.
 */
SeedStatus seed_status_parse(const char *line);

/* The feeder's boothook, a constant text. Borrowed. */
const char *seed_feeder_text(void);
