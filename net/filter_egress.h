#pragma once
#include "net/member.h"
#include <jansson.h>

/*
 * What a machine may begin towards its neighbours, as rules of its own chain in `bridge vm_driver`
 * (net/filter.h). Pure; frames to the host are judged elsewhere.
 */

/* Does the member have a policy, its own or its network's, that denies anything? */
bool net_filter_egress_has(const NetMember *member);

/* The rules in order, each the array of a rule's "expr"; what none of them judges is let through.
 * Both policies must let something out, so what the machine's own list allows goes to the chain
 * `second` where there is one. Transfer full. */
json_t *net_filter_egress_rules(const NetMember *member, const char *second);

/* The rules of the second chain: the network's policy. NULL: none is needed. Transfer full. */
json_t *net_filter_egress_second_rules(const NetMember *member);
