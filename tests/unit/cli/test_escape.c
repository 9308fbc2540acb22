#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>

#include "cli/escape.h"

static char *show(const char *bytes, size_t n, size_t n_chunk)
{
    char *text = NULL;
    size_t n_text = 0;
    CmdEscape escape = {0};
    FILE *out = open_memstream(&text, &n_text);
    for (size_t at = 0; at < n; at += n_chunk) {
        cmd_escape_print(&escape, bytes + at, MIN(n_chunk, n - at), out);
    }
    cmd_escape_finish(&escape, out);
    fclose(out);
    return text;
}

static const struct {
    const char *bytes;
    const char *shown;
} cases[] = {
    {"plain\n\ttext\r\n", "plain\n\ttext\n"},
    {"\033[0;32m  OK  \033[0m", "  OK  "},
    {"a\033]0;title\007b\033]2;x\033\\c", "abc"},
    {"\033(Bx\033cy\033=z", "xyz"},
    {"bell\007 del\177", "bell\\x07 del\\x7f"},
    {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
    {"\xff\xfe half \xc3", "\\xff\\xfe half \\xc3"},
    {"\xe2\x80\xae turned", "\\xe2\\x80\\xae turned"},
    {"\033[31", ""},
    {"\033[3\nnext", "\nnext"},
    {"\xc3\033[mx", "\\xc3x"},
};

static void test_bytes_when_cut_anywhere_then_shown_the_same(void **state)
{
    (void)state;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        for (size_t n_chunk = 1; n_chunk <= 8; n_chunk++) {
            char *text = show(cases[i].bytes, strlen(cases[i].bytes), n_chunk);
            assert_string_equal(text, cases[i].shown);
            free(text);
        }
    }
}

static void test_nul_when_in_text_then_shown(void **state)
{
    (void)state;
    char *text = show("a\0b", 3, 3);
    assert_string_equal(text, "a\\x00b");
    free(text);
}

/* Nothing but what a terminal shows as itself ever comes out, whatever goes in; and the text after
 * an endless sequence is not swallowed. */
static void test_bytes_when_random_then_harmless(void **state)
{
    (void)state;
    GRand *random = g_rand_new_with_seed(1);
    for (int round = 0; round < 2000; round++) {
        char bytes[64];
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = (char)g_rand_int_range(random, 0, 256);
        }
        char *text = show(bytes, sizeof bytes, 7);
        assert_true(g_utf8_validate(text, -1, NULL));
        for (const char *at = text; *at; at++) {
            assert_true(*at == '\n' || *at == '\t' || ((unsigned char)*at >= 0x20 && *at != 0x7f));
        }
        free(text);
    }
    g_rand_free(random);
    g_autofree char *endless = g_strnfill(1000, '1');
    g_autofree char *input = g_strconcat("\033[", endless, "end", NULL);
    char *text = show(input, strlen(input), 64);
    assert_non_null(strstr(text, "end"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_when_cut_anywhere_then_shown_the_same),
        cmocka_unit_test(test_nul_when_in_text_then_shown),
        cmocka_unit_test(test_bytes_when_random_then_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
