#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "driver/machine.h"
#include "imaging/overlay.h"

/*
 * Starts and stops of one process on libvirt's test driver, 300 or VM_SOAK_CYCLES of them
 * (tests/guest/soak.test.sh: 10,000): memory, descriptors and threads stay flat, and the state
 * directory ends as it began.
 */
#define WARM_UP 100

typedef struct {
    char root[64];
    char *state_dir, *image;
} Place;

static int set_up(void **state)
{
    Place *place = g_new0(Place, 1);
    /* in memory: what is counted is ours, not the disk's time for fsync */
    strcpy(place->root,
           access("/dev/shm", W_OK) == 0 ? "/dev/shm/test_soak.XXXXXX" : "/tmp/test_soak.XXXXXX");
    assert_non_null(mkdtemp(place->root));
    place->state_dir = g_build_filename(place->root, "state", NULL);
    place->image = g_build_filename(place->root, "base.qcow2", NULL);
    ImgOverlay blank = {.virtual_bytes = 64 << 20};
    assert_true(img_overlay_create(AT_FDCWD, place->image, &blank, NULL, NULL));
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    base_dir_remove_tree(AT_FDCWD, place->root, NULL);
    g_free(place->state_dir);
    g_free(place->image);
    g_free(place);
    return 0;
}

static void cycle(const Place *place, unsigned i)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup_printf("soak-%u", i % 7);
    g_autoptr(MachineHost) host =
        machine_host_new(place->state_dir, "test:///default", false, &error);
    g_autoptr(MachineSpec) spec = spec_machine_new();
    g_autoptr(BaseReport) report = base_report_new();
    spec->name = g_strdup(name);
    spec_machine_set(spec, "image", place->image, "test", report);
    spec_machine_finish(spec, report);
    assert_int_equal(base_report_n_errors(report), 0);
    MachineStartOptions options = {.command = "run", .is_new = true};
    if (!machine_start(host, name, spec, &options, NULL, &error)) {
        fail_msg("cycle %u: %s", i, error->message);
    }
    if (i % 3 == 0 && !machine_stop(host, name, 0, NULL, NULL, &error)) {
        fail_msg("cycle %u: stop: %s", i, error->message);
    }
    if (!machine_destroy(host, name, true, &error)) {
        fail_msg("cycle %u: destroy: %s", i, error->message);
    }
}

static unsigned count_entries(const char *path)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static long rss_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static void test_soak_memory_descriptors_and_state_stay_flat(void **state)
{
    Place *place = *state;
    const char *wish = g_getenv("VM_SOAK_CYCLES");
    unsigned n = wish ? (unsigned)strtoul(wish, NULL, 10) : 300;
    for (unsigned i = 0; i < WARM_UP; i++) {
        cycle(place, i);
    }
    long rss = rss_kib();
    unsigned fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    for (unsigned i = WARM_UP; i < n; i++) {
        cycle(place, i);
    }
    long grown = rss_kib() - rss;
    print_message("%u cycles: RSS %+ld KiB from %ld, descriptors %u -> %u, threads %u -> %u\n", n,
                  grown, rss, fds, count_entries("/proc/self/fd"), threads,
                  count_entries("/proc/self/task"));
    assert_int_equal(count_entries("/proc/self/fd"), fds);
    assert_int_equal(count_entries("/proc/self/task"), threads);
#ifndef TEST_SANITIZED /* sanitizers keep what was freed for a while, and look for leaks           \
                          themselves */
    /* under 1 KiB a thousand, and the allocator's grain */
    assert_true(grown < 1024 + (long)(n / 1000));
#endif
    g_autofree char *machines = g_build_filename(place->state_dir, "machines", NULL);
    g_autofree char *locks = g_build_filename(place->state_dir, "locks", NULL);
    assert_int_equal(count_entries(machines), 2);
    assert_int_equal(count_entries(locks), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_soak_memory_descriptors_and_state_stay_flat, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
