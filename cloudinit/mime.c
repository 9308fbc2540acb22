#include "cloudinit/mime.h"

#include <string.h>

#define BOUNDARY_DIGITS   32
#define BASE64_LINE_BYTES 57 /* 76 digits */

static gboolean bytes_contain(GBytes *bytes, const char *text)
{
    gsize n_bytes;
    const char *data = g_bytes_get_data(bytes, &n_bytes);
    return n_bytes > 0 && memmem(data, n_bytes, text, strlen(text)) != NULL;
}

static char *boundary_candidate(const MimePart *parts, unsigned n_parts, unsigned try)
{
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sum, (const guchar *)&try, sizeof try);
    for (unsigned i = 0; i < n_parts; i++) {
        gsize n_bytes;
        const guchar *data = g_bytes_get_data(parts[i].bytes, &n_bytes);
        g_checksum_update(sum, data, (gssize)n_bytes);
    }
    return g_strdup_printf("==vm-run-%.*s==", BOUNDARY_DIGITS, g_checksum_get_string(sum));
}

static char *boundary_choose(const MimePart *parts, unsigned n_parts)
{
    for (unsigned try = 0;; try++) {
        g_autofree char *boundary = boundary_candidate(parts, n_parts, try);
        gboolean is_free = TRUE;
        for (unsigned i = 0; i < n_parts; i++) {
            is_free = is_free && !bytes_contain(parts[i].bytes, boundary);
        }
        if (is_free) {
            return g_steal_pointer(&boundary);
        }
    }
}

static gboolean is_plain(const char *data, gsize n_bytes)
{
    for (gsize i = 0; i < n_bytes; i++) {
        if (data[i] != '\n' && data[i] != '\t' && (data[i] < 0x20 || data[i] > 0x7e)) {
            return FALSE;
        }
    }
    return TRUE;
}

static void put_base64(GString *out, const guchar *data, gsize n_bytes)
{
    for (gsize i = 0; i < n_bytes; i += BASE64_LINE_BYTES) {
        g_autofree char *line = g_base64_encode(data + i, MIN(BASE64_LINE_BYTES, n_bytes - i));
        g_string_append(out, line);
        g_string_append_c(out, '\n');
    }
}

static void put_part(GString *out, const MimePart *part)
{
    gsize n_bytes;
    const char *data = g_bytes_get_data(part->bytes, &n_bytes);
    if (!part->type) {
        g_string_append_len(out, data, (gssize)n_bytes);
        g_string_append_c(out, '\n');
        return;
    }
    gboolean is_text = is_plain(data, n_bytes);
    g_string_append_printf(out,
                           "Content-Type: %s; charset=\"utf-8\"\n"
                           "MIME-Version: 1.0\n"
                           "Content-Transfer-Encoding: %s\n"
                           "Content-Disposition: attachment; filename=\"%s\"\n\n",
                           part->type, is_text ? "7bit" : "base64", part->filename);
    if (is_text) {
        /* The line feed before a boundary belongs to the boundary. */
        g_string_append_len(out, data, (gssize)n_bytes);
        g_string_append_c(out, '\n');
    } else {
        put_base64(out, (const guchar *)data, n_bytes);
    }
}

GBytes *seed_mime_build(const MimePart *parts, unsigned n_parts)
{
    g_autofree char *boundary = boundary_choose(parts, n_parts);
    GString *out = g_string_new(NULL);
    g_string_append_printf(out,
                           "Content-Type: multipart/mixed; boundary=\"%s\"\n"
                           "MIME-Version: 1.0\n\n",
                           boundary);
    for (unsigned i = 0; i < n_parts; i++) {
        g_string_append_printf(out, "--%s\n", boundary);
        put_part(out, &parts[i]);
    }
    g_string_append_printf(out, "--%s--\n", boundary);
    return g_string_free_to_bytes(out);
}
