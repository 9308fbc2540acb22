#include "cli/completion.h"

#include <string.h>

#include "cli/command.h"

/*
 * How it works: one function finds the command among the words before the cursor, then a case of
 * that command knows its flags, what their values are, and what its operands are. Machine names are
 * asked of `vm-run ps --quiet`, which reads files only.
 */

static const char head[] =
    "# bash completion for vm-run, made by `vm-run completion bash`\n"
    "\n"
    "_vm_run_reply() # KIND [WORD...]: fills COMPREPLY for the word `cur`\n"
    "{\n"
    "    local kind=$1\n"
    "    shift\n"
    "    case $kind in\n"
    "    words) mapfile -t COMPREPLY < <(compgen -W \"$*\" -- \"$cur\") ;;\n"
    "    machine)\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$(\"$program\" \"${where[@]}\" ps --quiet "
    "2>/dev/null)\" "
    "-- \"$cur\")\n"
    "        ;;\n"
    "    network)\n"
    "        mapfile -t COMPREPLY < <(compgen -W \"$* $(\"$program\" \"${where[@]}\" network ls "
    "--quiet 2>/dev/null)\" -- \"$cur\")\n"
    "        ;;\n"
    "    file)\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
    "        ;;\n"
    "    dir)\n"
    "        compopt -o filenames 2>/dev/null\n"
    "        mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n"
    "        ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "_vm_run()\n"
    "{\n"
    "    local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD "
    "- 1]}\n"
    "    local i word flag command='' where=()\n"
    "    COMPREPLY=()\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        case $word in\n"
    "        --) return ;;\n"
    "        --state-dir | --connect)\n"
    "            flag=$word\n"
    "            [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))\n"
    "            ((i + 1 < COMP_CWORD)) && where+=(\"$flag\" \"${COMP_WORDS[i + 1]}\")\n"
    "            ((i++))\n"
    "            ;;\n"
    "        -*) ;;\n";

static const char middle[] = "            ;;\n"
                             "        esac\n"
                             "    done\n"
                             "    # --flag=value comes as three words\n"
                             "    if [[ $cur == = ]]; then\n"
                             "        cur=''\n"
                             "    elif [[ $prev == = ]]; then\n"
                             "        prev=${COMP_WORDS[COMP_CWORD - 2]}\n"
                             "    fi\n"
                             "    case $command in\n";

static const char tail[] = "    esac\n"
                           "}\n"
                           "\n"
                           "complete -F _vm_run vm-run\n";

/* "a b c" of the commands' first words, or of the second words of `group`. */
static char *command_words(const char *group)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    size_t n = group ? strlen(group) : 0;
    const char *last = NULL;
    for (unsigned i = 0; cmd_command(i); i++) {
        const char *name = cmd_command(i)->name;
        size_t first = strcspn(name, " ");
        bool is_repeated = !group && last && !strncmp(last, name, first) && last[first] == ' ';
        bool is_member = !group || (!strncmp(name, group, n) && name[n] == ' ');
        if (cmd_command(i)->is_hidden || is_repeated || !is_member) {
            continue;
        }
        g_autofree char *word = group ? g_strdup(name + n + 1) : g_strndup(name, first);
        g_strv_builder_add(builder, word);
        last = name;
    }
    g_auto(GStrv) words = g_strv_builder_end(builder);
    return g_strjoinv(" ", words);
}

/* Groups once each: "image". */
static char **groups_build(void)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    g_autofree char *last = NULL;
    for (unsigned i = 0; cmd_command(i); i++) {
        const char *space = strchr(cmd_command(i)->name, ' ');
        if (!space) {
            continue;
        }
        g_autofree char *word =
            g_strndup(cmd_command(i)->name, (gsize)(space - cmd_command(i)->name));
        if (g_strcmp0(word, last)) {
            g_strv_builder_add(builder, word);
            g_free(last);
            last = g_strdup(word);
        }
    }
    return g_strv_builder_end(builder);
}

static void append_command_finding(GString *out)
{
    g_auto(GStrv) groups = groups_build();
    g_autofree char *all = g_strjoinv("|", groups);
    g_string_append(out, "        *)\n");
    g_string_append(out, "            if [[ -z $command ]]; then\n"
                         "                command=$word\n");
    g_string_append_printf(out,
                           "            elif [[ $command =~ ^(%s)$ ]]; then\n"
                           "                command+=\" $word\"\n"
                           "            fi\n",
                           all);
}

static const char *value_kind(const CmdFlag *flag)
{
    static const char *const kinds[] = {[CMD_VALUE_TEXT] = NULL,
                                        [CMD_VALUE_FILE] = "file",
                                        [CMD_VALUE_DIR] = "dir",
                                        [CMD_VALUE_MACHINE] = "machine",
                                        [CMD_VALUE_NETWORK] = "network auto user none"};
    return kinds[flag->kind];
}

static void append_value(GString *out, const CmdFlag *flag)
{
    if (!flag->metavar) {
        return;
    }
    g_string_append(out, "        ");
    if (flag->letter) {
        g_string_append_printf(out, "-%c | ", flag->letter);
    }
    g_string_append_printf(out, "--%s) ", flag->name);
    g_autofree char *choices = flag->choices ? g_strjoinv(" ", (char **)flag->choices) : NULL;
    const char *kind = value_kind(flag);
    if (choices) {
        g_string_append_printf(out, "_vm_run_reply words %s && return ;;\n", choices);
    } else if (kind) {
        g_string_append_printf(out, "_vm_run_reply %s && return ;;\n", kind);
    } else {
        g_string_append(out, "return ;;\n");
    }
}

static void append_operands(GString *out, const CmdCommand *command)
{
    g_autofree char *words = command_words(NULL);
    g_autofree char *commands = g_strconcat("_vm_run_reply words ", words, NULL);
    const char *const replies[] = {[CMD_OPERAND_NONE] = ":",
                                   [CMD_OPERAND_MACHINE] = "_vm_run_reply machine",
                                   [CMD_OPERAND_NETWORK] = "_vm_run_reply network",
                                   [CMD_OPERAND_FILE] = "_vm_run_reply file",
                                   [CMD_OPERAND_SHELL] = "_vm_run_reply words bash",
                                   [CMD_OPERAND_COMMAND] = commands};
    g_string_append_printf(
        out,
        "        [[ $cur == -* ]] && { _vm_run_reply words \"$flags\"; return; }\n"
        "        %s\n"
        "        ;;\n",
        replies[command->operand]);
}

static void append_command(GString *out, const CmdCommand *command)
{
    g_autofree CmdFlag *flags = cmd_command_flags(command);
    g_string_append_printf(out, "    '%s'", command->name);
    if (command->alias) {
        g_string_append_printf(out, " | '%s'", command->alias);
    }
    g_string_append(out, ")\n        local flags='");
    for (const CmdFlag *flag = flags; flag->name; flag++) {
        g_string_append_printf(out, "%s--%s", flag == flags ? "" : " ", flag->name);
    }
    g_string_append(out, "'\n        case $prev in\n");
    for (const CmdFlag *flag = flags; flag->name; flag++) {
        append_value(out, flag);
    }
    g_string_append(out, "        esac\n");
    append_operands(out, command);
}

static void append_no_command(GString *out)
{
    g_autofree char *words = command_words(NULL);
    g_string_append_printf(
        out,
        "    '')\n"
        "        case $prev in\n"
        "        --state-dir) _vm_run_reply dir && return ;;\n"
        "        --connect) return ;;\n"
        "        esac\n"
        "        [[ $cur == -* ]] && { _vm_run_reply words '--state-dir --connect --quiet "
        "--no-color --json --help --version'; return; }\n"
        "        _vm_run_reply words %s\n"
        "        ;;\n",
        words);
    g_auto(GStrv) groups = groups_build();
    for (char **group = groups; *group; group++) {
        g_autofree char *second = command_words(*group);
        g_string_append_printf(out, "    '%s') _vm_run_reply words %s ;;\n", *group, second);
    }
}

char *cmd_completion_bash(void)
{
    GString *out = g_string_new(head);
    append_command_finding(out);
    g_string_append(out, middle);
    append_no_command(out);
    for (unsigned i = 0; cmd_command(i); i++) {
        if (!cmd_command(i)->is_hidden) {
            append_command(out, cmd_command(i));
        }
    }
    g_string_append(out, tail);
    return g_string_free(out, FALSE);
}
