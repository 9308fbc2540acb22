#pragma once
#include "net/member.h"
#include <jansson.h>

/*
 * What a machine may begin towards its neighbours, as rules of its own chain in `bridge vm_driver`
 * (net/filter.h). Pure; frames to the host are judged elsewhere.
 */

/* Does the member have a policy, its own or its network's, that denies anything? */
bool net_filter_egress_has(const NetMember *member);

/* The rules in order, each the array of a rule's "expr"; the last ones let through what is left.
 * Transfer full. */
json_t *net_filter_egress_rules(const NetMember *member);
