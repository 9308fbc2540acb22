#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/report.h"

/*
 * Is a text UTF-8 without control characters? Reports the first place that is not (YAML_ENC with
 * its line and column) and returns false. A NUL, UTF-16, ESC and C1 controls count; tab, CR, LF and
 * U+0085 don't. YAML 1.2.2 section 5.1 has the set of characters.
 */
bool spec_encoding_check(const char *text, size_t n_bytes, const char *file, BaseReport *report);
