#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <glib.h>
#include <glib/gstdio.h>

#include "base/error.h"
#include "cli/follow.h"
#include "cli/signals.h"
#include "driver/event.h"

/* A machine's folder with events in it, and what cmd_follow() made of them. */
typedef struct {
    char *dir;
    int dirfd;
    FILE *out;
    char *text;
    size_t n_text;
    CmdProgress *progress;
    CmdContext context;
    CmdFollow follow;
} Scene;

static void scene_open(Scene *scene, SpecWait wait)
{
    *scene = (Scene){.dir = g_dir_make_tmp("vm-cli-follow-XXXXXX", NULL)};
    scene->dirfd = open(scene->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scene->out = open_memstream(&scene->text, &scene->n_text);
    scene->progress = cmd_progress_new(&(CmdProgressStyle){.out = scene->out});
    scene->context = (CmdContext){.is_quiet = true};
    scene->follow = (CmdFollow){.context = &scene->context,
                                .progress = scene->progress,
                                .name = "web",
                                .dir = scene->dir,
                                .boot = 3,
                                .wait = wait,
                                .origin_ms = cmd_clock_ms(),
                                .deadline_ms = cmd_clock_ms() + 10000};
}

static void scene_close(Scene *scene)
{
    cmd_progress_free(scene->progress);
    fclose(scene->out);
    free(scene->text);
    close(scene->dirfd);
    g_autofree char *events = g_build_filename(scene->dir, "events.jsonl", NULL);
    g_unlink(events);
    assert_int_equal(g_rmdir(scene->dir), 0);
    g_free(scene->dir);
}

static void happen_in(Scene *scene, unsigned boot, const char *type, const char *members)
{
    assert_true(
        machine_event_append(scene->dirfd, type, boot, cmd_clock_ms() - 1000, members, NULL));
}

static void happen(Scene *scene, const char *type, const char *members)
{
    happen_in(scene, scene->follow.boot, type, members);
}

static void stage(Scene *scene, const char *name, const char *state)
{
    g_autofree char *members = g_strdup_printf("{\"stage\":\"%s\",\"state\":\"%s\"}", name, state);
    happen(scene, "stage", members);
}

static void expect_reached(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    bool is_reached = cmd_follow(&scene->follow, &error);
    assert_null(error);
    assert_true(is_reached);
}

static void expect_error(Scene *scene, VmError code, const char *part)
{
    g_autoptr(GError) error = NULL;
    assert_false(cmd_follow(&scene->follow, &error));
    assert_true(g_error_matches(error, VM_ERROR, (int)code));
    if (!strstr(error->message, part)) {
        fail_msg("'%s' is not in '%s'", part, error->message);
    }
}

static void test_ready_when_told_then_reached_and_stages_shown(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    happen_in(&scene, 2, "stage",
              "{\"stage\":\"ready\",\"state\":\"done\"}"); /* of the boot before */
    stage(&scene, "kernel", "begin");
    stage(&scene, "kernel", "done");
    happen(&scene, "something-new", "{\"x\":1}");
    happen(&scene, "provision", "{\"status\":\"done\",\"errors\":[],\"lines\":[]}");
    stage(&scene, "cloud-init", "done");
    stage(&scene, "ready", "done");
    expect_reached(&scene);
    fflush(scene.out);
    assert_non_null(strstr(scene.text, "kernel "));
    assert_non_null(strstr(scene.text, "cloud-init"));
    assert_non_null(strstr(scene.text, "ready"));
    scene_close(&scene);
}

static const struct {
    SpecWait wait;
    const char *stage;
    const char *stage_state;
} levels[] = {
    {SPEC_WAIT_BOOT, "init", "begin"}, {SPEC_WAIT_BOOT, "network", "done"},
    {SPEC_WAIT_SSH, "ssh", "done"},    {SPEC_WAIT_CLOUD_INIT, "cloud-init", "done"},
    {SPEC_WAIT_SSH, "ready", "done"},
};

static void test_level_when_its_stage_comes_then_reached(void **state)
{
    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(levels); i++) {
        Scene scene;
        scene_open(&scene, levels[i].wait);
        stage(&scene, levels[i].stage, levels[i].stage_state);
        expect_reached(&scene);
        scene_close(&scene);
    }
}

static void test_level_when_not_reached_then_times_out(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_SSH);
    stage(&scene, "ssh", "begin");
    scene.follow.deadline_ms = cmd_clock_ms() + 50;
    expect_error(&scene, VM_ERROR_TIMEOUT, "came as far as 'ssh'");
    scene_close(&scene);
}

static void test_events_when_written_while_waiting_then_seen(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    pid_t child = fork();
    if (!child) {
        stage(&scene, "kernel", "begin");
        g_usleep(50000); /* lets the parent fall asleep; without it the test only proves less */
        stage(&scene, "ready", "done");
        _exit(0);
    }
    expect_reached(&scene);
    scene_close(&scene);
}

static const struct {
    const char *type;
    const char *members;
    VmError code;
    const char *part;
} ends[] = {
    {"stall", "{\"kind\":\"panic\",\"text\":\"Kernel panic - not syncing\",\"lines\":[\"x\"]}",
     VM_ERROR_PROVISION, "kernel panicked (Kernel panic - not syncing)"},
    {"stall", "{\"kind\":\"no-bootable-device\"}", VM_ERROR_PROVISION, "found nothing to boot"},
    {"stall", "{\"kind\":\"grub\",\"text\":\"grub>\"}", VM_ERROR_PROVISION, "boot loader's prompt"},
    {"stall", "{\"kind\":\"boot-timeout\"}", VM_ERROR_TIMEOUT, "--timeout"},
    {"provision",
     "{\"status\":\"error\",\"errors\":[{\"module\":\"locale\",\"message\":\"no such "
     "locale\"},{}],\"lines\":[]}",
     VM_ERROR_PROVISION, "cloud-init failed: module 'locale': no such locale (and 1 more)"},
    {"end", "{\"reason\":\"guest-shutdown\"}", VM_ERROR_PROVISION,
     "ended before it was ready: guest-shutdown"},
};

static void test_wait_when_hopeless_then_ended_at_once(void **state)
{
    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(ends); i++) {
        Scene scene;
        scene_open(&scene, SPEC_WAIT_READY);
        happen(&scene, ends[i].type, ends[i].members);
        expect_error(&scene, ends[i].code, ends[i].part);
        scene_close(&scene);
    }
}

static void test_provision_when_failed_then_its_stage_is_shown_so(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    stage(&scene, "cloud-init", "begin");
    happen(&scene, "provision", "{\"status\":\"error\",\"errors\":[],\"lines\":[]}");
    expect_error(&scene, VM_ERROR_PROVISION, "no reason was given");
    fflush(scene.out);
    assert_non_null(strstr(scene.text, "cloud-init"));
    assert_non_null(strstr(scene.text, " s  failed\n"));
    scene_close(&scene);
}

static void test_silence_when_said_then_wait_goes_on(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    scene.follow.has_own_timeout = true;
    happen(&scene, "stall", "{\"kind\":\"no-output\",\"text\":\"x\",\"lines\":[]}");
    happen(&scene, "stall", "{\"kind\":\"ready-timeout\",\"text\":\"x\",\"lines\":[]}");
    stage(&scene, "ready", "done");
    expect_reached(&scene);
    scene_close(&scene);
}

/* What is said on standard error while `follow` runs, transfer full. */
static char *heard_by_stderr(Scene *scene)
{
    g_autofree char *path = g_build_filename(scene->dir, "stderr", NULL);
    int kept = dup(STDERR_FILENO);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    scene->context.is_quiet = false;
    dup2(fd, STDERR_FILENO);
    cmd_follow(&scene->follow, NULL);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(fd);
    char *text = NULL;
    assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_unlink(path);
    return text;
}

static void test_stall_when_said_then_quoted_and_escaped(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    happen(&scene, "stall",
           "{\"kind\":\"emergency\",\"text\":\"x\",\"lines\":[\"You are in \\u001b[1memergency "
           "mode\",\"\"]}");
    g_autofree char *said = heard_by_stderr(&scene);
    assert_string_equal(said,
                        "vm-run: warning: machine 'web': it is in emergency mode; the last lines "
                        "of its console:\n"
                        "  | You are in \\x1b[1memergency mode\n"
                        "  | \n");
    scene_close(&scene);
}

static void test_degraded_when_not_allowed_then_error(void **state)
{
    (void)state;
    static const char degraded[] = "{\"status\":\"degraded\",\"errors\":[{\"module\":\"apt\","
                                   "\"message\":\"slow\"}],\"lines\":[]}";
    for (int is_allowed = 0; is_allowed <= 1; is_allowed++) {
        Scene scene;
        scene_open(&scene, SPEC_WAIT_READY);
        scene.follow.is_degraded_allowed = is_allowed;
        happen(&scene, "provision", degraded);
        stage(&scene, "ready", "done");
        if (is_allowed) {
            expect_reached(&scene);
        } else {
            expect_error(&scene, VM_ERROR_DEGRADED, "module 'apt': slow");
        }
        scene_close(&scene);
    }
}

static void test_reboot_when_followed_then_what_was_before_does_not_count(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    scene.follow.begins_with_reboot = true;
    scene.follow.deadline_ms = cmd_clock_ms() + 50;
    stage(&scene, "ready", "done");
    expect_error(&scene, VM_ERROR_TIMEOUT, "not ready in time");
    happen(&scene, "reboot", "{\"by\":\"guest\"}");
    stage(&scene, "ready", "done");
    scene.follow.deadline_ms = cmd_clock_ms() + 10000;
    expect_reached(&scene);
    scene_close(&scene);
}

static void test_lines_when_garbage_then_skipped(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    int fd = openat(scene.dirfd, "events.jsonl", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    static const char garbage[] =
        "\nnot json\n[]\n{}\n{\"type\":7,\"boot\":3}\n{\"type\":\"stage\",\"boot\":3}\n"
        "{\"type\":\"provision\",\"boot\":3,\"errors\":3}\n\"stage\"\n";
    assert_int_equal(write(fd, garbage, strlen(garbage)), (ssize_t)strlen(garbage));
    close(fd);
    stage(&scene, "ready", "done");
    expect_reached(&scene);
    scene_close(&scene);
}

/* The last test: a signal that came stays. */
static void test_wait_when_signalled_then_cancelled(void **state)
{
    (void)state;
    Scene scene;
    scene_open(&scene, SPEC_WAIT_READY);
    cmd_signals_init();
    raise(SIGTERM);
    expect_error(&scene, VM_ERROR_CANCELLED, "interrupted");
    assert_int_equal(cmd_signals_first(), SIGTERM);
    scene_close(&scene);
}

typedef struct {
    Scene scene;
    unsigned n;
} Reminded;

/* A guest that hears at the third time. */
static void remind(void *data)
{
    Reminded *reminded = data;
    if (++reminded->n == 3) {
        happen(&reminded->scene, "reboot", "{\"by\":\"guest\"}");
        stage(&reminded->scene, "ready", "done");
    }
}

static void test_reboot_when_not_heard_then_asked_again_until_it_comes(void **state)
{
    (void)state;
    Reminded reminded = {.n = 0};
    scene_open(&reminded.scene, SPEC_WAIT_READY);
    CmdFollow *follow = &reminded.scene.follow;
    follow->begins_with_reboot = true;
    follow->remind = remind;
    follow->remind_data = &reminded;
    follow->remind_ms = 20;
    expect_reached(&reminded.scene);
    assert_int_equal(reminded.n, 3);
    scene_close(&reminded.scene);
}

static void test_reminder_when_no_reboot_is_waited_for_then_none(void **state)
{
    (void)state;
    Reminded reminded = {.n = 0};
    scene_open(&reminded.scene, SPEC_WAIT_READY);
    CmdFollow *follow = &reminded.scene.follow;
    follow->remind = remind;
    follow->remind_data = &reminded;
    follow->remind_ms = 20;
    follow->deadline_ms = cmd_clock_ms() + 150;
    expect_error(&reminded.scene, VM_ERROR_TIMEOUT, "not ready in time");
    assert_int_equal(reminded.n, 0);
    scene_close(&reminded.scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ready_when_told_then_reached_and_stages_shown),
        cmocka_unit_test(test_level_when_its_stage_comes_then_reached),
        cmocka_unit_test(test_level_when_not_reached_then_times_out),
        cmocka_unit_test(test_events_when_written_while_waiting_then_seen),
        cmocka_unit_test(test_wait_when_hopeless_then_ended_at_once),
        cmocka_unit_test(test_provision_when_failed_then_its_stage_is_shown_so),
        cmocka_unit_test(test_silence_when_said_then_wait_goes_on),
        cmocka_unit_test(test_stall_when_said_then_quoted_and_escaped),
        cmocka_unit_test(test_degraded_when_not_allowed_then_error),
        cmocka_unit_test(test_reboot_when_followed_then_what_was_before_does_not_count),
        cmocka_unit_test(test_reboot_when_not_heard_then_asked_again_until_it_comes),
        cmocka_unit_test(test_reminder_when_no_reboot_is_waited_for_then_none),
        cmocka_unit_test(test_lines_when_garbage_then_skipped),
        cmocka_unit_test(test_wait_when_signalled_then_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
