#include "cloudinit/name.h"

#include <stddef.h>
#include <string.h>

bool seed_user_name_is_valid(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-");
    return n >= 1 && n <= 32 && name[n] == '\0' && strchr("-0123456789", name[0]) == NULL;
}
