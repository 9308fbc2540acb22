#pragma once
#include <stddef.h>
#include <stdbool.h>

/*
 * The console scanner: bytes of a serial console in, boot facts out. Plain C without allocation
 * beyond its own struct, since the watcher uses it; a guest is hostile, so any bytes are fine.
 * Whole phrases only, from the beginning of a line on (after the kernel's time stamp or a service's
 * name): the kernel echoes its command line. Moving the cursor ends a line. Facts: run-measured.md,
 * table "where it shows"; captures in tests/unit/driver/console/.
 */
typedef enum {
    CONSOLE_NOTHING,
    CONSOLE_FIRMWARE,         /* SeaBIOS or OVMF spoke */
    CONSOLE_BOOTLOADER,       /* GRUB, syslinux */
    CONSOLE_KERNEL,           /* "Linux version" */
    CONSOLE_INIT,             /* init runs: systemd's "Welcome to", "running 'init-local'" */
    CONSOLE_NETWORK,          /* a network-online phrase */
    CONSOLE_CLOUD_INIT,       /* a cloud-init stage; text names it */
    CONSOLE_CLOUD_INIT_ERROR, /* a module failed; text names it */
    CONSOLE_CLOUD_INIT_DONE,  /* "finished at" */
    CONSOLE_LOGIN,            /* a getty's "login:" */
    CONSOLE_TINY_READY,       /* "tiny: ready" of the test guest and nothing else */
    /* stalls */
    CONSOLE_STALL_NO_BOOT_DEVICE,
    CONSOLE_STALL_GRUB, /* the grub> or grub rescue> prompt */
    CONSOLE_STALL_PANIC,
    CONSOLE_STALL_EMERGENCY,
    CONSOLE_STALL_INITRAMFS,
    CONSOLE_STALL_UEFI_SHELL,
    CONSOLE_N
} ConsoleSign;

#define CONSOLE_LINE_MAX   512
#define CONSOLE_KEEP_LINES 20

typedef struct ConsoleScan {
    char line[CONSOLE_LINE_MAX]; /* the line being collected, escapes removed, NUL-terminated */
    size_t n_line;
    char kept[CONSOLE_KEEP_LINES]
             [CONSOLE_LINE_MAX]; /* ring of the last lines that are not empty, printable only */
    unsigned n_kept;             /* ever */
    int escape;                  /* inside an escape sequence */
    bool is_cr;                  /* a carriage return came last */
    bool is_told;                /* this line gave its sign already */
    char said[CONSOLE_LINE_MAX]; /* the line of the last sign */
} ConsoleScan;

void console_scan_init(ConsoleScan *scan);
/*
 * Consumes up to n bytes, stops after the first sign; returns bytes consumed (at least 1 when n >
 * 0), *out_sign (NOTHING when all were consumed without one), *out_text the line (borrowed, valid
 * until the next call; "" without a sign).
 */
size_t console_scan_feed(ConsoleScan *scan, const char *bytes, size_t n, ConsoleSign *out_sign,
                         const char **out_text);
/* i = 0: the oldest kept line; NULL past the end. The unfinished line counts as the last. Printable
 * ASCII and bytes above it. */
const char *console_scan_kept(const ConsoleScan *scan, unsigned i);
/* "grub" ...; "" for a value out of range. */
const char *console_sign_name(ConsoleSign sign);
