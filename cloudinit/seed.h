#pragma once
#include "cloudinit/keys.h"

/*
 * The NoCloud seed: four texts built as data, and the ISO that carries them (label cidata).
 *
 * Way of each setting (cloud-init lets a key of user-data replace the same key of vendor-data
 * whole): hostname, public keys -> meta-data; user, timezone, locale, ca_certs, ssh host keys ->
 * vendor-data cloud-config; password, packages, write_files, run -> script parts of vendor-data,
 * which survive the user's own keys; status feeder -> vendor-data boothook; network ->
 * network-config v2 by MAC; user-data -> untouched. vendor.h has the parts of vendor-data.
 */
typedef struct {
    const char *mac;                 /* lower case */
    bool is_dhcp4;                   /* asks for its IPv4 address */
    const char *const *addresses;    /* CIDR texts of IPv4 and IPv6, NULL: none */
    const char *gateway4, *gateway6; /* of the default route, NULL: none */
    const char *const *nameservers;  /* literals, NULL: none */
    const char *domain;              /* where plain names are looked for, NULL: nowhere */
    uint32_t mtu;                    /* 0: the usual one */
} SeedNic;

typedef struct {
    const MachineSpec *spec; /* borrowed */
    const char *instance_id; /* from id and generation */
    const char *const
        *public_keys; /* resolved lines incl. the machine's own, NULL-terminated; NULL: none */
    const SeedKeyPair *host_key; /* NULL: the guest makes its own */
    const char *password_hash;   /* NULL: none (spec->password was hashed by the caller) */
    const SeedNic *nics;
    unsigned n_nics;
    bool has_status_port; /* the feeder is only sent when somebody reads */
} SeedInput;

typedef struct {
    GBytes *user_data, *vendor_data, *meta_data,
        *network_config; /* network_config may be NULL (no NIC) */
} SeedTexts;

void seed_texts_free(SeedTexts *texts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SeedTexts, seed_texts_free)

/* Who logs in: spec->user, else "vm". That user is made (or used, when the image has it), gets the
 * public keys and may use sudo without a password; for "root" the image's ban of root logins is
 * lifted. User-data that has its own `user` wins over this; seed_check_user_data() says so.
 * Borrowed from the spec, or constant. */
#define SEED_DEFAULT_USER "vm"
const char *seed_login_user(const MachineSpec *spec);

/* Pure: the same input gives the same bytes. Never fails on a spec that passed the checks; of one
 * that did not, what can't be carried is left out (a hash or user name that is none) or made UTF-8.
 */
SeedTexts *seed_texts_build(const SeedInput *input);

/* Writes the ISO as `name` in dirfd: in-process by libisofs, the same bytes for the same texts,
 * whole or absent, 0600. Replaces an older one of that name (is_replace) or fails with EXISTS.
 * HOST: libisofs can't; else as base_file_write_whole(). No fsync: the seed is rebuilt from the
 * machine's record whenever it is missing. Sub-millisecond. */
bool seed_iso_write(const SeedTexts *texts, int dirfd, const char *name, bool is_replace,
                    GError **error);

/* The ISO's bytes, transfer full. HOST as above. */
GBytes *seed_iso_build(const SeedTexts *texts, GError **error);

/* sha256 (hex, transfer full) over the texts: the seed's identity. */
char *seed_texts_digest(const SeedTexts *texts);
