#include "cli/command.h"

#include <string.h>

#include "cli/commands.h"
#include "schemas/spec.h"

/* The order of the documents: first what starts a machine, then what looks at it, then the rest. */
static const CmdCommand *const commands[] = {
    &cmd_run,
    &cmd_start,
    &cmd_stop,
    &cmd_restart,
    &cmd_update,
    &cmd_rm,
    &cmd_ps,
    &cmd_show,
    &cmd_logs,
    &cmd_console,
    &cmd_ssh,
    &cmd_events,
    &cmd_stats,
    &cmd_check,
    &cmd_schema,
    &cmd_network_ls,
    &cmd_network_show,
    &cmd_network_add,
    &cmd_network_update,
    &cmd_network_rm,
    &cmd_network_check,
    &cmd_image_probe,
    &cmd_image_inspect,
    &cmd_image_overlay,
    &cmd_seed,
    &cmd_gc,
    &cmd_doctor,
    &cmd_completion,
    &cmd_help,
    &cmd_version,
    &cmd_internal_start,
    &cmd_internal_end,
};

static const CmdFlag common_flags[] = {
    {.name = "state-dir",
     .metavar = "DIR",
     .kind = CMD_VALUE_DIR,
     .doc = "Where machines are kept (else $VM_RUN_STATE_DIR, /var/lib/vm-run for root, "
            "$XDG_STATE_HOME/vm-run or ~/.local/state/vm-run)."},
    {.name = "connect",
     .metavar = "URI",
     .doc = "The libvirt connection (else $VM_RUN_URI, $LIBVIRT_DEFAULT_URI, qemu:///system for "
            "root when "
            "its socket answers, the embedded driver)."},
    {.name = "quiet",
     .letter = 'q',
     .doc = "No progress and no notes on standard error, only mistakes."},
    {.name = "no-color", .doc = "No colours and no live line (also by NO_COLOR and TERM=dumb)."},
    {.name = "json", .doc = "The result as JSON on standard output."},
    {.name = "help", .letter = 'h', .doc = "Show this help."},
};

static const CmdFlag version_flag = {.name = "version", .letter = 'V', .doc = "Show the version."};

const CmdCommand *cmd_command(unsigned i)
{
    return i < G_N_ELEMENTS(commands) ? commands[i] : NULL;
}

/* How many words of argv the name takes: 0 when it is another one. */
static unsigned match_name(const char *name, const char *const *argv)
{
    const char *space = strchr(name, ' ');
    if (!space) {
        return g_str_equal(argv[0], name) ? 1 : 0;
    }
    size_t n = (size_t)(space - name);
    bool is_first = strlen(argv[0]) == n && !memcmp(argv[0], name, n);
    return is_first && argv[1] && g_str_equal(argv[1], space + 1) ? 2 : 0;
}

const CmdCommand *cmd_command_find(const char *const *argv, unsigned *out_n_words)
{
    for (unsigned i = 0; argv[0] && cmd_command(i); i++) {
        unsigned n = match_name(cmd_command(i)->name, argv);
        if (!n && cmd_command(i)->alias) {
            n = match_name(cmd_command(i)->alias, argv);
        }
        if (n) {
            *out_n_words = n;
            return cmd_command(i);
        }
    }
    return NULL;
}

bool cmd_command_is_group(const char *word)
{
    size_t n = strlen(word);
    for (unsigned i = 0; cmd_command(i); i++) {
        const char *name = cmd_command(i)->name;
        if (n && !strncmp(name, word, n) && name[n] == ' ') {
            return true;
        }
    }
    return false;
}

static bool has_flag(const GArray *flags, const char *name)
{
    for (guint i = 0; i < flags->len; i++) {
        if (g_str_equal(g_array_index(flags, CmdFlag, i).name, name)) {
            return true;
        }
    }
    return false;
}

static void add_own(GArray *flags, const CmdCommand *command)
{
    for (const CmdFlag *flag = command->flags; flag && flag->name; flag++) {
        g_array_append_val(flags, *flag);
    }
}

/* A flag of the command's own stands before an option of the same name: `name`, say. */
static void add_options(GArray *flags, unsigned n, const SpecOptionInfo *(*info)(unsigned i))
{
    for (unsigned i = 0; i < n; i++) {
        const SpecOptionInfo *option = info(i);
        if (!option->flag || has_flag(flags, option->flag)) {
            continue;
        }
        CmdFlag flag = {
            .name = option->flag,
            .letter = option->short_flag,
            .metavar = option->is_switch ? NULL
                       : option->metavar ? option->metavar
                                         : "VALUE",
            .is_list = option->is_list,
            .kind = option->is_file      ? CMD_VALUE_FILE
                    : option->is_network ? CMD_VALUE_NETWORK
                                         : CMD_VALUE_TEXT,
            .choices = option->choices,
            .doc = option->doc,
            .spec_path = option->path,
        };
        g_array_append_val(flags, flag);
    }
}

static void add_spec(GArray *flags, const CmdCommand *command)
{
    if (command->has_spec_flags) {
        add_options(flags, spec_option_n(), spec_option_info);
    }
    if (command->has_network_flags) {
        add_options(flags, spec_network_option_n(), spec_network_option_info);
    }
}

static void add_common(GArray *flags, const CmdCommand *command)
{
    for (gsize i = 0; i < G_N_ELEMENTS(common_flags); i++) {
        bool is_json = g_str_equal(common_flags[i].name, "json");
        bool is_taken = !is_json || !command || command->has_json;
        if (is_taken && !has_flag(flags, common_flags[i].name)) {
            g_array_append_val(flags, common_flags[i]);
        }
    }
    if (!command) {
        g_array_append_val(flags, version_flag);
    }
}

CmdFlag *cmd_command_flags(const CmdCommand *command)
{
    GArray *flags = g_array_new(TRUE, TRUE, sizeof(CmdFlag));
    if (command) {
        add_own(flags, command);
        add_spec(flags, command);
    }
    add_common(flags, command);
    return (CmdFlag *)(void *)g_array_free(flags, FALSE);
}

CmdFlag *cmd_command_flags_part(const CmdCommand *command, bool is_common)
{
    GArray *flags = g_array_new(TRUE, TRUE, sizeof(CmdFlag));
    if (is_common) {
        add_common(flags, command);
    } else if (command) {
        add_own(flags, command);
    }
    if (!is_common && command) {
        add_spec(flags, command);
    }
    return (CmdFlag *)(void *)g_array_free(flags, FALSE);
}
