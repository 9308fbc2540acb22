#pragma once
#include "schemas/node.h"
#include "schemas/option.h"

/* Writing: the members of a struct become nodes, as the rows of its table say; schemas/read.h
 * backwards. */
typedef struct {
    GHashTable *origins; /* only what has an origin is written; NULL: whatever is set */
    bool with_secrets;
    bool is_record; /* for our own JSON: texts of files with their bytes and positions */
} SpecWriter;

/* A map of the table's members; path: of the struct, "" for the top. Transfer full. */
SpecNode *spec_write_table(const SpecWriter *writer, const SpecTable *table, const char *path,
                           const void *base);
