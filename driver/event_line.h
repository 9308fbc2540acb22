#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "driver/stage.h"

/*
 * One line of events.jsonl (driver/event.h says what it holds): how it is made and appended. Plain
 * C with jansson only, since the watcher writes most of them.
 */
#define EVENT_FILE "events.jsonl"

/* The longest line that is written, its end included. */
#define EVENT_LINE_MAX 65536

typedef struct {
    unsigned boot;     /* starts of the machine so far */
    uint64_t start_ms; /* when this one was asked for, CLOCK_BOOTTIME */
    uint64_t age_ms;   /* how long ago it happened: held back until there was a file */
} EventStamp;

/* CLOCK_BOOTTIME in milliseconds. */
uint64_t event_clock_ms(void);

/*
 * Text of a guest as a JSON string: bytes that are not UTF-8 become U+FFFD, NUL included; cut after
 * `n` bytes. NULL only without memory. The caller owns the reference.
 */
json_t *event_text(const char *bytes, size_t n);

/*
 * Appends {"v":1,"time":...,"boot":...,"t":...,"type":type, members...} to EVENT_FILE in dirfd: one
 * write with O_APPEND, pure ASCII. A torn line that a full disk left before is ended first.
 * is_created: makes the file (0600) when it is missing; without it a missing file is ENOENT.
 * members: an object, borrowed, NULL: none. Returns 0 or an errno value (EINVAL: too long or not an
 * object). Blocks for the disk cache only.
 */
int event_line_append(int dirfd, bool is_created, const EventStamp *stamp, const char *type,
                      json_t *members);
