#include "cli/help.h"

#include <string.h>

enum { WIDTH = 100, FLAG_COLUMN = 30 };

char *cmd_help_flag(const CmdFlag *flag)
{
    GString *out = g_string_new(NULL);
    if (flag->letter) {
        g_string_append_printf(out, "-%c, ", flag->letter);
    }
    g_string_append_printf(out, "--%s", flag->name);
    if (flag->metavar) {
        g_string_append_printf(out, " %s", flag->metavar);
    }
    return g_string_free(out, FALSE);
}

/* Breaks text at spaces so that no line passes WIDTH; further lines begin at `indent`. */
static void append_wrapped(GString *out, const char *text, size_t indent)
{
    size_t column = indent;
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    for (char **word = words; *word; word++) {
        size_t n = (size_t)g_utf8_strlen(*word, -1);
        if (column > indent && column + 1 + n > WIDTH) {
            g_string_append_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            g_string_append_c(out, ' ');
            column++;
        }
        g_string_append(out, *word);
        column += n;
    }
    g_string_append_c(out, '\n');
}

static void append_row(GString *out, const char *left, const char *text)
{
    g_string_append_printf(out, "  %-*s", FLAG_COLUMN - 2, left);
    if (strlen(left) > FLAG_COLUMN - 3) {
        g_string_append_printf(out, "\n%*s", FLAG_COLUMN, "");
    }
    append_wrapped(out, text, FLAG_COLUMN);
}

static void append_flag(GString *out, const CmdFlag *flag)
{
    g_autofree char *written = cmd_help_flag(flag);
    g_autofree char *left = g_strdup_printf("%s%s", flag->letter ? "" : "    ", written);
    g_autofree char *choices = flag->choices ? g_strjoinv(", ", (char **)flag->choices) : NULL;
    g_autofree char *text =
        g_strdup_printf("%s%s%s%s%s", flag->doc, choices ? " One of: " : "", choices ? choices : "",
                        choices ? "." : "", flag->is_list ? " May be repeated." : "");
    append_row(out, left, text);
}

static void append_flags(GString *out, const char *title, const CmdFlag *flags, bool is_spec)
{
    bool has_title = false;
    for (const CmdFlag *flag = flags; flag->name; flag++) {
        if ((flag->spec_path != NULL) != is_spec) {
            continue;
        }
        if (!has_title) {
            g_string_append_printf(out, "\n%s:\n", title);
            has_title = true;
        }
        append_flag(out, flag);
    }
}

static bool is_shown(const CmdCommand *command, const char *group)
{
    size_t n = group ? strlen(group) : 0;
    bool is_member = !group || (!strncmp(command->name, group, n) && command->name[n] == ' ');
    return is_member && !command->is_hidden;
}

char *cmd_help_program(const char *group)
{
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "Usage: vm-run %s%sCOMMAND [flags] [operands]\n",
                           group ? group : "", group ? " " : "");
    g_string_append(out,
                    "\nRuns virtual machines from cloud images: one command from an image to a "
                    "logged-in shell.\n\nCommands:\n");
    for (unsigned i = 0; cmd_command(i); i++) {
        const CmdCommand *command = cmd_command(i);
        if (is_shown(command, group)) {
            append_row(out, command->name, command->doc);
        }
    }
    g_autofree CmdFlag *common = cmd_command_flags_part(NULL, true);
    append_flags(out, "Flags of every command", common, false);
    g_string_append(out,
                    "\n'vm-run COMMAND --help' tells more of one command, 'man vm-run' of all.\n");
    return g_string_free(out, FALSE);
}

static void append_examples(GString *out, const char *const *examples)
{
    if (!examples) {
        return;
    }
    g_string_append(out, "\nExamples:\n");
    for (const char *const *example = examples; example[0]; example += 2) {
        g_string_append_printf(out, "  %s\n      %s\n", example[0], example[1]);
    }
}

char *cmd_help_command(const CmdCommand *command)
{
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, "Usage: vm-run %s %s\n", command->name, command->synopsis);
    if (command->alias) {
        g_string_append_printf(out, "Also: vm-run %s\n", command->alias);
    }
    g_string_append_c(out, '\n');
    append_wrapped(out, command->doc, 0);
    g_auto(GStrv) paragraphs = g_strsplit(command->detail ? command->detail : "", "\n\n", -1);
    for (char **paragraph = paragraphs; *paragraph; paragraph++) {
        g_string_append_c(out, '\n');
        append_wrapped(out, *paragraph, 0);
    }
    g_autofree CmdFlag *own = cmd_command_flags_part(command, false);
    g_autofree CmdFlag *common = cmd_command_flags_part(command, true);
    append_flags(out, "Flags", own, false);
    append_flags(out,
                 command->has_network_flags ? "The network (each is also a key of the spec file)"
                                            : "The machine (each is also a key of the spec file)",
                 own, true);
    append_flags(out, "Common flags", common, false);
    append_examples(out, command->examples);
    return g_string_free(out, FALSE);
}
