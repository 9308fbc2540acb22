#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>

#include "cli/progress.h"

typedef struct {
    FILE *out;
    char *text;
    size_t n;
    CmdProgress *progress;
} Screen;

static void screen_open(Screen *screen, CmdProgressStyle style)
{
    *screen = (Screen){NULL, NULL, 0, NULL};
    screen->out = open_memstream(&screen->text, &screen->n);
    style.out = screen->out;
    style.columns = style.columns ? style.columns : 60;
    screen->progress = cmd_progress_new(&style);
}

static void screen_expect(Screen *screen, const char *expected)
{
    cmd_progress_free(screen->progress);
    fclose(screen->out);
    assert_string_equal(screen->text, expected);
    free(screen->text);
}

static void tell(Screen *screen, Stage stage, const char *state, double t_s)
{
    cmd_progress_stage(screen->progress, stage, state, NULL, -1, t_s);
}

static void test_stages_when_plain_then_one_line_each(void **state)
{
    (void)state;
    Screen screen;
    screen_open(&screen, (CmdProgressStyle){.is_live = false});
    tell(&screen, STAGE_IMAGE, "begin", 0.0);
    tell(&screen, STAGE_IMAGE, "done", 0.5);
    tell(&screen, STAGE_IMAGE, "done", 9.0);    /* told again by the events */
    tell(&screen, STAGE_FIRMWARE, "done", 1.5); /* nobody saw it begin */
    tell(&screen, STAGE_KERNEL, "begin", 1.5);
    tell(&screen, STAGE_KERNEL, "done", 3.6);
    cmd_progress_stage(screen.progress, STAGE_CLOUD_INIT, "begin", "config/locale", -1, 4.0);
    cmd_progress_stage(screen.progress, STAGE_CLOUD_INIT, "failed", "bad\033[31m\nlocale", -1,
                       14.0);
    tell(&screen, STAGE_READY, "strange", 20.0);
    assert_string_equal(cmd_progress_where(screen.progress), "cloud-init");
    screen_expect(&screen, "image         0.5 s\n"
                           "firmware      1.0 s\n"
                           "kernel        2.1 s\n"
                           "cloud-init   10.0 s  failed: bad\\x1b[31m\\x0alocale\n");
}

static void test_stages_when_quiet_then_silent(void **state)
{
    (void)state;
    Screen screen;
    screen_open(&screen, (CmdProgressStyle){.is_quiet = true, .is_live = true});
    tell(&screen, STAGE_IMAGE, "begin", 0.0);
    cmd_progress_tick(screen.progress, 1.0);
    tell(&screen, STAGE_IMAGE, "done", 2.0);
    assert_string_equal(cmd_progress_where(screen.progress), "image");
    screen_expect(&screen, "");
}

static void test_line_when_live_then_rewritten_and_taken_away(void **state)
{
    (void)state;
    Screen screen;
    screen_open(&screen, (CmdProgressStyle){.is_live = true});
    cmd_progress_stage(screen.progress, STAGE_IMAGE, "begin", "fetching", 430, 0.0);
    cmd_progress_tick(screen.progress, 2.0);
    tell(&screen, STAGE_IMAGE, "done", 2.0);
    tell(&screen, STAGE_KERNEL, "begin", 2.0);
    cmd_progress_clear(screen.progress);
    cmd_progress_clear(screen.progress);
    screen_expect(&screen, "\rimage           0 s  43 %  fetching\033[K"
                           "\rimage           2 s  43 %  fetching\033[K"
                           "\r\033[Kimage         2.0 s\n"
                           "\rkernel          0 s\033[K"
                           "\r\033[K");
}

static void test_line_when_wider_than_terminal_then_cut(void **state)
{
    (void)state;
    Screen screen;
    screen_open(&screen, (CmdProgressStyle){.is_live = true, .columns = 25});
    cmd_progress_stage(screen.progress, STAGE_CLOUD_INIT, "begin", "final/package-update", -1, 0.0);
    screen_expect(&screen, "\rcloud-init      0 s  fin\033[K\r\033[K");
}

static void test_stages_when_guest_reboots_then_shown_again(void **state)
{
    (void)state;
    Screen screen;
    screen_open(&screen, (CmdProgressStyle){.is_live = false});
    tell(&screen, STAGE_OVERLAY, "done", 0.1);
    tell(&screen, STAGE_KERNEL, "begin", 1.0);
    tell(&screen, STAGE_KERNEL, "done", 2.0);
    cmd_progress_reboot(screen.progress);
    tell(&screen, STAGE_OVERLAY, "done", 3.0);
    tell(&screen, STAGE_KERNEL, "begin", 3.0);
    tell(&screen, STAGE_KERNEL, "done", 5.0);
    screen_expect(&screen, "overlay       0.1 s\nkernel        1.0 s\nkernel        2.0 s\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages_when_plain_then_one_line_each),
        cmocka_unit_test(test_stages_when_quiet_then_silent),
        cmocka_unit_test(test_line_when_live_then_rewritten_and_taken_away),
        cmocka_unit_test(test_line_when_wider_than_terminal_then_cut),
        cmocka_unit_test(test_stages_when_guest_reboots_then_shown_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
