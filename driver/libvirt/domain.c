#include "driver/libvirt/part.h"

#include <string.h>
#include <unistd.h>
#include <libxml/parser.h>
#include <libxml/tree.h>

/* A domain's life: define, start, look, destroy, undefine. */
virDomainPtr virt_part_lookup(VirtPart *part, const char *uuid, GError **error)
{
    virDomainPtr domain = virDomainLookupByUUIDString(part->conn, uuid);
    if (!domain) {
        virt_error_set(error, "no domain %s", uuid);
    }
    return domain;
}

void virt_part_freshen(VirtPart *part, virDomainPtr domain)
{
    if (part->kind == VIRT_KIND_EMBED) {
        /* Waits for the job that connects to QEMU's monitor again, then asks QEMU. */
        virDomainMemoryStatStruct stats[VIR_DOMAIN_MEMORY_STAT_NR];
        virDomainMemoryStats(domain, stats, VIR_DOMAIN_MEMORY_STAT_NR, 0);
        virResetLastError();
    }
}

VirtState virt_part_state(virDomainPtr domain)
{
    int state = VIR_DOMAIN_NOSTATE;
    if (virDomainGetState(domain, &state, NULL, 0) < 0) {
        virResetLastError();
        return VIRT_STATE_ABSENT;
    }
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        return VIRT_STATE_RUNNING;
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
        return VIRT_STATE_PAUSED;
    case VIR_DOMAIN_SHUTDOWN:
        return VIRT_STATE_STOPPING;
    case VIR_DOMAIN_CRASHED:
        return virDomainIsActive(domain) == 1 ? VIRT_STATE_PAUSED : VIRT_STATE_OFF;
    default:
        return VIRT_STATE_OFF;
    }
}

/* Text of a child element of <domain>, NULL: none. */
static char *child_text(const char *xml, const char *element)
{
    g_autoptr(GString) text = NULL;
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
    for (xmlNodePtr node = root ? root->children : NULL; node && !text; node = node->next) {
        if (node->type == XML_ELEMENT_NODE && xmlStrEqual(node->name, BAD_CAST element)) {
            xmlChar *content = xmlNodeGetContent(node);
            text = g_string_new((const char *)content);
            xmlFree(content);
        }
    }
    xmlFreeDoc(doc);
    return text ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

/* Is the name in `xml` taken by a domain with another uuid? Then `error` says whose. */
static bool is_name_taken(VirtPart *part, const char *xml, GError **error)
{
    g_autofree char *name = child_text(xml, "name"), *uuid = child_text(xml, "uuid");
    g_autoptr(virDomain) other = name ? virDomainLookupByName(part->conn, name) : NULL;
    char other_uuid[VIR_UUID_STRING_BUFLEN] = "";
    if (!other || virDomainGetUUIDString(other, other_uuid) < 0) {
        virResetLastError();
        return false;
    }
    if (uuid && g_ascii_strcasecmp(uuid, other_uuid) == 0) {
        return false;
    }
    base_fail(error, VM_ERROR_EXISTS,
              "libvirt (%s) has another domain named '%s' (uuid %s) - choose another name",
              part->uri, name, other_uuid);
    return true;
}

char *virt_op_define(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain =
        virDomainDefineXMLFlags(part->conn, args->text, VIR_DOMAIN_DEFINE_VALIDATE);
    if (domain) {
        return virt_answer_true();
    }
    g_autoptr(GError) cause = NULL;
    virt_error_set(&cause, "cannot define the domain");
    if (!is_name_taken(part, args->text, error)) {
        g_propagate_error(error, g_steal_pointer(&cause));
    }
    return NULL;
}

static bool associate(virDomainPtr domain, const VirtArgs *args, GError **error)
{
    for (unsigned i = 0; i < args->n_fds; i++) {
        int fd = args->fds[i].fd;
        if (virDomainFDAssociate(domain, args->fds[i].group, 1, &fd, 0) < 0) {
            virt_error_set(error, "cannot pass disk '%s' to libvirt", args->fds[i].group);
            return false;
        }
    }
    return true;
}

char *virt_op_start(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    if (domain && virDomainIsActive(domain) == 1) {
        base_fail(error, VM_ERROR_BUSY, "the domain runs already");
        return NULL;
    }
    if (!domain || !associate(domain, args, error)) {
        return NULL;
    }
    if (virDomainCreateWithFlags(domain, 0) < 0) {
        virt_error_set(error, "cannot start the domain");
        return NULL;
    }
    return virt_answer_true();
}

char *virt_op_state(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, &cause);
    if (!domain && !g_error_matches(cause, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    if (!domain) {
        return virt_answer(json_integer(VIRT_STATE_ABSENT));
    }
    virt_part_freshen(part, domain);
    return virt_answer(json_integer(virt_part_state(domain)));
}

/*
 * libvirt 9.0 answers -1 in two cases in which QEMU has ended: "domain is not running" when
 * somebody else has reaped it, NO_DOMAIN for a transient domain. What counts is whether the domain
 * is active afterwards.
 */
char *virt_op_destroy(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, &cause);
    if (!domain && g_error_matches(cause, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        return virt_answer_true();
    }
    if (!domain) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    if (virDomainDestroyFlags(domain, 0) == 0) {
        return virt_answer_true();
    }
    virt_error_set(&cause, "cannot end the domain");
    if (virDomainIsActive(domain) != 1 &&
        (cause->code == VM_ERROR_BUSY || cause->code == VM_ERROR_NOT_FOUND)) {
        virResetLastError();
        return virt_answer_true();
    }
    g_propagate_error(error, g_steal_pointer(&cause));
    return NULL;
}

/* A driver refuses flags it doesn't know; each row is tried in turn. The file of UEFI variables is
 * the machine's: kept. */
static const unsigned undefine_flags[] = {
    VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
        VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA,
    VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
        VIR_DOMAIN_UNDEFINE_KEEP_NVRAM,
    VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA,
    0,
};

/* An embedded driver keeps each domain's QEMU log for ever; a domain's goes with it. */
static void remove_log(VirtPart *part, const char *name)
{
    g_autofree char *root = virt_embed_root_of_uri(part->uri);
    if (root) {
        g_autofree char *file = g_strconcat(name, ".log", NULL);
        g_autofree char *path = g_build_filename(root, "log", "qemu", file, NULL);
        unlink(path);
    }
}

char *virt_op_undefine(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, &cause);
    if (!domain && g_error_matches(cause, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        return virt_answer_true();
    }
    if (!domain) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return NULL;
    }
    g_autofree char *name = g_strdup(virDomainGetName(domain));
    for (unsigned i = 0; i < G_N_ELEMENTS(undefine_flags); i++) {
        int code = virDomainUndefineFlags(domain, undefine_flags[i]) == 0 ? VIR_ERR_OK
                                                                          : virGetLastErrorCode();
        if (code == VIR_ERR_OK || code == VIR_ERR_NO_DOMAIN) {
            virResetLastError();
            remove_log(part, name);
            return virt_answer_true();
        }
        if (code != VIR_ERR_INVALID_ARG && code != VIR_ERR_ARGUMENT_UNSUPPORTED) {
            break;
        }
    }
    virt_error_set(error, "cannot undefine the domain");
    return NULL;
}

char *virt_op_xml(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    char *xml = domain ? virDomainGetXMLDesc(domain, 0) : NULL;
    if (domain && !xml) {
        virt_error_set(error, "cannot read the domain's XML");
    }
    char *answer = xml ? virt_answer(json_string(xml)) : NULL;
    free(xml);
    return answer;
}
