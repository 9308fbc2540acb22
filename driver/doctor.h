#pragma once
#include <glib.h>

/*
 * Doctor: what of this host works, and what to do about the rest. Each check is one sentence and
 * one remedy.
 */
typedef enum {
    DOCTOR_PASS,
    DOCTOR_WARN, /* works, but slower, with less, or not for long */
    DOCTOR_FAIL, /* machines can't be run until this is mended */
    DOCTOR_N
} DoctorLevel;

typedef struct {
    const char *id; /* static, stable: "kvm", "state-space" */
    DoctorLevel level;
    char *text;   /* one sentence without its full stop */
    char *remedy; /* what to do, NULL: nothing */
} MachineCheck;

void machine_check_free(MachineCheck *check);
const char *machine_check_level_name(DoctorLevel level); /* "pass", "warn", "fail" */

/*
 * All checks, in the order of the table. state_dir, connect: as for machine_host_new(); NULL: the
 * usual ones. Nothing of the host is changed: where the state directory doesn't exist yet, an
 * embedded libvirt is tried in a temporary one. Blocks up to a minute and a half when libvirt
 * hangs; half a second as a rule, 20 ms more once capabilities are cached. GPtrArray of
 * MachineCheck, transfer full, never NULL.
 */
GPtrArray *machine_doctor(const char *state_dir, const char *connect);
