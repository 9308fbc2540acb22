#include "cloudinit/keys.h"

#include "base/file.h"
#include "cloudinit/key_line.h"

#include <string.h>

#define KEY_FILE_MAX_BYTES (64 * 1024)
#define AGENT_TIMEOUT_MS   2000

typedef struct {
    GPtrArray *lines;
    GHashTable *seen; /* "TYPE BASE64" */
    const char *home;
    BaseReport *report;
    const BasePos *pos; /* of the option at hand, may be NULL */
} KeySet;

static void key_set_add(KeySet *set, const char *line)
{
    g_auto(GStrv) words = seed_key_words(line);
    if (g_hash_table_add(set->seen, g_strdup_printf("%s %s", words[0], words[1]))) {
        g_ptr_array_add(set->lines, g_strjoinv(" ", words));
    }
}

static void key_set_fail(KeySet *set, const char *what, const GError *error)
{
    const char *hint = error->code == VM_ERROR_SECRET ? "name the file that ends in .pub" : NULL;
    base_report_error(set->report, error->code, set->pos, hint, "ssh_keys: %s%s", what,
                      error->message);
}

static void key_set_add_literal(KeySet *set, const char *line)
{
    g_autoptr(GError) error = NULL;
    if (seed_key_check(line, &error)) {
        key_set_add(set, line);
    } else {
        key_set_fail(set, "", error);
    }
}

static void key_set_add_agent(KeySet *set)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) lines = seed_agent_list(NULL, AGENT_TIMEOUT_MS, &error);
    if (!lines) {
        key_set_fail(set, "agent: ", error);
        return;
    }
    for (unsigned i = 0; i < lines->len; i++) {
        key_set_add(set, lines->pdata[i]);
    }
}

static char *key_file_path(const KeySet *set, const char *name)
{
    if (g_str_has_prefix(name, "~/")) {
        const char *home = set->home ? set->home : g_getenv("HOME");
        return g_build_filename(home ? home : "/", name + 2, NULL);
    }
    return g_strdup(name);
}

static void key_file_private_fail(KeySet *set, const char *path)
{
    g_autofree char *shown = base_report_escape(path, 200);
    g_autofree char *hint = g_strdup_printf("name its public half: %s.pub", shown);
    base_report_error(set->report, VM_ERROR_SECRET, set->pos, hint,
                      "ssh_keys: '%s' is a private key", shown);
}

static void key_set_add_lines(KeySet *set, const char *path, const char *text)
{
    g_autofree char *shown = base_report_escape(path, 200);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    unsigned n_keys = 0;
    for (unsigned i = 0; lines[i]; i++) {
        const char *line = g_strstrip(lines[i]);
        if (*line == '\0' || *line == '#') {
            continue;
        }
        n_keys++;
        g_autoptr(GError) error = NULL;
        if (seed_key_check(line, &error)) {
            key_set_add(set, line);
            continue;
        }
        g_autofree char *what = g_strdup_printf("'%s' line %u: ", shown, i + 1);
        key_set_fail(set, what, error);
        return;
    }
    if (n_keys == 0) {
        base_report_error(set->report, VM_ERROR_CI, set->pos, NULL, "ssh_keys: '%s' holds no key",
                          shown);
    }
}

static void key_set_add_file(KeySet *set, const char *name)
{
    g_autofree char *path = key_file_path(set, name);
    g_autoptr(GError) error = NULL;
    size_t n_bytes = 0;
    g_autofree char *text = base_file_read_user(path, KEY_FILE_MAX_BYTES, &n_bytes, &error);
    if (!text) {
        base_report_error(set->report, error->code, set->pos,
                          "give a file, a whole key line, or agent", "ssh_keys: %s",
                          error->message);
        return;
    }
    if (seed_key_is_private(text)) {
        key_file_private_fail(set, path);
    } else if (strlen(text) != n_bytes) {
        g_autofree char *shown = base_report_escape(path, 200);
        base_report_error(set->report, VM_ERROR_CI, set->pos, NULL,
                          "ssh_keys: '%s' is no text file", shown);
    } else {
        key_set_add_lines(set, path, text);
    }
    explicit_bzero(text, n_bytes);
}

static bool is_literal(const char *text)
{
    g_auto(GStrv) words = g_strsplit_set(text, " \t\r\n", -1);
    for (char **word = words; *word; word++) {
        if (seed_key_is_type(*word)) {
            return true;
        }
    }
    return strchr(text, '\n') != NULL || seed_key_is_private(text) || *text == '\0';
}

static void key_set_add_option(KeySet *set, const char *text)
{
    if (strcmp(text, "agent") == 0) {
        key_set_add_agent(set);
    } else if (is_literal(text)) {
        key_set_add_literal(set, text);
    } else if (g_str_has_prefix(text, "gh:") || g_str_has_prefix(text, "lp:")) {
        base_report_error(set->report, VM_ERROR_SCHEMA, set->pos,
                          "save the keys to a file and name it",
                          "ssh_keys: fetching keys by account name is not supported yet");
    } else {
        key_set_add_file(set, text);
    }
}

static const BasePos *key_option_pos(const MachineSpec *spec, unsigned i)
{
    g_autofree char *path = g_strdup_printf("ssh_keys[%u]", i);
    const BasePos *pos = spec_machine_origin(spec, path);
    return pos ? pos : spec_machine_origin(spec, "ssh_keys");
}

GPtrArray *seed_keys_resolve(const MachineSpec *spec, const char *home, BaseReport *report)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    KeySet set = {.lines = g_ptr_array_new_with_free_func(g_free),
                  .seen = seen,
                  .home = home,
                  .report = report};
    for (unsigned i = 0; spec->ssh_keys && i < spec->ssh_keys->len; i++) {
        set.pos = key_option_pos(spec, i);
        key_set_add_option(&set, spec->ssh_keys->pdata[i]);
    }
    g_ptr_array_add(set.lines, NULL);
    g_ptr_array_set_size(set.lines, (int)set.lines->len - 1);
    return set.lines;
}
