#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/completion.h"
#include "cli/emit.h"

/* vm-run-docs DOCUMENT: prints a document made from the tables; for the build and its tests, not
 * installed. */
static const struct {
    const char *name;
    char *(*emit)(void);
} documents[] = {
    {"man", cmd_emit_man},
    {"cli.md", cmd_emit_cli_md},
    {"exit-statuses.md", cmd_emit_exit_statuses_md},
    {"completion.bash", cmd_completion_bash},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < G_N_ELEMENTS(documents); i++) {
        if (!strcmp(argv[1], documents[i].name)) {
            g_autofree char *text = documents[i].emit();
            return fputs(text, stdout) < 0 || fflush(stdout) ? 1 : 0;
        }
    }
    fputs("usage: vm-run-docs man|cli.md|exit-statuses.md|completion.bash\n", stderr);
    return 2;
}
