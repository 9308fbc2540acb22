#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "net/link.h"

/*
 * Macvtaps of ours: a NIC of a machine directly on a link of the host, without a bridge. Host and
 * guest don't reach each other through it (but by a hairpinning switch in mode vepa), and no filter
 * of ours sees its frames. All of it concerns the network namespace of the calling thread.
 *
 * How QEMU gets it: libvirt (9.0, qemuInterfaceEthernetConnect) takes
 *   <interface type='ethernet'><mac address=MAC/><target dev=NAME managed='no'/>
 * finds that NAME is a macvtap, opens /dev/tap<index> itself, as root, once a queue, and hands QEMU
 * the descriptors. So the node keeps its owner (root, 0600); the MAC must be the link's. The node
 * is the kernel's (devtmpfs), there when the link is. Its name holds the index of the link, which
 * counts from 1 in each namespace while /dev is one for all: so we choose the index, from the name
 * and the namespace, and open the node once to see that it is this link's.
 */
typedef struct {
    const char *name;      /* <= 15 characters */
    const char *owner_tag; /* the altname, as a tap's */
    const char *lower;     /* existing link of this host; up; no port of a bridge */
    NetMacvtapMode mode; /* passthrough: the lower link gets the guest's MAC, and its own back when
                            the macvtap goes (the kernel does it) */
    const char *mac;     /* of the guest's NIC */
    uint32_t mtu;        /* 0: the lower link's */
    bool is_link_down;   /* made, but not up */
} NetMacvtap;

/* "vmm" + 12 base32 characters from the machine's id and the NIC's index, transfer full. */
char *net_macvtap_name(const char *machine_uuid, unsigned nic_index);

/* "bridge", "vepa", "private", "passthrough"; NULL and false for anything else. */
const char *net_macvtap_mode_name(NetMacvtapMode mode);
bool net_macvtap_mode_parse(const char *text, NetMacvtapMode *out_mode);

/* Idempotent: only what differs is changed; the host itself uses no IPv6 on it. EXISTS: a link of
 * that name that is not ours. NOT_FOUND: no such lower link. HOST: the lower link is down, or
 * /dev/tap<index> is missing or another namespace's. BUSY: the lower link is a port of a bridge or
 * in use by another macvtap in a mode that excludes it; ours is there with another lower link or
 * mode (who has it open can't be seen: remove it first). NET: a malformed name, tag or MAC. After a
 * failure a macvtap that was not there before is not there; our death leaves at most one that
 * net_macvtap_remove() or net_macvtap_sweep() knows. 1-2 ms. */
bool net_macvtap_create(const NetMacvtap *macvtap, GError **error);
/* Absent is success; a foreign one of that name: EXISTS, untouched. 15-30 ms. */
bool net_macvtap_remove(const char *name, const char *owner_tag, GError **error);
/* Appends lines of what is not as it should be; changes nothing. */
bool net_macvtap_check(const NetMacvtap *macvtap, GPtrArray *differences, GError **error);

/* Ours: GPtrArray of "name tag", transfer full. */
GPtrArray *net_macvtap_list(GError **error);
/* Removes those that a crash cut off before their tag; is_dry_run: only lists them. Names, transfer
 * full. */
GPtrArray *net_macvtap_sweep(bool is_dry_run, GError **error);
