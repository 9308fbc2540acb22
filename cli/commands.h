#pragma once
#include "cli/command.h"

/* The rows that the files cmd_<verb>.c give to the command table. */
extern const CmdCommand cmd_run, cmd_start, cmd_stop, cmd_restart, cmd_update, cmd_rm;
extern const CmdCommand cmd_ps, cmd_show, cmd_logs, cmd_console, cmd_ssh, cmd_events, cmd_stats;
extern const CmdCommand cmd_check, cmd_schema, cmd_image_probe, cmd_image_inspect,
    cmd_image_inspect, cmd_image_overlay, cmd_seed;
extern const CmdCommand cmd_network_ls, cmd_network_show, cmd_network_add, cmd_network_rm,
    cmd_network_check, cmd_network_update;
extern const CmdCommand cmd_gc, cmd_doctor, cmd_completion, cmd_help, cmd_version;
extern const CmdCommand cmd_internal_start, cmd_internal_end;
