#pragma once
#include <glib.h>

/*
 * A MIME multipart text (RFC 2046, 5.1.3), as cloud-init takes it for user-data and vendor-data.
 * The boundary follows from the parts' bytes and stands in none of them, so the same parts give the
 * same text.
 */
typedef struct {
    const char *type; /* "text/cloud-config"; NULL: `bytes` is an entity with headers of its own */
    const char *filename; /* [A-Za-z0-9._-]; scripts run in the order of their names */
    GBytes *bytes;
} MimePart;

/* Parts of plain ASCII text stay readable, others become base64. An entity (type NULL) goes in as
 * it is. Pure. Transfer full. */
GBytes *seed_mime_build(const MimePart *parts, unsigned n_parts);
