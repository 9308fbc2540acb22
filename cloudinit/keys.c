#include "cloudinit/keys.h"

#include "cloudinit/key_line.h"
#include "cloudinit/ssh_wire.h"

#include <string.h>

#define KEY_LINE_MAX_BYTES (16 * 1024)
#define RSA_MIN_BITS       2048
#define RSA_MAX_BITS       16384

/* What follows the type name in a key's blob. */
typedef enum { SHAPE_RSA, SHAPE_ED25519, SHAPE_ECDSA } KeyShape;

typedef struct {
    const char *type;
    KeyShape shape;
    const char *curve;    /* ECDSA */
    size_t n_point_bytes; /* an uncompressed point, or the ed25519 key */
    bool has_application; /* security keys: the string after the key */
} KeyType;

static const KeyType key_types[] = {
    {"ssh-ed25519", SHAPE_ED25519, NULL, 32, false},
    {"ssh-rsa", SHAPE_RSA, NULL, 0, false},
    {"ecdsa-sha2-nistp256", SHAPE_ECDSA, "nistp256", 65, false},
    {"ecdsa-sha2-nistp384", SHAPE_ECDSA, "nistp384", 97, false},
    {"ecdsa-sha2-nistp521", SHAPE_ECDSA, "nistp521", 133, false},
    {"sk-ssh-ed25519@openssh.com", SHAPE_ED25519, NULL, 32, true},
    {"sk-ecdsa-sha2-nistp256@openssh.com", SHAPE_ECDSA, "nistp256", 65, true},
};

static const KeyType *key_type_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(key_types); i++) {
        if (strcmp(name, key_types[i].type) == 0) {
            return &key_types[i];
        }
    }
    return NULL;
}

bool seed_key_is_type(const char *word)
{
    return key_type_find(word) || strcmp(word, "ssh-dss") == 0 ||
           (strchr(word, '/') == NULL && g_str_has_suffix(word, "-cert-v01@openssh.com"));
}

char **seed_key_words(const char *line)
{
    g_auto(GStrv) parts = g_strsplit_set(line, " \t", -1);
    GPtrArray *words = g_ptr_array_new();
    for (char **part = parts; *part; part++) {
        if (**part != '\0') {
            g_ptr_array_add(words, g_strdup(*part));
        }
    }
    g_ptr_array_add(words, NULL);
    return (char **)g_ptr_array_free(words, FALSE);
}

bool seed_key_is_private(const char *text)
{
    const char *begin = strstr(text, "-----BEGIN ");
    return (begin && strstr(begin, "PRIVATE KEY-----")) || strstr(text, "PuTTY-User-Key-File-");
}

/* --- one line ------------------------------------------------------------------------------- */

static unsigned mpint_bits(const uint8_t *bytes, size_t n_bytes)
{
    while (n_bytes > 0 && *bytes == 0) {
        bytes++;
        n_bytes--;
    }
    return n_bytes == 0 ? 0 : (unsigned)(n_bytes - 1) * 8 + (32 - (unsigned)__builtin_clz(*bytes));
}

static bool rsa_check(SshReader *reader, GError **error)
{
    size_t n_exponent;
    size_t n_modulus;
    seed_ssh_read_string(reader, &n_exponent);
    const uint8_t *modulus = seed_ssh_read_string(reader, &n_modulus);
    if (!seed_ssh_reader_is_done(reader) || n_exponent == 0 || modulus[0] & 0x80) {
        return base_fail(error, VM_ERROR_CI, "the key's base64 text is cut off or damaged");
    }
    unsigned n_bits = mpint_bits(modulus, n_modulus);
    if (n_bits < RSA_MIN_BITS || n_bits > RSA_MAX_BITS) {
        return base_fail(error, VM_ERROR_CI, "an RSA key of %u bits, where %d to %d are served",
                         n_bits, RSA_MIN_BITS, RSA_MAX_BITS);
    }
    return true;
}

static bool point_check(SshReader *reader, const KeyType *type, GError **error)
{
    bool is_curve = type->shape != SHAPE_ECDSA || seed_ssh_read_is(reader, type->curve);
    size_t n_point;
    const uint8_t *point = seed_ssh_read_string(reader, &n_point);
    if (type->has_application) {
        size_t n_application;
        seed_ssh_read_string(reader, &n_application);
    }
    bool is_point = seed_ssh_reader_is_done(reader) && n_point == type->n_point_bytes &&
                    (type->shape != SHAPE_ECDSA || point[0] == 4);
    return (is_curve && is_point) ||
           base_fail(error, VM_ERROR_CI, "the key's base64 text is cut off or damaged");
}

static bool blob_check(const uint8_t *blob, size_t n_blob, const KeyType *type, GError **error)
{
    SshReader reader;
    seed_ssh_reader_init(&reader, blob, n_blob);
    if (!seed_ssh_read_is(&reader, type->type)) {
        return base_fail(error, VM_ERROR_CI, "its base64 text is not that of a key of type %s",
                         type->type);
    }
    return type->shape == SHAPE_RSA ? rsa_check(&reader, error) : point_check(&reader, type, error);
}

/* g_base64_decode() skips what is not base64; a key has nothing else in it. */
static uint8_t *base64_decode_strict(const char *text, size_t *out_n_bytes)
{
    size_t n_text = strlen(text);
    size_t n_digits =
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    size_t n_pad = strspn(text + n_digits, "=");
    if (n_text == 0 || n_text % 4 != 0 || n_digits + n_pad != n_text || n_pad > 2) {
        return NULL;
    }
    return g_base64_decode(text, out_n_bytes);
}

/* Control characters and broken UTF-8 have no place in a line; the comment may be any other text.
 */
static bool line_chars_check(const char *line, GError **error)
{
    if (strlen(line) > KEY_LINE_MAX_BYTES) {
        return base_fail(error, VM_ERROR_CI, "a key line of more than %d bytes",
                         KEY_LINE_MAX_BYTES);
    }
    for (const char *c = line; *c != '\0'; c++) {
        if (*c == '\n' || *c == '\r') {
            return base_fail(error, VM_ERROR_CI,
                             "a line break in a key: give each key as one line");
        }
        if ((unsigned char)*c < 0x20 ? *c != '\t' : *c == 0x7f) {
            return base_fail(error, VM_ERROR_CI, "a control character in a key");
        }
    }
    return g_utf8_validate(line, -1, NULL) || base_fail(error, VM_ERROR_CI, "a key is not UTF-8");
}

static bool unknown_type_fail(char **words, GError **error)
{
    if (strcmp(words[0], "ssh-dss") == 0) {
        return base_fail(error, VM_ERROR_CI, "DSA keys are no longer taken by ssh: use ed25519");
    }
    if (g_str_has_suffix(words[0], "-cert-v01@openssh.com")) {
        return base_fail(error, VM_ERROR_CI, "this is a certificate: name the public key itself");
    }
    for (char **word = words + 1; *word; word++) {
        if (seed_key_is_type(*word)) {
            return base_fail(error, VM_ERROR_CI,
                             "options in front of a key are not allowed: begin with its type");
        }
    }
    g_autofree char *shown = base_report_escape(words[0], 40);
    return base_fail(
        error, VM_ERROR_CI,
        "'%s' is no type of public key (ssh-ed25519, ssh-rsa, ecdsa-sha2-nistp256 ...)", shown);
}

bool seed_key_check(const char *line, GError **error)
{
    if (seed_key_is_private(line)) {
        return base_fail(error, VM_ERROR_SECRET,
                         "this is a private key: give its public half (.pub)");
    }
    if (!line_chars_check(line, error)) {
        return false;
    }
    g_auto(GStrv) words = seed_key_words(line);
    if (!words[0]) {
        return base_fail(error, VM_ERROR_CI, "a key is empty");
    }
    const KeyType *type = key_type_find(words[0]);
    if (!type) {
        return unknown_type_fail(words, error);
    }
    size_t n_blob = 0;
    g_autofree uint8_t *blob = words[1] ? base64_decode_strict(words[1], &n_blob) : NULL;
    if (!blob) {
        return base_fail(error, VM_ERROR_CI, "what follows %s is not base64", type->type);
    }
    return blob_check(blob, n_blob, type, error);
}
