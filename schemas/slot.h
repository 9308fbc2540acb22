#pragma once
#include "schemas/read.h"

/*
 * Inside the reader: one value on its way into one member. schemas/read_scalar.c, read_list.c and
 * read_record.c have a function for each kind, schemas/read.c the table of them and the walk over
 * maps.
 */
typedef struct {
    SpecReader *reader;
    const SpecOption *option;
    const SpecNode *node;
    const char *path;
    void *base; /* the struct that the member is in; NULL: an element of a list */
} SpecSlot;

#define SPEC_MEMBER(type, option, base) ((type *)(void *)((char *)(base) + (option)->offset))

void spec_read_string(const SpecSlot *slot);
void spec_read_uint(const SpecSlot *slot);
void spec_read_measure(const SpecSlot *slot);
void spec_read_bool(const SpecSlot *slot);
void spec_read_enum(const SpecSlot *slot);
void spec_read_strings(const SpecSlot *slot);
void spec_read_words(const SpecSlot *slot);
void spec_read_pairs(const SpecSlot *slot);
void spec_read_records(const SpecSlot *slot);

/* "expected an integer, got 'two'". */
void spec_slot_expected(const SpecSlot *slot, const char *hint);

/* The index of the node's text among the row's choices, -1: reported. */
int spec_slot_choice(const SpecSlot *slot);

/* Is the node of that kind, and do its items fit beside the n_had that are there? Reports
 * otherwise. */
bool spec_slot_check_items(const SpecSlot *slot, SpecNodeKind kind, unsigned n_had);

/* The member as a list, made when it is not there yet. Borrowed. */
GPtrArray *spec_slot_list(const SpecSlot *slot, GDestroyNotify free_item);

void spec_slot_keep_origin(const SpecSlot *slot);
bool spec_text_is_among(const char *text, const char *const *texts);
