#pragma once
#include "schemas/read.h"

/* Whether a scalar is what the row allows: one line (or is_multiline), length, pattern, rule.
 * Reports and returns false otherwise. A secret's value is not part of the message. */
bool spec_check_text(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                     const char *path, bool is_multiline);

/* Whether the node is a scalar with a value at all, and no expression of the later language. */
bool spec_check_scalar(SpecReader *reader, const SpecOption *option, const SpecNode *node,
                       const char *path, bool is_multiline);

/* Does all of `text` match `pattern`? */
bool spec_pattern_matches(const char *pattern, const char *text);
