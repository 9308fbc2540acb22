#include "driver/libvirt/part.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include "driver/domain_ns.h"

/* Which domains there are, and which of them carry our mark. */

/* The text of our <vm:owner> metadata, NULL: not ours. */
static char *owner_of(virDomainPtr domain)
{
    char *xml = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, DOMAIN_NS_URI, 0);
    if (!xml) {
        virResetLastError();
        return NULL;
    }
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
    xmlChar *text = root && xmlStrEqual(root->name, BAD_CAST DOMAIN_NS_ELEMENT)
                        ? xmlNodeGetContent(root)
                        : NULL;
    char *owner = text ? g_strdup((const char *)text) : NULL;
    xmlFree(text);
    xmlFreeDoc(doc);
    free(xml);
    return owner;
}

/* {"name","uuid","owner" (null: not ours),"state"}; NULL when the domain vanished meanwhile. */
static json_t *describe(VirtPart *part, virDomainPtr domain, const char *owner)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";
    if (virDomainGetUUIDString(domain, uuid) < 0) {
        virResetLastError();
        return NULL;
    }
    virt_part_freshen(part, domain);
    VirtState state = virt_part_state(domain);
    return state == VIRT_STATE_ABSENT
               ? NULL
               : json_pack("{s:s, s:s, s:s?, s:i}", "name", virDomainGetName(domain), "uuid", uuid,
                           "owner", owner, "state", (int)state);
}

char *virt_op_find(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virDomainLookupByName(part->conn, args->text);
    if (!domain && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN) {
        virt_error_set(error, "cannot look for domain '%s'", args->text);
        return NULL;
    }
    virResetLastError();
    g_autofree char *owner = domain ? owner_of(domain) : NULL;
    json_t *found = domain ? describe(part, domain, owner) : NULL;
    return virt_answer(found ? found : json_null());
}

char *virt_op_list(VirtPart *part, const VirtArgs *args, GError **error)
{
    (void)args;
    virDomainPtr *domains = NULL;
    int n = virConnectListAllDomains(part->conn, &domains, 0);
    if (n < 0) {
        virt_error_set(error, "cannot list the domains");
        return NULL;
    }
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        g_autofree char *owner = owner_of(domains[i]);
        json_t *item = owner ? describe(part, domains[i], owner) : NULL;
        if (item) {
            json_array_append_new(list, item);
        }
        virDomainFree(domains[i]);
    }
    free(domains);
    return virt_answer(list);
}
