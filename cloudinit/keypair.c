#include "cloudinit/keys.h"

#include "cloudinit/ssh_wire.h"

#include <errno.h>
#include <nettle/eddsa.h>
#include <string.h>
#include <sys/random.h>

/*
 * How it works: an OpenSSH private key file (openssh-portable, PROTOCOL.key) is base64 between two
 * marker lines: "openssh-key-v1\0", string cipher "none", string kdf "none", string kdfoptions "",
 * uint32 1, string public key, string { uint32 check, uint32 check, string type, string public,
 *   string private (32 bytes of seed, 32 of public key), string comment, padding 1 2 3 ... }
 * The padding fills up to the block size, which is 8 for the cipher "none".
 */
#define KEY_TYPE    "ssh-ed25519"
#define FILE_MAGIC  "openssh-key-v1"
#define BEGIN_LINE  "-----BEGIN OPENSSH PRIVATE KEY-----\n"
#define END_LINE    "-----END OPENSSH PRIVATE KEY-----\n"
#define LINE_DIGITS 70
#define BLOCK_BYTES 8

/* Byte arrays that held a secret are cleared before they are freed. They are given their whole size
 * at the start, so no copy is left behind by growing. */
#define SECRET_ARRAY_BYTES 2048

static void secret_array_free(GByteArray *array)
{
    explicit_bzero(array->data, array->len);
    g_byte_array_free(array, TRUE);
}

typedef GByteArray SecretArray;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SecretArray, secret_array_free)

static void secret_text_free(char *text)
{
    if (text) {
        explicit_bzero(text, strlen(text));
        g_free(text);
    }
}

typedef char SecretText;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SecretText, secret_text_free)

void seed_keypair_free(SeedKeyPair *pair)
{
    if (pair) {
        secret_text_free(pair->private_openssh);
        g_free(pair->public_line);
        g_free(pair);
    }
}

static void put_public(GByteArray *out, const uint8_t *public)
{
    seed_ssh_put_text(out, KEY_TYPE);
    seed_ssh_put_string(out, public, ED25519_KEY_SIZE);
}

static char *public_line(const uint8_t *public, const char *comment)
{
    g_autoptr(GByteArray) blob = g_byte_array_new();
    put_public(blob, public);
    g_autofree char *base64 = g_base64_encode(blob->data, blob->len);
    return g_strjoin(" ", KEY_TYPE, base64, *comment == '\0' ? NULL : comment, NULL);
}

/* The part that a cipher would hide; `check` stands twice, so that a wrong passphrase would show.
 */
static SecretArray *private_part(const uint8_t *seed, const uint8_t *public, uint32_t check,
                                 const char *comment)
{
    SecretArray *part = g_byte_array_sized_new(SECRET_ARRAY_BYTES);
    seed_ssh_put_u32(part, check);
    seed_ssh_put_u32(part, check);
    put_public(part, public);
    seed_ssh_put_u32(part, 2 * ED25519_KEY_SIZE);
    g_byte_array_append(part, seed, ED25519_KEY_SIZE);
    g_byte_array_append(part, public, ED25519_KEY_SIZE);
    seed_ssh_put_text(part, comment);
    for (uint8_t pad = 1; part->len % BLOCK_BYTES != 0; pad++) {
        g_byte_array_append(part, &pad, 1);
    }
    return part;
}

static char *armor(const GByteArray *bytes)
{
    g_autoptr(SecretText) base64 = g_base64_encode(bytes->data, bytes->len);
    size_t n_digits = strlen(base64);
    GString *text = g_string_sized_new(n_digits * 2 + sizeof BEGIN_LINE + sizeof END_LINE);
    g_string_append(text, BEGIN_LINE);
    for (size_t i = 0; i < n_digits; i += LINE_DIGITS) {
        g_string_append_len(text, base64 + i, (gssize)MIN(LINE_DIGITS, n_digits - i));
        g_string_append_c(text, '\n');
    }
    g_string_append(text, END_LINE);
    return g_string_free(text, FALSE);
}

static SeedKeyPair *pair_from_seed(const uint8_t *seed, uint32_t check, const char *comment)
{
    uint8_t public[ED25519_KEY_SIZE];
    ed25519_sha512_public_key(public, seed);
    g_autoptr(SecretArray) part = private_part(seed, public, check, comment);
    g_autoptr(SecretArray) file = g_byte_array_sized_new(SECRET_ARRAY_BYTES);
    g_byte_array_append(file, (const uint8_t *)FILE_MAGIC, sizeof FILE_MAGIC);
    seed_ssh_put_text(file, "none");
    seed_ssh_put_text(file, "none");
    seed_ssh_put_text(file, "");
    seed_ssh_put_u32(file, 1);
    g_autoptr(GByteArray) blob = g_byte_array_new();
    put_public(blob, public);
    seed_ssh_put_string(file, blob->data, blob->len);
    seed_ssh_put_string(file, part->data, part->len);
    SeedKeyPair *pair = g_new0(SeedKeyPair, 1);
    pair->private_openssh = armor(file);
    pair->public_line = public_line(public, comment);
    return pair;
}

static bool comment_check(const char *comment, GError **error)
{
    for (const char *c = comment; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            return base_fail(error, VM_ERROR_CI, "a control character in a key's comment");
        }
    }
    return strlen(comment) <= 256 ||
           base_fail(error, VM_ERROR_CI, "a key's comment has more than 256 bytes");
}

SeedKeyPair *seed_keypair_new(const char *comment, GError **error)
{
    const char *text = comment ? comment : "";
    if (!comment_check(text, error)) {
        return NULL;
    }
    struct {
        uint8_t seed[ED25519_KEY_SIZE];
        uint32_t check;
    } fresh;
    if (getrandom(&fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh) {
        base_error_set_errno(error, errno, "cannot get random numbers for a key");
        return NULL;
    }
    SeedKeyPair *pair = pair_from_seed(fresh.seed, fresh.check, text);
    explicit_bzero(&fresh, sizeof fresh);
    return pair;
}

/* --- reading -------------------------------------------------------------------------------- */

static bool unreadable(GError **error, const char *why)
{
    return base_fail(error, VM_ERROR_CI, "not a private key that can be used: %s", why);
}

static SecretArray *dearmor(const char *text, GError **error)
{
    const char *begin = g_str_has_prefix(text, BEGIN_LINE) ? text + strlen(BEGIN_LINE) : NULL;
    const char *end = begin ? strstr(begin, END_LINE) : NULL;
    if (!end || end[strlen(END_LINE)] != '\0' || end - begin > 4 * SECRET_ARRAY_BYTES) {
        unreadable(error, "it is no OpenSSH private key file");
        return NULL;
    }
    g_autoptr(SecretText) base64 = g_strndup(begin, (gsize)(end - begin));
    size_t n_bytes;
    g_autofree uint8_t *bytes = g_base64_decode(base64, &n_bytes);
    SecretArray *array = g_byte_array_sized_new(SECRET_ARRAY_BYTES);
    if (n_bytes <= SECRET_ARRAY_BYTES) {
        g_byte_array_append(array, bytes, (guint)n_bytes);
    }
    explicit_bzero(bytes, n_bytes);
    return array;
}

/* Goes to the private part of the file in `file`. */
static bool file_open(SshReader *file, SshReader *out_part, GError **error)
{
    const uint8_t *magic = seed_ssh_read_bytes(file, sizeof FILE_MAGIC);
    if (!magic || memcmp(magic, FILE_MAGIC, sizeof FILE_MAGIC) != 0) {
        return unreadable(error, "its content is damaged");
    }
    size_t n_options;
    bool has_no_cipher = seed_ssh_read_is(file, "none");
    bool has_no_kdf = seed_ssh_read_is(file, "none");
    seed_ssh_read_string(file, &n_options);
    if (!has_no_cipher || !has_no_kdf || n_options != 0) {
        return unreadable(error, "it has a passphrase");
    }
    uint32_t n_keys = seed_ssh_read_u32(file);
    size_t n_public;
    size_t n_part;
    seed_ssh_read_string(file, &n_public);
    const uint8_t *part = seed_ssh_read_string(file, &n_part);
    if (n_keys != 1 || !part || !seed_ssh_reader_is_done(file)) {
        return unreadable(error, "its content is damaged");
    }
    seed_ssh_reader_init(out_part, part, n_part);
    return true;
}

/* The seed and comment in the private part, borrowed from it. */
static const uint8_t *part_read(SshReader *part, uint32_t *out_check, char **out_comment,
                                GError **error)
{
    uint32_t check = seed_ssh_read_u32(part);
    bool is_equal = seed_ssh_read_u32(part) == check;
    if (!seed_ssh_read_is(part, KEY_TYPE) || !is_equal) {
        unreadable(error, "it is not of type " KEY_TYPE);
        return NULL;
    }
    size_t n_public;
    size_t n_private;
    size_t n_comment;
    seed_ssh_read_string(part, &n_public);
    const uint8_t *private = seed_ssh_read_string(part, &n_private);
    const uint8_t *comment = seed_ssh_read_string(part, &n_comment);
    if (!comment || n_public != ED25519_KEY_SIZE || n_private != 2 * ED25519_KEY_SIZE) {
        unreadable(error, "its content is damaged");
        return NULL;
    }
    *out_check = check;
    *out_comment = g_strndup((const char *)comment, n_comment);
    return private;
}

SeedKeyPair *seed_keypair_from_private(const char *private_openssh, GError **error)
{
    g_autoptr(SecretArray) bytes = dearmor(private_openssh, error);
    if (!bytes) {
        return NULL;
    }
    SshReader file;
    SshReader part;
    seed_ssh_reader_init(&file, bytes->data, bytes->len);
    if (!file_open(&file, &part, error)) {
        return NULL;
    }
    uint32_t check = 0;
    g_autofree char *comment = NULL;
    const uint8_t *seed = part_read(&part, &check, &comment, error);
    if (!seed || !comment_check(comment, error)) {
        return NULL;
    }
    g_autoptr(SeedKeyPair) pair = pair_from_seed(seed, check, comment);
    if (strcmp(pair->private_openssh, private_openssh) != 0) {
        unreadable(error, "its halves do not belong together");
        return NULL;
    }
    return g_steal_pointer(&pair);
}
