#include "cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A handler has no argument of ours: these three are all the mutable state of the program. */
static volatile sig_atomic_t first_signal;
static volatile sig_atomic_t is_patient;
static int wake_fd = -1;

static void on_signal(int signum)
{
    int saved_errno = errno;
    if (first_signal && !is_patient) {
        signal(signum, SIG_DFL);
        raise(signum); /* delivered when the handler returns */
    } else if (!first_signal) {
        first_signal = signum;
        uint64_t one = 1;
        ssize_t n = write(wake_fd, &one, sizeof one);
        (void)n; /* an eventfd with room can't fail */
    }
    errno = saved_errno;
}

static void init(bool is_patient_now)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    is_patient = is_patient_now;
    if (wake_fd < 0) {
        wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: waits shall end */
    sigemptyset(&action.sa_mask);
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction old;
        if (!sigaction(signals[i], NULL, &old) && old.sa_handler != SIG_IGN) {
            sigaction(signals[i], &action, NULL);
        }
    }
}

void cmd_signals_init(void)
{
    init(false);
}

void cmd_signals_init_patient(void)
{
    init(true);
}

int cmd_signals_fd(void)
{
    return wake_fd;
}

int cmd_signals_first(void)
{
    return first_signal;
}
