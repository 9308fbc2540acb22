#include "tests/unit/imaging/images.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "imaging/inspect.h"

/*
 * libguestfs itself is in tests/guest/image_inspect.test.py, since it boots its appliance. Here a
 * copy of this program stands beside a "vm-run-inspect" that does what the real one can't do on
 * demand.
 */
typedef struct {
    char *top, *image;
} Place;

static char *self_path;

static int set_up(void **state)
{
    Place *place = g_new0(Place, 1);
    place->top = g_dir_make_tmp("vm-test-inspect-XXXXXX", NULL);
    place->image = g_build_filename(place->top, "image.qcow2", NULL);
    g_autofree char *self = g_build_filename(place->top, "self", NULL);
    g_autofree char *tmp = g_build_filename(place->top, "tmp", NULL);
    Image image = image_new_qcow2(3);
    assert_true(g_file_set_contents(place->image, (char *)image.bytes, (gssize)image.n, NULL));
    g_free(image.bytes);
    assert_int_equal(mkdir(tmp, 0700), 0);
    g_free(RUN("cp", self_path, self));
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    Place *place = *state;
    assert_true(base_dir_remove_tree(AT_FDCWD, place->top, NULL));
    g_free(place->top);
    g_free(place->image);
    g_free(place);
    return 0;
}

/* Runs the copy (see ask_as_child) beside a program with this text, NULL: beside none. What it
 * printed, transfer full; asserts that its temporary folder is empty after. */
static char *ask_beside(const Place *place, const char *script)
{
    g_autofree char *program = g_build_filename(place->top, "vm-run-inspect", NULL);
    g_autofree char *self = g_build_filename(place->top, "self", NULL);
    g_autofree char *tmp = g_build_filename(place->top, "tmp", NULL);
    g_autofree char *setting = g_strconcat("TMPDIR=", tmp, NULL);
    if (script) {
        assert_true(g_file_set_contents(program, script, -1, NULL));
        assert_int_equal(chmod(program, 0755), 0);
    }
    char *out = RUN("env", setting, self, "--ask", place->image);
    g_autoptr(GDir) dir = g_dir_open(tmp, 0, NULL);
    assert_null(g_dir_read_name(dir));
    return out;
}

static void check_answer(const Place *place, const char *script, const char *expected)
{
    g_autofree char *out = ask_beside(place, script);
    if (!strstr(out, expected)) {
        fail_msg("'%s', expected '%s'", out, expected);
    }
}

static void test_program_when_it_answers_then_its_json_is_returned(void **state)
{
    Place *place = *state;
    g_autofree char *expected = g_strdup_printf("[qcow2 tcg 2000 %s]", place->image);
    check_answer(place, "#!/bin/sh\necho \"[$*]\"\n", expected);
    check_answer(place, "#!/bin/sh\ntest -d \"$LIBGUESTFS_TMPDIR\" && echo has-a-folder\n",
                 "has-a-folder");
    check_answer(place, "#!/bin/sh\ntouch \"$XDG_RUNTIME_DIR/socket\"; echo '{}'\n", "{}");
}

static void test_program_when_it_fails_then_its_last_line_is_the_error(void **state)
{
    check_answer(*state, "#!/bin/sh\necho first >&2; echo 'no appliance' >&2; exit 1\n",
                 "E_HOST image '");
    check_answer(*state, "#!/bin/sh\necho 'no appliance' >&2; exit 1\n", "no appliance");
    check_answer(*state, "#!/bin/sh\nkill -SEGV $$\n", "E_HOST");
}

static void test_program_when_missing_then_host_error_says_so(void **state)
{
    check_answer(*state, NULL, "vm-run-inspect is not installed");
}

static void test_program_when_it_outlasts_the_deadline_then_ended_with_its_children(void **state)
{
    Place *place = *state;
    g_autofree char *script =
        g_strdup_printf("#!/bin/sh\nsleep 77 & echo $! > %s/child\nsleep 77\n", place->top);
    check_answer(place, script, "E_TIMEOUT");
    g_autofree char *child = g_build_filename(place->top, "child", NULL);
    g_autofree char *pid = NULL;
    assert_true(g_file_get_contents(child, &pid, NULL, NULL));
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", atoi(pid));
    bool is_there = true; /* it was killed, and is gone as soon as it runs again */
    for (int i = 0; is_there && i < 500; i++) {
        g_autofree char *command = NULL;
        gsize n = 0;
        is_there = g_file_get_contents(path, &command, &n, NULL) && n > 0; /* a zombie has 0 */
        g_usleep(is_there ? 10000 : 0);
    }
    assert_false(is_there);
}

static void test_program_when_it_ends_itself_at_the_deadline_then_timeout(void **state)
{
    check_answer(*state, "#!/bin/sh\nexit 3\n", "E_TIMEOUT");
}

static void test_program_when_it_floods_us_then_refused(void **state)
{
    check_answer(*state, "#!/bin/sh\nexec head -c 3000000 /dev/zero\n", "E_HOST");
}

static void test_image_when_replaced_meanwhile_then_image_error(void **state)
{
    Place *place = *state;
    g_autofree char *script =
        g_strdup_printf("#!/bin/sh\ncp %s %s.new && mv %s.new %s; echo '{}'\n", place->image,
                        place->image, place->image, place->image);
    check_answer(place, script, "E_IMAGE");
    g_autofree char *out = ask_beside(place, script);
    assert_non_null(strstr(out, "replaced while it was looked at"));
}

/* What the copy does: one question, its answer or its error on stdout. */
static int ask_as_child(const char *image)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ImgSource) source = img_source_open(image, NULL, -1, &error);
    g_autofree char *json = source ? img_inspect_json(source, false, 2000, &error) : NULL;
    if (json) {
        puts(json);
    } else {
        printf("%s %s\n", base_error_row_of(error)->cls, error->message);
    }
    return 0;
}

#define WITH_PLACE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_PLACE(test_program_when_it_answers_then_its_json_is_returned),
        WITH_PLACE(test_program_when_it_fails_then_its_last_line_is_the_error),
        WITH_PLACE(test_program_when_missing_then_host_error_says_so),
        WITH_PLACE(test_program_when_it_outlasts_the_deadline_then_ended_with_its_children),
        WITH_PLACE(test_program_when_it_ends_itself_at_the_deadline_then_timeout),
        WITH_PLACE(test_program_when_it_floods_us_then_refused),
        WITH_PLACE(test_image_when_replaced_meanwhile_then_image_error),
    };
    if (argc == 3 && strcmp(argv[1], "--ask") == 0) {
        return ask_as_child(argv[2]);
    }
    self_path = g_file_read_link("/proc/self/exe", NULL);
    int n_failed = cmocka_run_group_tests_name("imaging/inspect", tests, NULL, NULL);
    g_free(self_path);
    return n_failed;
}
