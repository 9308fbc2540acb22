#include "driver/libvirt/part.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

/* The cable of a NIC: <link state='up|down'/> of its <interface>. */

static xmlNodePtr child(xmlNodePtr parent, const char *name)
{
    xmlNodePtr node = parent ? xmlFirstElementChild(parent) : NULL;
    while (node && !xmlStrEqual(node->name, BAD_CAST name)) {
        node = xmlNextElementSibling(node);
    }
    return node;
}

static bool attr_is(xmlNodePtr node, const char *name, const char *value)
{
    xmlChar *text = node ? xmlGetNoNsProp(node, BAD_CAST name) : NULL;
    bool is_equal = text && g_ascii_strcasecmp((const char *)text, value) == 0;
    xmlFree(text);
    return is_equal;
}

static xmlNodePtr interface_of_mac(xmlDocPtr doc, const char *mac)
{
    xmlNodePtr devices = child(xmlDocGetRootElement(doc), "devices");
    xmlNodePtr node = devices ? xmlFirstElementChild(devices) : NULL;
    while (node && !(xmlStrEqual(node->name, BAD_CAST "interface") &&
                     attr_is(child(node, "mac"), "address", mac))) {
        node = xmlNextElementSibling(node);
    }
    return node;
}

/* The XML of the interface with that link state, transfer full; NULL: it has it already. */
static char *changed_xml(xmlNodePtr interface, bool is_up)
{
    xmlNodePtr link = child(interface, "link");
    if (is_up ? !attr_is(link, "state", "down") : attr_is(link, "state", "down")) {
        return NULL;
    }
    link = link ? link : xmlNewChild(interface, NULL, BAD_CAST "link", NULL);
    xmlSetProp(link, BAD_CAST "state", BAD_CAST(is_up ? "up" : "down"));
    xmlBufferPtr buffer = xmlBufferCreate();
    xmlNodeDump(buffer, interface->doc, interface, 0, 0);
    char *xml = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return xml;
}

/* One of the two: what runs (xml_flags 0), or what is defined. */
static bool set_link(virDomainPtr domain, const char *mac, bool is_up, unsigned xml_flags,
                     unsigned affects, GError **error)
{
    char *text = virDomainGetXMLDesc(domain, xml_flags);
    if (!text) {
        virt_error_set(error, "cannot read the domain's XML");
        return false;
    }
    xmlDocPtr doc = xmlReadMemory(text, (int)strlen(text), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    free(text);
    xmlNodePtr interface = doc ? interface_of_mac(doc, mac) : NULL;
    g_autofree char *xml = interface ? changed_xml(interface, is_up) : NULL;
    bool is_ok = interface || base_fail(error, VM_ERROR_NOT_FOUND,
                                        "the domain has no NIC with MAC address %s", mac);
    if (xml && virDomainUpdateDeviceFlags(domain, xml, affects) < 0) {
        virt_error_set(error, "cannot set the link of NIC %s %s", mac, is_up ? "up" : "down");
        is_ok = false;
    }
    xmlFreeDoc(doc);
    return is_ok;
}

char *virt_op_set_link(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    if (!domain) {
        return NULL;
    }
    virt_part_freshen(part, domain);
    bool is_up = args->number != 0;
    bool is_ok = virDomainIsActive(domain) != 1 ||
                 set_link(domain, args->text, is_up, 0, VIR_DOMAIN_AFFECT_LIVE, error);
    is_ok = is_ok && (virDomainIsPersistent(domain) != 1 ||
                      set_link(domain, args->text, is_up, VIR_DOMAIN_XML_INACTIVE,
                               VIR_DOMAIN_AFFECT_CONFIG, error));
    return is_ok ? virt_answer_true() : NULL;
}
