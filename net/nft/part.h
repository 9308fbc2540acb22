#pragma once
#include <stdbool.h>
#include "net/conntrack.h"

/*
 * What only the part vm-run-nft.so can do, since libnftables and libnl-nf-3 (1.6 MB with what they
 * bring) are linked there alone: net/nft.c and net/conntrack.c load it at their first use. Each
 * call concerns the network namespace of the calling thread; calls of several threads wait for each
 * other.
 */
#define NET_NFT_PART   "vm-run-nft"
#define NET_NFT_SYMBOL "net_nft_part"

typedef struct {
    /* One transaction of nft text or libnftables' JSON; *out_output (may be NULL) gets what it
     * answers. EXISTS, NOT_FOUND, DENIED by the kernel's word, else HOST; nothing is printed. */
    bool (*run)(const char *commands, bool is_json, char **out_output, GError **error);
    /* net_flows_end() */
    bool (*end_flows)(const NetFlow *flows, unsigned n_flows, unsigned *out_n_ended,
                      GError **error);
} NetNftPart;
