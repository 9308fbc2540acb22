#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/* Progress of long work: done and total in bytes (total 0: not known yet). Called at most ten times
 * a second, from the thread that works. Return false to cancel. */
typedef bool (*ImgProgress)(uint64_t done_bytes, uint64_t total_bytes, void *data);

/* Tells of progress, but not too often. Plain data; private to this folder. */
typedef struct {
    ImgProgress progress; /* NULL: nobody asks */
    void *data;
    gint64 last_us; /* when it was told last, monotonic */
} ImgMeter;

/* false: cancelled. is_last: told in any case. */
bool img_meter_tell(ImgMeter *meter, uint64_t done_bytes, uint64_t total_bytes, bool is_last);
