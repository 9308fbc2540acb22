#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "driver/console_scan.h"
#include "driver/stage.h"
#include "driver/watch/journal.h"
#include "driver/watch/loop.h"

/*
 * How far the guest has come since it was switched on or rebooted: facts in (from the console, the
 * status port, the ssh probe, QEMU), events out. The stages firmware, kernel, init and network
 * follow one another; cloud-init and ssh run beside them; ready is what the machine's `ready` asks
 * for.
 */
typedef enum {
    STALL_NO_OUTPUT,
    STALL_GRUB,
    STALL_PANIC,
    STALL_EMERGENCY,
    STALL_INITRAMFS,
    STALL_NO_BOOT_DEVICE,
    STALL_UEFI_SHELL,
    STALL_BOOT_TIMEOUT,
    STALL_READY_TIMEOUT,
    STALL_N
} StallKind;

#define BOOT_ERRORS_MAX 16

struct Watch;

typedef struct {
    struct Watch *watch;
    unsigned begun, done; /* bits of Stage */
    unsigned stalls;      /* bits of StallKind that were told */
    unsigned conditions;  /* READY_* bits that are met */
    bool is_ready;        /* the ready stage was told, done or failed */
    bool is_provisioned;  /* the provision event was told */
    bool is_agent;        /* connected */
    bool has_feeder;      /* the status port spoke in this boot */
    uint64_t began_ms;    /* power on or reset */
    uint64_t reset_ms;    /* last reset, 0: none */
    uint64_t heard_ms;    /* last sign of life on the console */
    unsigned rank;        /* of the cloud-init stage in it */
    char module[128];     /* last cloud-init detail told */
    json_t *errors;       /* [{module, message}], at most BOOT_ERRORS_MAX */
    json_t *lines;        /* warnings and errors as they were logged */
    LoopTimer silence, boot_limit, ready_limit, provision_wait;
} Boot;

/* STALL_N for an unknown name. */
StallKind boot_stall_kind(const char *name);

/* past: what another watcher told already, NULL: a fresh start. */
void boot_begin(Boot *boot, struct Watch *watch, const JournalPast *past);
void boot_clear(Boot *boot);

void boot_heard(Boot *boot); /* bytes came */
void boot_sign(Boot *boot, ConsoleSign sign, const char *line);
void boot_init_seen(Boot *boot);
void boot_network(Boot *boot);
void boot_cloud_init(Boot *boot, const char *stage,
                     const char *module); /* module "": the stage itself */
/* A module failed; a later message for the same module replaces the first one. */
void boot_error(Boot *boot, const char *module, const char *message);
/* A warning or error as cloud-init logged it; the last ones are kept. */
void boot_log(Boot *boot, const char *text);
/* status: done, degraded or error. */
void boot_provisioned(Boot *boot, const char *status);
void boot_ssh_done(Boot *boot);
void boot_agent(Boot *boot, bool is_connected);
void boot_reset(Boot *boot, bool is_by_guest);
void boot_stall(Boot *boot, StallKind kind, const char *text);
