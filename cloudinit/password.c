#include "cloudinit/keys.h"

#include <crypt.h>
#include <errno.h>
#include <string.h>

/* crypt(5): how the hash kinds look. The digest is the text after the last '$'. */
typedef struct {
    const char *prefix;
    size_t n_digest;    /* characters after the last '$' */
    unsigned n_dollars; /* in the whole hash, without a rounds= field */
    bool has_rounds;    /* may have one field rounds=N more */
} HashKind;

static const HashKind hash_kinds[] = {
    {"$y$", 43, 4, false}, {"$gy$", 43, 4, false}, {"$6$", 86, 3, true},
    {"$5$", 43, 3, true},  {"$2b$", 53, 3, false},
};

static const HashKind *hash_kind_find(const char *hash)
{
    for (size_t i = 0; i < G_N_ELEMENTS(hash_kinds); i++) {
        if (g_str_has_prefix(hash, hash_kinds[i].prefix)) {
            return &hash_kinds[i];
        }
    }
    return NULL;
}

static unsigned dollars_count(const char *text)
{
    unsigned n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '$';
    }
    return n;
}

static bool is_whole(const char *hash, const HashKind *kind)
{
    const char *alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    bool has_rounds = kind->has_rounds && g_str_has_prefix(hash + strlen(kind->prefix), "rounds=");
    const char *digest = strrchr(hash, '$') + 1;
    g_autofree char *allowed = g_strconcat(alphabet, "$=", NULL);
    return strspn(hash, allowed) == strlen(hash) &&
           dollars_count(hash) == kind->n_dollars + (has_rounds ? 1 : 0) &&
           strlen(digest) == kind->n_digest && strspn(digest, alphabet) == kind->n_digest &&
           crypt_checksalt(hash) == CRYPT_SALT_OK;
}

bool seed_password_hash_check(const char *hash, GError **error)
{
    if (*hash == '\0') {
        return base_fail(error, VM_ERROR_CI, "a password hash is empty - make one with mkpasswd");
    }
    const HashKind *kind = hash_kind_find(hash);
    if (!kind && *hash != '$') {
        return base_fail(error, VM_ERROR_CI, "this is no password hash - make one with mkpasswd");
    }
    if (!kind) {
        return base_fail(error, VM_ERROR_CI,
                         "a password hash of a kind that is not served - use "
                         "yescrypt ($y$) or SHA-512 ($6$), as mkpasswd makes them");
    }
    return is_whole(hash, kind) ||
           base_fail(error, VM_ERROR_CI, "a %s password hash that is cut off or damaged",
                     kind->prefix);
}

static char *hash_with(const char *plain, const char *prefix)
{
    /* libxcrypt takes its own random numbers for the salt. */
    g_autofree char *setting = crypt_gensalt_ra(prefix, 0, NULL, 0);
    if (!setting) {
        return NULL;
    }
    void *scratch = NULL;
    int n_scratch = 0;
    const char *hash = crypt_ra(plain, setting, &scratch, &n_scratch);
    char *copy = hash && *hash != '*' ? g_strdup(hash) : NULL;
    if (scratch) {
        explicit_bzero(scratch, (size_t)n_scratch);
    }
    free(scratch);
    return copy;
}

char *seed_password_hash(const char *plain, GError **error)
{
    char *hash = hash_with(plain, "$y$");
    if (!hash) {
        hash = hash_with(plain, "$6$");
    }
    if (!hash) {
        base_error_set_errno(error, errno, "cannot hash the password");
    }
    return hash;
}
