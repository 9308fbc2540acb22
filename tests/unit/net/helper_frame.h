#pragma once
#include <stdbool.h>
#include <stdint.h>

/*
 * Ethernet frames from a line of words:
 *   mX            MAC of X            aX, gX, lX   its IPv4, global, link-local address
 *   0a1b2c        these bytes         xN           N bytes of zero
 *   ip4:S,D,PROTO[,FRAG]              S, D: names; FRAG: flags and offset, hexadecimal
 *   ip6:S,D,NEXT[,HOPS]               S, D: gX or lX
 *   udp:FROM,TO   tcp:FROM,TO,FLAGS   icmp6:TYPE (checksums of IPv4 headers and all lengths are
 * set) D stands for the destination of this run.
 */
enum { FRAME_MAX_BYTES = 1600 };

typedef struct {
    uint8_t bytes[FRAME_MAX_BYTES];
    unsigned n_bytes;
} Frame;

typedef struct {
    char name;
    uint8_t mac[6], ip4[4], global6[16], link_local[16];
} FrameHost;

/* hosts: ends with name 0; destination: whom D means. A malformed line fails the test. */
Frame frame_build(const char *line, const FrameHost *hosts, char destination);

/* Is `seen` the frame that was sent, also with its VLAN tag taken off? */
bool frame_is_same(const Frame *sent, const uint8_t *seen, unsigned n_seen);
