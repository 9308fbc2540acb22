#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <glib.h>
#include <jansson.h>

/*
 * One YAML document as a tree with positions, read as cloud-init's parser (PyYAML, YAML 1.1, safe
 * loader) would read it. It is for looking at what the user wrote, not for our own language:
 * anchors, aliases and merge keys are allowed. An alias is the very node it names.
 */
typedef enum { YAML_SCALAR, YAML_LIST, YAML_MAP } YamlKind;

/* What PyYAML makes of a scalar. */
typedef enum { YAML_STRING, YAML_INT, YAML_FLOAT, YAML_BOOL, YAML_NULL, YAML_TIME } YamlType;

typedef struct YamlNode {
    YamlKind kind;
    char *text;        /* scalar: its value, NUL-terminated (a NUL inside is refused); else NULL */
    bool is_plain;     /* scalar without quotes, block or tag: its type is guessed from its text */
    YamlType tagged;   /* type by explicit tag; meaningful when is_plain is false */
    bool is_duplicate; /* a key that stands in its map before */
    GPtrArray *items; /* list: YamlNode*; map: key, value, key, value ...; borrowed from the tree */
    unsigned line, col; /* from 1 */
} YamlNode;

typedef struct {
    YamlNode *root;   /* NULL: an empty document */
    GPtrArray *nodes; /* owns every node */
} YamlTree;

/* Why a text can't be read, and where. */
typedef struct {
    char *what;            /* owned */
    const char *context;   /* "while parsing a flow sequence": constant; NULL: none */
    unsigned context_line; /* where that began */
    unsigned line, col;    /* from 1 */
} YamlMistake;

/* NULL and *out_mistake filled (its `what` transfer full) when cloud-init would not read the text:
 * syntax, not UTF-8, unknown tag or alias, a second document, a key that is a list or map, deeper
 * than 100 levels or more than 100,000 nodes. Pure. */
YamlTree *seed_yaml_parse(const char *text, size_t n_bytes, YamlMistake *out_mistake);
void seed_yaml_free(YamlTree *tree);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(YamlTree, seed_yaml_free)

/* Value or key node of `key` in a map, NULL when absent or `map` is none. The last of duplicates,
 * as PyYAML. */
const YamlNode *seed_yaml_value(const YamlNode *map, const char *key);
const YamlNode *seed_yaml_key(const YamlNode *map, const char *key);

YamlType seed_yaml_scalar_type(const YamlNode *node);

/* "a string", "a number", "true or false", "nothing", "a list", "a map": for messages. */
const char *seed_yaml_noun(const YamlNode *node);

/* The value as JSON, transfer full; NULL when aliases would blow it up beyond 100,000 values.
 * Numbers in base 60 and times stay texts. */
json_t *seed_yaml_to_json(const YamlNode *node);
