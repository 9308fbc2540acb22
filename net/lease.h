#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/ip.h"

/*
 * Addresses that somebody else's DHCP server gave out on a bridge that is not ours: read from the
 * lease files that this host's servers keep, never asked for over the network. Only a lease of that
 * very MAC counts, and none that has run out.
 */

/* Where leases may stand, NULL-terminated; "%s" is the bridge. Two formats are known: libvirt's
 * DIR/BRIDGE.status (a JSON list of ip-address, mac-address, expiry-time; libvirt 9.0
 * src/network/leaseshelper.c) and dnsmasq's own ("EXPIRY MAC IP NAME CLIENT-ID", dnsmasq(8)
 * --dhcp-leasefile). */
extern const char *const net_lease_files[];

/* The IPv4 lease of `mac` on `bridge`; when there is none yet but a file that could get it, waits
 * for inotify(7) events of that file's folder, timeout_ms in all. No address in *out: nobody knows
 * one. `files` as net_lease_files. False: only when inotify can't be had (NO_SPACE, HOST). */
bool net_lease_find(const char *const *files, const char *bridge, const uint8_t mac[6],
                    unsigned timeout_ms, BaseIp *out, GError **error);

/* What the neighbour table (ARP) last saw that MAC use on `bridge`: a hint for people, never a
 * proof, since any guest can put it there. No address in *out: nothing. */
bool net_neighbour_find(const char *bridge, const uint8_t mac[6], BaseIp *out, GError **error);
