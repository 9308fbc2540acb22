#pragma once
#include "schemas/node.h"

/*
 * YAML text to a tree, and back.
 *
 * The language is a small part of YAML 1.2: block and flow maps, lists and scalars. Anchors,
 * aliases, tags, merge keys, directives and second documents are refused, and so is whatever is
 * larger than the limits below. The first such mistake ends the reading, since what follows can't
 * be judged any more; duplicate keys are all reported.
 */
enum {
    SPEC_YAML_MAX_BYTES = 1024 * 1024,
    SPEC_YAML_MAX_DEPTH = 32,
    SPEC_YAML_MAX_NODES = 20000,
    SPEC_YAML_MAX_SCALAR = 64 * 1024,
    SPEC_YAML_MAX_KEY = 255,
};

/* text: need not be NUL-terminated. file: shown in messages, may be NULL, outlives the tree. NULL:
 * the report says why (YAML_* classes, or SCHEMA for a text without any node). A tree is returned
 * even when duplicate keys were reported: the first one counts. Does not block; time is linear in
 * the text. Source of the limits' need: libyaml 0.2.5 is quadratic in flow depth and has no limits
 * of its own. */
SpecNode *spec_yaml_parse(const char *text, size_t n_bytes, const char *file, BaseReport *report);

/* The tree as block-style YAML that reads back as the same tree; quoted scalars stay quoted.
 * Transfer full. */
char *spec_yaml_emit(const SpecNode *root);

/* The bytes of map `node` in the text it was read from, as a document of their own that ends in a
 * newline: what stands before its first key is cut off from each line. out_pos (borrowing from the
 * node): where the document's line 1, column 1 is, so that (line, col) of the document is (pos.line
 * + line - 1, pos.col + col - 1) of the file; exact for block maps and for the first line of flow
 * maps. Transfer full. */
char *spec_yaml_extract(const SpecNode *node, const char *text, BasePos *out_pos);
