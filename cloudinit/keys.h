#pragma once
#include "schemas/machine_spec.h"

/* An OpenSSH public key line, checked: known type, base64 that decodes to the same type, one line, no options prefix. */
bool seed_key_check(const char *line, GError **error);

/* The public key lines behind spec->ssh_keys: "agent" asks ssh-agent ($SSH_AUTH_SOCK, its protocol, 2 s at most), a path is read
 * ("~/" allowed; a private key file is refused with SECRET and the hint to name its .pub), else a literal key. Mistakes go to the report at their positions.
 * home: for "~/", NULL: $HOME. Returns GPtrArray of char*, duplicates removed, transfer full. */
GPtrArray *seed_keys_resolve(const MachineSpec *spec, const char *home, BaseReport *report);

/* A new ed25519 key pair (nettle), from the kernel's random numbers. */
typedef struct {
    char *private_openssh;  /* "-----BEGIN OPENSSH PRIVATE KEY-----...", secret; cleared when freed */
    char *public_line;      /* "ssh-ed25519 AAAA... comment" */
} SeedKeyPair;
SeedKeyPair *seed_keypair_new(const char *comment, GError **error);
/* From its private text: gives the same pair back. */
SeedKeyPair *seed_keypair_from_private(const char *private_openssh, GError **error);
void seed_keypair_free(SeedKeyPair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SeedKeyPair, seed_keypair_free)

/* Hash of a plain password for /etc/shadow: yescrypt ($y$), else SHA-512 ($6$). Transfer full; `plain` is not kept. */
char *seed_password_hash(const char *plain, GError **error);
/* $6$ or $y$ (also $5$, $2b$, $gy$) that crypt(3) accepts. */
bool seed_password_hash_check(const char *hash, GError **error);
