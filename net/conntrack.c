#include "net/conntrack.h"

#include "base/load.h"
#include "net/nft/part.h"

bool net_flows_end(const NetFlow *flows, unsigned n_flows, unsigned *out_n_ended, GError **error)
{
    unsigned n_ended = 0;
    if (n_flows > 0) {
        const NetNftPart *part = base_load_symbol(NET_NFT_PART, NET_NFT_SYMBOL, error);
        if (!part || !part->end_flows(flows, n_flows, &n_ended, error)) {
            return false;
        }
    }
    if (out_n_ended) {
        *out_n_ended = n_ended;
    }
    return true;
}
