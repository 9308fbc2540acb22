#include "cloudinit/ssh_wire.h"

#include <string.h>

void seed_ssh_reader_init(SshReader *reader, const void *bytes, size_t n_bytes)
{
    *reader = (SshReader){.at = bytes, .n_left = n_bytes};
}

const uint8_t *seed_ssh_read_bytes(SshReader *reader, size_t n_bytes)
{
    if (reader->is_failed || n_bytes > reader->n_left) {
        reader->is_failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    reader->at += n_bytes;
    reader->n_left -= n_bytes;
    return bytes;
}

uint32_t seed_ssh_read_u32(SshReader *reader)
{
    const uint8_t *b = seed_ssh_read_bytes(reader, 4);
    return b ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3] : 0;
}

const uint8_t *seed_ssh_read_string(SshReader *reader, size_t *out_n_bytes)
{
    uint32_t n_bytes = seed_ssh_read_u32(reader);
    const uint8_t *bytes = seed_ssh_read_bytes(reader, n_bytes);
    *out_n_bytes = bytes ? n_bytes : 0;
    return bytes;
}

bool seed_ssh_read_is(SshReader *reader, const char *text)
{
    size_t n_bytes;
    const uint8_t *bytes = seed_ssh_read_string(reader, &n_bytes);
    return bytes && n_bytes == strlen(text) && memcmp(bytes, text, n_bytes) == 0;
}

bool seed_ssh_reader_is_done(const SshReader *reader)
{
    return !reader->is_failed && reader->n_left == 0;
}

void seed_ssh_put_u32(GByteArray *out, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                              (uint8_t)value};
    g_byte_array_append(out, bytes, sizeof bytes);
}

void seed_ssh_put_string(GByteArray *out, const void *bytes, size_t n_bytes)
{
    seed_ssh_put_u32(out, (uint32_t)n_bytes);
    g_byte_array_append(out, bytes, (guint)n_bytes);
}

void seed_ssh_put_text(GByteArray *out, const char *text)
{
    seed_ssh_put_string(out, text, strlen(text));
}
