#pragma once
#include "schemas/node.h"
#include "schemas/option.h"

/*
 * Reading: nodes become members, as the rows of a table say. Every mistake goes to the report with
 * the position of its node and the path of its option; the member then keeps what it had. Blocks
 * only for files that a value names.
 */
typedef struct {
    BaseReport *report;
    const char *text;     /* what the nodes were read from, for inline maps; NULL: none */
    const char *base_dir; /* absolute: relative paths are below it */
    const char *prefix;   /* goes before each path in messages: "vms.web"; NULL: nothing */
    GHashTable *origins;  /* of the spec; NULL: none are kept */
    bool is_record;       /* our own JSON: paths are final, texts are not read from files again */
} SpecReader;

/* One value into the member of row `option` in the struct at `base`. Lists and maps grow, the rest
 * is replaced. path: "disks[0].size". The origin is kept even when the value is wrong. */
void spec_read_value(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                     const char *path, void *base);

/* Every key of `map` that belongs below `group` ("" for the table's top). path: of the map, "" for
 * the top. */
void spec_read_map(SpecReader *reader, const SpecTable *table, const char *group,
                   const SpecNode *map, const char *path, void *base);

/* Reports each required row of a flat table that `map` has no key for, at the map. */
void spec_read_required(SpecReader *reader, const SpecTable *table, const SpecNode *map,
                        const char *path);

/* Each value of `map` as a machine or network, its key as the name (schemas/read_object.c). */
void spec_read_named(SpecReader *reader, const SpecObjectType *type, const SpecNode *map,
                     const char *path, GPtrArray *objects);

/* What every option table's struct has: lists and maps that are empty, and origins. */
void spec_table_make(const SpecTable *table, void *base);
GHashTable *spec_origins_new(void);

/* One option from text, for spec_machine_set() and spec_network_set(). */
typedef struct {
    const SpecTable *table;
    GHashTable *origins;
    void *base;
} SpecTarget;
bool spec_set(const SpecTarget *target, const char *path, const char *text, const char *shown,
              BaseReport *report);

/* default_text of every row that has no origin. origins NULL: of every row. */
void spec_read_defaults(const SpecTable *table, GHashTable *origins, void *base);

/* Frees and zeroes the members of all rows. */
void spec_table_clear(const SpecTable *table, void *base);
void spec_text_clear(SpecText *text);
void spec_record_free(const SpecRecordType *type, void *record);

/* An error at `node`, its text "<prefix.path>: <what>". */
void spec_read_mistake(SpecReader *reader, VmError code, const SpecNode *node, const char *path,
                       const char *hint, const char *format, ...) G_GNUC_PRINTF(6, 7);

/* SpecReader's and SPEC_KIND_SOURCE's own part (schemas/source.c). */
bool spec_read_source(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                      const char *path, SpecText *out);
/* `text` as the spec's folder and "~/" make it; NULL: reported (a folder that is not UTF-8).
 * Transfer full. */
char *spec_read_path(SpecReader *reader, const SpecNode *node, const char *path, const char *text);
/* The text of a small PEM file; NULL: reported. Transfer full. */
char *spec_read_pem(SpecReader *reader, const SpecNode *node, const char *path);

void spec_origin_keep(GHashTable *origins, const char *path, const BasePos *pos);
