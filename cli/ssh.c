#include "cli/ssh.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/error.h"
#include "cli/signals.h"

/* A path as ssh_config(5) reads it: quoted, with % doubled. */
static char *option_path(const char *option, const char *dir, const char *file)
{
    GString *out = g_string_new(option);
    g_string_append(out, "=\"");
    g_autofree char *path = g_build_filename(dir, file, NULL);
    for (const char *at = path; *at; at++) {
        if (*at == '%') {
            g_string_append_c(out, '%');
        } else if (*at == '"' || *at == '\\') {
            g_string_append_c(out, '\\');
        }
        g_string_append_c(out, *at);
    }
    g_string_append_c(out, '"');
    return g_string_free(out, FALSE);
}

static void add_option(GPtrArray *argv, char *option)
{
    g_ptr_array_add(argv, g_strdup("-o"));
    g_ptr_array_add(argv, option);
}

/* Only the machine's own files count, and its one host key; no file of the user is read or written.
 */
static void add_isolation(GPtrArray *argv, const MachineView *view, bool is_interactive)
{
    static const char *const fixed[] = {"GlobalKnownHostsFile=/dev/null",
                                        "StrictHostKeyChecking=yes",
                                        "HostKeyAlgorithms=ssh-ed25519",
                                        "UpdateHostKeys=no",
                                        "IdentitiesOnly=no",
                                        "LogLevel=ERROR",
                                        "ConnectTimeout=30",
                                        NULL};
    g_ptr_array_add(argv, g_strdup("-F"));
    g_ptr_array_add(argv, g_strdup("none"));
    add_option(argv, option_path("UserKnownHostsFile", view->dir, "known_hosts"));
    add_option(argv, g_strdup_printf("HostKeyAlias=%s", view->name)); /* wherever it is reached */
    add_option(argv, option_path("IdentityFile", view->dir, "id_ed25519"));
    for (const char *const *option = fixed; *option; option++) {
        add_option(argv, g_strdup(*option));
    }
    if (!is_interactive) {
        add_option(argv, g_strdup("BatchMode=yes")); /* nobody is there to type a password */
    }
}

/* ssh joins the words with spaces and the guest's login shell splits them again: quoted, they come
 * out as they went in. */
static char *quote_command(const char *const *command)
{
    GString *line = g_string_new(NULL);
    for (const char *const *word = command; *word; word++) {
        g_autofree char *quoted = g_shell_quote(*word);
        g_string_append_printf(line, "%s%s", word == command ? "" : " ", quoted);
    }
    return g_string_free(line, FALSE);
}

char **cmd_ssh_argv(const MachineView *view, const char *const *command, bool has_tty,
                    GError **error)
{
    if (!view->ssh_addr || !view->ssh_port) {
        base_fail(error, VM_ERROR_HOST,
                  "machine '%s' has no address that ssh could reach - try "
                  "'vm-run console %s'",
                  view->name, view->name);
        return NULL;
    }
    if (!view->login_user) {
        base_fail(error, VM_ERROR_HOST,
                  "machine '%s': its login user is not known - start it with --user", view->name);
        return NULL;
    }
    GPtrArray *argv = g_ptr_array_new();
    g_ptr_array_add(argv, g_strdup("ssh"));
    add_isolation(argv, view, !command || has_tty);
    if (command) {
        g_ptr_array_add(argv, g_strdup(has_tty ? "-t" : "-T"));
    }
    g_ptr_array_add(argv, g_strdup("-p"));
    g_ptr_array_add(argv, g_strdup_printf("%u", view->ssh_port));
    g_ptr_array_add(argv, g_strdup("-l"));
    g_ptr_array_add(argv, g_strdup(view->login_user));
    g_ptr_array_add(argv, g_strdup("--"));
    g_ptr_array_add(argv, g_strdup(view->ssh_addr));
    if (command) {
        g_ptr_array_add(argv, quote_command(command));
    }
    g_ptr_array_add(argv, NULL);
    return (char **)g_ptr_array_free(argv, FALSE);
}

bool cmd_ssh_has_tty(void)
{
    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

void cmd_ssh_exec(char **argv, GError **error)
{
    g_autofree char *path = g_find_program_in_path(argv[0]);
    if (!path) {
        base_fail(error, VM_ERROR_NOT_FOUND,
                  "program 'ssh' is not in PATH - install openssh-client");
        return;
    }
    signal(SIGPIPE, SIG_DFL); /* an ignored signal would stay ignored over exec */
    execv(path, argv);
    base_error_set_errno(error, errno, "cannot run '%s'", path);
}

/* Until it has ended; a stop of it (~^Z, or SIGSTOP of the job) is a stop of us, so that the shell
 * takes over. */
static int wait_for(pid_t pid, GError **error)
{
    for (int status = 0, n_passed = 0;;) {
        pid_t done = waitpid(pid, &status, WUNTRACED);
        if (done < 0 && errno != EINTR) {
            base_error_set_errno(error, errno, "cannot wait for ssh");
            return -1;
        }
        if (done < 0) {
            int signum = cmd_signals_first();
            if (signum && !n_passed++) {
                kill(pid, signum == SIGHUP ? SIGHUP : SIGTERM);
            }
        } else if (WIFSTOPPED(status)) {
            raise(SIGSTOP);
            kill(pid, SIGCONT);
        } else {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}

int cmd_ssh_run(char **argv, GError **error)
{
    g_auto(GStrv) env = g_get_environ();
    BaseChild child = {
        .argv = (const char *const *)argv,
        .extra_env = (const char *const *)env,
        .stdin_fd = STDIN_FILENO,
        .stdout_fd = STDOUT_FILENO,
        .stderr_fd = STDERR_FILENO,
        .is_foreground = true,
    };
    pid_t pid = base_child_spawn(&child, NULL, error);
    return pid < 0 ? -1 : wait_for(pid, error);
}
