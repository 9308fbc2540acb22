#pragma once
#include <glib.h>

/*
 * The one error domain of the program. A code says what the caller does next; its row in the
 * table (base/error.c) says the class shown to people, the exit status of a command that ends
 * with it, whether trying again can help, and the gRPC status a plugin answers with.
 *
 * A message names the object, the cause and what to do next:
 *   machine 'web1': disk 'root': cannot create '/v/web1/root.qcow2': No space left on device
 *   - free some space or pass --state-dir
 */
#define VM_ERROR (base_error_quark())

typedef enum {
    VM_ERROR_INTERNAL, /* a bug of ours */
    VM_ERROR_CLI,      /* command line: unknown flag, missing operand */
    VM_ERROR_YAML_SYNTAX,
    VM_ERROR_YAML_FEATURE, /* anchors, aliases, tags, merge keys, directives, 2nd document */
    VM_ERROR_YAML_DUP,
    VM_ERROR_YAML_LIMIT,
    VM_ERROR_YAML_ENC,
    VM_ERROR_SCHEMA, /* unknown key, wrong type, missing, exclusive, not supported yet */
    VM_ERROR_NAME,
    VM_ERROR_RANGE,
    VM_ERROR_NET,    /* MAC, address, network value */
    VM_ERROR_PORT,   /* a port or a mapping that is malformed */
    VM_ERROR_CI,     /* cloud-init: user-data, keys, hashes */
    VM_ERROR_SECRET, /* a secret where none may be, or a plain one without consent */
    VM_ERROR_PATH,   /* a path that policy refuses */
    VM_ERROR_IMAGE,  /* an image that is refused */
    VM_ERROR_NOT_FOUND,
    VM_ERROR_EXISTS,      /* name, port or object taken */
    VM_ERROR_BUSY,        /* locked by a living process, running where it must not */
    VM_ERROR_DENIED,      /* no permission */
    VM_ERROR_HOST,        /* this host can't: libvirt down, missing part */
    VM_ERROR_UNSUPPORTED, /* this libvirt, QEMU or kernel lacks it */
    VM_ERROR_NO_SPACE,    /* disk, inodes, file descriptors, memory */
    VM_ERROR_TIMEOUT,
    VM_ERROR_STATE,     /* our own record is damaged, foreign or newer */
    VM_ERROR_LEFTOVER,  /* something of ours could not be removed */
    VM_ERROR_PROVISION, /* the guest's provisioning failed, or it never got that far */
    VM_ERROR_DEGRADED,
    VM_ERROR_DATA_LOSS, /* refused: data would be lost */
    VM_ERROR_CANCELLED,
    VM_ERROR_STALE_PLAN,
    VM_ERROR_N
} VmError;

typedef struct {
    const char *cls;    /* "E_SCHEMA" */
    int exit_status;    /* of a command that ends with it */
    gboolean retryable; /* the same call may go through later */
    int grpc_status;    /* https://grpc.io/docs/guides/status-codes/ */
    const char *doc;    /* one sentence */
} BaseErrorRow;

GQuark base_error_quark(void);

/* The table row of `code`; codes out of range give the row of VM_ERROR_INTERNAL. Never NULL. */
const BaseErrorRow *base_error_row(int code);

/* The row that fits `error`: its own when it is of our domain, the internal one otherwise. */
const BaseErrorRow *base_error_row_of(const GError *error);

/* The code for an errno value at a file or a system call (ENOSPC -> NO_SPACE, EACCES -> DENIED,
 * ENOENT -> NOT_FOUND, EEXIST -> EXISTS, EMFILE -> NO_SPACE, EROFS -> HOST ...). */
VmError base_error_code_from_errno(int errnum);

/* Sets `error` from `errnum`: "<formatted>: <strerror>". The one door for errno. */
void base_error_set_errno(GError **error, int errnum, const char *format, ...) G_GNUC_PRINTF(3, 4);

/* As g_set_error() in our domain; returns false so that a guard can be `return base_fail(...)`. */
gboolean base_fail(GError **error, VmError code, const char *format, ...) G_GNUC_PRINTF(3, 4);
#ifdef __clang_analyzer__ /* it can't see into error.c that the result is always false */
#define base_fail(...) ((base_fail)(__VA_ARGS__), FALSE)
#endif
