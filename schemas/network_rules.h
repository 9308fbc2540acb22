#pragma once
#include "schemas/option.h"

/* Rules of texts that name addresses and networks; all of type SpecTextRule. */

/* An address that a machine may have: of one station, not loopback, not link-local. */
bool spec_rule_ip4(const char *text, const char **out_why);
bool spec_rule_ip6(const char *text, const char **out_why);

/* A literal of either family that a host can be asked at. */
bool spec_rule_server(const char *text, const char **out_why);

/* "10.77.0.0/24", "10.77.0.1/24" or "none": with room for a gateway and a machine, unicast. */
bool spec_rule_cidr4(const char *text, const char **out_why);
bool spec_rule_cidr6(const char *text, const char **out_why);

/* "10.0.0.10-10.0.0.99": IPv4, forwards. */
bool spec_rule_ip_range(const char *text, const char **out_why);
bool spec_ip_range_parse(const char *text, BaseIp *out_first, BaseIp *out_last);

/* "20000-29999": ports, forwards. */
bool spec_rule_port_range(const char *text, const char **out_why);

/* The name of a network: a label that is no word of `networks: [...]`. */
bool spec_rule_network_name(const char *text, const char **out_why);
/* What a NIC's `network` may be: such a name, or one of those words. */
bool spec_rule_network_word(const char *text, const char **out_why);

/* The record type of `vms.X.networks`. "lab,ip=10.77.0.10,mac=..." becomes the map of these keys.
 */
SpecNode *spec_nic_expand(const SpecNode *text, const char **out_why);
char *spec_nic_to_text(const void *record);
void spec_nic_to_map(const void *record, SpecNode *map);
void spec_nic_settle(void *record);
void spec_nic_rule(const void *record, const char *path, const BasePos *pos, BaseReport *report);
