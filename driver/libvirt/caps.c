#include "driver/libvirt/part.h"

#include <libxml/parser.h>
#include <libxml/tree.h>

/*
 * What libvirt says about its QEMU: three domain capability queries, half a millisecond each once
 * libvirt has cached its answers (embedded driver: below ROOT/cache; 3.4 s the first time).
 * virConnectGetVersion() is not asked: it probes every installed QEMU.
 */
#define ARCH "x86_64"

typedef struct {
    char *emulator, *machine;
} DomainCaps;

static void caps_clear(DomainCaps *caps)
{
    g_free(caps->emulator);
    g_free(caps->machine);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DomainCaps, caps_clear)

static char *content_of(xmlNodePtr node)
{
    xmlChar *text = xmlNodeGetContent(node);
    char *copy = g_strdup((const char *)text);
    xmlFree(text);
    return copy;
}

static void parse_caps(const char *xml, DomainCaps *out)
{
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlNodePtr root = doc ? xmlDocGetRootElement(doc) : NULL;
    for (xmlNodePtr node = root ? root->children : NULL; node; node = node->next) {
        if (xmlStrEqual(node->name, BAD_CAST "path") && !out->emulator) {
            out->emulator = content_of(node);
        } else if (xmlStrEqual(node->name, BAD_CAST "machine") && !out->machine) {
            out->machine = content_of(node);
        }
    }
    xmlFreeDoc(doc);
}

/* false without error: libvirt has no such combination. */
static bool ask(VirtPart *part, const char *machine, const char *virt_type, DomainCaps *out)
{
    char *xml = virConnectGetDomainCapabilities(part->conn, NULL, ARCH, machine, virt_type, 0);
    if (!xml) {
        return false;
    }
    parse_caps(xml, out);
    free(xml);
    return true;
}

/* "pc-q35-7.2" -> "7.2" */
static const char *version_in(const char *machine)
{
    const char *dash = machine ? strrchr(machine, '-') : NULL;
    return dash && g_ascii_isdigit(dash[1]) ? dash + 1 : NULL;
}

/* Descriptors travel over a unix socket only. */
static bool can_pass_fds(VirtPart *part, unsigned long lib_version)
{
    bool is_local = part->kind == VIRT_KIND_EMBED || part->kind == VIRT_KIND_SYSTEM ||
                    part->kind == VIRT_KIND_SESSION;
    return is_local && lib_version >= 9000000;
}

char *virt_op_facts(VirtPart *part, const VirtArgs *args, GError **error)
{
    (void)args;
    unsigned long lib = 0;
    if (virConnectGetLibVersion(part->conn, &lib) < 0) {
        virt_error_set(error, "cannot read libvirt's version");
        return NULL;
    }
    g_auto(DomainCaps) q35 = {0}, pc = {0}, kvm = {0};
    bool has_q35 = part->kind != VIRT_KIND_TEST && ask(part, "q35", "qemu", &q35);
    if (part->kind != VIRT_KIND_TEST && !has_q35) {
        virt_error_set(error, "libvirt (%s) offers no QEMU for " ARCH " - install qemu-system-x86",
                       part->uri);
        return NULL;
    }
    bool is_kvm = has_q35 && ask(part, "q35", "kvm", &kvm);
    bool has_pc = has_q35 && ask(part, "pc", "qemu", &pc);
    virResetLastError();
    g_autofree char *version =
        g_strdup_printf("%lu.%lu.%lu", lib / 1000000, lib / 1000 % 1000, lib % 1000);
    return virt_answer(json_pack("{s:s, s:s?, s:s?, s:s?, s:s?, s:b, s:b}", "libvirt_version",
                                 version, "qemu_version", version_in(q35.machine), "emulator",
                                 q35.emulator, "machine_q35", q35.machine, "machine_pc",
                                 has_pc ? pc.machine : NULL, "is_kvm_listed", is_kvm,
                                 "has_fd_associate", can_pass_fds(part, lib)));
}
