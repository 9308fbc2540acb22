#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * IPv4 and IPv6 addresses and prefixes as values, for spec, plan and kernel alike. Plain data, no
 * allocation, no I/O; bytes in network order.
 */
typedef struct {
    uint8_t n_bytes; /* 4, 16; 0: no address */
    uint8_t bytes[16];
} BaseIp;

typedef struct {
    BaseIp ip; /* as written: may have host bits ("10.0.0.1/24") */
    uint8_t n_bits;
} BaseCidr;

enum { BASE_IP_TEXT_BYTES = 46, BASE_CIDR_TEXT_BYTES = 50 };

/* Strict: inet_pton(3)'s forms, so no leading zeros in IPv4, no zone; false: it is none. */
bool base_ip_parse(const char *text, BaseIp *out);
/* "10.0.0.0/8"; without a slash the whole address. On failure *out_why is a sentence's end ("has a
 * prefix longer than 32 bits"), constant. */
bool base_cidr_parse(const char *text, BaseCidr *out, const char **out_why);

/* Canonical text into `out` (BASE_IP_TEXT_BYTES, BASE_CIDR_TEXT_BYTES); returns it. No address: "".
 */
const char *base_ip_format(const BaseIp *ip, char *out);
const char *base_cidr_format(const BaseCidr *cidr, char *out);

static inline bool base_ip_is_set(const BaseIp *ip)
{
    return ip->n_bytes != 0;
}
bool base_ip_equal(const BaseIp *a, const BaseIp *b);
/* As memcmp(3); IPv4 before IPv6. */
int base_ip_compare(const BaseIp *a, const BaseIp *b);
bool base_ip_is_loopback(const BaseIp *ip);
bool base_ip_is_wildcard(const BaseIp *ip); /* 0.0.0.0, :: */
bool base_ip_is_link_local(const BaseIp *ip);
bool base_ip_is_multicast(const BaseIp *ip); /* with IPv4's limited broadcast */

/* Host bits cleared. */
BaseCidr base_cidr_network(const BaseCidr *cidr);
bool base_cidr_has_host_bits(const BaseCidr *cidr);
bool base_cidr_contains(const BaseCidr *cidr, const BaseIp *ip);
bool base_cidr_overlaps(const BaseCidr *a, const BaseCidr *b);

/* How many addresses the prefix has; 2^63 and more: INT64_MAX. */
uint64_t base_cidr_size(const BaseCidr *cidr);
/* The n-th address of the prefix, 0: the network's own. n < base_cidr_size(). */
BaseIp base_cidr_nth(const BaseCidr *cidr, uint64_t n);
/* Which one `ip` is; it must be in the prefix. More than 2^63: INT64_MAX. */
uint64_t base_cidr_index(const BaseCidr *cidr, const BaseIp *ip);
/* IPv4 prefixes up to /30: the last address. False: has none. */
bool base_cidr_broadcast(const BaseCidr *cidr, BaseIp *out);

/* fe80:: with the interface identifier of a MAC (RFC 4291, appendix A). */
BaseIp base_ip_link_local_of_mac(const uint8_t mac[6]);
/* "52:54:00:12:34:56", either case; false: malformed. */
bool base_mac_parse(const char *text, uint8_t out[6]);
/* Lower case, into 18 bytes; returns out. */
const char *base_mac_format(const uint8_t mac[6], char *out);
