#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * Events of a machine: machines/NAME/events.jsonl, one JSON object a line, appended whole in one write by whoever
 * knows (the starter, the watcher, stop). Stable and versioned: {"v":1,"time":"2026-01-02T03:04:05.678Z","boot":3,"t":12.345,"type":...}.
 * boot counts the starts of this machine; t is seconds since that start was asked for (CLOCK_BOOTTIME).
 *
 * type      members
 * start     command: run|start|restart
 * stage     stage: image|overlay|seed|define|boot|firmware|kernel|init|network|cloud-init|ssh|ready; state: begin|done|failed; detail (text, may be missing)
 * forward   host_addr, host_port, guest_port, proto
 * stall     kind: no-output|grub|panic|emergency|initramfs|no-bootable-device|uefi-shell; text; lines: [last console lines]
 * provision status: done|degraded|error; errors: [{module, message}]; lines: [log lines]
 * agent     state: connected|disconnected
 * reboot    by: guest|host
 * stop      by: command|signal; grace_s
 * end       reason: guest-shutdown|crashed|killed|stopped|lost; detail; exit_status or signal of QEMU where known
 */
typedef enum {
    STAGE_IMAGE, STAGE_OVERLAY, STAGE_SEED, STAGE_DEFINE, STAGE_BOOT, STAGE_FIRMWARE, STAGE_KERNEL, STAGE_INIT,
    STAGE_NETWORK, STAGE_CLOUD_INIT, STAGE_SSH, STAGE_READY, STAGE_N
} Stage;
const char *machine_stage_name(Stage stage);

/* Appends; members is a jansson object text without the common members ({"stage":"overlay",...}), may be "{}". */
bool machine_event_append(int machine_dirfd, const char *type, unsigned boot, uint64_t start_boottime_ms,
                          const char *members_json, GError **error);

/* Reading and following: inotify, no polling. The follower starts at `offset` (0: from the beginning). */
typedef struct MachineFollower MachineFollower;
MachineFollower *machine_follower_new(const char *machine_dir, uint64_t offset, GError **error);
void machine_follower_free(MachineFollower *follower);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineFollower, machine_follower_free)
/* A descriptor to poll for POLLIN beside others. */
int machine_follower_fd(const MachineFollower *follower);
/* The next whole line (without its end), transfer full; NULL: none yet (poll again), or the machine was removed (out_is_gone). */
char *machine_follower_next(MachineFollower *follower, bool *out_is_gone);
uint64_t machine_follower_offset(const MachineFollower *follower);
