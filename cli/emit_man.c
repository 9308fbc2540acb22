#include "cli/emit.h"

#include <string.h>

#include "base/error.h"
#include "cli/command.h"
#include "cli/help.h"

/* Text for roff: backslashes and hyphens are escaped, a line never begins with a control character.
 */
static void append_text(GString *out, const char *text)
{
    if (*text == '.' || *text == '\'') {
        g_string_append(out, "\\&");
    }
    for (const char *at = text; *at; at++) {
        if (*at == '\\') {
            g_string_append(out, "\\e");
        } else if (*at == '-') {
            g_string_append(out, "\\-");
        } else {
            g_string_append_c(out, *at);
        }
    }
}

static void append_paragraph(GString *out, const char *text)
{
    append_text(out, text);
    g_string_append_c(out, '\n');
}

/* .TP: a bold tag and its text. */
static void append_tagged(GString *out, const char *tag, const char *text)
{
    g_string_append(out, ".TP\n\\fB");
    append_text(out, tag);
    g_string_append(out, "\\fR\n");
    append_paragraph(out, text);
}

static void append_flag(GString *out, const CmdFlag *flag)
{
    g_string_append(out, ".TP\n");
    if (flag->letter) {
        g_string_append_printf(out, "\\fB\\-%c\\fR, ", flag->letter);
    }
    g_string_append(out, "\\fB");
    g_autofree char *name = g_strdup_printf("--%s", flag->name);
    append_text(out, name);
    g_string_append(out, "\\fR");
    if (flag->metavar) {
        g_string_append(out, " \\fI");
        append_text(out, flag->metavar);
        g_string_append(out, "\\fR");
    }
    g_autofree char *choices = flag->choices ? g_strjoinv(", ", (char **)flag->choices) : NULL;
    g_autofree char *text =
        g_strdup_printf("%s%s%s%s%s", flag->doc, choices ? " One of: " : "", choices ? choices : "",
                        choices ? "." : "", flag->is_list ? " May be repeated." : "");
    g_string_append_c(out, '\n');
    append_paragraph(out, text);
}

static void append_flags(GString *out, const CmdFlag *flags)
{
    for (const CmdFlag *flag = flags; flag->name; flag++) {
        append_flag(out, flag);
    }
}

static void append_examples(GString *out, const char *const *examples)
{
    for (const char *const *example = examples; example && example[0]; example += 2) {
        g_string_append(out, ".PP\n.RS 4\n.nf\n");
        append_paragraph(out, example[0]);
        g_string_append(out, ".fi\n.RS 4\n");
        append_paragraph(out, example[1]);
        g_string_append(out, ".RE\n.RE\n");
    }
}

static void append_command(GString *out, const CmdCommand *command)
{
    g_string_append(out, ".SS \"vm\\-run ");
    append_text(out, command->name);
    g_string_append_c(out, ' ');
    append_text(out, command->synopsis);
    g_string_append(out, "\"\n");
    append_paragraph(out, command->doc);
    g_auto(GStrv) paragraphs = g_strsplit(command->detail ? command->detail : "", "\n\n", -1);
    for (char **paragraph = paragraphs; *paragraph; paragraph++) {
        g_string_append(out, ".PP\n");
        append_paragraph(out, *paragraph);
    }
    if (command->alias) {
        g_autofree char *text = g_strdup_printf("Also: vm-run %s.", command->alias);
        g_string_append(out, ".PP\n");
        append_paragraph(out, text);
    }
    g_autofree CmdFlag *own = cmd_command_flags_part(command, false);
    append_flags(out, own);
    append_examples(out, command->examples);
}

static void append_exit_statuses(GString *out)
{
    g_string_append(out, ".SH EXIT STATUS\n");
    append_tagged(out, "0", "Done.");
    for (int code = 0; code < VM_ERROR_N; code++) {
        const BaseErrorRow *row = base_error_row(code);
        g_autofree char *tag = g_strdup_printf("%d (%s)", row->exit_status, row->cls);
        append_tagged(out, tag, row->doc);
    }
    for (const CmdExitRow *row = cmd_exit_rows; row->doc; row++) {
        append_tagged(out, row->status, row->doc);
    }
}

char *cmd_emit_man(void)
{
    GString *out =
        g_string_new(".TH VM\\-RUN 1 \"\" \"vm\\-run " VM_VERSION "\" \"User Commands\"\n"
                     ".SH NAME\nvm\\-run \\- run virtual machines from cloud images\n"
                     ".SH SYNOPSIS\n\\fBvm\\-run\\fR \\fICOMMAND\\fR [flags] [operands]\n"
                     ".SH DESCRIPTION\n");
    append_paragraph(
        out,
        "One command from a cloud image to a logged-in shell: vm-run makes a thin overlay and a "
        "cloud-init seed, starts the machine through libvirt and QEMU, follows its first boot "
        "truthfully, and removes all of it again.");
    g_string_append(out, ".PP\n");
    append_paragraph(
        out, "Results go to standard output, all else to standard error. Flags may stand anywhere "
             "among the operands; \"--\" ends them.");
    g_string_append(out, ".SH COMMANDS\n");
    for (unsigned i = 0; cmd_command(i); i++) {
        if (!cmd_command(i)->is_hidden) {
            append_command(out, cmd_command(i));
        }
    }
    g_string_append(out, ".SH COMMON FLAGS\n");
    g_autofree CmdFlag *common = cmd_command_flags_part(NULL, true);
    append_flags(out, common);
    append_exit_statuses(out);
    g_string_append(out, ".SH ENVIRONMENT\n");
    for (const char *const *row = cmd_environment; row[0]; row += 2) {
        append_tagged(out, row[0], row[1]);
    }
    g_string_append(out, ".SH SEE ALSO\n.BR ssh (1),\n.BR qemu (1)\n");
    return g_string_free(out, FALSE);
}
