#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "driver/stage.h"

/*
 * Events of a machine: machines/NAME/events.jsonl, one JSON object a line, appended whole in one
 * write by whoever knows (the starter, the watcher, stop). Stable and versioned:
 * {"v":1,"time":"2026-01-02T03:04:05.678Z","boot":3,"t":12.345,"type":...}. boot counts the starts
 * of this machine; t is seconds since that start was asked for (CLOCK_BOOTTIME).
 *
 * type      members
 * start     command: run|start|restart
 * stage     stage:
 * image|overlay|seed|define|boot|firmware|kernel|init|network|cloud-init|ssh|ready; state:
 * begin|done|failed; detail (text, may be missing) forward   host_addr, host_port, guest_port,
 * proto stall     kind:
 * no-output|grub|panic|emergency|initramfs|no-bootable-device|uefi-shell|boot-timeout|ready-timeout;
 * text; lines: [last console lines] provision status: done|degraded|error; errors: [{module,
 * message}]; lines: [log lines] change    what: [ports|egress|link|rates] agent     state:
 * connected|disconnected paused    reason: io-error|host; detail; resumed has no members reboot by:
 * guest|host; the stages from firmware on begin again stop      by: command|signal; grace_s end
 * reason: guest-shutdown|guest-panic|crashed|killed|stopped|lost; detail; exit_status or signal
 * (number) of QEMU where known
 *
 * Text of a guest in them is UTF-8 with what was no UTF-8 replaced; the line itself is ASCII
 * (\uXXXX). What guests can cause is bounded: above 4 MiB of events only paused, resumed and end
 * are still written.
 */

/*
 * Appends one event, making the file (0600) when there is none. members_json: a JSON object text
 * without the common members
 * ({"stage":"overlay",...}), may be "{}"; common members in it are ignored. INTERNAL: members_json
 * is no such text; else by errno (NO_SPACE ...). Not durable over a power loss. Blocks for the page
 * cache only.
 */
bool machine_event_append(int machine_dirfd, const char *type, unsigned boot,
                          uint64_t start_boottime_ms, const char *members_json, GError **error);

/*
 * Reading and following: inotify, no polling. The follower starts at `offset` (0: from the
 * beginning), a value that machine_follower_offset() once gave. The file need not exist yet, the
 * directory must (NOT_FOUND).
 */
/* The same for what happened age_ms ago, when there was no file yet. */
bool machine_event_append_late(int machine_dirfd, const char *type, unsigned boot,
                               uint64_t start_boottime_ms, uint64_t age_ms,
                               const char *members_json, GError **error);

typedef struct MachineFollower MachineFollower;
MachineFollower *machine_follower_new(const char *machine_dir, uint64_t offset, GError **error);
void machine_follower_free(MachineFollower *follower);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineFollower, machine_follower_free)
/* A descriptor to poll for POLLIN beside others. */
int machine_follower_fd(const MachineFollower *follower);
/*
 * The next whole line (without its end), transfer full; NULL: none yet (poll again), or the machine
 * was removed and everything it said was given out (out_is_gone, which is set in every case). Call
 * it until NULL before polling. Never blocks.
 */
char *machine_follower_next(MachineFollower *follower, bool *out_is_gone);
/* Where the first line begins that was not given out. */
uint64_t machine_follower_offset(const MachineFollower *follower);
