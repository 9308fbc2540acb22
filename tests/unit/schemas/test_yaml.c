#include "schemas/yaml.h"

#include <time.h>
#include "specs.h"

static SpecNode *parse(const char *text, size_t n_bytes, char **out_lines)
{
    g_autoptr(BaseReport) report = base_report_new();
    SpecNode *root = spec_yaml_parse(text, n_bytes, "f", report);
    *out_lines = report_lines(report);
    return root;
}

static void assert_refused(const char *text, const char *expected)
{
    g_autofree char *lines = NULL;
    g_autoptr(SpecNode) root = parse(text, strlen(text), &lines);
    assert_string_equal(lines, expected);
    assert_null(root);
}

static SpecNode *assert_parsed(const char *text)
{
    g_autofree char *lines = NULL;
    SpecNode *root = parse(text, strlen(text), &lines);
    assert_string_equal(lines, "");
    assert_non_null(root);
    return root;
}

/* --- what is kept ----------------------------------------------------------------------------- */

static void test_values_then_positions_and_quoting_kept(void **state)
{
    (void)state;
    g_autoptr(SpecNode) root = assert_parsed("a: 1\nb: \"1\"\nü: [x, 'y']\n");
    const SpecNode *a = spec_node_get(root, "a"), *b = spec_node_get(root, "b");
    const SpecNode *list = spec_node_get(root, "ü");
    assert_true(a->is_plain);
    assert_false(b->is_plain);
    assert_int_equal(a->line, 1);
    assert_int_equal(a->col, 4);
    assert_int_equal(b->line, 2);
    assert_int_equal(spec_node_item(list, 1)->line, 3);
    assert_int_equal(spec_node_item(list, 1)->col, 8); /* characters, not bytes */
    assert_string_equal(spec_node_item(list, 1)->text, "y");
}

static void test_bom_then_skipped(void **state)
{
    (void)state;
    g_autoptr(SpecNode) root = assert_parsed("\xef\xbb\xbf"
                                             "a: b\n");
    assert_string_equal(spec_node_get(root, "a")->text, "b");
    assert_int_equal(spec_node_get(root, "a")->col, 4);
}

static void test_duplicate_keys_then_all_reported_and_first_kept(void **state)
{
    (void)state;
    g_autofree char *lines = NULL;
    const char *text = "a: 1\n\"a\": 2\nb: {c: 1, c: 2}\n";
    g_autoptr(SpecNode) root = parse(text, strlen(text), &lines);
    assert_string_equal(
        lines,
        "f:2:1: error[E_YAML_DUP]: key 'a' stands twice, first in line 1 - remove one of the two\n"
        "f:3:11: error[E_YAML_DUP]: key 'c' stands twice, first in line 3 - remove one of the two");
    assert_string_equal(spec_node_get(root, "a")->text, "1");
}

/* --- limits at n - 1, n and n + 1 ------------------------------------------------------------- */

static void assert_limit(const char *text, size_t n_bytes, bool is_over, const char *what)
{
    g_autofree char *lines = NULL;
    g_autoptr(SpecNode) root = parse(text, n_bytes, &lines);
    if (is_over) {
        assert_null(root);
        assert_non_null(strstr(lines, "error[E_YAML_LIMIT]"));
        assert_non_null(strstr(lines, what));
        assert_null(strchr(lines, '\n'));
    } else {
        assert_string_equal(lines, "");
        assert_non_null(root);
    }
}

static char *repeated(const char *head, char c, size_t n, const char *tail)
{
    g_autofree char *middle = g_strnfill(n, c);
    return g_strconcat(head, middle, tail, NULL);
}

static void test_size_at_its_limit(void **state)
{
    (void)state;
    for (int over = -1; over <= 1; over++) {
        size_t n = (size_t)(SPEC_YAML_MAX_BYTES + over);
        g_autofree char *text = repeated("a: b\n#", 'x', n - 7, "\n");
        assert_int_equal(strlen(text), n);
        assert_limit(text, n, over > 0, "larger than 1 MiB");
    }
}

static void test_scalar_at_its_limit(void **state)
{
    (void)state;
    for (int over = -1; over <= 1; over++) {
        g_autofree char *text = repeated("a: ", 'x', (size_t)(SPEC_YAML_MAX_SCALAR + over), "\n");
        assert_limit(text, strlen(text), over > 0, "longer than 64 KiB");
    }
}

static void test_key_at_its_limit(void **state)
{
    (void)state;
    for (int over = -1; over <= 1; over++) {
        g_autofree char *text = repeated("", 'k', (size_t)(SPEC_YAML_MAX_KEY + over), ": 1\n");
        assert_limit(text, strlen(text), over > 0, "key is longer than 255");
    }
    static const char *const heads[] = {"", "\"", "? ", "a:\n  ", "{"};
    static const char *const tails[] = {": 1\n", "\": 1\n", "\n: 1\n", ": 1\n", ": 1}\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) { /* beyond libyaml's 1024 too */
        g_autofree char *text = repeated(heads[i], 'k', 2000, tails[i]);
        assert_limit(text, strlen(text), true, "key is longer than 255");
    }
}

static void test_depth_at_its_limit(void **state)
{
    (void)state;
    for (int over = -1; over <= 1; over++) {
        size_t n = (size_t)(SPEC_YAML_MAX_DEPTH + over);
        g_autofree char *close = g_strnfill(n, ']');
        g_autofree char *flow = repeated("", '[', n, close);
        assert_limit(flow, strlen(flow), over > 0, "deeper than 32");
        g_autoptr(GString) block = g_string_new(NULL);
        for (size_t i = 0; i < n; i++) {
            g_string_append_printf(block, "%*sa:%s", (int)i, "", i + 1 < n ? "\n" : " 1\n");
        }
        assert_limit(block->str, block->len, over > 0, "deeper than 32");
    }
}

static void test_nodes_at_their_limit(void **state)
{
    (void)state;
    for (int over = -1; over <= 1; over++) {
        g_autoptr(GString) text = g_string_new("[");
        for (int i = 1; i < SPEC_YAML_MAX_NODES + over; i++) {
            g_string_append(text, i > 1 ? ",a" : "a");
        }
        g_string_append_c(text, ']');
        assert_limit(text->str, text->len, over > 0, "more than 20,000");
    }
}

static double seconds_for(const char *text, size_t n_bytes)
{
    struct timespec begin, end;
    g_autofree char *lines = NULL;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    spec_node_free(parse(text, n_bytes, &lines));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
}

/* Each pattern fills the largest text that is read at all; libyaml alone needs minutes for some. */
static void test_hostile_patterns_then_quick(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "[",     "{",    "[[",   "{a: ", "- ",  "-\n",  "? ",    "a: ", "[a,", "\"",
        "'",     "#",    "&a ",  "*a ",  "!a ", "%a\n", "---\n", "a\n", ":",   "? [",
        "a:\n ", "- - ", "|\n ", "\n",   " ",   "\t",   "\\",    ",",   "]",   "\"\\x41",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(patterns); i++) {
        g_autoptr(GString) text = g_string_new(NULL);
        while (text->len + strlen(patterns[i]) <= SPEC_YAML_MAX_BYTES) {
            g_string_append(text, patterns[i]);
        }
        double seconds = seconds_for(text->str, text->len);
        if (seconds > 1.0) {
            fail_msg("pattern %zu took %.3f s", i, seconds);
        }
    }
    g_autofree char *brackets = g_strnfill(100000, '[');
    assert_true(seconds_for(brackets, 100000) < 0.1);
}

/* --- what is not part of the language --------------------------------------------------------- */

static void test_features_then_refused_at_their_place(void **state)
{
    (void)state;
    assert_refused("a: 1\nb: &x 1\n",
                   "f:2:4: error[E_YAML_FEATURE]: anchors are not allowed - write the value out");
    assert_refused("a: *x\n",
                   "f:1:4: error[E_YAML_FEATURE]: aliases are not allowed - write the value out");
    assert_refused("a: 1\n<<: {b: 1}\n",
                   "f:2:1: error[E_YAML_FEATURE]: merge keys are not allowed - write the keys out");
    assert_refused("a: !!str x\n",
                   "f:1:4: error[E_YAML_FEATURE]: tags are not allowed - leave it out");
    assert_refused("a: !x!y z\n",
                   "f:1:4: error[E_YAML_FEATURE]: tags are not allowed - leave it out");
    assert_refused("%YAML 1.2\n---\na: 1\n",
                   "f:1:1: error[E_YAML_FEATURE]: directives are not allowed - leave the line out");
    assert_refused("a: 1\n---\nb: 1\n", "f:2:1: error[E_YAML_FEATURE]: a second document begins "
                                        "here - one file is one document");
    assert_refused("{[a]: b}\n",
                   "f:1:2: error[E_YAML_FEATURE]: a list or map as a key is not allowed");
}

static void test_merge_key_in_quotes_then_a_key(void **state)
{
    (void)state;
    g_autoptr(SpecNode) root = assert_parsed("\"<<\": 1\n");
    assert_non_null(spec_node_get(root, "<<"));
}

static void test_syntax_then_place(void **state)
{
    (void)state;
    assert_refused("a:\n\tb: 1\n",
                   "f:2:1: error[E_YAML_SYNTAX]: while scanning for the next token, "
                   "found character that cannot start any token");
    assert_refused("v: 1\nn: \"abc\n",
                   "f:2:4: error[E_YAML_SYNTAX]: while scanning a quoted scalar, "
                   "found unexpected end of stream");
    assert_refused("a: [1, 2\n", "f:1:4: error[E_YAML_SYNTAX]: while parsing a flow sequence, did "
                                 "not find expected ',' or ']'");
    assert_refused("a: b: c\n", "f:1:5: error[E_YAML_SYNTAX]: mapping values are not allowed in "
                                "this context");
    assert_refused("a: \"\\ud800\"\n",
                   "f:1:7: error[E_YAML_SYNTAX]: while parsing a quoted scalar, "
                   "found invalid Unicode character escape code");
    assert_refused("", "f:1:1: error[E_SCHEMA]: the document is empty");
    assert_refused("# only this\n", "f:1:1: error[E_SCHEMA]: the document is empty");
}

static void assert_encoding(const char *text, size_t n_bytes, const char *place)
{
    g_autofree char *lines = NULL;
    g_autoptr(SpecNode) root = parse(text, n_bytes, &lines);
    g_autofree char *head = g_strdup_printf("f:%s: error[E_YAML_ENC]: ", place);
    assert_null(root);
    assert_true(g_str_has_prefix(lines, head));
}

static void test_encoding_then_place_of_first_bad_character(void **state)
{
    (void)state;
    assert_encoding("a: 1\r\n\r\nüü: \xff\n", 16, "3:5");
    assert_encoding("a: caf\xe9\n", 8, "1:7");
    assert_encoding("\xff\xfe"
                    "a\0",
                    4, "1:1");
    assert_encoding("a\0:\0", 4, "1:2");
    assert_encoding("a: \x1b[0m\n", 9, "1:4");
    assert_encoding("a: b\0\n", 6, "1:5");
    assert_encoding("a: \x7f\n", 5, "1:4");
    assert_encoding("a: \xc2\x9b\n", 6, "1:4");     /* C1 */
    assert_encoding("a: \xed\xa0\x80\n", 7, "1:4"); /* a surrogate */
    assert_encoding("a: \xc0\x80\n", 6, "1:4");     /* an overlong NUL */
    assert_encoding("a: \xe2\x82", 5, "1:4");       /* cut */
}

/* --- extracts and the way back ---------------------------------------------------------------- */

static void test_block_map_extracted_then_bytes_and_place(void **state)
{
    (void)state;
    const char *text = "v:\n"
                       "  # before\n"
                       "  data:\n"
                       "    # inside\n"
                       "    a: 1   # beside\n"
                       "    b:\n"
                       "      - |\n"
                       "        x\n"
                       "         y\n"
                       "  # after\n"
                       "  next: 1\n";
    g_autoptr(SpecNode) root = assert_parsed(text);
    BasePos pos;
    g_autofree char *body =
        spec_yaml_extract(spec_node_get(spec_node_get(root, "v"), "data"), text, &pos);
    assert_string_equal(body, "a: 1   # beside\nb:\n  - |\n    x\n     y\n");
    assert_int_equal(pos.line, 5);
    assert_int_equal(pos.col, 5);
}

static void test_flow_map_extracted_then_bytes(void **state)
{
    (void)state;
    const char *text = "d: {a: [1, 2], 'b': {}} # x\n";
    g_autoptr(SpecNode) root = assert_parsed(text);
    BasePos pos;
    g_autofree char *body = spec_yaml_extract(spec_node_get(root, "d"), text, &pos);
    assert_string_equal(body, "{a: [1, 2], 'b': {}}\n");
    assert_int_equal(pos.col, 4);
}

static void assert_same_tree(const SpecNode *a, const SpecNode *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(spec_node_n(a), spec_node_n(b));
    if (a->kind == SPEC_NODE_SCALAR) {
        assert_string_equal(a->text, b->text);
        assert_int_equal(spec_node_is_null(a), spec_node_is_null(b));
    }
    for (unsigned i = 0; i < spec_node_n(a); i++) {
        assert_same_tree(spec_node_item(a, i), spec_node_item(b, i));
        if (a->kind == SPEC_NODE_MAP) {
            assert_string_equal(spec_node_key(a, i)->text, spec_node_key(b, i)->text);
        }
    }
}

static char *random_text(GRand *random, unsigned max)
{
    static const char *const parts[] = {
        "a",  "b",  " ",  ":",    "#",  "-",    "'",   "\"",  "\n",   "{",
        "}",  "[",  "]",  ",",    "&",  "*",    "!",   "|",   ">",    "%",
        "@",  "`",  "1",  "true", "~",  "null", "é",   "\t",  "\\",   "? ",
        "- ", ": ", "\r", "no",   "0x", "...",  "---", "é\n", "\x1b", "\xf0\x9f\x98\x80"};
    GString *out = g_string_new(NULL);
    unsigned n = (unsigned)g_rand_int_range(random, 0, (gint32)max);
    for (unsigned i = 0; i < n; i++) {
        g_string_append(out, parts[g_rand_int_range(random, 0, G_N_ELEMENTS(parts))]);
    }
    return g_string_free(out, FALSE);
}

static SpecNode *random_tree(GRand *random, unsigned depth)
{
    int kind = depth == 0 ? 0 : g_rand_int_range(random, 0, 3);
    if (kind == 0) {
        g_autofree char *text = random_text(random, 12);
        return spec_node_new_scalar(text, strlen(text), false);
    }
    SpecNode *node = spec_node_new(kind == 1 ? SPEC_NODE_LIST : SPEC_NODE_MAP);
    for (int i = g_rand_int_range(random, 0, 4); i > 0; i--) {
        g_autofree char *tail = random_text(random, 5);
        g_autofree char *key = g_strdup_printf("%d%s", i, tail);
        if (kind == 1) {
            spec_node_append(node, random_tree(random, depth - 1));
        } else {
            spec_node_put_key(node, key, random_tree(random, depth - 1));
        }
    }
    return node;
}

static void test_any_tree_emitted_then_reads_back(void **state)
{
    (void)state;
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    for (int round = 0; round < 5000; round++) {
        g_autoptr(SpecNode) tree = random_tree(random, 4);
        g_autofree char *text = spec_yaml_emit(tree);
        g_autoptr(SpecNode) again = assert_parsed(text);
        assert_same_tree(tree, again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_then_positions_and_quoting_kept),
        cmocka_unit_test(test_bom_then_skipped),
        cmocka_unit_test(test_duplicate_keys_then_all_reported_and_first_kept),
        cmocka_unit_test(test_size_at_its_limit),
        cmocka_unit_test(test_scalar_at_its_limit),
        cmocka_unit_test(test_key_at_its_limit),
        cmocka_unit_test(test_depth_at_its_limit),
        cmocka_unit_test(test_nodes_at_their_limit),
        cmocka_unit_test(test_hostile_patterns_then_quick),
        cmocka_unit_test(test_features_then_refused_at_their_place),
        cmocka_unit_test(test_merge_key_in_quotes_then_a_key),
        cmocka_unit_test(test_syntax_then_place),
        cmocka_unit_test(test_encoding_then_place_of_first_bad_character),
        cmocka_unit_test(test_block_map_extracted_then_bytes_and_place),
        cmocka_unit_test(test_flow_map_extracted_then_bytes),
        cmocka_unit_test(test_any_tree_emitted_then_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
