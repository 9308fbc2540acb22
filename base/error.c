#include "base/error.h"

#include <errno.h>
#include <string.h>

static const BaseErrorRow rows[] = {
    [VM_ERROR_INTERNAL] = {"E_INTERNAL", 1, FALSE, 13, "A bug of ours; please report it."},
    [VM_ERROR_CLI] = {"E_CLI", 2, FALSE, 3, "The command line is wrong."},
    [VM_ERROR_YAML_SYNTAX] = {"E_YAML_SYNTAX", 3, FALSE, 3, "The text is not YAML."},
    [VM_ERROR_YAML_FEATURE] = {"E_YAML_FEATURE", 3, FALSE, 3,
                               "Anchors, aliases, tags, merge keys, directives and further "
                               "documents are not part of the spec language."},
    [VM_ERROR_YAML_DUP] = {"E_YAML_DUP", 3, FALSE, 3, "A key stands twice in one map."},
    [VM_ERROR_YAML_LIMIT] = {"E_YAML_LIMIT", 3, FALSE, 3,
                             "The text is larger or deeper than a spec may be."},
    [VM_ERROR_YAML_ENC] = {"E_YAML_ENC", 3, FALSE, 3,
                           "The text is not UTF-8, or has control characters."},
    [VM_ERROR_SCHEMA] = {"E_SCHEMA", 3, FALSE, 3,
                         "A key is unknown, missing or not served yet, or a value has the wrong "
                         "type."},
    [VM_ERROR_NAME] = {"E_NAME", 3, FALSE, 3, "A name is not allowed."},
    [VM_ERROR_RANGE] = {"E_RANGE", 3, FALSE, 3, "A value is outside its limits."},
    [VM_ERROR_NET] = {"E_NET", 3, FALSE, 3, "A MAC, address or network value is wrong."},
    [VM_ERROR_PORT] = {"E_PORT", 3, FALSE, 3, "A port or a port mapping is wrong."},
    [VM_ERROR_CI] = {"E_CI", 3, FALSE, 3, "A cloud-init text, key or hash is wrong."},
    [VM_ERROR_SECRET] = {"E_SECRET", 14, FALSE, 7,
                         "A secret stands where none may be, or in plain text without consent."},
    [VM_ERROR_PATH] = {"E_PATH", 14, FALSE, 7, "Policy refuses this path."},
    [VM_ERROR_IMAGE] = {"E_IMAGE", 13, FALSE, 3, "The image is refused."},
    [VM_ERROR_NOT_FOUND] = {"E_NOT_FOUND", 5, FALSE, 5, "There is no such object or file."},
    [VM_ERROR_EXISTS] = {"E_EXISTS", 6, FALSE, 6, "The name, port or object is taken."},
    [VM_ERROR_BUSY] = {"E_BUSY", 6, TRUE, 9, "Somebody else works on it right now."},
    [VM_ERROR_DENIED] = {"E_DENIED", 4, FALSE, 7, "The host does not permit it."},
    [VM_ERROR_HOST] = {"E_HOST", 4, TRUE, 9, "This host can't do it as it is now."},
    [VM_ERROR_UNSUPPORTED] = {"E_UNSUPPORTED", 4, FALSE, 12,
                              "This libvirt, QEMU or kernel lacks it."},
    [VM_ERROR_NO_SPACE] = {"E_NO_SPACE", 8, TRUE, 8,
                           "No disk space, descriptor or memory is left."},
    [VM_ERROR_TIMEOUT] = {"E_TIMEOUT", 7, TRUE, 4, "It took longer than was allowed."},
    [VM_ERROR_STATE] = {"E_STATE", 4, FALSE, 9,
                        "A record of ours is damaged, foreign or newer than this program."},
    [VM_ERROR_LEFTOVER] = {"E_LEFTOVER", 9, TRUE, 13,
                           "Something of ours could not be removed; it is listed."},
    [VM_ERROR_PROVISION] = {"E_PROVISION", 10, FALSE, 9,
                            "The guest did not boot, or its provisioning failed."},
    [VM_ERROR_DEGRADED] = {"E_DEGRADED", 11, FALSE, 9,
                           "The guest is up, but its provisioning had recoverable errors."},
    [VM_ERROR_DATA_LOSS] = {"E_DATA_LOSS", 12, FALSE, 9, "Refused, since data would be lost."},
    [VM_ERROR_CANCELLED] = {"E_CANCELLED", 130, TRUE, 1, "It was cancelled and undone."},
    [VM_ERROR_STALE_PLAN] = {"E_STALE_PLAN", 75, FALSE, 9,
                             "The saved plan no longer fits what it was made from."},
};
G_STATIC_ASSERT(G_N_ELEMENTS(rows) == VM_ERROR_N);

GQuark base_error_quark(void)
{
    return g_quark_from_static_string("vm-driver-error");
}

const BaseErrorRow *base_error_row(int code)
{
    return code >= 0 && code < VM_ERROR_N ? &rows[code] : &rows[VM_ERROR_INTERNAL];
}

const BaseErrorRow *base_error_row_of(const GError *error)
{
    return base_error_row(error->domain == VM_ERROR ? error->code : VM_ERROR_INTERNAL);
}

VmError base_error_code_from_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
    case ENODEV:
        return VM_ERROR_NOT_FOUND;
    case EEXIST:
    case EADDRINUSE:
        return VM_ERROR_EXISTS;
    case EACCES:
    case EPERM:
        return VM_ERROR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EFBIG:
        return VM_ERROR_NO_SPACE;
    case EBUSY:
    case EWOULDBLOCK:
    case ETXTBSY:
        return VM_ERROR_BUSY;
    case ETIMEDOUT:
        return VM_ERROR_TIMEOUT;
    case ECANCELED:
        return VM_ERROR_CANCELLED;
    case EOPNOTSUPP:
    case ENOSYS:
        return VM_ERROR_UNSUPPORTED;
    default:
        return VM_ERROR_HOST;
    }
}

void base_error_set_errno(GError **error, int errnum, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VM_ERROR, base_error_code_from_errno(errnum), "%s: %s", what,
                g_strerror(errnum));
}

gboolean(base_fail)(GError **error, VmError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VM_ERROR, code, what);
    return FALSE;
}
