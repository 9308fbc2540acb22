#pragma once
#include "cloudinit/seed.h"

/* What vm-run-iso.so gives: seed_iso_build() of cloudinit/seed.h. A part of its own since only a
 * start and `vm-run seed` need libisofs. */
#define SEED_ISO_PART   "vm-run-iso"
#define SEED_ISO_SYMBOL "seed_iso_part_build"

typedef GBytes *(*SeedIsoBuild)(const SeedTexts *texts, GError **error);

__attribute__((visibility("default"))) GBytes *seed_iso_part_build(const SeedTexts *texts,
                                                                   GError **error);
