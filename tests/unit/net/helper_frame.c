#include "tests/unit/net/helper_frame.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <glib.h>

enum { ETHER_BYTES = 14, UDP_PROTO = 17 };

typedef struct {
    Frame frame;
    const FrameHost *hosts;
    char destination;
    unsigned ip4_at, ip6_at, udp_at; /* 0: none */
    unsigned end_at;                 /* where padding begins */
} Builder;

static void put(Builder *builder, const void *bytes, unsigned n_bytes)
{
    Frame *frame = &builder->frame;
    assert_true(frame->n_bytes + n_bytes <= sizeof frame->bytes);
    memcpy(frame->bytes + frame->n_bytes, bytes, n_bytes);
    frame->n_bytes += n_bytes;
}

static void put_u16(Builder *builder, unsigned value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 8), (uint8_t)value};
    put(builder, bytes, 2);
}

static void put_zeros(Builder *builder, unsigned n)
{
    static const uint8_t zeros[FRAME_MAX_BYTES];
    assert_true(n <= sizeof zeros);
    put(builder, zeros, n);
}

static const FrameHost *host(const Builder *builder, char name)
{
    name = name == 'D' ? builder->destination : name;
    for (const FrameHost *at = builder->hosts; at->name; at++) {
        if (at->name == name) {
            return at;
        }
    }
    fail_msg("no host '%c'", name);
    return NULL;
}

static void put_ip6(Builder *builder, const char *name)
{
    const FrameHost *at = host(builder, name[1]);
    put(builder, name[0] == 'l' ? at->link_local : at->global6, 16);
}

static void put_ip4_header(Builder *builder, gchar **words)
{
    unsigned n_words = g_strv_length(words);
    builder->ip4_at = builder->ip4_at ? builder->ip4_at : builder->frame.n_bytes;
    put(builder, (const uint8_t[]){0x45, 0, 0, 0, 0x12, 0x34}, 6);
    put_u16(builder, n_words > 3 ? (unsigned)strtoul(words[3], NULL, 16) : 0);
    put(builder, (const uint8_t[]){64, (uint8_t)atoi(words[2]), 0, 0}, 4);
    put(builder, host(builder, words[0][0])->ip4, 4);
    put(builder, host(builder, words[1][0])->ip4, 4);
}

static void put_ip6_header(Builder *builder, gchar **words)
{
    unsigned n_words = g_strv_length(words);
    builder->ip6_at = builder->frame.n_bytes;
    put(builder, (const uint8_t[]){0x60, 0, 0, 0, 0, 0}, 6);
    put(builder,
        (const uint8_t[]){(uint8_t)atoi(words[2]),
                          n_words > 3 ? (uint8_t)atoi(words[3]) : (uint8_t)255},
        2);
    put_ip6(builder, words[0]);
    put_ip6(builder, words[1]);
}

static void put_tcp(Builder *builder, gchar **words)
{
    put_u16(builder, (unsigned)atoi(words[0]));
    put_u16(builder, (unsigned)atoi(words[1]));
    put_zeros(builder, 8);
    put(builder, (const uint8_t[]){0x50, (uint8_t)strtoul(words[2], NULL, 16), 0xff, 0xff}, 4);
    put_zeros(builder, 4);
}

static void put_header(Builder *builder, const char *name, gchar **words)
{
    if (!strcmp(name, "ip4")) {
        put_ip4_header(builder, words);
    } else if (!strcmp(name, "ip6")) {
        put_ip6_header(builder, words);
    } else if (!strcmp(name, "tcp")) {
        put_tcp(builder, words);
    } else if (!strcmp(name, "udp")) {
        builder->udp_at = builder->frame.n_bytes;
        put_u16(builder, (unsigned)atoi(words[0]));
        put_u16(builder, (unsigned)atoi(words[1]));
        put_zeros(builder, 4);
    } else if (!strcmp(name, "icmp6")) {
        put(builder, (const uint8_t[]){(uint8_t)atoi(words[0]), 0, 0, 0}, 4);
    } else {
        fail_msg("no header '%s'", name);
    }
}

static void put_hex(Builder *builder, const char *word)
{
    assert_int_equal(strlen(word) % 2, 0);
    for (; *word; word += 2) {
        assert_true(g_ascii_isxdigit(word[0]) && g_ascii_isxdigit(word[1]));
        const uint8_t byte =
            (uint8_t)(g_ascii_xdigit_value(word[0]) * 16 + g_ascii_xdigit_value(word[1]));
        put(builder, &byte, 1);
    }
}

static void put_word(Builder *builder, const char *word)
{
    const char *colon = strchr(word, ':');
    if (!strcmp(word, "end")) {
        builder->end_at = builder->frame.n_bytes;
    } else if (colon) {
        g_autofree char *name = g_strndup(word, (size_t)(colon - word));
        g_auto(GStrv) words = g_strsplit(colon + 1, ",", -1);
        put_header(builder, name, words);
    } else if (word[0] == 'x') {
        put_zeros(builder, (unsigned)atoi(word + 1));
    } else if (word[0] == 'm') {
        put(builder, host(builder, word[1])->mac, 6);
    } else if (word[0] == 'a' && strlen(word) == 2 && g_ascii_isupper(word[1])) {
        put(builder, host(builder, word[1])->ip4, 4);
    } else if (word[0] == 'g' || word[0] == 'l') {
        put_ip6(builder, word);
    } else {
        put_hex(builder, word);
    }
}

static void set_u16(Frame *frame, unsigned at, unsigned value)
{
    frame->bytes[at] = (uint8_t)(value >> 8);
    frame->bytes[at + 1] = (uint8_t)value;
}

static void finish(Builder *builder)
{
    Frame *frame = &builder->frame;
    unsigned end = builder->end_at ? builder->end_at : frame->n_bytes;
    if (builder->udp_at) {
        set_u16(frame, builder->udp_at + 4, end - builder->udp_at);
    }
    if (builder->ip6_at) {
        set_u16(frame, builder->ip6_at + 4, end - builder->ip6_at - 40);
    }
    if (builder->ip4_at) {
        uint32_t sum = 0;
        set_u16(frame, builder->ip4_at + 2, end - builder->ip4_at);
        for (unsigned i = 0; i < 20; i += 2) {
            sum += (uint32_t)frame->bytes[builder->ip4_at + i] << 8 |
                   frame->bytes[builder->ip4_at + i + 1];
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        set_u16(frame, builder->ip4_at + 10, ~sum & 0xffff);
    }
}

Frame frame_build(const char *line, const FrameHost *hosts, char destination)
{
    Builder builder = {.hosts = hosts, .destination = destination};
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    for (gchar **word = words; *word; word++) {
        if (**word) {
            put_word(&builder, *word);
        }
    }
    finish(&builder);
    return builder.frame;
}

bool frame_is_same(const Frame *sent, const uint8_t *seen, unsigned n_seen)
{
    if (n_seen < ETHER_BYTES + 8 || n_seen > sent->n_bytes || memcmp(sent->bytes, seen, 12) != 0) {
        return false;
    }
    unsigned n_tail = n_seen - ETHER_BYTES;
    return !memcmp(sent->bytes + sent->n_bytes - n_tail, seen + ETHER_BYTES, n_tail);
}
