#include "cli/progress.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/report.h"

enum { DETAIL_MAX = 300, COLUMNS_DEFAULT = 80 };

typedef enum { SEEN_NOTHING, SEEN_BEGIN, SEEN_END } Seen;

struct CmdProgress {
    CmdProgressStyle style;
    Seen seen[STAGE_N];
    double begin_s[STAGE_N];
    double last_end_s; /* when the stage before ended */
    Stage current;     /* STAGE_N: none is under way */
    Stage last;        /* the last one that ended, STAGE_N: none */
    char *detail;      /* of the current one, escaped */
    int permille;
    bool is_line_shown;
};

CmdProgress *cmd_progress_new(const CmdProgressStyle *style)
{
    CmdProgress *progress = g_new0(CmdProgress, 1);
    progress->style = *style;
    progress->current = STAGE_N;
    progress->last = STAGE_N;
    progress->permille = -1;
    return progress;
}

void cmd_progress_free(CmdProgress *progress)
{
    if (!progress) {
        return;
    }
    cmd_progress_clear(progress);
    g_free(progress->detail);
    g_free(progress);
}

Stage cmd_stage_from_name(const char *name)
{
    for (int stage = 0; stage < STAGE_N; stage++) {
        if (g_str_equal(name, machine_stage_name((Stage)stage))) {
            return (Stage)stage;
        }
    }
    return STAGE_N;
}

const char *cmd_progress_where(const CmdProgress *progress)
{
    Stage stage = progress->current < STAGE_N ? progress->current : progress->last;
    return stage < STAGE_N ? machine_stage_name(stage) : "";
}

void cmd_progress_clear(CmdProgress *progress)
{
    if (progress->is_line_shown) {
        fputs("\r\033[K", progress->style.out); /* ECMA-48: erase to the end of the line */
        fflush(progress->style.out);
        progress->is_line_shown = false;
    }
}

static unsigned columns(const CmdProgress *progress)
{
    struct winsize size;
    if (progress->style.columns) {
        return progress->style.columns;
    }
    bool is_known = !ioctl(fileno(progress->style.out), TIOCGWINSZ, &size) && size.ws_col;
    return is_known ? size.ws_col : COLUMNS_DEFAULT;
}

/* A line that is wider than the terminal would wrap, and a wrapped line can't be rewritten. */
static void print_cut(CmdProgress *progress, const char *line)
{
    glong wanted = (glong)columns(progress) - 1;
    g_autofree char *cut = g_utf8_strlen(line, -1) > wanted && wanted > 0
                               ? g_utf8_substring(line, 0, wanted)
                               : g_strdup(line);
    fprintf(progress->style.out, "\r%s\033[K", cut);
    fflush(progress->style.out);
    progress->is_line_shown = true;
}

static void show_live(CmdProgress *progress, double t_s)
{
    if (progress->style.is_quiet || !progress->style.is_live || progress->current == STAGE_N) {
        return;
    }
    Stage stage = progress->current;
    GString *line = g_string_new(NULL);
    g_string_printf(line, "%-12s%5.0f s", machine_stage_name(stage),
                    MAX(0.0, t_s - progress->begin_s[stage]));
    if (progress->permille >= 0) {
        g_string_append_printf(line, "  %d %%", progress->permille / 10);
    }
    if (progress->detail) {
        g_string_append_printf(line, "  %s", progress->detail);
    }
    print_cut(progress, line->str);
    g_string_free(line, TRUE);
}

static void print_end(CmdProgress *progress, Stage stage, bool is_failed, double seconds)
{
    if (progress->style.is_quiet) {
        return;
    }
    cmd_progress_clear(progress);
    const char *color = !progress->style.has_color ? "" : is_failed ? "\033[31m" : "\033[32m";
    const char *plain = progress->style.has_color ? "\033[0m" : "";
    const char *detail = is_failed && progress->detail ? progress->detail : "";
    fprintf(progress->style.out, "%s%-12s%s%5.1f s%s%s%s\n", color, machine_stage_name(stage),
            plain, MAX(0.0, seconds), is_failed ? "  failed" : "", *detail ? ": " : "", detail);
    fflush(progress->style.out);
}

static void set_detail(CmdProgress *progress, const char *detail, int permille)
{
    g_free(progress->detail);
    progress->detail = detail && *detail ? base_report_escape(detail, DETAIL_MAX) : NULL;
    progress->permille = permille;
}

static void begin(CmdProgress *progress, Stage stage, double t_s)
{
    if (progress->seen[stage] == SEEN_NOTHING) {
        progress->seen[stage] = SEEN_BEGIN;
        progress->begin_s[stage] = t_s;
    }
    progress->current = stage;
}

static void end(CmdProgress *progress, Stage stage, bool is_failed, double t_s)
{
    double begun_s =
        progress->seen[stage] == SEEN_BEGIN ? progress->begin_s[stage] : progress->last_end_s;
    progress->seen[stage] = SEEN_END;
    print_end(progress, stage, is_failed, t_s - begun_s);
    progress->last_end_s = t_s;
    progress->last = stage;
    if (progress->current == stage) {
        progress->current = STAGE_N;
        set_detail(progress, NULL, -1);
    }
}

void cmd_progress_stage(CmdProgress *progress, Stage stage, const char *state, const char *detail,
                        int permille, double t_s)
{
    bool is_begin = g_str_equal(state, "begin");
    bool is_failed = g_str_equal(state, "failed");
    if (stage >= STAGE_N || progress->seen[stage] == SEEN_END ||
        (!is_begin && !is_failed && !g_str_equal(state, "done"))) {
        return;
    }
    if (is_begin || is_failed) {
        set_detail(progress, detail, permille);
    }
    if (is_begin) {
        begin(progress, stage, t_s);
        show_live(progress, t_s);
    } else {
        end(progress, stage, is_failed, t_s);
    }
}

void cmd_progress_tick(CmdProgress *progress, double t_s)
{
    show_live(progress, t_s);
}

void cmd_progress_reboot(CmdProgress *progress)
{
    for (int stage = STAGE_FIRMWARE; stage < STAGE_N; stage++) {
        progress->seen[stage] = SEEN_NOTHING;
    }
    if (progress->current >= STAGE_FIRMWARE) {
        progress->current = STAGE_N;
        set_detail(progress, NULL, -1);
    }
}
