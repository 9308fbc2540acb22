#pragma once
#include "cli/command.h"
#include "driver/machine.h"

/* The host as the common flags say. is_read_only: makes no state directory where there is none,
 * which is right for every command on machines that exist. Transfer full. */
MachineHost *cmd_host_new(const CmdContext *context, bool is_read_only, GError **error);

/* Calls `each` for every operand (a machine's name), goes on after a failure, which is said.
 * Returns the highest exit status of the failures, 0 without one. */
int cmd_each_machine(const CmdContext *context, MachineHost *host,
                     bool (*each)(const CmdContext *context, MachineHost *host, const char *name,
                                  GError **error));

/* "12s", "5m", "3h", "2d": how long something has lasted; transfer full. */
char *cmd_format_age(uint64_t seconds);

/* "127.0.0.1:8080->80/tcp, *:53->53/udp ..." of MachineForwards; transfer full, "" without one. */
char *cmd_format_forwards(const GPtrArray *forwards);
