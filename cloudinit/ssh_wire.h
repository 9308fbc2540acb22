#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

/*
 * The SSH wire form (RFC 4251, section 5): big-endian numbers, and strings that carry their length
 * in front. A reader never goes past its end; after a failed read it stays failed.
 */
typedef struct {
    const uint8_t *at;
    size_t n_left;
    bool is_failed;
} SshReader;

void seed_ssh_reader_init(SshReader *reader, const void *bytes, size_t n_bytes);

/* 0 when nothing is left (is_failed is set then). */
uint32_t seed_ssh_read_u32(SshReader *reader);

/* n_bytes as they are, borrowed from the input; NULL when fewer are left. */
const uint8_t *seed_ssh_read_bytes(SshReader *reader, size_t n_bytes);

/* A string's bytes, borrowed; NULL (and out_n_bytes 0) when it is cut off. */
const uint8_t *seed_ssh_read_string(SshReader *reader, size_t *out_n_bytes);

/* true when the next string is exactly `text`; consumes it in both cases. */
bool seed_ssh_read_is(SshReader *reader, const char *text);

/* Everything was read and nothing failed. */
bool seed_ssh_reader_is_done(const SshReader *reader);

void seed_ssh_put_u32(GByteArray *out, uint32_t value);
void seed_ssh_put_string(GByteArray *out, const void *bytes, size_t n_bytes);
void seed_ssh_put_text(GByteArray *out, const char *text);
