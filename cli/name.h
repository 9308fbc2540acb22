#pragma once
#include "driver/store.h"

/* A name for a machine that got none: what the image's file name says, and four random characters,
 * such as "debian-12-x7k2"; not taken in `store` now. Transfer full. */
char *cmd_name_generate(const MachineStore *store, const char *image);

/* The first part: "debian-12" of ".../debian-12-genericcloud-amd64.qcow2", "vm" when nothing is
 * left. Transfer full. */
char *cmd_name_stem(const char *image);
