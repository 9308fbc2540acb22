#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <glib.h>

/*
 * Taps of ours on a bridge that somebody else owns. Name: "vmt" + 12 base32 characters from the
 * machine's id and the NIC's index (15 characters); the whole owner tag as alternative name.
 * rtnetlink, no exec. Idempotent. All of it concerns the network namespace of the calling thread.
 */
typedef struct {
    const char *name;      /* <= 15 characters */
    const char *owner_tag; /* "vm-run:<machine uuid>:<nic>", the altname */
    const char *bridge;    /* existing bridge */
    const char *mac;       /* of the guest's NIC; the tap's own is the same with fe: in front, above
                              all others, so that the bridge never takes it; NULL: kernel's choice */
    uid_t owner_uid;       /* who may open it: the QEMU user */
    gid_t owner_gid;
    uint32_t mtu;      /* 0: the bridge's */
    unsigned n_queues; /* 0, 1: a single queue; more: IFF_MULTI_QUEUE, and a short txqlen, since
                          each such tap costs 6.6 MiB of kernel memory with the usual one */
    bool is_link_down; /* made and enslaved, but not up: nothing gets through, whatever libvirt's
                          <link> says (that leaves the host's side up) */
    bool is_hairpin;   /* frames may go back to it: a machine that reaches itself by a port map of
                          its own needs it where br_netfilter is on. What it sends to all would come
                          back as well: the filter stops that (net/filter_text.c) */
} NetTap;

/* Transfer full. */
char *net_tap_name(const char *machine_uuid, unsigned nic_index);
char *net_tap_owner_tag(const char *machine_uuid, unsigned nic_index);

/* Makes the persistent tap, tags it, sets owner, enslaves it, sets its port of the bridge (guarded
 * against BPDUs, not isolated, learning) and sets it up, without IPv6 of the host's where /proc/sys
 * may be written (it would cost a route and groups each); reads everything back. Already there with
 * our tag: only what differs is changed, and nothing is sent when nothing does; so is_link_down and
 * is_hairpin change live. A link of that name without our tag: EXISTS, untouched. NOT_FOUND: no
 * such bridge; DENIED: no CAP_NET_ADMIN; HOST: no /dev/net/tun; BUSY: its owner or kind of queues
 * must change while QEMU has it open; NET: a malformed name, tag or MAC. After a failure, or our
 * death, a tap that was not there before is not there. 1-2 ms. */
bool net_tap_create(const NetTap *tap, GError **error);

/* Removes it when it is there (also under another name) and carries our tag, with what limits its
 * rate (net/shape.h); absent is success; a foreign one of that name: EXISTS, untouched. Waits for
 * the kernel, 15-21 ms. */
bool net_tap_remove(const char *name, const char *owner_tag, GError **error);

/* Names of all taps with a tag of ours, and their tags; also of those that are gone but for what
 * limited their rate (then net_tap_remove() removes that). For gc. GPtrArray of char* "name tag",
 * transfer full. */
GPtrArray *net_tap_list(GError **error);

/* Is there a bridge of this name here? false without error: no. */
bool net_bridge_probe(const char *name, bool *out_is_bridge, GError **error);
