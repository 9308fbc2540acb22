#pragma once
#include <stdbool.h>
#include <jansson.h>
#include "base/ip.h"
#include "schemas/network_spec.h"

/*
 * The values of this folder's records as JSON. Readers take what is absent as not set and give
 * false for a value of another kind.
 */
json_t *net_json_ip(const BaseIp *ip); /* "" when not set */
json_t *net_json_cidr(const BaseCidr *cidr);
json_t *net_json_mac(const uint8_t mac[6]);
json_t *net_json_egress(const SpecEgress *egress);

bool net_json_get_ip(const json_t *object, const char *key, BaseIp *out);
bool net_json_get_cidr(const json_t *object, const char *key, BaseCidr *out);
bool net_json_get_mac(const json_t *object, const char *key, uint8_t out[6]);
bool net_json_get_egress(const json_t *object, const char *key, SpecEgress *out);
/* Transfer full; absent, null or "": NULL. */
bool net_json_get_text(const json_t *object, const char *key, char **out);
bool net_json_get_bool(const json_t *object, const char *key, bool *out);
bool net_json_get_number(const json_t *object, const char *key, uint64_t max, uint64_t *out);

/* One line, transfer full; steals `object`. */
char *net_json_to_text(json_t *object);
