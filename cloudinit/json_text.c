#include "cloudinit/json_text.h"

#include <stdlib.h>
#include <string.h>

static gboolean is_yaml_special(gunichar c)
{
    return (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029 || c == 0xfeff || c == 0xfffe ||
           c == 0xffff;
}

/* Outside of strings JSON is ASCII, so whatever is replaced stands in a string. */
static char *yaml_escape(const char *json)
{
    GString *out = g_string_sized_new(strlen(json) + 16);
    for (const char *at = json; *at != '\0';) {
        const char *next = g_utf8_next_char(at);
        gunichar c = g_utf8_get_char(at);
        if (is_yaml_special(c)) {
            g_string_append_printf(out, "\\u%04x", c);
        } else {
            g_string_append_len(out, at, next - at);
        }
        at = next;
    }
    return g_string_free(out, FALSE);
}

char *seed_json_text(const json_t *value, gboolean is_pretty)
{
    char *json = json_dumps(value, is_pretty ? JSON_INDENT(2) : 0);
    g_assert(json != NULL); /* values are built by seed_json_string(), so they are UTF-8 */
    char *text = yaml_escape(json);
    free(json);
    return text;
}

json_t *seed_json_string(const char *text)
{
    json_t *value = json_string(text ? text : "");
    if (value) {
        return value;
    }
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    return json_string(valid);
}
