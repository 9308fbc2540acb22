#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "driver/console_scan.h"
#include "driver/watch/loop.h"

/*
 * The serial log: read as it grows (inotify), bounded, also over truncation and replacement. The
 * same inotify instance looks at the machine's directory: watch.json vanishing means that the
 * machine is being removed. Where the user has no inotify instance left
 * (fs.inotify.max_user_instances), twice a second is looked.
 */
struct Watch;

typedef struct {
    struct Watch *watch;
    LoopSource source;
    LoopTimer more; /* the rest of a large piece; or the next look without inotify */
    int inotify_fd; /* -1: none to be had */
    int file_wd;    /* -1: the log is not there yet */
    int fd;
    ino_t inode;
    uint64_t offset;
    ConsoleScan scan;
} Console;

/* offset: where this boot's output begins; UINT64_MAX: at what is written from now on. */
void console_begin(Console *console, struct Watch *watch, const char *dir, uint64_t offset);
void console_end(Console *console);
