#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include <glib.h>

#include "base/dir.h"
#include "base/fd.h"
#include "base/report.h"
#include "imaging/guestfs/ask.h"
#include "imaging/inspect.h"

/*
 * vm-run-inspect FORMAT auto|tcg TIMEOUT_MS FILE: see imaging/inspect.h. One JSON object on stdout,
 * or one line on stderr and exit status 1, IMG_INSPECT_LATE at the deadline.
 *
 * How the deadline works: a call of libguestfs returns only when its QEMU answers or ends. So a
 * timer ends all that is in our process group but us, again and again, until the call fails and
 * guestfs_close() can remove what it made: for root its socket is in /tmp, whatever the settings
 * say.
 */
#define AGAIN_US 200000

static volatile sig_atomic_t is_late;

static void on_deadline(int signal_number)
{
    (void)signal_number;
    is_late = 1;
    kill(0, SIGTERM);
}

/* A handler, not SIG_IGN: that would be inherited by what we start. */
static void on_term(int signal_number)
{
    (void)signal_number;
}

static void start_timer(unsigned long timeout_ms)
{
    struct sigaction late = {.sa_handler = on_deadline, .sa_flags = SA_RESTART};
    struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
    struct itimerval timer = {
        .it_interval = {0, AGAIN_US},
        .it_value = {(time_t)(timeout_ms / 1000), (suseconds_t)(timeout_ms % 1000 * 1000)}};
    setpgid(0, 0); /* fails where we lead a session, which is as good */
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGALRM, &late, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* An appliance that was being built when we ended its builder stays as appliance.d.XXXXXXXX. While
 * the lock is ours nobody builds one (supermin(1), --lock), so all that have such a name are dead.
 */
static void sweep_cache(const char *cache)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    g_autofree char *folder = g_strdup_printf("%s/.guestfs-%u", cache, geteuid());
    autofd int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    autofd int lock_fd = openat(dirfd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    if (!dir || lock_fd < 0 || fcntl(lock_fd, F_SETLK, &lock) != 0) {
        return;
    }
    for (const char *name = g_dir_read_name(dir); name; name = g_dir_read_name(dir)) {
        if (g_str_has_prefix(name, "appliance.d.")) {
            base_dir_remove_tree(dirfd, name, NULL);
        }
    }
}

static void explain(guestfs_h *g, const char *what)
{
    if (is_late) {
        return; /* the one who asked knows */
    }
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
    bool is_printed =
        !is_late && json_dumpf(object, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(object);
    return is_printed && fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
    unsigned long timeout_ms = argc == 5 ? strtoul(argv[3], NULL, 10) : 0;
    if (timeout_ms == 0 || (strcmp(argv[2], "tcg") != 0 && strcmp(argv[2], "auto") != 0)) {
        fprintf(stderr, "usage: vm-run-inspect FORMAT auto|tcg TIMEOUT_MS FILE\n");
        return 2;
    }
    start_timer(timeout_ms);
    guestfs_h *g = guestfs_create();
    if (!g) {
        fprintf(stderr, "libguestfs can't be initialised\n");
        return 1;
    }
    bool is_done = launch(g, argv[1], strcmp(argv[2], "tcg") == 0, argv[4]) && print_answers(g);
    g_autofree char *cache = guestfs_get_cachedir(g);
    guestfs_close(g);
    if (is_late && cache) {
        sweep_cache(cache);
    }
    return is_done ? 0 : is_late ? IMG_INSPECT_LATE : 1;
}
