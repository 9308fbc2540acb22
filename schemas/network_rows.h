#pragma once
#include "schemas/network_rules.h"
#include "schemas/rows.h"

/* Rows and record types that machines and networks share; schemas/network_options.c has the types.
 */
extern const SpecRecordType spec_nic_record, spec_port_record, spec_egress_record;
#define record_SpecNetwork    spec_nic_record
#define record_SpecPort       spec_port_record
#define record_SpecEgressRule spec_egress_record

typedef bool EgressDefault; /* SpecEgress.is_default_deny */
static const char *const texts_EgressDefault[] = {"allow", "deny", NULL};
static const char *const docs_EgressDefault[] = {"what no rule names may be reached",
                                                 "only what `allow` names may be reached"};
SPEC_CHOICES(EgressDefault, 2);

/* The rows of a member `egress`. */
#define SPEC_EGRESS_ROWS(type, table, change_)                                                     \
    SPEC_GROUP(table, "egress",                                                                    \
               "Where connections may go that a guest begins; answers are always let out. "        \
               "`allow` is asked first, then `deny`, then `restricted`, then `default`."),         \
        SPEC_BOOL(type, egress.is_hermetic, "egress.hermetic",                                     \
                  "Nowhere at all, neighbours and host included.", .default_text = "false",        \
                  .change = (change_), SPEC_FLAG("hermetic", 0, NULL)),                            \
        SPEC_BOOL(type, egress.is_restricted, "egress.restricted",                                 \
                  "Not to the host, link-local addresses (cloud metadata) and private ranges "     \
                  "other than the network's own.",                                                 \
                  .default_text = "false", .change = (change_), SPEC_FLAG("restricted", 0, NULL)), \
        SPEC_ENUM(type, egress.is_default_deny, EgressDefault, "egress.default",                   \
                  "What holds where no rule fits.", .default_text = "allow", .change = (change_),  \
                  SPEC_FLAG("egress-default", 0, "WORD")),                                         \
        SPEC_RECORDS(type, egress.allow, SpecEgressRule, "egress.allow", "What may be reached.",   \
                     .max_items = 256, .change = (change_), SPEC_FLAG("egress-allow", 0, "RULE")), \
        SPEC_RECORDS(type, egress.deny, SpecEgressRule, "egress.deny", "What may not.",            \
                     .max_items = 256, .change = (change_), SPEC_FLAG("egress-deny", 0, "RULE"))

#define SPEC_PORT_RANGE_ROW(type, doc_, change_, ...)                                              \
    SPEC_STRING(type, port_range, "port_range", doc_, .max = 11, .rule = spec_rule_port_range,     \
                .code = VM_ERROR_PORT, .change = (change_),                                        \
                SPEC_FLAG("port-range", 0, "FIRST-LAST"), __VA_ARGS__)
