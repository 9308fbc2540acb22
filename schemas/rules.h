#pragma once
#include "schemas/option.h"

/* Rules of texts that a pattern can't say, or says badly; all of type SpecTextRule. */

/* An RFC 1123 label in lower case: 1..63 of [a-z0-9-], no '-' at either end, not digits only (it
 * becomes the host name). */
bool spec_rule_name(const char *text, const char **out_why);

/* Labels as above (upper case allowed) with dots between, 1..253 in all, not digits only. */
bool spec_rule_hostname(const char *text, const char **out_why);

/* A name that Linux takes for an interface as it stands, and that is no word of ip(8) or sysctl. */
bool spec_rule_bridge(const char *text, const char **out_why);

/* Six octets of one station: not multicast, not all zero. */
bool spec_rule_mac(const char *text, const char **out_why);

/* A path, or a http(s) URL; not what QEMU takes for a protocol ("nbd:...", "json:{"). */
bool spec_rule_image(const char *text, const char **out_why);

/* As above without URLs. */
bool spec_rule_image_file(const char *text, const char **out_why);

/* Absolute, without "." and ".." parts. */
bool spec_rule_guest_path(const char *text, const char **out_why);

/* Text forms of the record types. */
bool spec_port_from_text(void *record, const char *text, VmError *out_code, const char **out_why);
char *spec_port_to_text(const void *record);
void spec_port_clear(void *record);
void spec_disk_rule(const void *record, const char *path, const BasePos *pos, BaseReport *report);
