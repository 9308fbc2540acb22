#include "tests/unit/imaging/images.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/fd.h"
#include "imaging/source.h"

/*
 * Each test gets a folder: images/ is the allowed root, with good.qcow2 in it; outside/ has an
 * image that must never be reached from there.
 */
typedef struct {
    char *top, *root, *outside;
    const char *roots[2];
} Place;

static void put_image(const char *path, mode_t mode)
{
    Image image = image_new_qcow2(3);
    assert_true(g_file_set_contents(path, (char *)image.bytes, (gssize)image.n, NULL));
    assert_int_equal(chmod(path, mode), 0);
    g_free(image.bytes);
}

static char *at(const Place *place, const char *name)
{
    return g_build_filename(place->top, name, NULL);
}

static int set_up(void **state)
{
    Place *place = g_new0(Place, 1);
    g_autofree char *tmp = g_dir_make_tmp("vm-source-XXXXXX", NULL);
    place->top = realpath(tmp, NULL);
    place->root = at(place, "images");
    place->outside = at(place, "outside");
    place->roots[0] = place->root;
    assert_int_equal(mkdir(place->root, 0755), 0);
    assert_int_equal(mkdir(place->outside, 0755), 0);
    g_autofree char *good = at(place, "images/good.qcow2");
    g_autofree char *secret = at(place, "outside/secret.qcow2");
    put_image(good, 0644);
    put_image(secret, 0644);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    g_autoptr(GError) error = NULL;
    if (!base_dir_remove_tree(AT_FDCWD, place->top, &error)) {
        fail_msg("%s", error->message);
    }
    free(place->top);
    g_free(place->root);
    g_free(place->outside);
    g_free(place);
    return 0;
}

static void check_refused(const char *path, const char *const *roots, int code, const char *what)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgSource) source = img_source_open(path, roots, -1, &error);
    if (source || error->code != code || !strstr(error->message, what) ||
        !g_str_has_prefix(error->message, "image '")) {
        fail_msg("'%.80s': '%s' (code %d), expected '%s' (%d)", path,
                 source ? "opened" : error->message, source ? -1 : error->code, what, code);
    }
}

/* The path relative to the top, under the root. */
static void check_strict(const Place *place, const char *name, int code, const char *what)
{
    g_autofree char *path = at(place, name);
    check_refused(path, place->roots, code, what);
}

static void test_image_below_a_root_when_named_then_opened_as_checked(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/good.qcow2");
    g_autofree char *slashes = g_strdup_printf("%s//good.qcow2", place->root);
    g_autofree char *root_slash = g_strconcat(place->root, "/", NULL);
    const char *const roots[] = {"/nonexistent", root_slash, NULL};
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgSource) source = img_source_open(slashes, roots, IMG_FORMAT_QCOW2, &error);
    assert_null(error);
    assert_string_equal(source->path, path);
    assert_int_equal(source->ino, st.st_ino);
    assert_int_equal(source->dev, st.st_dev);
    assert_int_equal(source->header->virtual_bytes, SMALL_VIRTUAL);
    assert_int_equal(fcntl(source->fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(source->fd, F_GETFD), FD_CLOEXEC);
}

static void test_path_when_it_leads_outside_the_root_then_refused(void **state)
{
    Place *place = *state;
    g_autofree char *link = at(place, "images/link.qcow2");
    g_autofree char *linked_dir = at(place, "images/dir");
    g_autofree char *evil = g_strconcat(place->root, "-evil", NULL);
    g_autofree char *upper = at(place, "IMAGES");
    g_autofree char *secret = at(place, "outside/secret.qcow2");
    assert_int_equal(symlink(secret, link), 0);
    assert_int_equal(symlink(place->outside, linked_dir), 0);
    assert_int_equal(mkdir(evil, 0755), 0);
    assert_int_equal(mkdir(upper, 0755), 0);
    check_refused("/etc/shadow", place->roots, VM_ERROR_PATH, "outside the allowed");
    check_refused("../../etc/shadow", place->roots, VM_ERROR_PATH, "outside the allowed");
    check_refused("good.qcow2", place->roots, VM_ERROR_PATH, "outside the allowed");
    check_strict(place, "images/../outside/secret.qcow2", VM_ERROR_PATH, "leaves its image folder");
    check_strict(place, "images/sub/../../outside/secret.qcow2", VM_ERROR_NOT_FOUND,
                 "no such file");
    check_strict(place, "images/link.qcow2", VM_ERROR_PATH, "symlink");
    check_strict(place, "images/dir/secret.qcow2", VM_ERROR_PATH, "symlink");
    check_strict(place, "images-evil/x.qcow2", VM_ERROR_PATH, "outside the allowed");
    check_strict(place, "IMAGES/good.qcow2", VM_ERROR_PATH, "outside the allowed");
    check_strict(place, "images", VM_ERROR_PATH, "outside the allowed");
    check_strict(place, "outside/secret.qcow2", VM_ERROR_PATH, "outside the allowed");
    check_strict(place, "images/absent.qcow2", VM_ERROR_NOT_FOUND, "no such file");
    check_strict(place, "images/good.qcow2/x", VM_ERROR_NOT_FOUND, "no such file");
    check_refused("/proc/self/root/etc/shadow", (const char *const[]){"/proc/self", NULL},
                  VM_ERROR_PATH, "symlink");
}

static void make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void test_thing_when_no_regular_file_then_refused_without_opening_it(void **state)
{
    Place *place = *state;
    g_autofree char *fifo = at(place, "images/fifo");
    g_autofree char *folder = at(place, "images/folder");
    g_autofree char *sock = at(place, "images/socket");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(mkdir(folder, 0755), 0);
    make_socket(sock);
    for (int is_strict = 0; is_strict < 2; is_strict++) {
        const char *const *roots = is_strict ? place->roots : NULL;
        check_refused(fifo, roots, VM_ERROR_PATH, "a fifo");
        check_refused(folder, roots, VM_ERROR_PATH, "a folder");
        check_refused(sock, roots, VM_ERROR_PATH, "a socket");
    }
    check_refused("/dev/zero", NULL, VM_ERROR_PATH, "a device");
    check_refused("/dev/zero", (const char *const[]){"/dev", NULL}, VM_ERROR_PATH, "a device");
    check_refused("/dev/stdin", NULL, VM_ERROR_PATH, "link into /proc");
    check_refused("/proc/self/fd/0", NULL, VM_ERROR_PATH, "link into /proc");
}

static void test_name_when_it_looks_like_a_protocol_then_refused(void **state)
{
    static const char *const names[] = {
        "nbd://127.0.0.1/x",
        "http://h/x.qcow2",
        "ssh://h/x",
        "rbd:pool/x",
        "json:{\"driver\":\"file\"}",
        "fat:/etc",
        "file:x",
        "a:b",
        ":",
        "nbd:unix:/x",
        "https:",
        "vvfat:rw:/etc",
    };
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        check_refused(names[i], NULL, VM_ERROR_PATH, "looks like a protocol");
    }
}

static void test_file_when_its_name_has_a_colon_then_opened_by_its_path(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/json:{a}:b.qcow2");
    put_image(path, 0644);
    g_autoptr(ImgSource) source = img_source_open(path, place->roots, -1, NULL);
    assert_non_null(source);
    assert_string_equal(source->path, path);
}

static void test_path_when_empty_too_long_or_with_control_characters_then_refused(void **state)
{
    (void)state;
    g_autofree char *long_path = g_strnfill(4097, 'a');
    g_autofree char *long_name = g_strnfill(300, 'a');
    check_refused("", NULL, VM_ERROR_PATH, "empty");
    check_refused(long_path, NULL, VM_ERROR_PATH, "longer than 4095");
    check_refused(long_name, NULL, VM_ERROR_PATH, "longer than 255");
    check_refused("/tmp/a\nb", NULL, VM_ERROR_PATH, "control character");
    check_refused("/tmp/a\033[2J", NULL, VM_ERROR_PATH, "\\x1b");
}

static void test_file_when_others_may_write_then_refused(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/open.qcow2");
    put_image(path, 0666);
    check_refused(path, NULL, VM_ERROR_PATH, "everybody may write");
    check_refused(path, place->roots, VM_ERROR_PATH, "everybody may write");
    assert_int_equal(chmod(path, 0664), 0);
    check_refused(path, place->roots, VM_ERROR_PATH, "group may write");
    g_autoptr(ImgSource) source = img_source_open(path, NULL, -1, NULL);
    assert_non_null(source); /* a person's own umask 002 */
}

static void test_file_when_it_belongs_to_somebody_else_then_refused_below_a_root(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/foreign.qcow2");
    g_autofree char *hard = at(place, "images/hard.qcow2");
    put_image(path, 0644);
    if (chown(path, 12345, 12345) != 0) {
        print_message("skipped: only root can give a file away\n");
        skip();
    }
    check_refused(path, place->roots, VM_ERROR_PATH, "belongs to uid 12345");
    g_autoptr(ImgSource) shared = img_source_open(path, NULL, -1, NULL);
    assert_non_null(shared);
    assert_int_equal(link(path, hard), 0);
    check_refused(hard, NULL, VM_ERROR_PATH, "a hard link (one of 2) to a file of uid 12345");
    assert_int_equal(chown(place->root, 12345, 12345), 0); /* the root is theirs as well */
    g_autoptr(ImgSource) theirs = img_source_open(path, place->roots, -1, NULL);
    assert_non_null(theirs);
}

/* In a child, since the mount must not stay. 0: refused as it should be. */
static int open_across_mount(const Place *place)
{
    g_autofree char *inner = at(place, "images/inner");
    g_autofree char *path = at(place, "images/inner/secret.qcow2");
    if (!enter_mount_namespace() || mkdir(inner, 0755) != 0 ||
        mount(place->outside, inner, NULL, MS_BIND, NULL) != 0) {
        return 77;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgSource) strict = img_source_open(path, place->roots, -1, &error);
    bool is_refused = !strict && error->code == VM_ERROR_PATH && strstr(error->message, "mount");
    g_autoptr(ImgSource) inner_root =
        img_source_open(path, (const char *const[]){inner, NULL}, -1, NULL);
    return is_refused && inner_root ? 0 : 1;
}

static void test_file_when_bind_mounted_into_the_root_then_refused(void **state)
{
    Place *place = *state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(open_across_mount(place));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: no right to mount\n");
        skip();
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_symlink_when_no_roots_then_followed_and_resolved_once(void **state)
{
    Place *place = *state;
    g_autofree char *link = at(place, "latest");
    g_autofree char *good = at(place, "images/good.qcow2");
    g_autofree char *loop = at(place, "loop");
    assert_int_equal(symlink("images/good.qcow2", link), 0);
    assert_int_equal(symlink("loop", loop), 0);
    g_autoptr(ImgSource) source = img_source_open(link, NULL, -1, NULL);
    assert_non_null(source);
    assert_string_equal(source->path, good);
    check_refused(loop, NULL, VM_ERROR_PATH, "loop of symlinks");
}

static void test_relative_path_when_no_roots_then_made_absolute(void **state)
{
    Place *place = *state;
    g_autofree char *before = g_get_current_dir();
    g_autofree char *good = at(place, "images/good.qcow2");
    assert_int_equal(chdir(place->outside), 0);
    g_autoptr(ImgSource) source = img_source_open("../images/good.qcow2", NULL, -1, NULL);
    assert_int_equal(chdir(before), 0);
    assert_non_null(source);
    assert_string_equal(source->path, good);
}

static void test_missing_file_when_a_near_name_is_there_then_it_is_proposed(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/god.qcow2");
    g_autofree char *far = at(place, "images/fedora-server-41.raw");
    check_refused(path, NULL, VM_ERROR_NOT_FOUND, "did you mean 'good.qcow2'?");
    g_autoptr(GError) error = NULL;
    assert_null(img_source_open(far, NULL, -1, &error));
    assert_null(strstr(error->message, "did you mean"));
}

static void test_hostile_header_when_opened_then_image_error_with_the_path(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/bad.qcow2");
    Image image = image_new_hostile(&hostiles[0]);
    assert_true(g_file_set_contents(path, (char *)image.bytes, (gssize)image.n, NULL));
    g_free(image.bytes);
    check_refused(path, place->roots, VM_ERROR_IMAGE, "bad.qcow2': has a backing file");
    g_autoptr(ImgSource) probed = img_source_probe(path, -1, NULL);
    assert_non_null(probed);
    assert_string_equal(probed->header->backing_name, "/etc/shadow");
}

static void test_image_when_written_to_after_the_check_then_told(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/good.qcow2");
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgSource) source = img_source_open(path, NULL, -1, NULL);
    assert_true(img_source_check_unchanged(source, &error));
    autofd int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_false(img_source_check_unchanged(source, &error));
    assert_int_equal(error->code, VM_ERROR_IMAGE);
}

static void test_unreadable_file_when_opened_then_denied(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/good.qcow2");
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(place->top, 0755), 0);
    pid_t pid = fork();
    if (pid == 0) {
        g_autoptr(GError) error = NULL;
        bool is_user = geteuid() != 0 || (setgid(65534) == 0 && setuid(65534) == 0);
        g_autoptr(ImgSource) source = img_source_open(path, NULL, -1, &error);
        _exit(is_user && !source && error->code == VM_ERROR_DENIED ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- the race: a name below the root flips between an honest thing and a way out ----------------
 */

#define N_RACES 20000

typedef struct {
    const char *a, *b;
    atomic_bool is_over;
    unsigned long n_swaps;
} Swapper;

static void *swap_for_ever(void *data)
{
    Swapper *swapper = data;
    while (!atomic_load(&swapper->is_over)) {
        assert_int_equal(renameat2(AT_FDCWD, swapper->a, AT_FDCWD, swapper->b, RENAME_EXCHANGE), 0);
        swapper->n_swaps++;
    }
    return NULL;
}

static void race(const Place *place, const char *honest, const char *way_out, const char *path)
{
    struct stat secret;
    g_autofree char *secret_path = at(place, "outside/secret.qcow2");
    assert_int_equal(stat(secret_path, &secret), 0);
    Swapper swapper = {honest, way_out, false, 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, swap_for_ever, &swapper), 0);
    unsigned n_opened = 0, n_lost = 0;
    for (int i = 0; i < N_RACES; i++) {
        g_autoptr(ImgSource) source = img_source_open(path, place->roots, -1, NULL);
        n_opened += source != NULL;
        n_lost += source && source->ino == secret.st_ino;
    }
    atomic_store(&swapper.is_over, true);
    pthread_join(thread, NULL);
    print_message("%d tries, %lu swaps, %u opened, %u lost\n", N_RACES, swapper.n_swaps, n_opened,
                  n_lost);
    assert_int_equal(n_lost, 0);
    assert_true(n_opened > 0 && n_opened < N_RACES);
}

static void test_file_when_exchanged_with_a_symlink_all_the_time_then_never_lost(void **state)
{
    Place *place = *state;
    g_autofree char *path = at(place, "images/good.qcow2");
    g_autofree char *link = at(place, "images/link");
    g_autofree char *secret = at(place, "outside/secret.qcow2");
    assert_int_equal(symlink(secret, link), 0);
    race(place, path, link, path);
}

static void test_folder_when_exchanged_with_a_symlink_all_the_time_then_never_lost(void **state)
{
    Place *place = *state;
    g_autofree char *folder = at(place, "images/sub");
    g_autofree char *path = at(place, "images/sub/secret.qcow2");
    g_autofree char *link = at(place, "images/link");
    assert_int_equal(mkdir(folder, 0755), 0);
    put_image(path, 0644);
    assert_int_equal(symlink(place->outside, link), 0);
    race(place, folder, link, path);
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(test_image_below_a_root_when_named_then_opened_as_checked),
        WITH_PLACE(test_path_when_it_leads_outside_the_root_then_refused),
        WITH_PLACE(test_thing_when_no_regular_file_then_refused_without_opening_it),
        WITH_PLACE(test_name_when_it_looks_like_a_protocol_then_refused),
        WITH_PLACE(test_file_when_its_name_has_a_colon_then_opened_by_its_path),
        WITH_PLACE(test_path_when_empty_too_long_or_with_control_characters_then_refused),
        WITH_PLACE(test_file_when_others_may_write_then_refused),
        WITH_PLACE(test_file_when_it_belongs_to_somebody_else_then_refused_below_a_root),
        WITH_PLACE(test_file_when_bind_mounted_into_the_root_then_refused),
        WITH_PLACE(test_symlink_when_no_roots_then_followed_and_resolved_once),
        WITH_PLACE(test_relative_path_when_no_roots_then_made_absolute),
        WITH_PLACE(test_missing_file_when_a_near_name_is_there_then_it_is_proposed),
        WITH_PLACE(test_hostile_header_when_opened_then_image_error_with_the_path),
        WITH_PLACE(test_image_when_written_to_after_the_check_then_told),
        WITH_PLACE(test_unreadable_file_when_opened_then_denied),
        WITH_PLACE(test_file_when_exchanged_with_a_symlink_all_the_time_then_never_lost),
        WITH_PLACE(test_folder_when_exchanged_with_a_symlink_all_the_time_then_never_lost),
    };
    return cmocka_run_group_tests_name("imaging/source", tests, NULL, NULL);
}
