#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

/*
 * Numbers as they are written: decimal only, without a leading zero, underscore, exponent or plus.
 * Sizes and durations carry their unit. A number that has the right form and does not fit
 * (negative, too large for 64 bits) is told apart from one that is none.
 */
typedef enum { SPEC_NUMBER_OK, SPEC_NUMBER_MALFORMED, SPEC_NUMBER_OUT_OF_RANGE } SpecNumber;

/* The out values are written only on SPEC_NUMBER_OK. */
SpecNumber spec_parse_decimal(const char *text, size_t n_bytes, uint64_t *out);
SpecNumber spec_parse_size_form(const char *text, uint64_t *out_bytes);
SpecNumber spec_parse_duration_form(const char *text, uint64_t *out_ms);
SpecNumber spec_parse_rate_form(const char *text, uint64_t *out_bps);

/* "5m", "90s", "0s"; transfer full. The text reads back as the same value. */
char *spec_format_duration(uint64_t ms);
/* "20Mbit", "1500kbit", "0bit"; likewise. */
char *spec_format_rate(uint64_t bps);

#define SPEC_SIZE_PATTERN     "[1-9][0-9]*([KMGTPE](iB)?|B)"
#define SPEC_RATE_PATTERN     "[1-9][0-9]*[kMG]?bit"
#define SPEC_DURATION_PATTERN "(0|[1-9][0-9]*)(ms|s|m|h|d)"
