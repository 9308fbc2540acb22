#include "cloudinit/check.h"

#include "cloudinit/config_keys.h"
#include "cloudinit/look.h"
#include "cloudinit/mime_read.h"

#include <string.h>
#include <zlib.h>

#define TEXT_MAX_BYTES     (1024 * 1024)
#define UNPACKED_MAX_BYTES (8 * 1024 * 1024)

static void look_at_text(const Look *look, const char *text, size_t n_bytes, bool is_inner);

/* --- places in the text
 * ---------------------------------------------------------------------------- */

/* Line and column (from 1) of byte `at`. */
static void place_of(const char *text, size_t at, unsigned *out_line, unsigned *out_col)
{
    unsigned line = 1;
    unsigned col = 1;
    for (size_t i = 0; i < at; i++) {
        bool is_end = text[i] == '\n';
        line += is_end;
        col = is_end ? 1 : col + (((unsigned char)text[i] & 0xc0) != 0x80);
    }
    *out_line = line;
    *out_col = col;
}

static void add_at(const Look *look, LookGrade grade, const char *text, size_t at, const char *hint,
                   const char *what)
{
    unsigned line;
    unsigned col;
    place_of(text, at, &line, &col);
    seed_look_add(look, grade, line, col, hint, "%s", what);
}

static size_t skip_blanks(const char *text, size_t n_bytes)
{
    size_t at = 0;
    while (at < n_bytes && text[at] != '\0' && strchr(" \t\r\n\v\f", text[at])) {
        at++;
    }
    return at;
}

/* --- a text that cloud-init would not know
 * ------------------------------------------------------------ */

static bool has_bom(const char *text, size_t n_bytes)
{
    return (n_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) ||
           (n_bytes >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0));
}

/* Does the first line mean a header, written in another way ("# cloud-config", "#cloud_config")? */
static bool is_near_header(const char *line, size_t n_line, const char *header)
{
    g_autoptr(GString) letters = g_string_new(NULL);
    g_autoptr(GString) wanted = g_string_new(NULL);
    for (size_t i = 0; i < n_line && i < 200; i++) {
        if (g_ascii_isalpha(line[i])) {
            g_string_append_c(letters, g_ascii_tolower(line[i]));
        }
    }
    for (const char *c = header; *c != '\0'; c++) {
        if (g_ascii_isalpha(*c)) {
            g_string_append_c(wanted, *c);
        }
    }
    return strcmp(letters->str, wanted->str) == 0;
}

static const char *near_header(const char *line, size_t n_line)
{
    static const char *const headers[] = {"#cloud-config",   "#cloud-config-archive",
                                          "#cloud-boothook", "#part-handler",
                                          "#include",        "## template: jinja"};
    for (size_t i = 0; i < G_N_ELEMENTS(headers); i++) {
        if (is_near_header(line, n_line, headers[i])) {
            return headers[i];
        }
    }
    return NULL;
}

/* The offset of a line that is a cloud-config header, but not the first; 0: none. */
static size_t later_header(const char *text, size_t n_bytes)
{
    for (size_t at = 0; at < n_bytes;) {
        const char *end = memchr(text + at, '\n', n_bytes - at);
        if (at > 0 && g_str_has_prefix(text + at, "#cloud-config")) {
            return at;
        }
        at = end ? (size_t)(end - text) + 1 : n_bytes;
    }
    return 0;
}

static void look_at_unknown(const Look *look, const char *text, size_t n_bytes)
{
    size_t at = skip_blanks(text, n_bytes);
    if (has_bom(text, n_bytes)) {
        add_at(look, LOOK_FATAL, text, 0, "save it as UTF-8 without one",
               "begins with a byte order mark: cloud-init would not see its header and ignore it");
        return;
    }
    const char *end = memchr(text + at, '\n', n_bytes - at);
    size_t n_line = end ? (size_t)(end - text) - at : n_bytes - at;
    const char *header = near_header(text + at, n_line);
    size_t later = later_header(text, n_bytes);
    if (header) {
        g_autofree char *hint = g_strdup_printf("write it exactly as %s", header);
        add_at(look, LOOK_FATAL, text, at, hint,
               "this is no header: cloud-init would ignore all of it");
    } else if (later > 0) {
        add_at(look, LOOK_FATAL, text, later, "move it to the first line",
               "the header is not on the first line: cloud-init would ignore all of it");
    } else {
        add_at(look, LOOK_FATAL, text, at, "begin with #cloud-config, or #! for a script",
               "no header: cloud-init would ignore all of it");
    }
}

/* --- the kinds
 * -------------------------------------------------------------------------------------- */

static void look_at_config_text(const Look *look, const char *text, size_t n_bytes)
{
    g_autoptr(YamlTree) tree = seed_look_parse(look, text, n_bytes);
    if (!tree) {
        return;
    }
    const YamlNode *root = tree->root;
    bool is_empty =
        !root || (root->kind == YAML_SCALAR && seed_yaml_scalar_type(root) == YAML_NULL);
    if (!is_empty && root->kind != YAML_MAP) {
        LOOK_AT(look, LOOK_FATAL, root, "write `key: value`",
                "a cloud-config is a map of keys, not %s", seed_yaml_noun(root));
        return;
    }
    if (!is_empty) {
        seed_look_at_config(look, tree);
    }
    seed_look_at_displaced(look, is_empty ? NULL : root);
}

static void look_at_archive(const Look *look, const char *text, size_t n_bytes)
{
    g_autoptr(YamlTree) tree = seed_look_parse(look, text, n_bytes);
    if (tree && (!tree->root || tree->root->kind != YAML_LIST)) {
        seed_look_add(look, LOOK_FATAL, tree->root ? tree->root->line : 1, 1, NULL,
                      "a cloud-config-archive is a list of parts");
    }
}

/* A template is judged when it has been filled in; without anything to fill in it is a text like
 * others. */
static void look_at_jinja(const Look *look, const char *text, size_t n_bytes)
{
    const char *first = text + skip_blanks(text, n_bytes);
    const char *end = memchr(first, '\n', n_bytes - (size_t)(first - text));
    size_t at = end ? (size_t)(end - text) + 1 : n_bytes;
    SeedKind kind = seed_kind_detect(text + at, n_bytes - at);
    if (kind == SEED_KIND_UNKNOWN || kind == SEED_KIND_EMPTY || kind == SEED_KIND_JINJA) {
        add_at(look, LOOK_FATAL, text, at,
               "put #cloud-config, or #! for a script, below the first line",
               "a template needs a header of its own in its second line");
        return;
    }
    bool is_template = memmem(text, n_bytes, "{{", 2) || memmem(text, n_bytes, "{%", 2) ||
                       memmem(text, n_bytes, "{#", 2);
    if (kind == SEED_KIND_CLOUD_CONFIG && !is_template) {
        look_at_config_text(look, text, n_bytes);
    }
}

static void look_at_include(const Look *look, const char *text, size_t n_bytes)
{
    if (!seed_look_has_network(look->spec)) {
        add_at(look, LOOK_MISTAKE, text, skip_blanks(text, n_bytes), NULL,
               "#include needs a network, and the machine has none");
    }
}

/* The cloud-configs among the parts, where they can be read as they stand. */
static void look_at_mime(const Look *look, const char *text, size_t n_bytes)
{
    const char *why = NULL;
    g_autoptr(GArray) bodies = seed_mime_read(text, n_bytes, &why);
    if (!bodies) {
        seed_look_add(look, LOOK_FATAL, 1, 1, "cloud-init would find nothing in it", "%s", why);
        return;
    }
    for (unsigned i = 0; i < bodies->len; i++) {
        const MimeBody *body = &g_array_index(bodies, MimeBody, i);
        const char *bytes = text + body->begin;
        bool is_config = strcmp(body->type, "text/cloud-config") == 0 ||
                         (strcmp(body->type, "text/plain") == 0 &&
                          seed_kind_detect(bytes, body->n_bytes) == SEED_KIND_CLOUD_CONFIG);
        if (is_config && !body->is_encoded) {
            unsigned line;
            unsigned col;
            Look part = *look;
            place_of(text, body->begin, &line, &col);
            part.pos.line += part.pos.line > 0 ? line - 1 : 0;
            part.is_part = true;
            look_at_config_text(&part, bytes, body->n_bytes);
        }
    }
}

/* At most out_max bytes; NULL with a finding. Transfer full. */
static char *unpack(const Look *look, const char *bytes, size_t n_bytes, size_t *out_n_bytes)
{
    z_stream stream = {.next_in = (Bytef *)bytes, .avail_in = (uInt)n_bytes};
    g_autofree char *text = g_malloc(UNPACKED_MAX_BYTES + 1);
    stream.next_out = (Bytef *)text;
    stream.avail_out = UNPACKED_MAX_BYTES;
    int status = inflateInit2(&stream, 16 + MAX_WBITS);
    if (status == Z_OK) {
        status = inflate(&stream, Z_FINISH);
        inflateEnd(&stream);
    }
    if (status != Z_STREAM_END) {
        seed_look_add(look, LOOK_FATAL, 1, 1, NULL,
                      stream.avail_out == 0 ? "unpacks to more than 8 MiB"
                                            : "is damaged: gzip can't unpack it");
        return NULL;
    }
    *out_n_bytes = stream.total_out;
    text[stream.total_out] = '\0';
    return g_steal_pointer(&text);
}

/* Positions are those in the unpacked text. */
static void look_at_gzip(const Look *look, const char *bytes, size_t n_bytes)
{
    size_t n_text = 0;
    g_autofree char *text = unpack(look, bytes, n_bytes, &n_text);
    if (text) {
        look_at_text(look, text, n_text, true);
    }
}

/* A NUL would be read as the end of some texts and not of others. */
static bool check_bytes(const Look *look, const char *text, size_t n_bytes)
{
    const char *nul = memchr(text, '\0', n_bytes);
    if (nul) {
        add_at(look, LOOK_FATAL, text, (size_t)(nul - text), NULL, "a NUL byte");
    }
    return !nul;
}

static void look_at_text(const Look *look, const char *text, size_t n_bytes, bool is_inner)
{
    SeedKind kind = seed_kind_detect(text, n_bytes);
    if (kind == SEED_KIND_GZIP && is_inner) {
        seed_look_add(look, LOOK_FATAL, 1, 1, NULL,
                      "packed twice: cloud-init would unpack it once");
        return;
    }
    if (kind == SEED_KIND_GZIP) {
        look_at_gzip(look, text, n_bytes);
        return;
    }
    if (has_bom(text, n_bytes)) {
        look_at_unknown(look, text, n_bytes);
        return;
    }
    if (!check_bytes(look, text, n_bytes)) {
        return;
    }
    switch (kind) {
    case SEED_KIND_CLOUD_CONFIG:
        look_at_config_text(look, text, n_bytes);
        break;
    case SEED_KIND_JINJA:
        look_at_jinja(look, text, n_bytes);
        break;
    case SEED_KIND_CONFIG_ARCHIVE:
        look_at_archive(look, text, n_bytes);
        break;
    case SEED_KIND_INCLUDE:
        look_at_include(look, text, n_bytes);
        break;
    case SEED_KIND_EMPTY:
        seed_look_at_displaced(look, NULL);
        break;
    case SEED_KIND_GZIP:
    case SEED_KIND_UNKNOWN:
        look_at_unknown(look, text, n_bytes);
        break;
    case SEED_KIND_MIME:
        look_at_mime(look, text, n_bytes);
        break;
    case SEED_KIND_SCRIPT:
    case SEED_KIND_BOOTHOOK:
    case SEED_KIND_PART_HANDLER:
        break;
    }
}

void seed_look_at_user_text(const Look *look, const SpecText *text)
{
    if (text->n_bytes > TEXT_MAX_BYTES) {
        seed_look_add(look, LOOK_FATAL, 1, 1, "let it fetch the rest from somewhere",
                      "more than the 1 MiB that is taken");
        return;
    }
    look_at_text(look, text->text ? text->text : "", text->n_bytes, false);
}

void seed_check_user_data(const MachineSpec *spec, BaseReport *report)
{
    const SpecText *text = &spec->cloud_init.user_data;
    Look look = {.spec = spec, .report = report, .noun = "user-data", .pos = text->pos};
    seed_look_at_user_text(&look, text);
}
