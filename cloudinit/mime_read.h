#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <glib.h>

/*
 * Looking into a MIME text that a person wrote (RFC 2045, 2046), as far as the checks need it: the
 * parts of the outermost multipart and where they begin. Encoded bodies and inner multiparts are
 * not unfolded. cloud-init itself reads it with Python's email module.
 */
typedef struct {
    char *type;      /* "text/cloud-config", lower case; "text/plain" where none is given */
    bool is_encoded; /* base64 or quoted-printable: the body can't be read as it stands */
    size_t begin;    /* of the body, in bytes of the text */
    size_t n_bytes;  /* without the line feed that belongs to the boundary */
} MimeBody;

/* The parts in order (of MimeBody, transfer full). *out_why is set to a constant text and NULL
 * returned when cloud-init would find none. */
GArray *seed_mime_read(const char *text, size_t n_bytes, const char **out_why);
