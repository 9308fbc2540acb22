#pragma once
#include <glib.h>

/*
 * Parts that are loaded at their first use: NAME.so is looked for beside the running program
 * (build tree) and then in ../lib*(/ARCH)/vm-run relative to it (../../lib* for a program in
 * libexec/vm-run) and in the compiled-in library folder. Never elsewhere, never by an environment
 * variable. Returns the address of `symbol`; the part stays loaded. NULL with HOST ("... is not
 * installed") when it is missing or one of its libraries is (the dlerror text is in the message).
 */
void *base_load_symbol(const char *name, const char *symbol, GError **error);
