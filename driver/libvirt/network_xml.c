#include "driver/libvirt/network_xml.h"

#include <arpa/inet.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

bool virt_network_xml_ip(const char *text, uint32_t *out)
{
    struct in_addr address;
    if (!text || inet_pton(AF_INET, text, &address) != 1) {
        return false;
    }
    *out = ntohl(address.s_addr);
    return true;
}

/* An attribute, transfer full; NULL: none. */
static char *attr(xmlNodePtr node, const char *name)
{
    xmlChar *value = xmlGetNoNsProp(node, BAD_CAST name);
    char *copy = value ? g_strdup((const char *)value) : NULL;
    xmlFree(value);
    return copy;
}

static bool attr_ip(xmlNodePtr node, const char *name, uint32_t *out)
{
    g_autofree char *text = attr(node, name);
    return virt_network_xml_ip(text, out);
}

static void host_free(gpointer data)
{
    NetworkXmlHost *host = data;
    g_free(host->mac);
    g_free(host->name);
    g_free(host);
}

static void take_host(NetworkXml *network, xmlNodePtr node)
{
    uint32_t ip = 0;
    if (attr_ip(node, "ip", &ip)) {
        NetworkXmlHost *host = g_new0(NetworkXmlHost, 1);
        *host = (NetworkXmlHost){attr(node, "mac"), attr(node, "name"), ip};
        g_ptr_array_add(network->hosts, host);
    }
}

static void take_dhcp(NetworkXml *network, xmlNodePtr dhcp)
{
    for (xmlNodePtr node = xmlFirstElementChild(dhcp); node; node = xmlNextElementSibling(node)) {
        NetworkXmlRange range;
        if (xmlStrEqual(node->name, BAD_CAST "host")) {
            take_host(network, node);
        } else if (xmlStrEqual(node->name, BAD_CAST "range") &&
                   attr_ip(node, "start", &range.first) && attr_ip(node, "end", &range.last)) {
            g_array_append_val(network->ranges, range);
        }
    }
}

static xmlNodePtr child(xmlNodePtr parent, const char *name)
{
    xmlNodePtr node = xmlFirstElementChild(parent);
    while (node && !xmlStrEqual(node->name, BAD_CAST name)) {
        node = xmlNextElementSibling(node);
    }
    return node;
}

/* The prefix length of an <ip>: its `prefix`, or what its `netmask` means. -1: neither. */
static int prefix_of(xmlNodePtr node)
{
    g_autofree char *text = attr(node, "prefix");
    uint32_t mask = 0;
    guint64 n_bits = 0;
    if (text) {
        return g_ascii_string_to_unsigned(text, 10, 0, 128, &n_bits, NULL) ? (int)n_bits : -1;
    }
    return attr_ip(node, "netmask", &mask) ? __builtin_popcount(mask) : -1;
}

static void set_address(char **member, const char *address, int n_bits)
{
    if (!*member && address && n_bits >= 0) {
        *member = g_strdup_printf("%s/%d", address, n_bits);
    }
}

static void take_ip4(NetworkXml *network, xmlNodePtr node, int index, int n_bits)
{
    xmlNodePtr dhcp = child(node, "dhcp");
    uint32_t ip = 0;
    if (!attr_ip(node, "address", &ip) || n_bits < 1 || n_bits > 32 || network->has_dhcp ||
        (network->mask && !dhcp)) {
        return;
    }
    network->ip = ip;
    network->mask = ~(uint32_t)0 << (32 - n_bits);
    network->ip_index = index;
    network->has_dhcp = dhcp;
    if (dhcp) {
        take_dhcp(network, dhcp);
    }
}

static void take_ip(NetworkXml *network, xmlNodePtr node, int index)
{
    g_autofree char *family = attr(node, "family"), *address = attr(node, "address");
    int n_bits = prefix_of(node);
    if (g_strcmp0(family, "ipv6") == 0) {
        set_address(&network->address6, address, n_bits);
        return;
    }
    set_address(&network->address4, address, n_bits);
    take_ip4(network, node, index, n_bits);
}

static void take_element(NetworkXml *network, xmlNodePtr node, int *n_ips)
{
    if (xmlStrEqual(node->name, BAD_CAST "bridge") && !network->bridge) {
        network->bridge = attr(node, "name");
    } else if (xmlStrEqual(node->name, BAD_CAST "domain") && !network->domain) {
        network->domain = attr(node, "name");
    } else if (xmlStrEqual(node->name, BAD_CAST "ip")) {
        take_ip(network, node, (*n_ips)++);
    }
}

NetworkXml *virt_network_xml_parse(const char *xml)
{
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
    g_autoptr(NetworkXml) network = NULL;
    if (root && xmlStrEqual(root->name, BAD_CAST "network")) {
        int n_ips = 0;
        network = g_new0(NetworkXml, 1);
        network->ranges = g_array_new(FALSE, FALSE, sizeof(NetworkXmlRange));
        network->hosts = g_ptr_array_new_with_free_func(host_free);
        for (xmlNodePtr node = xmlFirstElementChild(root); node;
             node = xmlNextElementSibling(node)) {
            take_element(network, node, &n_ips);
        }
    }
    xmlFreeDoc(doc);
    return g_steal_pointer(&network);
}

void virt_network_xml_free(NetworkXml *network)
{
    if (network) {
        g_free(network->bridge);
        g_free(network->domain);
        g_free(network->address4);
        g_free(network->address6);
        g_array_unref(network->ranges);
        g_ptr_array_unref(network->hosts);
        g_free(network);
    }
}

char *virt_network_xml_host(const char *mac, const char *name, uint32_t ip)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr address = {htonl(ip)};
    xmlDocPtr doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNodePtr host = xmlNewNode(NULL, BAD_CAST "host");
    xmlBufferPtr buffer = xmlBufferCreate();
    xmlDocSetRootElement(doc, host);
    xmlNewProp(host, BAD_CAST "mac", BAD_CAST mac);
    if (name) {
        xmlNewProp(host, BAD_CAST "name", BAD_CAST name);
    }
    inet_ntop(AF_INET, &address, text, sizeof text);
    xmlNewProp(host, BAD_CAST "ip", BAD_CAST text);
    xmlNodeDump(buffer, doc, host, 0, 0);
    char *xml = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    xmlFreeDoc(doc);
    return xml;
}

bool virt_network_xml_can_have(const NetworkXml *network, uint32_t ip)
{
    uint32_t first = network->ip & network->mask, last = first | ~network->mask;
    return network->mask && ip > first && ip < last && ip != network->ip;
}
