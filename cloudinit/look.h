#pragma once
#include "cloudinit/yaml_tree.h"
#include "schemas/machine_spec.h"

/*
 * A look at one text that the user gives to cloud-init: where it stands, how strictly it is judged,
 * where findings go. For the checks below check.h.
 */
typedef enum {
    LOOK_FATAL,   /* cloud-init would ignore or refuse the text: always an error */
    LOOK_MISTAKE, /* an error when strict, a warning at `warn`, nothing at `off` */
    LOOK_NOTE     /* a warning, nothing at `off` */
} LookGrade;

typedef struct {
    const MachineSpec *spec;
    BaseReport *report;
    const char *noun; /* "user-data" */
    BasePos pos;      /* of the text's first character; file borrowed */
    bool is_part;     /* one of several: what is missing in it may stand in another */
    bool is_vendor;   /* the user's own vendor-data: our settings win over its keys */
} Look;

/* line, col: in the text, from 1. hint may be NULL. */
void seed_look_add(const Look *look, LookGrade grade, unsigned line, unsigned col, const char *hint,
                   const char *format, ...) G_GNUC_PRINTF(6, 7);

/* The same at a node. */
#define LOOK_AT(look, grade, node, hint, ...)                                                      \
    seed_look_add(look, grade, (node)->line, (node)->col, hint, __VA_ARGS__)

/* Has the machine an interface at all? */
bool seed_look_has_network(const MachineSpec *spec);

/* The text as a tree; NULL and a fatal finding when it is no YAML. An empty one has a NULL root. */
YamlTree *seed_look_parse(const Look *look, const char *text, size_t n_bytes);

/* A cloud-config's keys and values (config_check.c). The tree's root is a map. */
void seed_look_at_config(const Look *look, const YamlTree *tree);

/* Keys of it that our settings lose against, or that shut people out (displaced.c). root may be
 * NULL: no cloud-config, or not looked into. */
void seed_look_at_displaced(const Look *look, const YamlNode *root);

/* user-data or vendor-data of any kind (user_data.c). */
void seed_look_at_user_text(const Look *look, const SpecText *text);
