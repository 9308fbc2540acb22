#pragma once
#include <glib.h>

/*
 * Structured logging through GLib's g_log_structured(): fields MACHINE, STEP. Folders below driver/
 * log at debug only. Off unless VM_RUN_LOG=debug|info|warning; goes to stderr as one line each,
 * escaped. GLib's own criticals are shown always: they are bugs. A secret is never an argument.
 */

/* Once, first thing in main(). */
void base_log_init(void);

#define base_log_debug(machine, step, ...)                                                         \
    base_log_write(G_LOG_LEVEL_DEBUG, machine, step, __VA_ARGS__)
#define base_log_warning(machine, step, ...)                                                       \
    base_log_write(G_LOG_LEVEL_WARNING, machine, step, __VA_ARGS__)

/* machine and step may be NULL. */
void base_log_write(GLogLevelFlags level, const char *machine, const char *step, const char *format,
                    ...) G_GNUC_PRINTF(4, 5);
