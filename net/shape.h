#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * Bandwidth limits of a tap by libnl-route: tbf on the tap (towards the guest), and an ifb with tbf
 * behind ingress + u32 + mirred (from the guest). The ifb is named "vmi" + the tap's own suffix and
 * carries its tag. 0: no limit, removes what was there. Idempotent; live.
 */
bool net_shape_apply(const char *tap, const char *tap_tag, uint64_t to_guest_bps,
                     uint64_t from_guest_bps, GError **error);
bool net_shape_remove(const char *tap, const char *tap_tag, GError **error);
bool net_shape_check(const char *tap, const char *tap_tag, uint64_t to_guest_bps,
                     uint64_t from_guest_bps, GPtrArray *differences, GError **error);
