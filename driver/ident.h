#pragma once
#include <glib.h>

/*
 * Who a machine is: every name, MAC, address and path follows from this, so that a crash can always
 * find its leftovers. full id = "vm-run:<canonical state dir>:<name>"; uuid = UUIDv5 of it (RFC
 * 4122, namespace of this project).
 */
typedef struct {
    char *name;
    char *state_dir; /* canonical, absolute */
    char *full_id;
    char *uuid;     /* 36 characters, lower case */
    char *short_id; /* 10 base32 characters of SHA-256(full id) */
    char *store_id; /* 8 of SHA-256(state dir): marks what belongs to one state directory */
    char *run_name; /* "<store id>.<short id>": the folder of its sockets */
} MachineIdent;

MachineIdent *machine_ident_new(const char *state_dir, const char *name);
void machine_ident_free(MachineIdent *ident);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineIdent, machine_ident_free)

/* UUIDv5 of uuid + "/" + generation: cloud-init's instance-id. Transfer full. */
char *machine_ident_instance_id(const MachineIdent *ident, unsigned generation);
