#include "cloudinit/yaml_tree.h"

#include "cloudinit/json_text.h"
#include "tests/unit/cloudinit/scratch.h"

static const char *const scalars[] = {
    "",
    "~",
    "null",
    "Null",
    "NULL",
    "nUll",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "y",
    "n",
    "no",
    "true",
    "True",
    "on",
    "On",
    "off",
    "OFF",
    "false",
    "0",
    "1",
    "-1",
    "+1",
    "00",
    "0755",
    "08",
    "0o755",
    "0x1F",
    "0xg",
    "0b101",
    "0b2",
    "1_000",
    "1:20",
    "1:60",
    "190:20:30",
    "12e3",
    "1e3",
    "1.5",
    "1.",
    ".5",
    "1.5e+3",
    "1.5e3",
    "-.inf",
    ".inf",
    ".NaN",
    ".nan",
    "1.2.3",
    "1_0.5",
    "20:30.15",
    "2001-01-01",
    "2001-1-1",
    "2001-12-14t21:59:43.10-05:00",
    "2001-01-01 10:00:00",
    "2001-01-01x",
    "hello",
    "a b",
    "-a",
    "=",
    "<<",
    "0644",
    "644",
    "1,2",
    "0x",
    "0b",
    "'1'",
    "\"yes\"",
    "!!str 1",
    "!!int '5'",
    "! 7",
    "é",
    "9999999999999999999",
};

static const char *python_type(YamlType type)
{
    static const char *const names[] = {"str", "int", "float", "bool", "NoneType", "date"};
    return names[type];
}

/* What PyYAML makes of the same texts, one type name a line. */
static void test_scalar_types_when_compared_with_pyyaml_then_equal(void **state)
{
    GString *ours = g_string_new(NULL);
    GString *texts = g_string_new(NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(scalars); i++) {
        g_autofree char *text = g_strdup_printf("- %s\n", scalars[i]);
        g_string_append(texts, text);
        YamlMistake mistake;
        g_autoptr(YamlTree) tree = seed_yaml_parse(text, strlen(text), &mistake);
        assert_non_null(tree);
        g_string_append_printf(ours, "%s\n",
                               python_type(seed_yaml_scalar_type(tree->root->items->pdata[0])));
    }
    g_autofree char *path = scratch_write(state, "scalars", texts->str);
    static const char script[] =
        "import sys, yaml\n"
        "class Loader(yaml.SafeLoader): pass\n"
        "def odd(loader, node): return 'merge or value'\n"
        "for tag in ('merge', 'value'): Loader.add_constructor('tag:yaml.org,2002:' + tag, odd)\n"
        "for line in open(sys.argv[1], encoding='utf-8'):\n"
        "    name = type(yaml.load(line, Loader=Loader)[0]).__name__\n"
        "    print('date' if name == 'datetime' else name)\n";
    g_autofree char *theirs = SCRATCH_RUN("/usr/bin/python3", "-c", script, path);
    g_auto(GStrv) a = g_strsplit(ours->str, "\n", -1);
    g_auto(GStrv) b = g_strsplit(theirs, "\n", -1);
    for (size_t i = 0; i < G_N_ELEMENTS(scalars); i++) {
        if (g_strcmp0(a[i], b[i]) != 0) {
            fail_msg("'%s': ours %s, PyYAML's %s", scalars[i], a[i], b[i]);
        }
    }
    g_string_free(ours, TRUE);
    g_string_free(texts, TRUE);
}

static void test_tree_when_parsed_then_positions_and_values(void **state)
{
    (void)state;
    static const char text[] = "a: &x {b: [1, two]}\nc: *x\né: |\n  lines\na: 2\n";
    YamlMistake mistake;
    g_autoptr(YamlTree) tree = seed_yaml_parse(text, strlen(text), &mistake);
    assert_non_null(tree);
    const YamlNode *c = seed_yaml_value(tree->root, "c");
    const YamlNode *b = seed_yaml_value(c, "b");
    assert_int_equal(b->kind, YAML_LIST);
    assert_int_equal(b->line, 1);
    assert_int_equal(b->col, 11);
    assert_string_equal(((YamlNode *)b->items->pdata[1])->text, "two");
    const YamlNode *e = seed_yaml_key(tree->root, "é");
    assert_int_equal(e->line, 3);
    assert_int_equal(seed_yaml_value(tree->root, "é")->col, 4); /* in characters */
    assert_true(seed_yaml_key(tree->root, "a")->is_duplicate);
    assert_string_equal(seed_yaml_value(tree->root, "a")->text, "2"); /* the last one, as PyYAML */
    assert_null(seed_yaml_value(tree->root, "none"));
    assert_null(seed_yaml_value(NULL, "none"));
}

static void test_tree_when_too_deep_or_many_then_mistake(void **state)
{
    (void)state;
    YamlMistake mistake;
    g_autofree char *deep = g_strnfill(5000, '[');
    assert_null(seed_yaml_parse(deep, 5000, &mistake));
    assert_string_equal(mistake.what, "more or deeper values than are taken");
    g_free(mistake.what);
    GString *many = g_string_new(NULL);
    for (int i = 0; i < 100001; i++) {
        g_string_append(many, "- a\n");
    }
    assert_null(seed_yaml_parse(many->str, many->len, &mistake));
    g_free(mistake.what);
    g_string_free(many, TRUE);
}

static void test_json_when_aliases_explode_then_null(void **state)
{
    (void)state;
    GString *text = g_string_new("a0: &a0 [x, y]\n");
    for (int i = 1; i < 40; i++) {
        g_string_append_printf(text, "a%d: &a%d [*a%d, *a%d]\n", i, i, i - 1, i - 1);
    }
    YamlMistake mistake;
    g_autoptr(YamlTree) tree = seed_yaml_parse(text->str, text->len, &mistake);
    assert_non_null(tree);
    assert_null(seed_yaml_to_json(tree->root));
    g_string_free(text, TRUE);
}

static void test_json_when_scalars_then_their_values(void **state)
{
    (void)state;
    static const char text[] =
        "[1, -0x1F, 0b101, 0755, 1_000, yes, Off, ~, 1.5, .inf, 2001-01-01, 1:20, 'no', é]";
    YamlMistake mistake;
    g_autoptr(YamlTree) tree = seed_yaml_parse(text, strlen(text), &mistake);
    json_t *json = seed_yaml_to_json(tree->root);
    g_autofree char *got = seed_json_text(json, FALSE);
    assert_string_equal(got, "[1, -31, 5, 493, 1000, true, false, null, 1.5, \".inf\", "
                             "\"2001-01-01\", \"1:20\", \"no\", \"é\"]");
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalar_types_when_compared_with_pyyaml_then_equal),
        cmocka_unit_test(test_tree_when_parsed_then_positions_and_values),
        cmocka_unit_test(test_tree_when_too_deep_or_many_then_mistake),
        cmocka_unit_test(test_json_when_aliases_explode_then_null),
        cmocka_unit_test(test_json_when_scalars_then_their_values),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
