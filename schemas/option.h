#pragma once
#include "schemas/spec.h"

/*
 * The option table: one row a setting, from which everything else follows (reading YAML, --set and
 * flags, defaults, limits, writing YAML and JSON, JSON Schema, the reference, help, completion,
 * plan differences).
 *
 * A row is made by the macros of schemas/rows.h, which check at compile time that the member has
 * the C type of the row's kind. A group ("cloud_init") has a row of its own, and its members' rows
 * have dotted paths.
 */
typedef enum {
    SPEC_KIND_STRING,   /* char *: one line without control characters */
    SPEC_KIND_UINT,     /* unsigned */
    SPEC_KIND_SIZE,     /* uint64_t, bytes; the unit is part of the text */
    SPEC_KIND_DURATION, /* uint64_t, milliseconds; likewise */
    SPEC_KIND_RATE,     /* uint64_t, bits per second; likewise */
    SPEC_KIND_ENUM,     /* an enum (or a bool with two names) whose values index the choices */
    SPEC_KIND_BOOL,     /* bool */
    SPEC_KIND_TEXT,     /* char *: any lines */
    SPEC_KIND_SOURCE,   /* SpecText: a path, a text of several lines, or a map */
    SPEC_KIND_STRINGS,  /* GPtrArray * of char *, one line each unless is_multiline */
    SPEC_KIND_WORDS,    /* unsigned: a set, bit i for choice i */
    SPEC_KIND_MAP,      /* GHashTable * of char * to char * */
    SPEC_KIND_RECORDS,  /* GPtrArray * of the record type's struct */
    SPEC_KIND_OBJECTS,  /* GPtrArray * of the object type's struct, a map by name */
    SPEC_KIND_GROUP,    /* no member: a map of further rows */
    SPEC_KIND_LATER,    /* no member: part of the language, not served by this program yet */
    SPEC_KIND_N
} SpecKind;

/* What a change of the value costs a machine that exists already. */
typedef enum {
    SPEC_CHANGE_LIVE,    /* applied to the running machine */
    SPEC_CHANGE_RESTART, /* stop and start, no data lost */
    SPEC_CHANGE_RESEED,  /* cloud-init runs again on the same disk */
    SPEC_CHANGE_REPLACE, /* a new root disk */
    SPEC_CHANGE_N
} SpecChange;

/* The texts of an enum, in the order of its values. */
typedef struct {
    const char *const *texts; /* NULL-terminated */
    const char *const *docs;  /* one for each text */
    const char *const *later; /* texts of the language that are not served yet, NULL: none */
    const char *later_others; /* what any further text would name, not served yet; NULL: nothing */
} SpecChoices;

/* Is `text` allowed here? Otherwise *out_why says what is wrong ("is longer than 15 characters").
 */
typedef bool (*SpecTextRule)(const char *text, const char **out_why);

typedef struct SpecRecordType SpecRecordType;
typedef struct SpecObjectType SpecObjectType;
typedef struct SpecTable SpecTable;
typedef struct SpecNode SpecNode;

typedef struct {
    SpecOptionInfo
        info; /* path, doc, flag, metavar, choices, secret: what help and completion need */
    SpecKind kind;
    size_t offset;            /* of the member in the struct of the table */
    size_t size;              /* of the member */
    uint64_t min, max;        /* of the number; for texts: bytes; max 0: the kind's own limit */
    uint64_t unit;            /* the number must be a multiple of it, 0: any */
    unsigned max_items;       /* of a list or map */
    const char *default_text; /* as it would be written; NULL: none */
    const char *default_doc;  /* when the default is no fixed value: "the machine's name" */
    const SpecChoices *choices;
    const SpecRecordType *record;
    const SpecObjectType *object;
    const SpecTable *table;   /* of a group: the one that it and its members are in */
    const char *pattern;      /* what a text must match whole (PCRE and JSON Schema alike) */
    const char *pattern_hint; /* the pattern in words */
    SpecTextRule rule;        /* a further rule */
    VmError code;             /* of a text that breaks pattern, rule or length */
    SpecChange change;
    bool is_required;
    bool is_map_key;         /* not a key of the file's map, but what the map is filed under */
    bool is_path;            /* relative to the spec's folder, "~/" allowed; stored absolute */
    bool is_ssh_key;         /* a list of which only some elements are paths */
    bool is_url_allowed;     /* a path or a http(s) URL */
    bool is_lower;           /* stored in lower case */
    bool is_multiline;       /* elements of the list may have several lines */
    bool is_loadable;        /* elements of one line are paths of texts */
    const char *inline_head; /* what goes before an inline map: "#cloud-config\n" */
} SpecOption;

struct SpecTable {
    const SpecOption *options;
    unsigned n_options;
};

/* Adds what is wrong with a record as a whole. path: "disks[0]". */
typedef void (*SpecRecordRule)(const void *record, const char *path, const BasePos *pos,
                               BaseReport *report);

struct SpecRecordType {
    const char *noun;       /* "disk" */
    size_t size;            /* of the struct */
    size_t pos_offset;      /* of its BasePos */
    const SpecTable *table; /* the map form, NULL: text only */
    /* The one-line form, NULL: map only. On failure *out_why says what is wrong. */
    bool (*from_text)(void *record, const char *text, VmError *out_code, const char **out_why);
    char *(*to_text)(const void *record); /* NULL when this record needs the map form */
    /* Instead of from_text, for a one-line form of the map's own keys: the map (with positions),
     * NULL and *out_why when it is none. Transfer full. */
    SpecNode *(*expand)(const SpecNode *text, const char **out_why);
    void (*to_map)(const void *record, SpecNode *map); /* adds what no row writes; NULL: nothing */
    const char *const *text_words;                     /* for did-you-mean, NULL: none */
    const char *text_pattern, *text_doc;
    void (*clear)(void *record);  /* frees what no row owns; NULL: nothing */
    void (*settle)(void *record); /* fills what follows from other members */
    SpecRecordRule rule;
};

/* What has a name, a table and origins of its own: a machine, a network. */
struct SpecObjectType {
    const char *noun; /* "machine"; also the name of its JSON Schema */
    const SpecTable *table;
    size_t name_offset;    /* of its char *name */
    size_t origins_offset; /* of its GHashTable *origins */
    size_t pos_offset;     /* of its BasePos, 0: none */
    void *(*make)(void);
    void (*free)(void *object);
    bool is_needed; /* a map without any is a mistake */
};

extern const SpecTable spec_machine_table; /* schemas/machine_options.c: into a MachineSpec */
extern const SpecTable spec_network_table; /* schemas/network_options.c: into a NetworkSpec */
extern const SpecTable
    spec_head_table; /* schemas/file.c: the top of a spec file, into a SpecFile */
extern const SpecObjectType spec_machine_object, spec_network_object;

/* The row with that path, NULL: none. Borrowed. */
const SpecOption *spec_table_find(const SpecTable *table, const char *path);

/* Keys that may stand directly below `group` ("" or "cloud_init"), for did-you-mean;
 * NULL-terminated, the array is the caller's (g_free), its texts borrowed. */
const char **spec_table_keys(const SpecTable *table, const char *group);

/* The last part of a row's path: what is written in the file. Borrowed. */
const char *spec_option_key(const SpecOption *option);

/* Does the row stand directly below `group` ("": the top)? */
bool spec_option_is_in(const SpecOption *option, const char *group);

/* Words for people: "an integer", "live". Never NULL. */
const char *spec_kind_name(SpecKind kind);
const char *spec_change_name(SpecChange change);
