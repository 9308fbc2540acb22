#include "driver/libvirt/part.h"

#include <errno.h>
#include <string.h>

typedef struct {
    int libvirt;
    VmError code;
} CodeRow;

/* virErrorNumber of libvirt 9.0; everything that isn't here is HOST. */
static const CodeRow rows[] = {
    {VIR_ERR_NO_DOMAIN, VM_ERROR_NOT_FOUND},
    {VIR_ERR_NO_NETWORK, VM_ERROR_NOT_FOUND},
    {VIR_ERR_DOM_EXIST, VM_ERROR_EXISTS},
    {VIR_ERR_NO_SUPPORT, VM_ERROR_UNSUPPORTED},
    {VIR_ERR_CONFIG_UNSUPPORTED, VM_ERROR_UNSUPPORTED},
    {VIR_ERR_OPERATION_UNSUPPORTED, VM_ERROR_UNSUPPORTED},
    {VIR_ERR_ARGUMENT_UNSUPPORTED, VM_ERROR_UNSUPPORTED},
    {VIR_ERR_NO_MEMORY, VM_ERROR_NO_SPACE},
    {VIR_ERR_OPERATION_TIMEOUT, VM_ERROR_TIMEOUT},
    {VIR_ERR_AGENT_UNRESPONSIVE, VM_ERROR_TIMEOUT},
    {VIR_ERR_RESOURCE_BUSY, VM_ERROR_BUSY},
    {VIR_ERR_OPERATION_INVALID, VM_ERROR_BUSY},
    {VIR_ERR_OPERATION_ABORTED, VM_ERROR_CANCELLED},
    {VIR_ERR_OPERATION_DENIED, VM_ERROR_DENIED},
    {VIR_ERR_ACCESS_DENIED, VM_ERROR_DENIED},
    {VIR_ERR_AUTH_FAILED, VM_ERROR_DENIED},
    {VIR_ERR_AUTH_CANCELLED, VM_ERROR_DENIED},
    {VIR_ERR_AUTH_UNAVAILABLE, VM_ERROR_DENIED},
    {VIR_ERR_XML_ERROR, VM_ERROR_SCHEMA},
    {VIR_ERR_XML_DETAIL, VM_ERROR_SCHEMA},
    {VIR_ERR_XML_INVALID_SCHEMA, VM_ERROR_SCHEMA},
};

static VmError code_of(const virError *last)
{
    if (last->code == VIR_ERR_SYSTEM_ERROR && last->int1 > 0) {
        VmError code = base_error_code_from_errno(last->int1);
        return code == VM_ERROR_NOT_FOUND || code == VM_ERROR_EXISTS ? VM_ERROR_HOST : code;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].libvirt == last->code) {
            return rows[i].code;
        }
    }
    return VM_ERROR_HOST;
}

/* "2026-11-25T13:19:48.473026Z qemu-system-x86_64: text": the text. */
static const char *without_stamp(const char *line)
{
    const char *program = strstr(line, "Z qemu-system-");
    const char *colon = program ? strstr(program, ": ") : NULL;
    return colon ? colon + 2 : line;
}

/* One line: libvirt's own words, and the last line of QEMU's where it quotes them. */
static char *one_line(const char *message)
{
    static const char internal[] = "internal error: ";
    const char *text = g_str_has_prefix(message, internal) ? message + strlen(internal) : message;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    for (unsigned i = 0; lines[i]; i++) {
        if (*g_strstrip(lines[i])) {
            g_ptr_array_add(kept, lines[i]);
        }
    }
    if (kept->len == 0) {
        return g_strdup("no reason given");
    }
    const char *first = kept->pdata[0], *last = kept->pdata[kept->len - 1];
    const char *stamp = strstr(first, "Z qemu-system-");
    if (stamp) {
        const char *head_end = g_strrstr_len(first, stamp - first, ": ");
        g_autofree char *head = g_strndup(first, head_end ? (size_t)(head_end - first) : 0);
        return g_strdup_printf("%s: %s", head, without_stamp(last));
    }
    return kept->len == 1 ? g_strdup(first) : g_strdup_printf("%s: %s", first, last);
}

void virt_error_set(GError **error, const char *format, ...)
{
    const virError *last = virGetLastError();
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    if (!last || last->code == VIR_ERR_OK) {
        g_set_error(error, VM_ERROR, VM_ERROR_HOST, "%s: libvirt gave no reason", what);
        return;
    }
    g_autofree char *reason = one_line(last->message ? last->message : "");
    g_set_error(error, VM_ERROR, (int)code_of(last), "%s: %s", what, reason);
    virResetLastError();
}
