#include "driver/journal.h"

#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#define JOURNAL_FILE      "journal"
#define JOURNAL_MAX_BYTES (256 * 1024)

static const char *const op_names[] = {
    [JOURNAL_NONE] = "none", [JOURNAL_START_NEW] = "start-new", [JOURNAL_START] = "start",
    [JOURNAL_END] = "end",   [JOURNAL_DESTROY] = "destroy",     [JOURNAL_UPDATE] = "update",
};
G_STATIC_ASSERT(G_N_ELEMENTS(op_names) == JOURNAL_N);

bool machine_journal_begin(int dirfd, JournalOp op, GError **error)
{
    pid_t pid = getpid();
    g_autofree char *line =
        g_strdup_printf("{\"op\":\"%s\",\"pid\":%d,\"pid_start\":%" G_GUINT64_FORMAT "}\n",
                        op_names[op], (int)pid, base_proc_start_ticks(pid));
    return base_file_write_atomic(dirfd, JOURNAL_FILE, line, strlen(line), 0600, error);
}

bool machine_journal_intent(int dirfd, StepKind kind, unsigned index, GError **error)
{
    g_autofree char *line =
        g_strdup_printf("{\"step\":\"%s\",\"index\":%u}", machine_step_name(kind), index);
    return base_file_append_line(dirfd, JOURNAL_FILE, line, true, error);
}

bool machine_journal_commit(int dirfd, GError **error)
{
    return base_file_append_line(dirfd, JOURNAL_FILE, "{\"commit\":true}", true, error);
}

static void read_op(Journal *out, const json_t *line)
{
    const char *op = json_string_value(json_object_get(line, "op"));
    for (unsigned i = 1; op && i < JOURNAL_N; i++) {
        if (strcmp(op, op_names[i]) == 0) {
            *out = (Journal){.op = (JournalOp)i, .is_open = true};
            out->pid = (pid_t)json_integer_value(json_object_get(line, "pid"));
            out->pid_start = (uint64_t)json_integer_value(json_object_get(line, "pid_start"));
        }
    }
}

static void read_line(Journal *out, const char *text)
{
    json_t *line = json_loads(text, 0, NULL);
    const char *step = json_string_value(json_object_get(line, "step"));
    if (json_object_get(line, "op")) {
        read_op(out, line);
    } else if (json_is_true(json_object_get(line, "commit"))) {
        out->is_open = false;
    }
    for (unsigned i = 0; step && i < STEP_N; i++) {
        if (strcmp(step, machine_step_name((StepKind)i)) == 0) {
            out->has_reached[i] = true;
        }
    }
    json_decref(line);
}

void machine_journal_read(int dirfd, Journal *out)
{
    *out = (Journal){0};
    g_autofree char *text = base_file_read(dirfd, JOURNAL_FILE, JOURNAL_MAX_BYTES, NULL, NULL);
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;
    for (unsigned i = 0; lines && lines[i]; i++) {
        read_line(out, lines[i]);
    }
}

bool machine_journal_wants_all_gone(const Journal *journal)
{
    return journal->is_open && (journal->op == JOURNAL_START_NEW || journal->op == JOURNAL_DESTROY);
}

bool machine_journal_is_alive(const Journal *journal)
{
    return journal->is_open && journal->pid > 0 &&
           base_proc_start_ticks(journal->pid) == journal->pid_start && journal->pid_start != 0;
}
