#include "cloudinit/check.h"

#include <string.h>

/* How user-data begins (blanks before it don't count, nor does case), longest first where one
 * begins another. Source: cloud-init 22.4.2, handlers/__init__.py and user_data.py. */
static const struct {
    const char *begin;
    SeedKind kind;
} kinds[] = {
    {"#cloud-config-archive", SEED_KIND_CONFIG_ARCHIVE},
    {"#cloud-config-jsonp", SEED_KIND_UNKNOWN}, /* a JSON patch of earlier parts: never alone */
    {"#cloud-config", SEED_KIND_CLOUD_CONFIG},
    {"#cloud-boothook", SEED_KIND_BOOTHOOK},
    {"#part-handler", SEED_KIND_PART_HANDLER},
    {"#include", SEED_KIND_INCLUDE},
    {"## template: jinja", SEED_KIND_JINJA},
    {"#!", SEED_KIND_SCRIPT},
};

#define MIME_LOOK_BYTES 4096

/* Anything with this header in its beginning is parsed as MIME. */
static bool is_mime(const char *bytes, size_t n_bytes)
{
    static const char header[] = "mime-version:";
    size_t n_header = sizeof header - 1;
    size_t n_look = MIN(n_bytes, MIME_LOOK_BYTES);
    for (size_t i = 0; i + n_header <= n_look; i++) {
        if (g_ascii_strncasecmp(bytes + i, header, n_header) == 0) {
            return true;
        }
    }
    return false;
}

SeedKind seed_kind_detect(const char *bytes, size_t n_bytes)
{
    if (n_bytes >= 2 && memcmp(bytes, "\x1f\x8b", 2) == 0) {
        return SEED_KIND_GZIP;
    }
    if (is_mime(bytes, n_bytes)) {
        return SEED_KIND_MIME;
    }
    size_t at = 0;
    while (at < n_bytes && strchr(" \t\r\n\v\f", bytes[at]) && bytes[at] != '\0') {
        at++;
    }
    if (at == n_bytes) {
        return SEED_KIND_EMPTY;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        size_t n_begin = strlen(kinds[i].begin);
        if (n_bytes - at >= n_begin &&
            g_ascii_strncasecmp(bytes + at, kinds[i].begin, n_begin) == 0) {
            return kinds[i].kind;
        }
    }
    return SEED_KIND_UNKNOWN;
}
