#pragma once
/* A directory for one test program, and child programs whose end is checked. */
#include "base/dir.h"
#include "base/child.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <glib/gstdio.h>

static inline int scratch_setup(void **state)
{
    GError *error = NULL;
    *state = g_dir_make_tmp("vm-cloudinit-XXXXXX", &error);
    return *state ? 0 : -1;
}

static inline int scratch_teardown(void **state)
{
    bool is_gone = base_dir_remove_tree(AT_FDCWD, *state, NULL);
    g_free(*state);
    return is_gone ? 0 : -1;
}

/* Runs a program to its end; its output, transfer full; fails the test when it doesn't end with 0.
 */
static inline char *scratch_run(const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    char *output = NULL;
    BaseChild child = {.argv = argv,
                       .stdin_fd = -1,
                       .stdout_fd = -1,
                       .stderr_fd = -1,
                       .timeout_ms = 120000,
                       .max_output_bytes = 64 << 20};
    if (!base_child_run(&child, &output, NULL, &error)) {
        fail_msg("%s: %s", argv[0], error->message);
    }
    return output;
}
#define SCRATCH_RUN(...) scratch_run((const char *const[]){__VA_ARGS__, NULL})

static inline char *scratch_path(void **state, const char *name)
{
    return g_build_filename(*state, name, NULL);
}

static inline char *scratch_write(void **state, const char *name, const char *text)
{
    char *path = scratch_path(state, name);
    assert_true(g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    return path;
}

static inline char *scratch_read(const char *path)
{
    char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}
