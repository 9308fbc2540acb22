#pragma once
#include <stdbool.h>

/* What a line of a key file is made of; for keys.c and key_sources.c. */

/* The words between blanks, none of them empty; transfer full. */
char **seed_key_words(const char *line);

/* Does the text hold a private key (PEM, OpenSSH or PuTTY)? */
bool seed_key_is_private(const char *text);

/* Does `word` name some kind of public key or certificate, served by us or not? */
bool seed_key_is_type(const char *word);
