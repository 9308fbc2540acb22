#pragma once
#include <glib.h>

/*
 * Firmware images, as QEMU's descriptors name them (docs/interop/firmware.json of QEMU): *.json in
 * the given folders, a later folder's file replaces an earlier one's of the same name, the first
 * fitting one in name order is taken.
 */
typedef struct {
    char *uefi_code, *uefi_vars;               /* without Secure Boot, NULL: none */
    char *uefi_secure_code, *uefi_secure_vars; /* with it and Microsoft's keys enrolled */
} Firmware;

void machine_firmware_clear(Firmware *firmware);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Firmware, machine_firmware_clear)

/* folders NULL: /usr/share/qemu/firmware, /etc/qemu/firmware. Descriptors that can't be read, and
 * images that aren't there, are passed over. */
void machine_firmware_find(const char *const *folders, Firmware *out);
