#pragma once
#include "driver/host.h"
#include "driver/virt_network.h"

/*
 * What a new machine reserves at libvirt, before there is a folder of the machine that could tell.
 * It is noted first, in STATE/machines/.reserve-NAME (0600, synced), so that a start which is
 * killed leaves a trace for the next start of that name and for gc. All under the machine's lock.
 */
#define MACHINE_RESERVE_PREFIX ".reserve-"

/* Before the reservation is asked for; the host's connection is open. */
bool machine_reserve_note(MachineHost *host, const char *name, const VirtReservation *reservation,
                          GError **error);
/* Gives back at libvirt what is noted, then forgets it. Nothing noted: true. On failure the note
 * stays. Blocks as driver/virt_network.h says; the host's connection may be closed afterwards. */
bool machine_reserve_settle(MachineHost *host, const char *name, GError **error);
/* The machine's own record tells it now. */
void machine_reserve_forget(MachineHost *host, const char *name);
