#pragma once
#include "net/conntrack.h"

/* net_flows_end(), on libnl-nf-3. */
bool net_nft_end_flows(const NetFlow *flows, unsigned n_flows, unsigned *out_n_ended,
                       GError **error);
