#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/fd.h"
#include "imaging/overlay.h"
#include "imaging/source.h"

/* bench-overlay BASE N: makes N overlays of BASE in a new folder of TMPDIR, one JSON line with the
 * median of one: {"ours_ms": opening, checking and overlaying, "overlay_ms": the overlay alone,
 * "n": N}. */
static int by_value(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

static double median_ms(gint64 *ns, unsigned n)
{
    qsort(ns, n, sizeof(*ns), by_value);
    return (double)ns[n / 2] / 1e6;
}

static gint64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64)now.tv_sec * 1000000000 + now.tv_nsec;
}

static bool run_once(const char *base, int dirfd, gint64 *whole_ns, gint64 *overlay_ns,
                     GError **error)
{
    gint64 before_ns = now_ns();
    g_autoptr(ImgSource) source = img_source_open(base, NULL, -1, error);
    if (!source) {
        return false;
    }
    ImgOverlay overlay = {source->path, source->header->format, source->header->virtual_bytes, 0};
    gint64 opened_ns = now_ns();
    bool is_made = img_overlay_create(dirfd, "overlay.qcow2", &overlay, NULL, error);
    gint64 after_ns = now_ns();
    *whole_ns = after_ns - before_ns;
    *overlay_ns = after_ns - opened_ns;
    return is_made && unlinkat(dirfd, "overlay.qcow2", 0) == 0;
}

int main(int argc, char **argv)
{
    unsigned n = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    if (n == 0) {
        fprintf(stderr, "usage: bench-overlay BASE N\n");
        return 2;
    }
    g_autoptr(GError) error = NULL;
    g_autofree gint64 *whole_ns = g_new0(gint64, n);
    g_autofree gint64 *overlay_ns = g_new0(gint64, n);
    g_autofree char *dir = g_dir_make_tmp("vm-bench-overlay-XXXXXX", &error);
    autofd int dirfd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool is_run = dirfd >= 0;
    for (unsigned i = 0; is_run && i < n; i++) {
        is_run = run_once(argv[1], dirfd, &whole_ns[i], &overlay_ns[i], &error);
    }
    if (dir) {
        base_dir_remove_tree(AT_FDCWD, dir, NULL);
    }
    if (!is_run) {
        fprintf(stderr, "bench-overlay: %s\n", error ? error->message : "cannot open a folder");
        return 1;
    }
    printf("{\"ours_ms\": %.6f, \"overlay_ms\": %.6f, \"n\": %u}\n", median_ms(whole_ns, n),
           median_ms(overlay_ns, n), n);
    return 0;
}
