#pragma once
#include "schemas/machine_spec.h"

/*
 * The keys and passwords that a guest is to know: public keys of people, the machine's own host
 * key, hashes for /etc/shadow. Nothing here prints or logs a secret, and no error message quotes
 * one.
 */

/* An OpenSSH public key line ("TYPE BASE64 [COMMENT]"): a known type, base64 that decodes to the
 * same type with parameters of the right sizes (RSA: 2048 to 16384 bits), one line, no options in
 * front. ssh-dss and certificates are refused. Errors: CI; SECRET when it is a private key. Pure.
 * Sources: RFC 4253 6.6, RFC 5656 3.1, RFC 8709, openssh PROTOCOL.u2f. */
bool seed_key_check(const char *line, GError **error);

/* The public key lines behind spec->ssh_keys: "agent" asks the agent at $SSH_AUTH_SOCK (2 s at most
 * in all), a text that has a key type among its words is a literal key, anything else is a file
 * ("~/" is `home`, NULL: $HOME). A file may hold several lines, blank ones and # comments. A
 * private key is refused with SECRET and the hint to name its .pub. Mistakes go to the report at
 * the option's position (origin "ssh_keys[i]", else "ssh_keys"). Returns char* lines in order, the
 * same key once, transfer full, never NULL; pdata ends with a NULL that len does not count. Blocks
 * for the agent and files only. */
GPtrArray *seed_keys_resolve(const MachineSpec *spec, const char *home, BaseReport *report);

/* The key lines that the agent at `socket_path` (NULL: $SSH_AUTH_SOCK) holds, without those of
 * kinds that seed_key_check() refuses. Errors: CI (no socket named, no keys, not an agent),
 * NOT_FOUND, DENIED, TIMEOUT. Blocks for at most timeout_ms. Source: draft-miller-ssh-agent,
 * sections 3 and 4.4. */
GPtrArray *seed_agent_list(const char *socket_path, int timeout_ms, GError **error);

/* A new ed25519 key pair (nettle), from the kernel's random numbers. */
typedef struct {
    char
        *private_openssh; /* "-----BEGIN OPENSSH PRIVATE KEY-----...", secret; cleared when freed */
    char *public_line;    /* "ssh-ed25519 AAAA... comment" */
} SeedKeyPair;

/* comment: may be NULL or "", no control characters (CI). HOST when the kernel gives no random
 * numbers. */
SeedKeyPair *seed_keypair_new(const char *comment, GError **error);

/* From its private text (unencrypted, one ed25519 key): gives the same pair back, byte for byte. CI
 * when it is anything else or its public half does not belong to its private half. Source: openssh
 * PROTOCOL.key. */
SeedKeyPair *seed_keypair_from_private(const char *private_openssh, GError **error);

void seed_keypair_free(SeedKeyPair *pair);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SeedKeyPair, seed_keypair_free)

/* Hash of a plain password for /etc/shadow: yescrypt ($y$), else SHA-512 ($6$). Transfer full;
 * `plain` is not kept. Takes some 10 ms. */
char *seed_password_hash(const char *plain, GError **error);

/* A whole hash of a kind that today's guests take: $6$ or $y$ (also $5$, $2b$, $gy$), of the right
 * length and alphabet. Else CI. Pure. */
bool seed_password_hash_check(const char *hash, GError **error);
