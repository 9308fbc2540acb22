#include "cli/name.h"

#include <string.h>
#include <sys/random.h>

enum { STEM_MAX = 40, SUFFIX_LEN = 4, PARTS_MAX = 2 };

/* Words of image names that tell nothing about what runs inside. */
static const char *const dull_words[] = {
    "amd64", "arm64",    "aarch64", "x86",     "64",      "x86_64",  "base",
    "cloud", "cloudimg", "daily",   "default", "disk",    "generic", "genericcloud",
    "image", "img",      "latest",  "minimal", "nocloud", "qcow2",   "raw",
    "root",  "server",   "uefi",    "bios",    "kvm",     "vm",      NULL};

/* The last part of a path or URL without query and endings. */
static char *base_name(const char *image)
{
    g_autofree char *path = g_strndup(image, strcspn(image, "?#"));
    g_autofree char *base = g_path_get_basename(path);
    static const char *const endings[] = {".gz", ".xz", ".zst", ".qcow2", ".img", ".raw", NULL};
    for (const char *const *ending = endings; *ending; ending++) {
        if (g_str_has_suffix(base, *ending)) {
            base[strlen(base) - strlen(*ending)] = '\0';
        }
    }
    return g_ascii_strdown(base, -1);
}

static bool is_number(const char *word)
{
    return g_ascii_isdigit(*word);
}

/* The first word that tells something, and the number that follows it at some place. */
static void choose_parts(char **words, GString *stem)
{
    unsigned n_parts = 0;
    for (char **word = words; *word && n_parts < PARTS_MAX; word++) {
        bool is_dull = !**word || g_strv_contains(dull_words, *word);
        if (is_dull || (n_parts && !is_number(*word))) {
            continue;
        }
        g_string_append_printf(stem, "%s%s", n_parts ? "-" : "", *word);
        n_parts++;
    }
}

char *cmd_name_stem(const char *image)
{
    g_autofree char *base = base_name(image);
    for (char *at = base; *at; at++) {
        if (!g_ascii_isalnum(*at)) {
            *at = '-';
        }
    }
    g_auto(GStrv) words = g_strsplit(base, "-", -1);
    GString *stem = g_string_new(NULL);
    choose_parts(words, stem);
    g_string_truncate(stem, MIN(stem->len, STEM_MAX));
    while (stem->len && stem->str[stem->len - 1] == '-') {
        g_string_truncate(stem, stem->len - 1);
    }
    return stem->len ? g_string_free(stem, FALSE) : (g_string_free(stem, TRUE), g_strdup("vm"));
}

/* Letters and digits that nobody confuses, a power of two of them. */
static void random_suffix(char out[SUFFIX_LEN + 1])
{
    static const char letters[32] = "abcdefghjkmnpqrstuvwxyz123456789";
    unsigned char bytes[SUFFIX_LEN] = {0};
    ssize_t n =
        getrandom(bytes, sizeof bytes, 0); /* that few bytes are never cut short: getrandom(2) */
    for (int i = 0; i < SUFFIX_LEN; i++) {
        out[i] = letters[bytes[i] % sizeof letters];
    }
    out[n < 0 ? 0 : SUFFIX_LEN] = '\0';
}

char *cmd_name_generate(const MachineStore *store, const char *image)
{
    g_autofree char *stem = cmd_name_stem(image);
    for (;;) {
        char suffix[SUFFIX_LEN + 1];
        random_suffix(suffix);
        g_autofree char *name = g_strdup_printf("%s-%s", stem, suffix);
        if (!machine_store_has(store, name)) {
            return g_steal_pointer(&name);
        }
    }
}
