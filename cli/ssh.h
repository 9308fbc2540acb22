#pragma once
#include <stdbool.h>
#include "driver/machine.h"

/*
 * Sessions in a guest: the user's own ssh, cut off from the user's configuration, with the
 * machine's key and the machine's known hosts, so that the first login is checked as any other.
 */

/* The argv of ssh for a machine that has an address. command: the guest's argv, quoted here for the
 * login shell; NULL: a login shell. has_tty: the command gets a terminal. Transfer full. NULL +
 * HOST: the machine has no address or no login user that we know. */
char **cmd_ssh_argv(const MachineView *view, const char *const *command, bool has_tty,
                    GError **error);

/* Do we stand at a terminal that a command in the guest may have? */
bool cmd_ssh_has_tty(void);

/* Becomes ssh: returns only with an error (NOT_FOUND: no ssh in PATH). */
void cmd_ssh_exec(char **argv, GError **error);

/* Runs ssh and waits. The exit status (128 + n: ended by signal n), -1 on error. A signal that ends
 * us is passed on to it; a stop at the terminal stops us too. */
int cmd_ssh_run(char **argv, GError **error);
