#include "driver/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/file.h"
#include "driver/embed_root.h"
#include "driver/virt_ops.h"

enum { LOCK_WAIT_MS = 30000, CONF_MAX_BYTES = 256 * 1024 };

#define SYSTEM_URI "qemu:///system"

struct MachineConnection {
    char *uri;
    VirtKind kind;
    BaseLock *lock; /* of the embedded root, else NULL */
    VirtConn *virt;
};

MachineConnectionPlaces machine_connection_places(void)
{
    return (MachineConnectionPlaces){
        .system_socket = "/run/libvirt/libvirt-sock",
        .system_socket_qemu = "/run/libvirt/virtqemud-sock",
        .system_conf = "/etc/libvirt/qemu.conf",
        .is_root = geteuid() == 0,
    };
}

/* --- choosing --------------------------------------------------------------------------------- */

bool machine_connection_socket_answers(const char *path, pid_t *out_pid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autofd int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0 || strlen(path) >= sizeof address.sun_path) {
        return false;
    }
    strcpy(address.sun_path, path);
    if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0) {
        return errno == EAGAIN; /* its queue is full: it is there, and busy */
    }
    struct ucred peer = {0};
    socklen_t n = sizeof peer;
    if (out_pid && getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0) {
        *out_pid = peer.pid;
    }
    return true;
}

bool machine_connection_shares_netns(pid_t pid)
{
    struct stat ours, theirs;
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int)pid);
    return pid <= 0 || stat("/proc/self/ns/net", &ours) < 0 || stat(path, &theirs) < 0 ||
           (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino);
}

static char *embed_uri(const char *state_dir)
{
    g_autofree char *root = g_build_filename(state_dir, "libvirt", NULL);
    g_autofree char *escaped = g_uri_escape_string(root, "/", FALSE);
    return g_strconcat("qemu:///embed?root=", escaped, NULL);
}

static bool system_answers(const MachineConnectionPlaces *places, pid_t *out_pid)
{
    return machine_connection_socket_answers(places->system_socket, out_pid) ||
           machine_connection_socket_answers(places->system_socket_qemu, out_pid);
}

bool machine_connection_system_is_near(void)
{
    MachineConnectionPlaces places = machine_connection_places();
    pid_t pid = 0;
    return places.is_root && system_answers(&places, &pid) && machine_connection_shares_netns(pid);
}

static char *usual_uri(const MachineConnectionPlaces *places, const char *state_dir,
                       const char **out_why)
{
    pid_t pid = 0;
    if (!places->is_root) {
        *out_why = "not root";
        return embed_uri(state_dir);
    }
    if (!system_answers(places, &pid)) {
        *out_why = "no libvirtd answers";
        return embed_uri(state_dir);
    }
    if (!machine_connection_shares_netns(pid)) {
        *out_why = "libvirtd is in another network namespace";
        return embed_uri(state_dir);
    }
    *out_why = "libvirtd answers";
    return g_strdup(SYSTEM_URI);
}

/* Short names, and the embedded driver without a root: ours. */
static char *full_uri(const char *wish, const char *state_dir)
{
    if (strcmp(wish, "system") == 0) {
        return g_strdup(SYSTEM_URI);
    }
    if (strcmp(wish, "embed") == 0) {
        return embed_uri(state_dir);
    }
    g_autofree char *root = virt_embed_root_of_uri(wish);
    return virt_kind_of_uri(wish) == VIRT_KIND_EMBED && !root ? embed_uri(state_dir)
                                                              : g_strdup(wish);
}

char *machine_connection_choose(const MachineConnectionPlaces *places, const char *state_dir,
                                const char *wish, const char **out_why)
{
    const struct {
        const char *name, *value;
    } rows[] = {
        {"--connect", wish},
        {"VM_RUN_URI", g_getenv("VM_RUN_URI")},
        {"LIBVIRT_DEFAULT_URI", g_getenv("LIBVIRT_DEFAULT_URI")},
    };
    const char *why = NULL;
    out_why = out_why ? out_why : &why;
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].value && *rows[i].value) {
            *out_why = rows[i].name;
            return full_uri(rows[i].value, state_dir);
        }
    }
    return usual_uri(places, state_dir, out_why);
}

/* --- opening ---------------------------------------------------------------------------------- */

static bool open_embed(MachineConnection *connection, GError **error)
{
    g_autofree char *root = virt_embed_root_of_uri(connection->uri);
    if (!root || !g_path_is_absolute(root)) {
        return base_fail(error, VM_ERROR_CLI,
                         "connection '%s': the root must be an absolute path, as in "
                         "qemu:///embed?root=/var/lib/vm-run/libvirt",
                         connection->uri);
    }
    QemuUser user = machine_qemu_user_embed();
    if (!machine_embed_root_check(root, &user, error)) {
        return false;
    }
    connection->lock = machine_embed_root_lock(root, LOCK_WAIT_MS, error);
    return connection->lock && machine_embed_root_prepare(root, &user, error);
}

MachineConnection *machine_connection_open(const char *state_dir, const char *wish, GError **error)
{
    MachineConnectionPlaces places = machine_connection_places();
    g_autoptr(MachineConnection) connection = g_new0(MachineConnection, 1);
    connection->uri = machine_connection_choose(&places, state_dir, wish, NULL);
    connection->kind = virt_kind_of_uri(connection->uri);
    if (connection->kind == VIRT_KIND_EMBED && !open_embed(connection, error)) {
        return NULL;
    }
    g_autoptr(GError) cause = NULL;
    connection->virt = virt_open(connection->uri, &cause);
    if (!connection->virt) {
        bool has_hint = strstr(cause->message, " - ");
        g_set_error(error, VM_ERROR, cause->code, "%s%s", cause->message,
                    has_hint ? "" : MACHINE_CONNECTION_HINT);
        return NULL;
    }
    return g_steal_pointer(&connection);
}

void machine_connection_close(MachineConnection *connection)
{
    if (connection) {
        virt_close(connection->virt);
        base_lock_free(connection->lock);
        g_free(connection->uri);
        g_free(connection);
    }
}

VirtConn *machine_connection_virt(MachineConnection *connection)
{
    return connection->virt;
}

/* --- facts ------------------------------------------------------------------------------------ */

static void add_system_facts(HostFacts *facts, const MachineConnectionPlaces *places)
{
    pid_t pid = 0;
    g_autofree char *conf = base_file_read_user(places->system_conf, CONF_MAX_BYTES, NULL, NULL);
    QemuUser user = machine_qemu_user_system(conf);
    facts->qemu_uid = user.uid;
    facts->qemu_gid = user.gid;
    facts->can_open_kvm = facts->has_dev_kvm && machine_qemu_user_can_open(&user, "/dev/kvm");
    facts->is_netns_shared = !system_answers(places, &pid) || machine_connection_shares_netns(pid);
}

bool machine_connection_facts(MachineConnection *connection, HostFacts *facts, GError **error)
{
    MachineConnectionPlaces places = machine_connection_places();
    host_facts_probe_local(facts);
    g_free(facts->uri);
    facts->uri = g_strdup(connection->uri);
    facts->kind = connection->kind;
    if (connection->kind == VIRT_KIND_SYSTEM) {
        add_system_facts(facts, &places);
    } else if (connection->kind == VIRT_KIND_REMOTE) {
        facts->is_netns_shared = false;
    }
    if (!virt_facts(connection->virt, facts, error)) {
        return false;
    }
    host_facts_judge_kvm(facts);
    return true;
}
