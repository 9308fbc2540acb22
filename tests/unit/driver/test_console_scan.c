#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>

#include "base/file.h"
#include "driver/console_scan.h"

/* The names of all signs in `bytes`, fed in pieces of n_piece, neighbours of one kind told once.
 * Transfer full. */
static char *signs_in(const char *bytes, size_t n, size_t n_piece)
{
    ConsoleScan scan;
    GString *names = g_string_new(NULL);
    ConsoleSign last = CONSOLE_NOTHING;
    console_scan_init(&scan);
    for (size_t at = 0; at < n;) {
        ConsoleSign sign;
        const char *text;
        size_t n_fed = MIN(n_piece, n - at);
        size_t n_taken = console_scan_feed(&scan, bytes + at, n_fed, &sign, &text);
        assert_true(n_taken > 0 && n_taken <= n_fed);
        assert_true(sign == CONSOLE_NOTHING ? n_taken == n_fed && !*text : *text != '\0');
        if (sign != CONSOLE_NOTHING && sign != last) {
            g_string_append_printf(names, "%s%s", names->len ? " " : "", console_sign_name(sign));
            last = sign;
        }
        at += n_taken;
    }
    return g_string_free(names, FALSE);
}

static void assert_signs(const char *bytes, const char *signs)
{
    g_autofree char *names = signs_in(bytes, strlen(bytes), SIZE_MAX);
    assert_string_equal(names, signs);
}

/* Real consoles of this host's QEMU, Debian 12's firmware and guests; kernel chatter shortened. */
static const struct {
    const char *file, *signs;
} captures[] = {
    {"seabios-none.log", "firmware no-bootable-device"},
    {"ovmf-shell.log", "firmware uefi-shell"},
    {"grub-prompt.log", "firmware bootloader grub"},
    {"panic.log", "firmware kernel panic"},
    {"tiny.log", "firmware bootloader kernel tiny-ready"},
    {"debian-emergency.log", "firmware kernel init emergency"},
    {"debian-initramfs.log", "firmware kernel initramfs"},
    {"debian-fail.log",
     "firmware bootloader kernel init cloud-init network cloud-init cloud-init-error "
     "login cloud-init cloud-init-error cloud-init-done"},
};

static void test_captures_give_their_signs_in_any_pieces(void **state)
{
    static const size_t pieces[] = {SIZE_MAX, 4096, 61, 7, 1};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(captures); i++) {
        g_autofree char *path =
            g_build_filename(TEST_SOURCE_DIR, "unit/driver/console", captures[i].file, NULL);
        size_t n;
        g_autofree char *bytes = base_file_read(AT_FDCWD, path, 1024 * 1024, &n, NULL);
        assert_non_null(bytes);
        for (size_t k = 0; k < G_N_ELEMENTS(pieces); k++) {
            g_autofree char *names = signs_in(bytes, n, pieces[k]);
            if (strcmp(names, captures[i].signs) != 0) {
                fail_msg("%s in pieces of %zu: %s", captures[i].file, pieces[k], names);
            }
        }
    }
}

static void test_echoed_command_lines_give_no_sign(void **state)
{
    (void)state;
    assert_signs("[    0.000000] Command line: root=/dev/vda1 x=\"Kernel panic - not syncing\"\r\n",
                 "");
    assert_signs("[    0.08] Kernel command line: note=\"You are in emergency mode\" y=\"No "
                 "bootable device.\"\r\n",
                 "");
    assert_signs("[    0.08] Kernel command line: a=\"[WARNING]: Running module x (y) failed\"\r\n",
                 "");
    assert_signs("[    1.0] Unknown kernel command line parameters \"Welcome to Debian!\", will be "
                 "passed\r\n",
                 "");
    assert_signs("setting PROMPT=grub> for you\r\n", "");
    assert_signs("echo (initramfs)\r\n", "");
    assert_signs("the last login: yesterday\r\n", "");
}

static void test_prefixes_of_kernel_and_services_are_skipped(void **state)
{
    (void)state;
    assert_signs("[   34.643] Kernel panic - not syncing: Attempted to kill init!\r\n", "panic");
    assert_signs("[   16.02] cloud-init[321]: Cloud-init v. 22.4.2 running 'init-local' at Sat\r\n",
                 "cloud-init");
    assert_signs(
        "Cloud-init v. 24.1 finished at Sat. Datasource DataSourceNoCloud. Up 34.1 seconds\r\n",
        "cloud-init-done");
    assert_signs("[\x1b[0;32m  OK  \x1b[0m] Reached target "
                 "\x1b[0;1;39mnetwork-online.target\x1b[0m - Network.\r\n",
                 "network");
    assert_signs("[    1.5] systemd[1]: systemd 252 running in system mode (+PAM)\r\n", "init");
}

static void test_kernel_messages_in_a_prompt_are_lines(void **state)
{
    (void)state;
    assert_signs(
        "web1 login: [   60.985449] cloud-init[451]: Cloud-init v. 22.4.2 finished at Wed\r\n",
        "login cloud-init-done");
    assert_signs("grub> [    0.000000] Linux version 6.1\r\n", "grub kernel");
    assert_signs("Kernel command line: x=[    1.000000] Kernel panic - not syncing\r\n", "");
    assert_signs("[ 1.0] [x] [    1.000000] [    2.000000] Linux version 6.1\r\n", "kernel");
}

static void test_welcome_of_an_initramfs_is_not_init(void **state)
{
    (void)state;
    assert_signs("Welcome to \x1b[1mFedora Linux 40 dracut-059 (Initramfs)\x1b[0m!\r\n", "");
    assert_signs("Welcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r\n", "init");
}

static void test_prompts_are_seen_before_their_line_ends_and_once(void **state)
{
    (void)state;
    assert_signs("\r\ngrub> ", "grub");
    assert_signs("grub rescue> ", "grub");
    assert_signs("(initramfs) ", "initramfs");
    assert_signs("Shell> ", "uefi-shell");
    assert_signs("\r\nweb1 login: ", "login");
    ConsoleScan scan;
    ConsoleSign sign;
    const char *text;
    console_scan_init(&scan);
    assert_int_equal(console_scan_feed(&scan, "a login: ", 9, &sign, &text), 9);
    assert_int_equal(sign, CONSOLE_LOGIN);
    assert_string_equal(text, "a login: ");
    assert_int_equal(console_scan_feed(&scan, "\r\n", 2, &sign, &text), 2);
    assert_int_equal(sign, CONSOLE_NOTHING);
}

static void test_feed_stops_after_a_sign_and_goes_on(void **state)
{
    static const char bytes[] = "No bootable device.\nLinux version 6.1\nx";
    (void)state;
    ConsoleScan scan;
    ConsoleSign sign;
    const char *text;
    console_scan_init(&scan);
    size_t n = console_scan_feed(&scan, bytes, strlen(bytes), &sign, &text);
    assert_int_equal(n, strlen("No bootable device.\n"));
    assert_int_equal(sign, CONSOLE_STALL_NO_BOOT_DEVICE);
    assert_string_equal(text, "No bootable device.");
    size_t n_second = console_scan_feed(&scan, bytes + n, strlen(bytes) - n, &sign, &text);
    assert_int_equal(sign, CONSOLE_KERNEL);
    assert_int_equal(console_scan_feed(&scan, bytes + n + n_second, 1, &sign, &text), 1);
    assert_int_equal(sign, CONSOLE_NOTHING);
}

static void feed(ConsoleScan *scan, const char *bytes, size_t n)
{
    while (n > 0) {
        ConsoleSign sign;
        const char *text;
        size_t n_taken = console_scan_feed(scan, bytes, n, &sign, &text);
        bytes += n_taken;
        n -= n_taken;
    }
}

static void test_kept_lines_are_the_last_ones_and_the_unfinished_one(void **state)
{
    (void)state;
    ConsoleScan scan;
    console_scan_init(&scan);
    assert_null(console_scan_kept(&scan, 0));
    for (int i = 0; i < CONSOLE_KEEP_LINES + 5; i++) {
        char line[32];
        feed(&scan, line, (size_t)snprintf(line, sizeof line, "\x1b[1mline\x1b[0m %d\r\n\r\n", i));
    }
    feed(&scan, "unfinished", 10);
    assert_string_equal(console_scan_kept(&scan, 0), "line 5");
    assert_string_equal(console_scan_kept(&scan, CONSOLE_KEEP_LINES - 1), "line 24");
    assert_string_equal(console_scan_kept(&scan, CONSOLE_KEEP_LINES), "unfinished");
    assert_null(console_scan_kept(&scan, CONSOLE_KEEP_LINES + 1));
}

static void test_escapes_and_control_bytes_are_not_kept(void **state)
{
    (void)state;
    ConsoleScan scan;
    console_scan_init(&scan);
    static const char bytes[] = "\x1b]0;title\x07"
                                "a\x1b(B"
                                "b\x01\x7f"
                                "c\x1b[38;5;1m"
                                "d\tee\b"
                                "\x1b[2K\0f\r\n";
    feed(&scan, bytes, sizeof bytes - 1);
    assert_string_equal(console_scan_kept(&scan, 0), "abcd ef");
}

static void test_long_lines_are_cut_and_still_matched(void **state)
{
    (void)state;
    ConsoleScan scan;
    ConsoleSign sign;
    const char *text;
    g_autofree char *filler = g_strnfill(5000, 'x');
    g_autofree char *line = g_strdup_printf("Kernel panic - not syncing: %s\n", filler);
    console_scan_init(&scan);
    assert_int_equal(console_scan_feed(&scan, line, strlen(line), &sign, &text), strlen(line));
    assert_int_equal(sign, CONSOLE_STALL_PANIC);
    assert_int_equal(strlen(text), CONSOLE_LINE_MAX - 1);
}

static void test_any_bytes_are_fine(void **state)
{
    (void)state;
    ConsoleScan scan;
    unsigned seed = 1;
    console_scan_init(&scan);
    for (int i = 0; i < 2000; i++) {
        char bytes[257];
        for (size_t k = 0; k < sizeof bytes; k++) {
            bytes[k] = (char)(rand_r(&seed) >> 7);
        }
        feed(&scan, bytes, sizeof bytes);
        for (unsigned k = 0; console_scan_kept(&scan, k); k++) {
            for (const char *c = console_scan_kept(&scan, k); *c; c++) {
                assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_captures_give_their_signs_in_any_pieces),
        cmocka_unit_test(test_echoed_command_lines_give_no_sign),
        cmocka_unit_test(test_prefixes_of_kernel_and_services_are_skipped),
        cmocka_unit_test(test_kernel_messages_in_a_prompt_are_lines),
        cmocka_unit_test(test_welcome_of_an_initramfs_is_not_init),
        cmocka_unit_test(test_prompts_are_seen_before_their_line_ends_and_once),
        cmocka_unit_test(test_feed_stops_after_a_sign_and_goes_on),
        cmocka_unit_test(test_kept_lines_are_the_last_ones_and_the_unfinished_one),
        cmocka_unit_test(test_escapes_and_control_bytes_are_not_kept),
        cmocka_unit_test(test_long_lines_are_cut_and_still_matched),
        cmocka_unit_test(test_any_bytes_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
