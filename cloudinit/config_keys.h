#pragma once
#include <stdbool.h>
#include "cloudinit/yaml_tree.h"

/*
 * What may stand in a cloud-config and in the maps of its common keys, as data: name, types, what
 * replaces a name that is going out of use. Written from cloud-init's module reference,
 * versions 22.4 to 24.
 */
enum {
    KEY_STRING = 1,
    KEY_NUMBER = 2,
    KEY_BOOL = 4,
    KEY_NULL = 8,
    KEY_LIST = 16,
    KEY_MAP = 32,
    KEY_ANY = 63
};

typedef struct {
    const char *name;
    unsigned types;          /* set of KEY_* */
    const char *replacement; /* deprecated: the name to use now; "": without one. NULL: in use */
} ConfigKey;

/* Each table ends with a NULL name. */
extern const ConfigKey seed_config_keys[];     /* top level */
extern const ConfigKey seed_user_keys[];       /* an element of users, and user */
extern const ConfigKey seed_write_file_keys[]; /* an element of write_files */
extern const ConfigKey seed_chpasswd_keys[];
extern const ConfigKey seed_ca_certs_keys[];
extern const ConfigKey seed_power_state_keys[];

const ConfigKey *seed_config_key_find(const ConfigKey *table, const char *name);

/* The name nearest to a mistyped one; '-' and '_' count as the same. NULL: none is near. Borrowed.
 */
const char *seed_config_key_nearest(const ConfigKey *table, const char *name);

bool seed_config_type_fits(const ConfigKey *key, const YamlNode *value);

/* "a list or a map", transfer full. */
char *seed_config_type_nouns(unsigned types);
