#!/bin/bash
# A row of the option table whose kind and member disagree must not compile; one that is right must.
set -u
cc=${CC:-cc}
flags=(-std=gnu17 -fsyntax-only -D_GNU_SOURCE -I"${SOURCE_DIR:?}" $(pkg-config --cflags glib-2.0))

compiles() {
    printf '%s\n' '#include "schemas/rows.h"' \
        'static const char *const texts_SpecAccel[] = {"a", NULL}; static const SpecChoices choices_SpecAccel;' \
        'static const char *const texts_SpecFirmware[] = {"a", NULL}; static const SpecChoices choices_SpecFirmware;' \
        "const SpecOption row = $1;" 'const void *used[] = {texts_SpecAccel, texts_SpecFirmware, &choices_SpecAccel, &choices_SpecFirmware};' |
        "$cc" "${flags[@]}" -x c - 2>/dev/null
}

status=0
expect() { # yes|no ROW
    if compiles "$2"; then found=yes; else found=no; fi
    [ "$found" = "$1" ] || { echo "compiles: $found, expected $1: $2"; status=1; }
}

expect yes 'SPEC_UINT(MachineSpec, cpus, "cpus", "x.", .max = 1)'
expect yes 'SPEC_STRING(MachineSpec, image, "image", "x.")'
expect yes 'SPEC_SIZE(MachineSpec, memory_bytes, "memory", "x.")'
expect yes 'SPEC_BOOL(MachineSpec, is_thin, "thin", "x.", .default_text = "true")'
expect yes 'SPEC_ENUM(MachineSpec, accel, SpecAccel, "accel", "x.")'
expect yes 'SPEC_SOURCE(MachineSpec, cloud_init.user_data, "u", "x.")'
expect no 'SPEC_UINT(MachineSpec, image, "cpus", "x.", .max = 1)'
expect no 'SPEC_UINT(MachineSpec, memory_bytes, "cpus", "x.", .max = 1)'
expect no 'SPEC_STRING(MachineSpec, cpus, "image", "x.")'
expect no 'SPEC_SIZE(MachineSpec, cpus, "memory", "x.")'
expect no 'SPEC_BOOL(MachineSpec, cpus, "thin", "x.")'
expect no 'SPEC_STRINGS(MachineSpec, tags, "tags", "x.")'
expect no 'SPEC_MAP(MachineSpec, packages, "packages", "x.")'
expect no 'SPEC_ENUM(MachineSpec, firmware, SpecAccel, "accel", "x.")'
expect no 'SPEC_SOURCE(MachineSpec, image, "u", "x.")'
exit $status
