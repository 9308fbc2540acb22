#include "base/load.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "base/report.h"

#define PRIVATE_FOLDER "/vm-run" /* of the programs that are not for people */

/* Where a part may lie, relative to the folder of the running program; the last one is absolute. */
static const struct {
    const char *path;
    bool is_of_private; /* only for programs of the private folder: ../libexec/vm-run */
} folders[] = {
    {".", false},
    {"../" VM_LIBDIR_RELATIVE "/vm-run", false},
    {"../lib/vm-run", false},
    {"../lib64/vm-run", false},
    {"../../" VM_LIBDIR_RELATIVE "/vm-run", true},
    {"../../lib/vm-run", true},
    {"../../lib64/vm-run", true},
    {VM_LIBDIR "/vm-run", false},
};

static gpointer read_program_folder(gpointer unused)
{
    (void)unused;
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0) {
        return NULL;
    }
    path[n] = '\0';
    return g_path_get_dirname(path);
}

/* The folder of the running program, NULL when /proc does not tell. Transfer none. Read once: after
 * unshare(CLONE_NEWNS) the link may name a path of the namespace that was left. */
static const char *program_folder(void)
{
    static GOnce once = G_ONCE_INIT; /* a constant of this process */
    return g_once(&once, read_program_folder, NULL);
}

/* Transfer full, NULL when the part is in none of the folders. */
static char *find_part(const char *name)
{
    const char *program = program_folder();
    for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
        bool is_absolute = *folders[i].path == '/';
        bool is_private = program && g_str_has_suffix(program, PRIVATE_FOLDER);
        if ((!is_absolute && !program) || (folders[i].is_of_private && !is_private)) {
            continue;
        }
        g_autofree char *path = g_strdup_printf("%s%s%s/%s.so", is_absolute ? "" : program,
                                                is_absolute ? "" : "/", folders[i].path, name);
        if (!access(path, R_OK)) {
            return g_steal_pointer(&path);
        }
    }
    return NULL;
}

void *base_load_symbol(const char *name, const char *symbol, GError **error)
{
    g_autofree char *path = find_part(name);
    if (!path) {
        base_fail(error, VM_ERROR_HOST,
                  "part '%s.so' is not installed (looked beside the program and in %s/vm-run)",
                  name, VM_LIBDIR);
        return NULL;
    }
    void *part = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* never closed: it stays loaded */
    void *found = part ? dlsym(part, symbol) : NULL;
    if (!found) {
        const char *why = dlerror();
        g_autofree char *shown = base_report_escape(why ? why : "it is empty", 0);
        base_fail(error, VM_ERROR_HOST, "part '%s.so' can't be loaded: %s", name, shown);
    }
    return found;
}
