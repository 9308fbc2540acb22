#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <glib.h>

#include "base/report.h"
#include "imaging/guestfs/ask.h"

/*
 * vm-run-inspect FORMAT auto|tcg FILE: see imaging/inspect.h. One JSON object on stdout, or one
 * line on stderr and exit status 1. Run with a deadline by the one who asks; what it starts is of
 * its process group.
 */
static void explain(guestfs_h *g, const char *what)
{
    const char *message = guestfs_last_error(g);
    g_autofree char *first =
        g_strndup(message ? message : "unknown error", message ? strcspn(message, "\n") : 13);
    g_autofree char *shown = base_report_escape(first, 300);
    fprintf(stderr, "%s: %s (libguestfs-test-tool tells more)\n", what, shown);
}

static bool launch(guestfs_h *g, const char *format, bool is_tcg, const char *file)
{
    char *settings[] = {is_tcg ? "force_tcg" : NULL, NULL};
    guestfs_set_error_handler(g, NULL, NULL);
    guestfs_set_autosync(g, 0);
    if (guestfs_set_backend(g, "direct") != 0 || guestfs_set_backend_settings(g, settings) != 0 ||
        guestfs_add_drive_opts(g, file, GUESTFS_ADD_DRIVE_OPTS_READONLY, 1,
                               GUESTFS_ADD_DRIVE_OPTS_FORMAT, format, -1) != 0) {
        explain(g, "libguestfs can't take the image");
        return false;
    }
    if (guestfs_launch(g) != 0) {
        explain(g, "the libguestfs appliance does not start");
        return false;
    }
    return true;
}

static bool print_answers(guestfs_h *g)
{
    static const struct {
        const char *key;
        json_t *(*ask)(guestfs_h *);
    } rows[] = {
        {"cloud_init", guestfs_ask_cloud_init},
        {"kernels", guestfs_ask_kernels},
        {"guest_agent", guestfs_ask_guest_agent},
        {"sshd", guestfs_ask_sshd},
    };
    json_t *object = json_object();
    json_t *os = guestfs_ask_os(g);
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "os", os);
    json_object_set_new(object, "filesystems", guestfs_ask_filesystems(g));
    bool has_os = json_is_object(os); /* else nothing is mounted */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_t *value = has_os ? rows[i].ask(g) : json_null();
        json_object_set_new(object, rows[i].key, value);
    }
    bool is_printed = json_dumpf(object, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(object);
    return is_printed && fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
    bool is_usage = argc == 4 && (strcmp(argv[2], "tcg") == 0 || strcmp(argv[2], "auto") == 0);
    if (!is_usage) {
        fprintf(stderr, "usage: vm-run-inspect FORMAT auto|tcg FILE\n");
        return 2;
    }
    guestfs_h *g = guestfs_create();
    if (!g) {
        fprintf(stderr, "libguestfs can't be initialised\n");
        return 1;
    }
    bool is_done = launch(g, argv[1], strcmp(argv[2], "tcg") == 0, argv[3]) && print_answers(g);
    guestfs_close(g);
    return is_done ? 0 : 1;
}
