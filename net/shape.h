#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * Bandwidth limits of a tap or macvtap of ours, by rtnetlink's traffic control: clsact on it, and
 * for each limited direction u32 + mirred to an ifb of its own whose root is a tbf. Not a tbf on
 * the tap itself: libvirt (9.0, qemuDomainInterfaceSetDefaultQDisc) puts noqueue there whenever it
 * starts a machine. The ifbs are named "vmi" (from the guest) and "vmo" (to it) + the tap's own
 * suffix and carry its tag with ":from" and ":to". 0: no limit, removes what was there.
 *
 * So limits may be set before the machine starts. Idempotent: only what differs is sent; a changed
 * rate is changed in place. Any death of ours leaves at most what the next call, net_shape_remove()
 * or net_tap_remove() mends; net_tap_list() tells of an ifb whose tap is gone.
 */

/* NOT_FOUND: no such tap. EXISTS: it, or a link named as its ifb, is not ours; or somebody put an
 * ingress qdisc on it. NET: a malformed name or tag, a rate below 8 bits/s. 1 ms a direction. */
bool net_shape_apply(const char *tap, const char *tap_tag, uint64_t to_guest_bps,
                     uint64_t from_guest_bps, GError **error);
/* Also when the tap is gone. Absent is success. 15-30 ms an ifb. */
bool net_shape_remove(const char *tap, const char *tap_tag, GError **error);
/* Appends lines of what is not as it should be; changes nothing. */
bool net_shape_check(const char *tap, const char *tap_tag, uint64_t to_guest_bps,
                     uint64_t from_guest_bps, GPtrArray *differences, GError **error);

/* The taps that ifbs of ours belong to, whether they are there or not: GPtrArray of "name tag" of
 * the tap, transfer full. A macvtap's is told as "vmt" + its suffix: net_tap_remove() removes the
 * ifb of either. */
GPtrArray *net_shape_list(GError **error);
/* Removes ifbs that a crash cut off before their tag; is_dry_run: only lists them. Names, transfer
 * full. */
GPtrArray *net_shape_sweep(bool is_dry_run, GError **error);
