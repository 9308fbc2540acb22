/*
 * dhcp6 INTERFACE: one address by DHCPv6 (RFC 8415), with rapid commit: Solicit, Reply. Prints
 * "address ADDRESS" and "dns ADDRESS" lines. Status 1: nobody answered within 5 s, or with no
 * address. The interface needs its link-local address.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    TRIES = 5,
    CLIENT_PORT = 546,
    SERVER_PORT = 547,
    SOLICIT = 1,
    REPLY = 7,
    CLIENT_ID = 1,
    IA_NA = 3,
    IA_ADDRESS = 5,
    OPTION_REQUEST = 6,
    RAPID_COMMIT = 14,
    DNS_SERVERS = 23,
};

static uint8_t *option_put(uint8_t *at, uint16_t code, const void *data, uint16_t n)
{
    *at++ = (uint8_t)(code >> 8);
    *at++ = (uint8_t)code;
    *at++ = (uint8_t)(n >> 8);
    *at++ = (uint8_t)n;
    memcpy(at, data, n);
    return at + n;
}

static size_t solicit_build(uint8_t *out, const uint8_t mac[6])
{
    static const uint8_t request[] = {0, DNS_SERVERS};
    uint8_t id[10] = {0, 3, 0, 1}, ia[12] = {0}; /* DUID-LL, Ethernet */
    uint8_t *at = out;

    memcpy(id + 4, mac, 6);
    memcpy(ia, mac + 2, 4);
    *at++ = SOLICIT;
    memcpy(at, mac + 3, 3); /* transaction */
    at = option_put(at + 3, CLIENT_ID, id, sizeof id);
    at = option_put(at, IA_NA, ia, sizeof ia);
    at = option_put(at, OPTION_REQUEST, request, sizeof request);
    return (size_t)(option_put(at, RAPID_COMMIT, "", 0) - out);
}

static void address_print(const char *what, const uint8_t *bytes)
{
    char text[INET6_ADDRSTRLEN];

    printf("%s %s\n", what, inet_ntop(AF_INET6, bytes, text, sizeof text));
}

/* Prints what the options hold; true: an address was among them. */
static bool options_print(const uint8_t *at, size_t n)
{
    bool has_address = false;

    while (n >= 4) {
        unsigned code = (unsigned)at[0] << 8 | at[1];
        size_t length = (size_t)at[2] << 8 | at[3];

        if (length > n - 4)
            return has_address;
        if (code == IA_NA && length >= 12) {
            has_address |= options_print(at + 16, length - 12);
        } else if (code == IA_ADDRESS && length >= 24) {
            address_print("address", at + 4);
            has_address = true;
        }
        for (size_t i = 0; code == DNS_SERVERS && i + 16 <= length; i += 16)
            address_print("dns", at + 4 + i);
        at += 4 + length;
        n -= 4 + length;
    }
    return has_address;
}

int main(int argc, char **argv)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(CLIENT_PORT)};
    struct sockaddr_in6 servers = {.sin6_family = AF_INET6, .sin6_port = htons(SERVER_PORT)};
    struct timeval second = {.tv_sec = 1};
    struct ifreq link = {0};
    uint8_t packet[1500];
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);

    if (argc != 2)
        return 2;
    strncpy(link.ifr_name, argv[1], sizeof link.ifr_name - 1);
    inet_pton(AF_INET6, "ff02::1:2", &servers.sin6_addr);
    servers.sin6_scope_id = any.sin6_scope_id = if_nametoindex(argv[1]);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, argv[1], (socklen_t)strlen(argv[1]));
    if (ioctl(fd, SIOCGIFHWADDR, &link) || bind(fd, (struct sockaddr *)&any, sizeof any)) {
        perror("dhcp6");
        return 1;
    }
    size_t n = solicit_build(packet, (uint8_t *)link.ifr_hwaddr.sa_data);
    for (int i = 0; i < TRIES; i++) {
        uint8_t reply[1500];

        if (sendto(fd, packet, n, 0, (struct sockaddr *)&servers, sizeof servers) < 0)
            sleep(1); /* the link-local address is not there yet */
        ssize_t got = recv(fd, reply, sizeof reply, 0);
        if (got > 4 && reply[0] == REPLY && memcmp(reply + 1, packet + 1, 3) == 0)
            return options_print(reply + 4, (size_t)got - 4) ? 0 : 1;
    }
    return 1;
}
