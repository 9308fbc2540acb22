#include "driver/libvirt/part.h"

#include <linux/input-event-codes.h>
#include <libvirt/libvirt-qemu.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>

/* Asking the guest: by its agent, by ACPI, by the keyboard. Nothing here waits for the guest to
 * obey. */
#define AGENT_CHANNEL "org.qemu.guest_agent.0"
#define KEYS_HELD_MS  100
#define AGENT_SENT_S  1

static bool is_connected_in(const char *xml)
{
    static const char path[] =
        "/domain/devices/channel/target[@name='" AGENT_CHANNEL "' and @state='connected']";
    xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL,
                                  XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    xmlXPathContextPtr context = doc ? xmlXPathNewContext(doc) : NULL;
    xmlXPathObjectPtr found = context ? xmlXPathEvalExpression(BAD_CAST path, context) : NULL;
    bool is_connected = found && !xmlXPathNodeSetIsEmpty(found->nodesetval);
    xmlXPathFreeObject(found);
    xmlXPathFreeContext(context);
    xmlFreeDoc(doc);
    return is_connected;
}

static bool is_agent_connected(VirtPart *part, virDomainPtr domain)
{
    virt_part_freshen(part, domain);
    char *xml = virDomainGetXMLDesc(domain, 0);
    bool is_connected = xml && is_connected_in(xml);
    free(xml);
    virResetLastError();
    return is_connected;
}

char *virt_op_agent_state(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    return domain ? virt_answer(json_boolean(is_agent_connected(part, domain))) : NULL;
}

char *virt_op_agent_command(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    if (!domain) {
        return NULL;
    }
    virt_part_freshen(part, domain);
    int timeout_s = MAX(args->number, 1);
    char *reply = virDomainQemuAgentCommand(domain, args->text, timeout_s, 0);
    if (!reply) {
        virt_error_set(error, "the guest agent did not answer");
        return NULL;
    }
    char *answer = virt_answer(json_string(reply));
    free(reply);
    return answer;
}

/* guest-shutdown has no answer. With NOWAIT libvirt takes the command back before its event loop
 * has sent it (qemuAgentSend(), libvirt 9.0), so it gets a second, which ends early when the guest
 * does. */
static bool tell_agent(VirtPart *part, virDomainPtr domain, const char *command)
{
    if (!is_agent_connected(part, domain)) {
        return false;
    }
    virDomainAgentSetResponseTimeout(domain, 2, 0);
    free(virDomainQemuAgentCommand(domain, command, AGENT_SENT_S, 0));
    virResetLastError();
    return true;
}

char *virt_op_shutdown(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    if (!domain) {
        return NULL;
    }
    if (part->kind == VIRT_KIND_TEST) {
        if (virDomainShutdown(domain) < 0) {
            virt_error_set(error, "cannot shut the domain down");
            return NULL;
        }
        return virt_answer_true();
    }
    virt_part_freshen(part, domain);
    if (virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) < 0) {
        virt_error_set(error, "cannot press the domain's power button");
        return NULL;
    }
    tell_agent(part, domain,
               "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}");
    return virt_answer_true();
}

/*
 * With the agent: it reboots the guest. Without: Ctrl-Alt-Del is pressed, which is init's own way
 * to reboot. Not by ACPI: libvirt would turn the guest's power-off into a reset, but nobody listens
 * then in an embedded one, and our QEMUs end when the guest has powered off.
 */
char *virt_op_reboot(VirtPart *part, const VirtArgs *args, GError **error)
{
    static unsigned keys[] = {KEY_LEFTCTRL, KEY_LEFTALT, KEY_DELETE};
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    if (!domain) {
        return NULL;
    }
    if (part->kind != VIRT_KIND_TEST &&
        tell_agent(part, domain,
                   "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"reboot\"}}")) {
        return virt_answer_true();
    }
    int result = part->kind == VIRT_KIND_TEST
                     ? virDomainReboot(domain, 0)
                     : virDomainSendKey(domain, VIR_KEYCODE_SET_LINUX, KEYS_HELD_MS, keys,
                                        G_N_ELEMENTS(keys), 0);
    if (result < 0) {
        virt_error_set(error, "cannot ask the domain to reboot");
        return NULL;
    }
    return virt_answer_true();
}
