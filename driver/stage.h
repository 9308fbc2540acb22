#pragma once

/* The stages of a start, in the order in which they are shown. Plain C: the watcher knows them too.
 */
typedef enum {
    STAGE_IMAGE,
    STAGE_OVERLAY,
    STAGE_SEED,
    STAGE_DEFINE,
    STAGE_BOOT,
    STAGE_FIRMWARE,
    STAGE_KERNEL,
    STAGE_INIT,
    STAGE_NETWORK,
    STAGE_CLOUD_INIT,
    STAGE_SSH,
    STAGE_READY,
    STAGE_N
} Stage;

/* "cloud-init"; "" for a value out of range. Never NULL. */
const char *machine_stage_name(Stage stage);
