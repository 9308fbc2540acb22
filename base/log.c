#include "base/log.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include "base/report.h"

typedef struct {
    const char *name; /* in VM_RUN_LOG and in the line */
    GLogLevelFlags level;
    int shown; /* all levels that this threshold shows */
} LevelRow;

enum {
    SHOWN_ALWAYS = G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL,
    SHOWN_WARNING = SHOWN_ALWAYS | G_LOG_LEVEL_WARNING,
    SHOWN_INFO = SHOWN_WARNING | G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO,
    SHOWN_DEBUG = SHOWN_INFO | G_LOG_LEVEL_DEBUG,
};

static const LevelRow levels[] = {
    {"error", G_LOG_LEVEL_ERROR, SHOWN_ALWAYS},
    {"critical", G_LOG_LEVEL_CRITICAL, SHOWN_ALWAYS},
    {"warning", G_LOG_LEVEL_WARNING, SHOWN_WARNING},
    {"message", G_LOG_LEVEL_MESSAGE, SHOWN_INFO},
    {"info", G_LOG_LEVEL_INFO, SHOWN_INFO},
    {"debug", G_LOG_LEVEL_DEBUG, SHOWN_DEBUG},
};

static const char *level_name(GLogLevelFlags level)
{
    for (gsize i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (level & levels[i].level) {
            return levels[i].name;
        }
    }
    return "log";
}

/* The levels that VM_RUN_LOG asks for; an unknown word shows all, rather than silently nothing. */
static GLogLevelFlags shown_levels(void)
{
    const char *wanted = g_getenv("VM_RUN_LOG");
    if (!wanted || !*wanted) {
        return (GLogLevelFlags)SHOWN_ALWAYS;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(levels); i++) {
        if (!strcmp(wanted, levels[i].name)) {
            return (GLogLevelFlags)levels[i].shown;
        }
    }
    return (GLogLevelFlags)SHOWN_DEBUG;
}

/* All our fields are strings that end by themselves. */
static const char *field_text(const GLogField *fields, gsize n_fields, const char *key)
{
    for (gsize i = 0; i < n_fields; i++) {
        if (!strcmp(fields[i].key, key) && fields[i].length < 0) {
            return fields[i].value;
        }
    }
    return NULL;
}

static void append_field(GString *line, const char *key, const char *value)
{
    if (value) {
        g_autofree char *shown = base_report_escape(value, 0);
        g_string_append_printf(line, "%s%s ", key, shown);
    }
}

static GLogWriterOutput write_line(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                   gpointer user_data)
{
    if (!(level & GPOINTER_TO_UINT(user_data))) {
        return G_LOG_WRITER_HANDLED;
    }
    const char *message = field_text(fields, n_fields, "MESSAGE");
    g_autofree char *shown = base_report_escape(message ? message : "", 0);
    g_autoptr(GString) line = g_string_new(NULL);
    g_string_printf(line, "vm-driver: %s: ", level_name(level));
    append_field(line, "machine=", field_text(fields, n_fields, "MACHINE"));
    append_field(line, "step=", field_text(fields, n_fields, "STEP"));
    g_string_append_printf(line, "%s\n", shown);
    /* one write: lines of several processes on one stderr stay whole */
    return write(STDERR_FILENO, line->str, line->len) < 0 ? G_LOG_WRITER_UNHANDLED
                                                          : G_LOG_WRITER_HANDLED;
}

void base_log_init(void)
{
    g_log_set_writer_func(write_line, GUINT_TO_POINTER((guint)shown_levels()), NULL);
}

void base_log_write(GLogLevelFlags level, const char *machine, const char *step, const char *format,
                    ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    const GLogField fields[] = {
        {"MESSAGE", message, -1},
        {"GLIB_DOMAIN", G_LOG_DOMAIN, -1},
        {machine ? "MACHINE" : "VM_NO_MACHINE", machine ? machine : "", -1},
        {step ? "STEP" : "VM_NO_STEP", step ? step : "", -1},
    };
    g_log_structured_array(level, fields, G_N_ELEMENTS(fields));
}
