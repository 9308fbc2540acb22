#pragma once
#include "schemas/machine_spec.h"

/*
 * Reading: spec text, --set and flags become MachineSpec. All mistakes of one input land in the
 * report, in one pass. Nothing outside the given files is read, except files that a field names
 * (user_data, ssh keys are NOT read here).
 *
 * A spec file:  version: 1 / name: demo / vms: {web: {image: ..., cpus: 2}}
 */
typedef struct SpecFile SpecFile; /* the vms of one file, in order */

/* path "-" reads standard input. Relative paths inside are relative to the file's folder. NULL only
 * when the file cannot be read or is no mapping at all; else look at the report. Blocks for the
 * file only. */
SpecFile *spec_file_load(const char *path, BaseReport *report);
SpecFile *spec_file_load_text(const char *text, size_t n_bytes, const char *shown_path,
                              const char *base_dir, BaseReport *report);
void spec_file_free(SpecFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SpecFile, spec_file_free)
unsigned spec_file_n_machines(const SpecFile *file);
/* transfer full once: steals machine i (its name is set). */
MachineSpec *spec_file_steal_machine(SpecFile *file, unsigned i);
const char *spec_file_machine_name(const SpecFile *file, unsigned i);
/* The networks of the file, finished, in order; borrowed from the file. Each machine has copies of
 * those that its NICs name. */
unsigned spec_file_n_networks(const SpecFile *file);
const NetworkSpec *spec_file_network(const SpecFile *file, unsigned i);

/* One option from text: `path` as in the table ("cpus", "cloud_init.schema", "ports"): lists
 * append an element (or take a YAML flow list), maps take key=value. `shown` is how the user wrote
 * it ("--cpus", "--set cpus"), used as the file in messages. */
bool spec_machine_set(MachineSpec *spec, const char *path, const char *text, const char *shown,
                      BaseReport *report);

/* Fills defaults, checks required members and cross-field rules. Call once, last. */
void spec_machine_finish(MachineSpec *spec, BaseReport *report);

/* Checks a machine name (RFC 1123 label, lower case, 1..63). */
bool spec_name_check(const char *name, const BasePos *pos, BaseReport *report);

/* --- emitters ------------------------------------------------------------------------------- */

/* A complete spec file (version, vms) with only what was written; secrets included only when
 * with_secrets. Transfer full. */
char *spec_machine_to_yaml(const MachineSpec *spec, bool with_secrets);

/* One-line JSON of everything that is set, that spec_machine_from_json gives back equal (origins
 * included). Secrets are in it: for 0600 files and pipes only. */
char *spec_machine_to_json(const MachineSpec *spec);
MachineSpec *spec_machine_from_json(const char *json, GError **error);

char *spec_emit_json_schema(void);          /* draft-07, pretty */
char *spec_emit_reference_md(void);         /* docs/reference/machine.md */
char *spec_emit_network_reference_md(void); /* docs/reference/network.md */

/* --- the table, for flags, help and completion --------------------------------------------- */
typedef struct {
    const char *path;    /* "cpus", "cloud_init.user_data" */
    const char *flag;    /* "cpus": the long flag of `vm-run run`; NULL: only by --set */
    char short_flag;     /* 'c' or 0 */
    const char *metavar; /* "N", "SIZE", "FILE" */
    const char *doc;     /* one sentence */
    bool is_switch;      /* takes no value */
    bool is_list;        /* may be repeated */
    bool is_file;        /* completion: file names */
    bool is_network;     /* completion: names of networks */
    bool is_secret;
    const char *const *choices; /* enum texts, NULL-terminated, or NULL */
} SpecOptionInfo;
unsigned spec_option_n(void);
const SpecOptionInfo *spec_option_info(unsigned i);
/* Likewise of a network, for `vm-run network add`. */
unsigned spec_network_option_n(void);
const SpecOptionInfo *spec_network_option_info(unsigned i);

/* Sizes and durations, as everywhere: "20G" "2GiB" "512MiB" -> bytes; "90s" "5m" "1h" "250ms" ->
 * ms. */
bool spec_parse_size(const char *text, uint64_t *out_bytes);
bool spec_parse_duration(const char *text, uint64_t *out_ms);
/* "20Mbit", "500kbit" -> bits per second, within the limits of a NIC; else *out_why says why not.
 */
bool spec_rate_check(const char *text, uint64_t *out_bps, const char **out_why);
char *spec_format_size(uint64_t bytes); /* "20GiB", transfer full */
