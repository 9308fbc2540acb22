#include <string.h>
#include "base/file.h"
#include "schemas/check_text.h"
#include "schemas/yaml.h"

enum { MAX_SOURCE_BYTES = 1024 * 1024, MAX_PEM_BYTES = 64 * 1024 };

static char *resolved(const SpecReader *reader, const char *text)
{
    if (reader->is_record || g_path_is_absolute(text)) {
        return g_strdup(text);
    }
    if (g_str_has_prefix(text, "~/")) {
        return g_build_filename(g_get_home_dir(), text + 2, NULL);
    }
    while (g_str_has_prefix(text, "./")) {
        text += 2 + strspn(text + 2, "/");
    }
    return reader->base_dir ? g_build_filename(reader->base_dir, text, NULL) : g_strdup(text);
}

char *spec_read_path(SpecReader *reader, const SpecNode *node, const char *path, const char *text)
{
    g_autofree char *file = resolved(reader, text);
    if (!g_utf8_validate(file, -1, NULL)) {
        spec_read_mistake(reader, VM_ERROR_PATH, node, path, "rename the folder",
                          "'%s' lies in a folder whose name is not UTF-8", text);
        return NULL;
    }
    return g_steal_pointer(&file);
}

/* The file's bytes; NULL: reported. Larger than max_bytes, a NUL outside gzip: CI. Transfer full.
 */
static char *read_file(SpecReader *reader, const SpecNode *node, const char *path, const char *file,
                       size_t max_bytes, size_t *out_n)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = base_file_read_user(file, max_bytes, out_n, &error);
    if (!text) {
        bool is_large = g_error_matches(error, VM_ERROR, VM_ERROR_RANGE);
        VmError code = error->domain == VM_ERROR ? (VmError)error->code : VM_ERROR_HOST;
        spec_read_mistake(reader, is_large ? VM_ERROR_CI : code, node, path, NULL, "%s",
                          error->message);
        return NULL;
    }
    bool is_gzip = *out_n >= 2 && memcmp(text, "\x1f\x8b", 2) == 0;
    if (!is_gzip && memchr(text, '\0', *out_n)) {
        spec_read_mistake(reader, VM_ERROR_CI, node, path, NULL, "'%s' holds a NUL byte", file);
        return NULL;
    }
    return g_steal_pointer(&text);
}

char *spec_read_pem(SpecReader *reader, const SpecNode *node, const char *path)
{
    size_t n_bytes;
    g_autofree char *file = spec_read_path(reader, node, path, node->text);
    g_autofree char *text =
        file ? read_file(reader, node, path, file, MAX_PEM_BYTES, &n_bytes) : NULL;
    if (text && (!g_str_is_ascii(text) || !strstr(text, "-----BEGIN CERTIFICATE-----\n"))) {
        spec_read_mistake(reader, VM_ERROR_CI, node, path, NULL, "'%s' holds no PEM certificate",
                          file);
        return NULL;
    }
    return g_steal_pointer(&text);
}

static bool from_file(SpecReader *reader, const SpecNode *node, const char *path, SpecText *out)
{
    size_t n_bytes;
    g_autofree char *file = spec_read_path(reader, node, path, node->text);
    char *text = file ? read_file(reader, node, path, file, MAX_SOURCE_BYTES, &n_bytes) : NULL;
    if (!text) {
        return false;
    }
    spec_text_clear(out);
    *out = (SpecText){text, n_bytes, {g_steal_pointer(&file), 1, 1}, true};
    return true;
}

/* Where the first line of a literal block stands: below its `|`, as far in as its first line is. */
static BasePos block_pos(const SpecReader *reader, const SpecNode *node)
{
    BasePos pos = spec_node_pos(node);
    if (!reader->text || node->end == 0 || !strchr("|>", reader->text[node->begin])) {
        return pos;
    }
    const char *at = memchr(reader->text + node->begin, '\n', node->end - node->begin);
    size_t left = at ? (size_t)(reader->text + node->end - at - 1) : 0;
    pos.line++;
    pos.col = 1;
    for (size_t i = 0; i < left && at[1 + i] == ' '; i++) {
        pos.col++;
    }
    return pos;
}

static void from_lines(const SpecReader *reader, const SpecNode *node, SpecText *out)
{
    BasePos pos = block_pos(reader, node);
    spec_text_clear(out);
    *out = (SpecText){g_strdup(node->text), node->n_bytes, base_pos_copy(&pos), false};
}

static bool from_map(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                     const char *path, SpecText *out)
{
    BasePos pos;
    if (!reader->text) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, node, path, NULL, "expected a text");
        return false;
    }
    g_autofree char *body = spec_yaml_extract(node, reader->text, &pos);
    char *text = g_strconcat(option->inline_head ? option->inline_head : "", body, NULL);
    spec_text_clear(out);
    *out = (SpecText){text, strlen(text), base_pos_copy(&pos), false};
    out->pos.line -= option->inline_head && pos.line > 0; /* the head is one line more */
    return true;
}

/* {text: ..., or base64: ...; file, line, col}: as schemas/json.c writes it. */
static bool from_record(SpecReader *reader, const SpecNode *node, const char *path, SpecText *out)
{
    SpecNode *text = spec_node_get(node, "text");
    SpecNode *base64 = spec_node_get(node, "base64");
    SpecNode *file = spec_node_get(node, "file");
    SpecNode *line = spec_node_get(node, "line");
    SpecNode *col = spec_node_get(node, "col");
    SpecNode *is_file = spec_node_get(node, "is_file");
    if ((!text && !base64) || !file || !line || !col || !is_file) {
        spec_read_mistake(reader, VM_ERROR_STATE, node, path, NULL, "the record is damaged");
        return false;
    }
    spec_text_clear(out);
    if (base64) {
        out->text = (char *)g_base64_decode(base64->text, &out->n_bytes);
        out->text = g_realloc(out->text, out->n_bytes + 1);
        out->text[out->n_bytes] = '\0';
    } else {
        out->text = g_strdup(text->text);
        out->n_bytes = text->n_bytes;
    }
    out->pos = (BasePos){*file->text ? g_strdup(file->text) : NULL,
                         (unsigned)g_ascii_strtoull(line->text, NULL, 10),
                         (unsigned)g_ascii_strtoull(col->text, NULL, 10)};
    out->is_file = g_str_equal(is_file->text, "true");
    if (out->is_file ? !out->pos.file : !g_utf8_validate(out->text, (gssize)out->n_bytes, NULL)) {
        spec_read_mistake(reader, VM_ERROR_STATE, node, path, NULL, "the record is damaged");
        return false;
    }
    return true;
}

bool spec_read_source(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                      const char *path, SpecText *out)
{
    if (node->kind == SPEC_NODE_MAP) {
        return reader->is_record ? from_record(reader, node, path, out)
                                 : from_map(reader, option, node, path, out);
    }
    if (node->kind == SPEC_NODE_LIST) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, node, path, "give one file, text or map",
                          "a list of texts to merge is not supported yet");
        return false;
    }
    bool is_inline = strchr(node->text, '\n') != NULL;
    if (!spec_check_scalar(reader, option, node, path, is_inline) ||
        !spec_check_text(reader, option, node, path, true)) {
        return false;
    }
    if (is_inline) {
        from_lines(reader, node, out);
        return true;
    }
    if (node->n_bytes == 0) {
        spec_read_mistake(reader, VM_ERROR_SCHEMA, node, path, "name a file", "is empty");
        return false;
    }
    return from_file(reader, node, path, out);
}
