#pragma once
#include <stdbool.h>

/* A login name that useradd takes everywhere: [a-z_][a-z0-9_-]{0,31}. Source: useradd(8),
 * shadow 4.13. */
bool seed_user_name_is_valid(const char *name);
