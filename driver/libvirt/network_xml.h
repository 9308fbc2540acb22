#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * A network's XML as far as it concerns reservations ("Network XML format", libvirt 9.0). IPv4
 * addresses in host order. Anything may be missing: a network need not have a bridge, addresses or
 * DHCP.
 */
typedef struct {
    char *mac;  /* NULL: by client id only */
    char *name; /* NULL: none */
    uint32_t ip;
} NetworkXmlHost;

typedef struct {
    uint32_t first, last;
} NetworkXmlRange;

typedef struct {
    char *bridge, *domain;     /* NULL: none */
    char *address4, *address6; /* "192.168.122.1/24", NULL: none */
    uint32_t ip, mask;         /* of the <ip> that has DHCP, else of the first; mask 0: none */
    int ip_index;              /* which <ip> that is, as virNetworkUpdate(3) counts them */
    bool has_dhcp;             /* a <dhcp> of IPv4 */
    GArray *ranges;            /* of NetworkXmlRange */
    GPtrArray *hosts;          /* of NetworkXmlHost, with an IPv4 address */
} NetworkXml;

/* NULL: no XML of a network. */
NetworkXml *virt_network_xml_parse(const char *xml);
void virt_network_xml_free(NetworkXml *network);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetworkXml, virt_network_xml_free)

/* An IPv4 literal; false: it is none. */
bool virt_network_xml_ip(const char *text, uint32_t *out);
/* "<host mac= name= ip=/>", transfer full; name may be NULL. */
char *virt_network_xml_host(const char *mac, const char *name, uint32_t ip);
/* May this address be a guest's: in the network, not its first, last or the host's? */
bool virt_network_xml_can_have(const NetworkXml *network, uint32_t ip);
