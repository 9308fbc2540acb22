/* bench-seed N: the median time of building a typical seed's texts and writing its ISO, as one JSON
 * line. */
#include "tests/unit/cloudinit/typical.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
    gint64 x = *(const gint64 *)a;
    gint64 y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

static bool write_once(const Typical *typical, int dirfd)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(SeedTexts) texts = seed_texts_build(&typical->input);
    if (!seed_iso_write(texts, dirfd, "seed.iso", true, &error)) {
        fprintf(stderr, "bench-seed: %s\n", error->message);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 100;
    g_autofree char *dir = g_dir_make_tmp("bench-seed-XXXXXX", NULL);
    int dirfd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (n < 1 || dirfd < 0) {
        fprintf(stderr, "usage: bench-seed N (in a place where $TMPDIR can be written)\n");
        return 2;
    }
    Typical typical;
    typical_init(&typical);
    g_autofree gint64 *took_us = g_new(gint64, n);
    bool is_good = write_once(&typical, dirfd); /* libisofs starts */
    for (int i = 0; i < n && is_good; i++) {
        gint64 start_us = g_get_monotonic_time();
        is_good = write_once(&typical, dirfd);
        took_us[i] = g_get_monotonic_time() - start_us;
    }
    typical_clear(&typical);
    unlinkat(dirfd, "seed.iso", 0);
    close(dirfd);
    rmdir(dir);
    if (!is_good) {
        return 1;
    }
    qsort(took_us, (size_t)n, sizeof *took_us, by_value);
    printf("{\"ours_ms\": %.6f, \"n\": %d}\n", (double)took_us[n / 2] / 1000.0, n);
    return 0;
}
