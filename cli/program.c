#include "cli/command.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/report.h"
#include "cli/help.h"
#include "cli/say.h"
#include "cli/signals.h"

/* `run ... -- COMMAND` passes the command's status on, so ours must be told apart from it. */
enum { STATUS_OUR_FAILURE = 125 };

static bool has_command_words(const CmdCommand *command, const char *const *argv)
{
    for (; command && command->takes_command && *argv; argv++) {
        if (g_str_equal(*argv, "--")) {
            return argv[1];
        }
    }
    return false;
}

/* The first word of each command once, NULL-terminated; the strings are owned. */
static char **first_words(void)
{
    g_autoptr(GStrvBuilder) words = g_strv_builder_new();
    for (unsigned i = 0; cmd_command(i); i++) {
        const char *name = cmd_command(i)->name;
        g_autofree char *word = g_strndup(name, strcspn(name, " "));
        if (!cmd_command(i)->is_hidden) {
            g_strv_builder_add(words, word);
        }
    }
    return g_strv_builder_end(words);
}

/* The second words of a group's commands: "probe", "inspect". */
static char **group_words(const char *group)
{
    g_autoptr(GStrvBuilder) words = g_strv_builder_new();
    size_t n = strlen(group);
    for (unsigned i = 0; cmd_command(i); i++) {
        const char *name = cmd_command(i)->name;
        if (!strncmp(name, group, n) && name[n] == ' ') {
            g_strv_builder_add(words, name + n + 1);
        }
    }
    return g_strv_builder_end(words);
}

static bool fail_no_command(const char *const *argv, GError **error)
{
    if (!argv[0]) {
        return base_fail(error, VM_ERROR_CLI, "no command given - see 'vm-run --help'");
    }
    bool is_group = cmd_command_is_group(argv[0]);
    g_auto(GStrv) words = is_group ? group_words(argv[0]) : first_words();
    const char *word = is_group ? argv[1] : argv[0];
    const char *nearest = word ? base_report_nearest(word, (const char *const *)words) : NULL;
    g_autofree char *all = g_strjoinv(", ", words);
    g_autofree char *hint = nearest    ? g_strdup_printf("did you mean '%s'?", nearest)
                            : is_group ? g_strdup_printf("one of %s", all)
                                       : g_strdup("see 'vm-run --help'");
    if (is_group && !word) {
        return base_fail(error, VM_ERROR_CLI, "%s: no command given - %s", argv[0], hint);
    }
    return base_fail(error, VM_ERROR_CLI, "%s%sunknown command '%s' - %s", is_group ? argv[0] : "",
                     is_group ? ": " : "", word, hint);
}

static bool check_operands(const CmdCommand *command, const CmdArgs *args, GError **error)
{
    unsigned n = args->operands->len;
    if (args->rest && !command->takes_command) { /* `--` then only ends the flags */
        n += g_strv_length(args->rest);
        for (char **word = args->rest; *word; word++) {
            g_ptr_array_add(args->operands, g_strdup(*word));
        }
    }
    if (n < command->n_operands_min) {
        return base_fail(error, VM_ERROR_CLI, "an operand is missing: vm-run %s %s", command->name,
                         command->synopsis);
    }
    if (n > command->n_operands_max) {
        const char *extra = args->operands->pdata[command->n_operands_max];
        return base_fail(error, VM_ERROR_CLI, "unexpected operand '%s'%s", extra,
                         command->takes_command ? " - a command for the guest goes after '--'"
                                                : "");
    }
    if (args->rest && command->takes_command && !args->rest[0]) {
        return base_fail(error, VM_ERROR_CLI, "no command follows '--'");
    }
    return true;
}

static const char *common_text(const CmdArgs *leading, const CmdArgs *args, const char *name)
{
    const char *text = cmd_args_text(args, name);
    return text ? text : cmd_args_text(leading, name);
}

static bool common_switch(const CmdArgs *leading, const CmdArgs *args, const char *name)
{
    return cmd_args_has(leading, name) || cmd_args_has(args, name);
}

static CmdContext context_build(const CmdCommand *command, const CmdArgs *leading,
                                const CmdArgs *args)
{
    const char *no_color = getenv("NO_COLOR"); /* https://no-color.org: present and not empty */
    const char *term = getenv("TERM");
    bool is_plain = common_switch(leading, args, "no-color") || (no_color && *no_color) || !term ||
                    g_str_equal(term, "dumb") || !isatty(STDERR_FILENO);
    return (CmdContext){
        .command = command,
        .args = args,
        .state_dir = common_text(leading, args, "state-dir"),
        .connect = common_text(leading, args, "connect"),
        .is_quiet = common_switch(leading, args, "quiet"),
        .is_json = common_switch(leading, args, "json"),
        .has_color = !is_plain,
        .is_live = !is_plain,
    };
}

static int print_help(const CmdCommand *command, const char *group)
{
    g_autofree char *text = command ? cmd_help_command(command) : cmd_help_program(group);
    fputs(text, stdout);
    return 0;
}

static int run_command(const CmdCommand *command, const CmdArgs *leading, const char *const *argv,
                       GError **error)
{
    g_autoptr(CmdArgs) args = cmd_args_parse(cmd_command_flags(command), argv, false, NULL, error);
    if (!args) {
        return 0;
    }
    if (common_switch(leading, args, "help")) {
        return print_help(command, NULL);
    }
    if (!check_operands(command, args, error)) {
        return 0;
    }
    CmdContext context = context_build(command, leading, args);
    if (context.is_json && !command->has_json) {
        base_fail(error, VM_ERROR_CLI, "flag '--json' is not for this command");
        return 0;
    }
    return command->handler(&context, error);
}

/* A cancelled command ends with the status of the signal that cancelled it. */
static int error_status(const GError *error, bool is_told_apart)
{
    if (g_error_matches(error, VM_ERROR, VM_ERROR_CANCELLED)) {
        return 128 + (cmd_signals_first() ? cmd_signals_first() : SIGINT);
    }
    return is_told_apart ? STATUS_OUR_FAILURE : base_error_row_of(error)->exit_status;
}

/* Says the error and gives the exit status of the program. */
static int finish(const CmdCommand *command, const char *const *argv, int status, GError *error)
{
    if (error && command && g_error_matches(error, VM_ERROR, VM_ERROR_CLI)) {
        g_autofree char *message = g_strdup_printf("%s: %s (see 'vm-run %s --help')", command->name,
                                                   error->message, command->name);
        g_free(error->message);
        error->message = g_steal_pointer(&message);
    }
    if (error) {
        cmd_say_error(error);
        return error_status(error, has_command_words(command, argv));
    }
    int flush_status = cmd_say_flush();
    return status ? status : flush_status;
}

static int dispatch(const CmdArgs *leading, const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    unsigned n_words = 0;
    const CmdCommand *command = cmd_command_find(argv, &n_words);
    int status = 0;
    if (command) {
        status = run_command(command, leading, argv + n_words, &error);
    } else if (!argv[0] && cmd_args_has(leading, "version")) {
        printf("vm-run %s\n", VM_VERSION);
    } else if (!argv[0] && cmd_args_has(leading, "help")) {
        status = print_help(NULL, NULL);
    } else if (argv[0] && cmd_command_is_group(argv[0]) &&
               (cmd_args_has(leading, "help") || !g_strcmp0(argv[1], "--help") ||
                !g_strcmp0(argv[1], "-h"))) {
        status = print_help(NULL, argv[0]);
    } else {
        fail_no_command(argv, &error);
    }
    return finish(command, argv, status, error);
}

int cmd_main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a reader that went away is a failed write, not our end */
    g_autoptr(GError) error = NULL;
    unsigned n_used = 0;
    const char *const *words = (const char *const *)argv + (argc > 0 ? 1 : 0);
    g_autoptr(CmdArgs) leading =
        cmd_args_parse(cmd_command_flags(NULL), words, true, &n_used, &error);
    if (!leading) {
        return finish(NULL, words, 0, error);
    }
    return dispatch(leading, words + n_used);
}
