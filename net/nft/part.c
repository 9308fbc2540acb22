#include "net/nft/part.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/report.h"
#include "net/nft/flows.h"

/*
 * How it works: one context of libnftables is kept, since freeing one after something was deleted
 * waits 10-30 ms for the kernel. Its socket belongs to the namespace it was made in, so the context
 * is made anew when the calling thread is in another one, or in another process.
 */
static struct {
    GMutex mutex;
    struct nft_ctx *context; /* NULL: none yet */
    dev_t device;            /* the namespace it belongs to */
    ino_t inode;
    pid_t pid;
} door; /* guarded by its mutex */

static const struct {
    int errnum;
    VmError code;
} kernel_words[] = {
    {EEXIST, VM_ERROR_EXISTS},   {ENOENT, VM_ERROR_NOT_FOUND},       {EPERM, VM_ERROR_DENIED},
    {EBUSY, VM_ERROR_BUSY},      {EOPNOTSUPP, VM_ERROR_UNSUPPORTED}, {ENOMEM, VM_ERROR_NO_SPACE},
    {ENFILE, VM_ERROR_NO_SPACE},
};

/* libnftables opens its socket without CLOEXEC and does not tell which it is. */
static void close_sockets_on_exec(void)
{
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *entry = fds ? readdir(fds) : NULL; entry; entry = readdir(fds)) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        int domain = 0, protocol = 0;
        socklen_t n = sizeof domain;
        if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) && domain == AF_NETLINK &&
            !getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) &&
            protocol == NETLINK_NETFILTER) {
            fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
    }
    if (fds) {
        closedir(fds);
    }
}

/* Where it can't open its socket, libnftables prints and ends the process: so try before. */
static bool can_open_socket(GError **error)
{
    autofd int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0) {
        base_error_set_errno(error, errno, "cannot talk to nf_tables");
    }
    return fd >= 0;
}

static struct nft_ctx *new_context(GError **error)
{
    if (!can_open_socket(error)) {
        return NULL;
    }
    struct nft_ctx *context = nft_ctx_new(NFT_CTX_DEFAULT);
    if (!context || nft_ctx_buffer_output(context) || nft_ctx_buffer_error(context)) {
        base_fail(error, VM_ERROR_HOST, "libnftables can't be set up");
        return NULL;
    }
    close_sockets_on_exec();
    return context;
}

/* The one of this thread's namespace. Borrowed. */
static struct nft_ctx *take_context(GError **error)
{
    struct stat here = {0};
    if (stat("/proc/thread-self/ns/net", &here)) {
        base_error_set_errno(error, errno, "cannot see this network namespace");
        return NULL;
    }
    if (door.context && door.pid == getpid() && door.device == here.st_dev &&
        door.inode == here.st_ino) {
        return door.context;
    }
    g_clear_pointer(&door.context, nft_ctx_free);
    door.context = new_context(error);
    door.device = here.st_dev;
    door.inode = here.st_ino;
    door.pid = getpid();
    return door.context;
}

static bool fail_run(const char *text, GError **error)
{
    VmError code = VM_ERROR_HOST;
    for (gsize i = 0; i < G_N_ELEMENTS(kernel_words) && code == VM_ERROR_HOST; i++) {
        if (strstr(text, strerror(kernel_words[i].errnum))) {
            code = kernel_words[i].code;
        }
    }
    const char *message = strstr(text, "Error: ");
    message = message ? message + strlen("Error: ") : text;
    g_autofree char *line = g_strndup(message, strcspn(message, "\n"));
    g_autofree char *shown = base_report_escape(*line ? line : "no reason given", 300);
    return base_fail(error, code, "nf_tables: %s", shown);
}

static bool run(const char *commands, bool is_json, char **out_output, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&door.mutex);
    struct nft_ctx *context = take_context(error);
    if (!context) {
        return false;
    }
    nft_ctx_output_set_flags(context, is_json ? NFT_CTX_OUTPUT_JSON : 0);
    int failed = nft_run_cmd_from_buffer(context, commands);
    const char *said = nft_ctx_get_error_buffer(context); /* reading empties it */
    if (failed) {
        fail_run(said ? said : "", error);
    }
    const char *output = nft_ctx_get_output_buffer(context);
    if (!failed && out_output) {
        *out_output = g_strdup(output ? output : "");
    }
    return !failed;
}

__attribute__((visibility("default"))) extern const NetNftPart net_nft_part;
const NetNftPart net_nft_part = {.run = run, .end_flows = net_nft_end_flows};
