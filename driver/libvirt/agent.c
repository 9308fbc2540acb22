#include "driver/libvirt/part.h"

#include <linux/input-event-codes.h>
#include <libvirt/libvirt-qemu.h>
#include <libxml/parser.h>
#include <libxml/xpath.h>

/* Asking the guest: by its agent, by ACPI, by the keyboard. Nothing here waits for the guest to
 * obey. */
#define AGENT_CHANNEL "org.qemu.guest_agent.0"

enum {
    KEYS_HELD_MS = 100,
    PING_S = 3, /* a guest under TCG on a busy host */
    SENT_S = 1,
};

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

/* A line of QEMU's human monitor over libvirt's own connection to it. */
char *virt_op_monitor(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    char *said = NULL;
    if (!domain) {
        return NULL;
    }
    if (virDomainQemuMonitorCommand(domain, args->text, &said,
                                    VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP) < 0) {
        virt_error_set(error, "cannot ask QEMU's monitor");
        return NULL;
    }
    char *answer = virt_answer(json_string(said ? said : ""));
    free(said);
    return answer;
}

/* Does it answer? */
static bool is_agent_alive(virDomainPtr domain)
{
    char *pong = virDomainQemuAgentCommand(domain, "{\"execute\":\"guest-ping\"}", PING_S, 0);
    bool is_alive = pong;
    free(pong);
    virResetLastError();
    return is_alive;
}

/*
 * Tells a living agent to end the guest ("powerdown", "reboot"); false: there is none.
 * guest-shutdown has no answer, and with VIR_DOMAIN_QEMU_AGENT_COMMAND_NOWAIT libvirt 9.0 may drop
 * a command before it was written: so it is waited for in vain.
 */
static bool tell_agent(VirtPart *part, virDomainPtr domain, const char *mode)
{
    if (!is_agent_connected(part, domain)) {
        return false;
    }
    virDomainAgentSetResponseTimeout(domain, PING_S, 0);
    if (!is_agent_alive(domain)) {
        return false;
    }
    g_autofree char *command =
        g_strdup_printf("{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"%s\"}}", mode);
    free(virDomainQemuAgentCommand(domain, command, SENT_S, 0));
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
    tell_agent(part, domain, "powerdown");
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
    if (part->kind != VIRT_KIND_TEST && tell_agent(part, domain, "reboot")) {
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
