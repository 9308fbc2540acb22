#include "tests/unit/net/helper_trace.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <linux/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static bool is_write_open(const struct ptrace_syscall_info *info)
{
    return info->entry.nr == SYS_openat && (info->entry.args[2] & O_ACCMODE) != O_RDONLY &&
           !(info->entry.args[2] & O_PATH);
}

static bool has_effect(const struct ptrace_syscall_info *info)
{
    switch (info->entry.nr) {
    case SYS_sendmsg:
    case SYS_sendto:
    case SYS_ioctl:
    case SYS_write:
        return true;
    default:
        return is_write_open(info);
    }
}

static void be_child(bool (*work)(void *data), void *data)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    _exit(work(data) ? 0 : 1);
}

/* At the start of a system call. */
static void count(TestTrace *trace, pid_t pid, unsigned kill_at)
{
    struct ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY || !has_effect(&info)) {
        return;
    }
    trace->n_calls++;
    trace->n_write_opens += is_write_open(&info);
    if (trace->n_calls == kill_at) {
        kill(pid, SIGKILL);
        trace->is_killed = true;
    }
}

TestTrace test_trace(bool (*work)(void *data), void *data, unsigned kill_at)
{
    TestTrace trace = {0};
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        be_child(work, data);
    }
    assert_int_equal(waitpid(pid, &trace.status, 0), pid);
    assert_true(WIFSTOPPED(trace.status));
    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    while (WIFSTOPPED(trace.status)) {
        int signal = WSTOPSIG(trace.status);
        if (signal == (SIGTRAP | 0x80)) {
            count(&trace, pid, kill_at);
            signal = 0;
        }
        ptrace(PTRACE_SYSCALL, pid, NULL, signal == SIGSTOP ? 0 : signal);
        assert_int_equal(waitpid(pid, &trace.status, 0), pid);
    }
    return trace;
}
