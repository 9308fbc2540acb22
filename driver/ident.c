#include "driver/ident.h"

#include <string.h>

/* The namespace of our UUIDv5: itself the UUIDv5 (DNS namespace) of "machines.vm-driver.invalid".
 */
static const guint8 uuid_namespace[16] = {0x5b, 0x0e, 0x2d, 0x7a, 0x41, 0x9c, 0x5f, 0x13,
                                          0x9d, 0x26, 0x0c, 0x8e, 0x77, 0x3a, 0xb1, 0x64};

/* RFC 4122 section 4.3: SHA-1 over namespace and name, version and variant bits set. */
static char *uuid_v5(const char *name)
{
    g_autoptr(GChecksum) sha1 = g_checksum_new(G_CHECKSUM_SHA1);
    g_checksum_update(sha1, uuid_namespace, sizeof uuid_namespace);
    g_checksum_update(sha1, (const guchar *)name, (gssize)strlen(name));
    guint8 d[20];
    gsize n = sizeof d;
    g_checksum_get_digest(sha1, d, &n);
    d[6] = (guint8)((d[6] & 0x0f) | 0x50);
    d[8] = (guint8)((d[8] & 0x3f) | 0x80);
    return g_strdup_printf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                           d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7], d[8], d[9], d[10], d[11],
                           d[12], d[13], d[14], d[15]);
}

/* The first n base32 characters (RFC 4648, lower case) of SHA-256(text). */
static char *hash_base32(const char *text, unsigned n)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    g_autoptr(GChecksum) sha256 = g_checksum_new(G_CHECKSUM_SHA256);
    g_checksum_update(sha256, (const guchar *)text, (gssize)strlen(text));
    guint8 digest[32];
    gsize n_digest = sizeof digest;
    g_checksum_get_digest(sha256, digest, &n_digest);
    g_assert(n * 5 <= n_digest * 8);
    char *out = g_malloc0(n + 1);
    for (unsigned i = 0; i < n; i++) {
        unsigned bit = i * 5, byte = bit / 8;
        unsigned pair = (unsigned)digest[byte] << 8 | (byte + 1 < n_digest ? digest[byte + 1] : 0u);
        out[i] = digits[pair >> (11 - bit % 8) & 31];
    }
    return out;
}

MachineIdent *machine_ident_new(const char *state_dir, const char *name)
{
    MachineIdent *ident = g_new0(MachineIdent, 1);
    ident->name = g_strdup(name);
    ident->state_dir = g_strdup(state_dir);
    ident->full_id = g_strdup_printf("vm-run:%s:%s", state_dir, name);
    ident->uuid = uuid_v5(ident->full_id);
    ident->short_id = hash_base32(ident->full_id, 10);
    ident->store_id = hash_base32(state_dir, 8);
    ident->run_name = g_strdup_printf("%s.%s", ident->store_id, ident->short_id);
    return ident;
}

void machine_ident_free(MachineIdent *ident)
{
    if (!ident) {
        return;
    }
    g_free(ident->name);
    g_free(ident->state_dir);
    g_free(ident->full_id);
    g_free(ident->uuid);
    g_free(ident->short_id);
    g_free(ident->store_id);
    g_free(ident->run_name);
    g_free(ident);
}

char *machine_ident_instance_id(const MachineIdent *ident, unsigned generation)
{
    g_autofree char *name = g_strdup_printf("%s/%u", ident->full_id, generation);
    return uuid_v5(name);
}
