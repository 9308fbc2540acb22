#pragma once
#include <glib.h>
#include <jansson.h>

/*
 * JSON that is YAML too: cloud-init reads everything with a YAML 1.1 parser, which takes JSON but
 * for a few characters. Those (DEL, C1 controls, the line breaks U+0085 U+2028 U+2029, U+FEFF,
 * U+FFFE, U+FFFF) are written as \uXXXX; other characters beyond ASCII stay as they are, since YAML
 * does not join the two halves of a \u pair. Source: YAML 1.1, 5.1 and 5.7; PyYAML 6.0, reader.py.
 */

/* `value` as text, members in the order in which they were set; is_pretty: one member a line, else
 * one line in all. Without a final line feed. Transfer full. */
char *seed_json_text(const json_t *value, gboolean is_pretty);

/* A string value; bytes that are not UTF-8 become U+FFFD (the checks refuse them before). NULL
 * gives "". */
json_t *seed_json_string(const char *text);
