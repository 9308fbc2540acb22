#include "schemas/encoding.h"

#include <glib.h>

static bool is_allowed(gunichar c)
{
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0x7e) || c == 0x85 ||
           (c >= 0xa0 && c <= 0xd7ff) || (c >= 0xe000 && c <= 0xfffd && c != 0xfeff) ||
           (c >= 0x10000 && c <= 0x10ffff);
}

static bool is_break(gunichar c)
{
    return c == '\n' || c == '\r' || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/* The character at `at`, and its length; length 0: not UTF-8. */
static gunichar char_at(const char *at, const char *end, size_t *out_n)
{
    if ((unsigned char)*at < 0x80) {
        *out_n = 1;
        return (unsigned char)*at;
    }
    gunichar c = g_utf8_get_char_validated(at, end - at);
    bool is_bad = c == (gunichar)-1 || c == (gunichar)-2;
    *out_n = is_bad ? 0 : (size_t)(g_utf8_next_char(at) - at);
    return c;
}

static void report_bad(BaseReport *report, const BasePos *pos, const char *at, size_t n, gunichar c)
{
    if (n == 0) {
        base_report_error(report, VM_ERROR_YAML_ENC, pos, "save the file as UTF-8",
                          "byte 0x%02x is not UTF-8", (unsigned char)*at);
    } else if (c == 0) {
        base_report_error(report, VM_ERROR_YAML_ENC, pos, "save the file as UTF-8 text",
                          "a NUL byte stands in the text");
    } else {
        base_report_error(report, VM_ERROR_YAML_ENC, pos, "write it as an escape in double quotes",
                          "control character U+%04X stands in the text", c);
    }
}

bool spec_encoding_check(const char *text, size_t n_bytes, const char *file, BaseReport *report)
{
    BasePos pos = {(char *)file, 1, 1};
    const char *end = text + n_bytes;
    if (n_bytes >= 2 && (((unsigned char)text[0] == 0xff && (unsigned char)text[1] == 0xfe) ||
                         ((unsigned char)text[0] == 0xfe && (unsigned char)text[1] == 0xff))) {
        base_report_error(report, VM_ERROR_YAML_ENC, &pos, "save the file as UTF-8",
                          "the text is UTF-16");
        return false;
    }
    for (const char *at = text; at < end;) {
        size_t n;
        gunichar c = char_at(at, end, &n);
        if (n == 0 || !is_allowed(c)) {
            report_bad(report, &pos, at, n, c);
            return false;
        }
        bool is_crlf = c == '\r' && at + 1 < end && at[1] == '\n';
        if (is_break(c) && !is_crlf) {
            pos.line++;
            pos.col = 1;
        } else {
            pos.col++;
        }
        at += n;
    }
    return true;
}
