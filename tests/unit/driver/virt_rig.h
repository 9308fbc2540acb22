#pragma once

/*
 * The rig of test_virt_embed.c: a state directory in /tmp, disks in a 0700 folder, a folder for
 * sockets that belongs to QEMU's user, a connection (TEST_CONNECT, else embedded) and the reference
 * domain. Included once.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "base/dir.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/proc.h"
#include "driver/connection.h"
#include "driver/embed_root.h"
#include "driver/qmp.h"
#include "imaging/overlay.h"

#define UUID "5f1c2f0e-2f56-5a57-9f66-2d6a5c1d3a10"
#define NAME "ref"

typedef struct {
    char *state, *dir, *run; /* state directory, machine's folder, sockets' folder */
    char *base;              /* the image below the overlay */
    char *wish;              /* connection */
    HostFacts *facts;
    MachineConnection *connection;
    int fds[3];
} Rig;

static Rig rig;

static VirtConn *conn(void)
{
    return machine_connection_virt(rig.connection);
}

static bool try_open(void)
{
    g_autoptr(GError) error = NULL;
    rig.connection = machine_connection_open(rig.state, rig.wish, &error);
    if (error) {
        print_error("%s\n", error->message);
    }
    return rig.connection;
}

static void open_connection(void)
{
    assert_true(try_open());
}

static void close_connection(void)
{
    machine_connection_close(rig.connection);
    rig.connection = NULL;
}

static void reopen(void)
{
    close_connection();
    open_connection();
}

static void write_blank(const char *path)
{
    autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
}

static void make_disks(const char *image)
{
    int dirfd = open(rig.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    ImgOverlay overlay = {.backing_path = rig.base, .backing_format = IMG_FORMAT_RAW};
    g_autofree char *seed = g_build_filename(rig.dir, "seed.iso", NULL);
    if (image) {
        g_autofree char *bytes = NULL;
        gsize n = 0;
        autofd int fd = open(rig.base, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(g_file_get_contents(image, &bytes, &n, NULL));
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        autofd int in = open(rig.base, O_RDONLY | O_CLOEXEC);
        g_autoptr(ImgHeader) header = img_header_read(in, -1, NULL);
        overlay.backing_format = header->format;
        overlay.backing_bytes = header->virtual_bytes;
    } else {
        write_blank(rig.base);
        assert_int_equal(stat(rig.base, &st), 0);
        overlay.backing_bytes = (uint64_t)st.st_size;
    }
    assert_true(img_overlay_create(dirfd, "root.qcow2", &overlay, NULL, NULL));
    write_blank(seed);
    close(dirfd);
}

static int teardown(void **context)
{
    (void)context;
    if (rig.connection || try_open()) {
        virt_destroy(conn(), UUID, NULL);
        virt_undefine(conn(), UUID, NULL);
    }
    close_connection();
    host_facts_free(rig.facts);
    base_dir_remove_tree(AT_FDCWD, rig.state, NULL);
    g_free(rig.state);
    g_free(rig.dir);
    g_free(rig.run);
    g_free(rig.base);
    g_free(rig.wish);
    return 0;
}

static int setup(void **context)
{
    (void)context;
    const char *image = g_getenv("TEST_GUEST_IMAGE"), *wish = g_getenv("TEST_CONNECT");
    rig.state = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    rig.dir = g_build_filename(rig.state, "m", NULL);
    rig.run = g_build_filename(rig.state, "run", NULL);
    rig.base = g_build_filename(rig.dir, "base.img", NULL);
    rig.wish = g_strdup(wish ? wish : "embed");
    rig.facts = host_facts_new();
    assert_int_equal(g_chmod(rig.state, 0711), 0); /* QEMU is another user when we are root */
    assert_int_equal(g_mkdir(rig.dir, 0700) | g_mkdir(rig.run, 0700), 0);
    make_disks(image);
    if (!try_open() || !machine_connection_facts(rig.connection, rig.facts, NULL)) {
        print_error("cannot use '%s'\n", rig.wish);
        teardown(context);
        return -1;
    }
    if (geteuid() == 0) {
        assert_int_equal(chown(rig.run, rig.facts->qemu_uid, rig.facts->qemu_gid), 0);
    }
    return 0;
}

static char *replaced(char *text, const char *from, const char *to)
{
    g_auto(GStrv) parts = g_strsplit(text, from, -1);
    g_free(text);
    return g_strjoinv(to, parts);
}

static char *reference_xml(void)
{
    char *text = NULL;
    bool is_guest = g_getenv("TEST_GUEST_IMAGE");
    assert_true(
        g_file_get_contents(TEST_SOURCE_DIR "/golden/domain/reference.xml", &text, NULL, NULL));
    text = replaced(text, "@DIR@/base.qcow2", "@DIR@/base.img");
    text = replaced(text, "@DIR@", rig.dir);
    text = replaced(text, "@RUN@", rig.run);
    text = replaced(text, "@STATE@", rig.state);
    if (!is_guest) {
        text = replaced(text, "<format type='qcow2'/>", "<format type='raw'/>");
    }
    return replaced(text, "pc-q35-7.2", rig.facts->machine_q35);
}

static void assert_state(VirtState wanted)
{
    VirtState state = VIRT_STATE_ABSENT;
    g_autoptr(GError) error = NULL;
    if (!virt_state(conn(), UUID, &state, &error)) {
        fail_msg("%s", error->message);
    }
    assert_int_equal(state, wanted);
}

static void start_reference(void)
{
    static const char *const groups[] = {"disk0", "disk0-base", "seed"};
    g_autofree char *top = g_build_filename(rig.dir, "root.qcow2", NULL);
    g_autofree char *seed = g_build_filename(rig.dir, "seed.iso", NULL);
    const char *paths[] = {top, rig.base, seed};
    VirtDiskFd disks[3];
    for (unsigned i = 0; i < 3; i++) {
        int fd = open(paths[i], (i == 0 ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        assert_true(fd >= 0);
        disks[i] = (VirtDiskFd){groups[i], fd, i == 0};
    }
    g_autoptr(GError) error = NULL;
    bool is_started = virt_start(conn(), UUID, disks, 3, &error);
    for (unsigned i = 0; i < 3; i++) {
        close(disks[i].fd);
    }
    if (!is_started) {
        fail_msg("%s", error->message);
    }
}

static pid_t qemu_pid(void)
{
    pid_t pid = 0;
    g_autofree char *path = g_build_filename(rig.run, "q", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(MachineQmp) qmp = machine_qmp_open(path, 15000, &pid, &error);
    if (!qmp) {
        fail_msg("%s", error->message);
    }
    return pid;
}

static uid_t owner_of_process(pid_t pid)
{
    struct stat st;
    g_autofree char *path = g_strdup_printf("/proc/%d", (int)pid);
    assert_int_equal(stat(path, &st), 0);
    return st.st_uid;
}

static void assert_file(const char *folder, const char *name, mode_t mode)
{
    struct stat st;
    g_autofree char *path = g_build_filename(folder, name, NULL);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, mode);
    assert_int_equal(st.st_uid, geteuid());
}

static void assert_disks_untouched(void)
{
    assert_file(rig.dir, "root.qcow2", 0600);
    assert_file(rig.dir, "base.img", 0600);
    assert_file(rig.dir, "seed.iso", 0600);
    assert_file(rig.dir, ".", 0700);
}

/* Waits on the console socket, which repeats what the guest's firmware says from now on; the log
 * has what was before. */
static bool serial_says(const char *text, int timeout_ms)
{
    g_autofree char *path = g_build_filename(rig.run, "c", NULL);
    g_autofree char *log = g_build_filename(rig.dir, "serial.log", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autofd int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    assert_int_equal(connect(sock, (struct sockaddr *)&address, sizeof address), 0);
    gint64 end_us = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    for (;;) {
        char *seen = NULL;
        bool is_there = g_file_get_contents(log, &seen, NULL, NULL) && strstr(seen, text);
        g_free(seen);
        gint64 left_ms = (end_us - g_get_monotonic_time()) / 1000;
        struct pollfd item = {.fd = sock, .events = POLLIN};
        if (is_there || left_ms <= 0 || poll(&item, 1, (int)left_ms) <= 0) {
            return is_there;
        }
        char bytes[4096];
        if (read(sock, bytes, sizeof bytes) <= 0) {
            return false;
        }
    }
}

static void assert_nothing_left(void)
{
    const char *const names[] = {"a", "c", "q", "s"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(rig.run, names[i], NULL);
        assert_int_equal(access(path, F_OK), -1);
    }
    if (strcmp(rig.wish, "embed") != 0) {
        return;
    }
    const char *const files[] = {"log/qemu/" NAME ".log", "etc/qemu/" NAME ".xml",
                                 "run/qemu/" NAME ".xml", "run/qemu/" NAME ".pid"};
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(rig.state, "libvirt", files[i], NULL);
        assert_int_equal(access(path, F_OK), -1);
    }
}
