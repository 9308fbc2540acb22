#include "base/ip.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

bool base_ip_parse(const char *text, BaseIp *out)
{
    BaseIp ip = {0};
    if (inet_pton(AF_INET, text, ip.bytes) == 1) {
        ip.n_bytes = 4;
    } else if (inet_pton(AF_INET6, text, ip.bytes) == 1) {
        ip.n_bytes = 16;
    } else {
        return false;
    }
    *out = ip;
    return true;
}

static bool refuse(const char **out_why, const char *why)
{
    *out_why = why;
    return false;
}

bool base_cidr_parse(const char *text, BaseCidr *out, const char **out_why)
{
    char address[BASE_IP_TEXT_BYTES];
    const char *slash = strchr(text, '/');
    size_t n = slash ? (size_t)(slash - text) : strlen(text);
    BaseCidr cidr = {0};
    if (n >= sizeof address) {
        return refuse(out_why, "is no IP address");
    }
    memcpy(address, text, n);
    address[n] = '\0';
    if (!base_ip_parse(address, &cidr.ip)) {
        return refuse(out_why, "has an address that is none");
    }
    unsigned max = cidr.ip.n_bytes * 8u, bits = max;
    if (slash) {
        size_t n_digits = strlen(slash + 1);
        if (n_digits < 1 || n_digits > 3 || strspn(slash + 1, "0123456789") != n_digits ||
            (n_digits > 1 && slash[1] == '0')) {
            return refuse(out_why, "has no number of bits after '/'");
        }
        bits = (unsigned)g_ascii_strtoull(slash + 1, NULL, 10);
    }
    if (bits > max) {
        return refuse(out_why, max == 32 ? "has a prefix longer than 32 bits"
                                         : "has a prefix longer than 128 bits");
    }
    cidr.n_bits = (uint8_t)bits;
    *out = cidr;
    return true;
}

const char *base_ip_format(const BaseIp *ip, char *out)
{
    *out = '\0';
    if (ip->n_bytes) {
        inet_ntop(ip->n_bytes == 4 ? AF_INET : AF_INET6, ip->bytes, out, BASE_IP_TEXT_BYTES);
    }
    return out;
}

const char *base_cidr_format(const BaseCidr *cidr, char *out)
{
    base_ip_format(&cidr->ip, out);
    if (*out) {
        size_t n = strlen(out);
        g_snprintf(out + n, BASE_CIDR_TEXT_BYTES - n, "/%u", cidr->n_bits);
    }
    return out;
}

bool base_ip_equal(const BaseIp *a, const BaseIp *b)
{
    return base_ip_compare(a, b) == 0;
}

int base_ip_compare(const BaseIp *a, const BaseIp *b)
{
    if (a->n_bytes != b->n_bytes) {
        return a->n_bytes < b->n_bytes ? -1 : 1;
    }
    return memcmp(a->bytes, b->bytes, a->n_bytes);
}

bool base_ip_is_loopback(const BaseIp *ip)
{
    static const uint8_t one[16] = {[15] = 1};
    return ip->n_bytes == 4 ? ip->bytes[0] == 127
                            : ip->n_bytes == 16 && !memcmp(ip->bytes, one, sizeof one);
}

bool base_ip_is_wildcard(const BaseIp *ip)
{
    static const uint8_t zero[16];
    return ip->n_bytes && !memcmp(ip->bytes, zero, ip->n_bytes);
}

bool base_ip_is_link_local(const BaseIp *ip)
{
    return ip->n_bytes == 4
               ? ip->bytes[0] == 169 && ip->bytes[1] == 254
               : ip->n_bytes == 16 && ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

bool base_ip_is_multicast(const BaseIp *ip)
{
    static const uint8_t all[4] = {255, 255, 255, 255};
    return ip->n_bytes == 4 ? (ip->bytes[0] & 0xf0) == 0xe0 || !memcmp(ip->bytes, all, sizeof all)
                            : ip->n_bytes == 16 && ip->bytes[0] == 0xff;
}

/* --- prefixes --------------------------------------------------------------------------------- */

static uint8_t byte_mask(unsigned n_bits, unsigned byte)
{
    unsigned from = byte * 8;
    unsigned mask = n_bits >= from + 8 ? 0xff : n_bits <= from ? 0 : 0xff00u >> (n_bits - from);
    return (uint8_t)mask;
}

BaseCidr base_cidr_network(const BaseCidr *cidr)
{
    BaseCidr network = *cidr;
    for (unsigned i = 0; i < cidr->ip.n_bytes; i++) {
        network.ip.bytes[i] &= byte_mask(cidr->n_bits, i);
    }
    return network;
}

bool base_cidr_has_host_bits(const BaseCidr *cidr)
{
    BaseCidr network = base_cidr_network(cidr);
    return !base_ip_equal(&network.ip, &cidr->ip);
}

bool base_cidr_contains(const BaseCidr *cidr, const BaseIp *ip)
{
    if (ip->n_bytes != cidr->ip.n_bytes) {
        return false;
    }
    for (unsigned i = 0; i < ip->n_bytes; i++) {
        if ((ip->bytes[i] ^ cidr->ip.bytes[i]) & byte_mask(cidr->n_bits, i)) {
            return false;
        }
    }
    return ip->n_bytes != 0;
}

bool base_cidr_overlaps(const BaseCidr *a, const BaseCidr *b)
{
    return a->n_bits <= b->n_bits ? base_cidr_contains(a, &b->ip) : base_cidr_contains(b, &a->ip);
}

uint64_t base_cidr_size(const BaseCidr *cidr)
{
    unsigned n_host = cidr->ip.n_bytes * 8u - cidr->n_bits;
    return n_host >= 63 ? INT64_MAX : UINT64_C(1) << n_host;
}

BaseIp base_cidr_nth(const BaseCidr *cidr, uint64_t n)
{
    BaseIp ip = base_cidr_network(cidr).ip;
    for (unsigned i = ip.n_bytes; i-- > 0 && n; n >>= 8) {
        ip.bytes[i] |= (uint8_t)n;
    }
    return ip;
}

uint64_t base_cidr_index(const BaseCidr *cidr, const BaseIp *ip)
{
    uint64_t index = 0;
    for (unsigned i = 0; i < ip->n_bytes; i++) {
        if (index >> 55) {
            return INT64_MAX;
        }
        index = index << 8 | (ip->bytes[i] & (uint8_t)~byte_mask(cidr->n_bits, i));
    }
    return index;
}

bool base_cidr_broadcast(const BaseCidr *cidr, BaseIp *out)
{
    if (cidr->ip.n_bytes != 4 || cidr->n_bits > 30) {
        return false;
    }
    *out = base_cidr_nth(cidr, base_cidr_size(cidr) - 1);
    return true;
}

/* --- MACs ------------------------------------------------------------------------------------- */

BaseIp base_ip_link_local_of_mac(const uint8_t mac[6])
{
    return (BaseIp){.n_bytes = 16,
                    .bytes = {[0] = 0xfe,
                              [1] = 0x80,
                              [8] = mac[0] ^ 2,
                              [9] = mac[1],
                              [10] = mac[2],
                              [11] = 0xff,
                              [12] = 0xfe,
                              [13] = mac[3],
                              [14] = mac[4],
                              [15] = mac[5]}};
}

bool base_mac_parse(const char *text, uint8_t out[6])
{
    uint8_t mac[6];
    if (strlen(text) != 17) {
        return false;
    }
    for (unsigned i = 0; i < 6; i++) {
        int high = g_ascii_xdigit_value(text[i * 3]), low = g_ascii_xdigit_value(text[i * 3 + 1]);
        if (high < 0 || low < 0 || (i < 5 && text[i * 3 + 2] != ':')) {
            return false;
        }
        mac[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(out, mac, sizeof mac);
    return true;
}

const char *base_mac_format(const uint8_t mac[6], char *out)
{
    g_snprintf(out, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
               mac[5]);
    return out;
}
