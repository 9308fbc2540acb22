#pragma once
#include "schemas/machine_spec.h"

/*
 * Checks of what the user gives to cloud-init, before any effect. Facts: cloud-init 22.4-24
 * documentation and behaviour (reference of this project: user-data is ignored silently with a BOM,
 * a missing header or broken YAML).
 */
typedef enum {
    SEED_KIND_CLOUD_CONFIG,
    SEED_KIND_SCRIPT,
    SEED_KIND_MIME,
    SEED_KIND_JINJA,
    SEED_KIND_GZIP,
    SEED_KIND_BOOTHOOK,
    SEED_KIND_INCLUDE,
    SEED_KIND_CONFIG_ARCHIVE,
    SEED_KIND_PART_HANDLER,
    SEED_KIND_EMPTY,
    SEED_KIND_UNKNOWN
} SeedKind;

SeedKind seed_kind_detect(const char *bytes, size_t n_bytes);

/* user-data: header, YAML syntax (file:line:col), known top-level keys with did-you-mean and
 * deprecations, types of the common keys, BOM, CRLF, `vendor_data: {enabled: false}`, and which of
 * our settings in `spec` its keys would displace (timezone, locale: warning at the user's key with
 * its position). Strictness is spec->cloud_init.schema: errors, the same as warnings, or nothing
 * but what would make cloud-init ignore the text. */
void seed_check_user_data(const MachineSpec *spec, BaseReport *report);

/* Everything else of the spec that ends in the seed: hostname, user, timezone, locale, hashes,
 * write_files paths and modes, ca_certs (PEM), packages, vendor_data, network_config (YAML, version
 * 1|2), meta_data (a map). */
void seed_check_spec(const MachineSpec *spec, BaseReport *report);
