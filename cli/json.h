#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>
#include "base/report.h"

/* JSON on standard output: compact, keys in the order they were set, one line each. */

/* Prints and releases `value`. */
void cmd_json_print(json_t *value);

/* A text of any bytes as a JSON string: what is not UTF-8 is shown as \xNN; NULL gives null. */
json_t *cmd_json_text(const char *text);

/* A report as an array of {severity, class, file, line, column, what, hint}; absent members are
 * left out. */
json_t *cmd_json_report(BaseReport *report);
