#include "net/conntrack.h"

#include <fcntl.h>
#include "base/file.h"
#include "base/load.h"
#include "net/nft/part.h"

enum { COUNT_MAX_BYTES = 32 };

/* Of this namespace; the table is one for all of them, and a look through it costs the same for
 * none. What can't be read may be many. */
static bool has_flows(void)
{
    g_autofree char *count = base_file_read(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_count",
                                            COUNT_MAX_BYTES, NULL, NULL);
    return !count || *count != '0';
}

bool net_flows_end(const NetFlow *flows, unsigned n_flows, unsigned *out_n_ended, GError **error)
{
    unsigned n_ended = 0;
    if (n_flows > 0 && has_flows()) {
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
