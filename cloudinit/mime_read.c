#include "cloudinit/mime_read.h"

#include <string.h>

static void body_clear(void *data)
{
    g_free(((MimeBody *)data)->type);
}

/* The end of the line at `at`: past its line feed, or the end of the text. */
static size_t line_end(const char *text, size_t n_bytes, size_t at)
{
    const char *end = memchr(text + at, '\n', n_bytes - at);
    return end ? (size_t)(end - text) + 1 : n_bytes;
}

static char *line_copy(const char *text, size_t begin, size_t end)
{
    while (end > begin && (text[end - 1] == '\n' || text[end - 1] == '\r')) {
        end--;
    }
    return g_strndup(text + begin, end - begin);
}

/* Header lines up to the empty one, continued lines joined. Returns the body's begin. */
static size_t headers_read(const char *text, size_t n_bytes, size_t at, GPtrArray *out_lines)
{
    while (at < n_bytes) {
        size_t end = line_end(text, n_bytes, at);
        g_autofree char *line = line_copy(text, at, end);
        at = end;
        if (*line == '\0') {
            break;
        }
        if ((*line == ' ' || *line == '\t') && out_lines->len > 0) {
            char **last = (char **)&out_lines->pdata[out_lines->len - 1];
            char *joined = g_strconcat(*last, line, NULL);
            g_free(*last);
            *last = joined;
        } else {
            g_ptr_array_add(out_lines, g_steal_pointer(&line));
        }
    }
    return at;
}

/* The value of a header, "" when it is not there. Transfer full. */
static char *header_value(const GPtrArray *lines, const char *name)
{
    size_t n_name = strlen(name);
    for (unsigned i = 0; i < lines->len; i++) {
        const char *line = lines->pdata[i];
        if (g_ascii_strncasecmp(line, name, n_name) == 0 && line[n_name] == ':') {
            return g_strstrip(g_strdup(line + n_name + 1));
        }
    }
    return g_strdup("");
}

/* boundary="a b" or boundary=ab. Transfer full, NULL when it has none. */
static char *boundary_of(const char *content_type)
{
    g_autofree char *lower = g_ascii_strdown(content_type, -1);
    const char *found = strstr(lower, "boundary=");
    if (!found) {
        return NULL;
    }
    const char *value = content_type + (found - lower) + strlen("boundary=");
    g_autofree char *boundary = *value == '"' ? g_strndup(value + 1, strcspn(value + 1, "\""))
                                              : g_strndup(value, strcspn(value, "; \t"));
    return *boundary == '\0' ? NULL : g_steal_pointer(&boundary);
}

static MimeBody body_new(const char *text, size_t begin, size_t end)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    MimeBody body = {.begin = headers_read(text, end, begin, lines)};
    g_autofree char *type = header_value(lines, "Content-Type");
    g_autofree char *encoding = header_value(lines, "Content-Transfer-Encoding");
    type[strcspn(type, "; \t")] = '\0';
    body.type = *type == '\0' ? g_strdup("text/plain") : g_ascii_strdown(type, -1);
    body.is_encoded = g_ascii_strcasecmp(encoding, "base64") == 0 ||
                      g_ascii_strcasecmp(encoding, "quoted-printable") == 0;
    size_t stop = end;
    stop -= stop > body.begin && text[stop - 1] == '\n';
    stop -= stop > body.begin && text[stop - 1] == '\r';
    body.n_bytes = stop - body.begin;
    return body;
}

/* Is the line at `at` a delimiter, and the closing one? */
static bool is_delimiter(const char *line, const char *boundary, bool *out_is_last)
{
    size_t n = strlen(boundary);
    if (strncmp(line, "--", 2) != 0 || strncmp(line + 2, boundary, n) != 0) {
        return false;
    }
    const char *rest = line + 2 + n;
    *out_is_last = strncmp(rest, "--", 2) == 0;
    rest += *out_is_last ? 2 : 0;
    return rest[strspn(rest, " \t")] == '\0';
}

static GArray *bodies_split(const char *text, size_t n_bytes, size_t at, const char *boundary)
{
    GArray *bodies = g_array_new(FALSE, FALSE, sizeof(MimeBody));
    g_array_set_clear_func(bodies, body_clear);
    size_t begin = 0; /* of the part at hand; 0: none yet */
    bool is_last = false;
    while (at < n_bytes && !is_last) {
        size_t end = line_end(text, n_bytes, at);
        g_autofree char *line = line_copy(text, at, end);
        if (is_delimiter(line, boundary, &is_last)) {
            if (begin > 0) {
                MimeBody body = body_new(text, begin, at);
                g_array_append_val(bodies, body);
            }
            begin = end;
        }
        at = end;
    }
    if (begin > 0 && begin < n_bytes && !is_last) {
        MimeBody body =
            body_new(text, begin, n_bytes); /* the closing delimiter is missing: Python takes it */
        g_array_append_val(bodies, body);
    }
    return bodies;
}

GArray *seed_mime_read(const char *text, size_t n_bytes, const char **out_why)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    size_t at = headers_read(text, n_bytes, 0, lines);
    g_autofree char *type = header_value(lines, "Content-Type");
    if (g_ascii_strncasecmp(type, "multipart/", strlen("multipart/")) != 0) {
        g_autoptr(GArray) single = g_array_new(FALSE, FALSE, sizeof(MimeBody));
        g_array_set_clear_func(single, body_clear);
        MimeBody body = body_new(text, 0, n_bytes);
        g_array_append_val(single, body);
        return g_steal_pointer(&single);
    }
    g_autofree char *boundary = boundary_of(type);
    if (!boundary) {
        *out_why = "a multipart text without a boundary";
        return NULL;
    }
    g_autoptr(GArray) bodies = bodies_split(text, n_bytes, at, boundary);
    if (bodies->len == 0) {
        *out_why = "a multipart text without a part: its boundary stands nowhere";
        return NULL;
    }
    return g_steal_pointer(&bodies);
}
