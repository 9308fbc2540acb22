#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <glib.h>
#include "driver/event.h"

/*
 * The stages of a start, shown as they pass: on a terminal one live line (stage, detail, seconds)
 * above which finished stages are listed; elsewhere one plain line a finished stage. A stage is
 * shown once, however often it is told. Seconds of a stage run from its beginning, or from the end
 * of the one before it when nobody saw it begin.
 */
typedef struct CmdProgress CmdProgress;

typedef struct {
    FILE *out;     /* borrowed */
    bool is_quiet; /* shows nothing */
    bool is_live;  /* a terminal that can rewrite a line */
    bool has_color;
    unsigned columns; /* width of the terminal; 0: ask it */
} CmdProgressStyle;

CmdProgress *cmd_progress_new(const CmdProgressStyle *style);
void cmd_progress_free(CmdProgress *progress); /* takes the live line away */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CmdProgress, cmd_progress_free)

/* state: "begin", "done" or "failed"; others are ignored. t_s: seconds since the start was asked
 * for. detail: any bytes, escaped here, NULL: none. permille: how much is done, -1: unknown. */
void cmd_progress_stage(CmdProgress *progress, Stage stage, const char *state, const char *detail,
                        int permille, double t_s);

/* Rewrites the live line with the seconds of now; for a timer. */
void cmd_progress_tick(CmdProgress *progress, double t_s);

/* Takes the live line away so that another line can be printed; the next call of the above brings
 * it back. */
void cmd_progress_clear(CmdProgress *progress);

/* The guest reboots: the stages from firmware on begin again. */
void cmd_progress_reboot(CmdProgress *progress);

/* The stage that is under way, or the last one that ended; "" before the first. Borrowed. */
const char *cmd_progress_where(const CmdProgress *progress);

/* The stage of that name, STAGE_N: none. */
Stage cmd_stage_from_name(const char *name);
