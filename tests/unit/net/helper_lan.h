#pragma once
#include <stdbool.h>
#include "net/member.h"
#include "tests/unit/net/helper_frame.h"

/*
 * A bridge `br0` with taps of three machines, and a port of somebody else's, all in this program's
 * network namespace; frames are written into and read from the taps as a guest's would be.
 *
 *   A, B  members with known addresses: taps vmta, vmtb     C  one without: vmtc
 *   O     a port that is none of ours: out0                  G  the gateway: br0 itself
 *   S, T  the link-local addresses that A and B choose themselves (with A's and B's MACs)
 *   R an unknown host, P a private address elsewhere, W the world, Z zero, L loopback, M multicast,
 *   N the broadcast
 */
#define LAN_BRIDGE "br0"
#define LAN_STORE  "teststor"
extern const FrameHost lan_hosts[];

/* The namespace, the bridge and A, B, C, O; false: skip (said aloud). */
bool lan_make(void);
/* The namespace and the bridge only. */
bool lan_make_bridge(void);

/* A tap enslaved to br0 and up, as `name`; its fd. */
int lan_tap_open(const char *name);
int lan_tap_of(char host);

/* Our table, and nobody in it; or no table. */
void lan_install(void);
void lan_uninstall(void);
/* A, B or C as a member; transfer full. */
NetMember *lan_member(char host);
/* Commits net_filter_append(member, old). */
void lan_apply(const NetMember *member, const NetMember *old);
void lan_register_all(void);

/* Writes the frame into from's tap and tells whether it came to `to` (a tap, or G: this host). What
 * came first and what is on its way is settled by a broadcast behind it, of O or G. */
bool lan_passes(char from, const char *line, char to);
bool lan_frame_passes(char from, const Frame *frame, char to);

/* Rules of the first family see bridged frames, too. */
void lan_set_br_netfilter(bool is_on);
