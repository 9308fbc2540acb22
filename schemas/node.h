#pragma once
#include <stdbool.h>
#include <glib.h>
#include "base/report.h"

/*
 * What was written, before anybody asked what it means: a tree of scalars, lists and maps with
 * positions. YAML, JSON and --set texts become this, and the option table reads it; the other way
 * round, the table writes it and the emitters turn it into text. A scalar is bytes, its type is
 * decided by the row that reads it.
 */
typedef enum { SPEC_NODE_SCALAR, SPEC_NODE_LIST, SPEC_NODE_MAP } SpecNodeKind;

typedef struct SpecNode SpecNode;
struct SpecNode {
    SpecNodeKind kind;
    bool is_plain;      /* a scalar without quotes: may be a number, a boolean or null */
    bool is_duplicate;  /* a key that stood in its map before: reported, and to be skipped */
    const char *file;   /* borrowed, outlives the tree; NULL: none */
    unsigned line, col; /* as in BasePos */
    char *text;         /* scalar: its bytes, NUL-terminated, may hold NULs */
    size_t n_bytes;
    GPtrArray *keys;   /* map: of SpecNode (scalars) */
    GPtrArray *items;  /* list and map: of SpecNode */
    size_t begin, end; /* byte range in the text it was read from; end 0: not from a text */
};

SpecNode *spec_node_new(SpecNodeKind kind);
SpecNode *spec_node_new_scalar(const char *text, size_t n_bytes, bool is_plain);
void spec_node_free(SpecNode *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SpecNode, spec_node_free)

/* Both steal their nodes. */
void spec_node_append(SpecNode *list, SpecNode *item);
void spec_node_put(SpecNode *map, SpecNode *key, SpecNode *value);
void spec_node_put_key(SpecNode *map, const char *key, SpecNode *value);

/* The value of `key`, NULL: none. Borrowed. */
SpecNode *spec_node_get(const SpecNode *map, const char *key);

unsigned spec_node_n(const SpecNode *node);
SpecNode *spec_node_item(const SpecNode *node, unsigned i);
SpecNode *spec_node_key(const SpecNode *map, unsigned i);

/* A BasePos that borrows from the node. */
BasePos spec_node_pos(const SpecNode *node);

/* A scalar whose bytes hold a NUL: its text is more than C sees. */
bool spec_node_has_nul(const SpecNode *node);

/* Plain `~`, `null` or nothing. */
bool spec_node_is_null(const SpecNode *node);

/* "a list", "a map", "'two'"...: for messages. Transfer full. */
char *spec_node_shown(const SpecNode *node);
