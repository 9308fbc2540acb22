#pragma once
#include "cloudinit/keys.h"

/*
 * The NoCloud seed: four texts built as data, and the ISO that carries them (label cidata).
 *
 * Way of each setting (cloud-init lets a key of user-data replace the same key of vendor-data whole):
 *   hostname, public keys -> meta-data; user, timezone, locale, password, ca_certs, ssh host keys -> vendor-data cloud-config;
 *   packages, write_files, run -> a script part of vendor-data that survives the user's own keys;
 *   status feeder -> vendor-data boothook; network -> network-config v2 by MAC; user-data -> untouched.
 */
typedef struct {
    const char *mac;          /* lower case */
    bool is_dhcp4;
    const char *const *addresses; /* CIDR texts, NULL: none */
    const char *gateway4;
    const char *const *nameservers;
} SeedNic;

typedef struct {
    const MachineSpec *spec;          /* borrowed */
    const char *instance_id;          /* from id and generation */
    const char *const *public_keys;   /* resolved lines incl. the machine's own, NULL-terminated */
    const SeedKeyPair *host_key;      /* NULL: the guest makes its own */
    const char *password_hash;        /* NULL: none (spec->password was hashed by the caller) */
    const SeedNic *nics;
    unsigned n_nics;
    bool has_status_port;             /* the feeder is only sent when somebody reads */
} SeedInput;

typedef struct {
    GBytes *user_data, *vendor_data, *meta_data, *network_config; /* network_config may be NULL (no NIC) */
} SeedTexts;

void seed_texts_free(SeedTexts *texts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SeedTexts, seed_texts_free)

/* Pure: the same input gives the same bytes. Never fails on a spec that passed the checks. */
SeedTexts *seed_texts_build(const SeedInput *input);

/* The default user we create or use: spec->user, else NULL (the image's own, "debian" for Debian). */

/* Writes the ISO as `name` in dirfd: in-process by libisofs, the same bytes for the same texts, whole or absent, 0600. Replaces an older one of
 * that name (is_replace) or fails with EXISTS. Sub-millisecond. */
bool seed_iso_write(const SeedTexts *texts, int dirfd, const char *name, bool is_replace, GError **error);

/* sha256 (hex, transfer full) over the texts: the seed's identity. */
char *seed_texts_digest(const SeedTexts *texts);
