#include "cloudinit/iso/part.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/load.h"
#include "base/report.h"

GBytes *seed_iso_build(const SeedTexts *texts, GError **error)
{
    SeedIsoBuild build = (SeedIsoBuild)base_load_symbol(SEED_ISO_PART, SEED_ISO_SYMBOL, error);
    return build ? build(texts, error) : NULL;
}

/* A new file under its own name: written beside it and moved there, which fails when something is
 * there. */
static bool write_new(int dirfd, const char *name, const void *data, size_t n_bytes, GError **error)
{
    g_autofree char *fresh = g_strdup_printf(".new-%08x-%s", g_random_int(), name);
    if (!base_file_write_whole(dirfd, fresh, data, n_bytes, 0600, error)) {
        return false;
    }
    if (renameat2(dirfd, fresh, dirfd, name, RENAME_NOREPLACE) == 0) {
        return true;
    }
    int errnum = errno;
    unlinkat(dirfd, fresh, 0);
    g_autofree char *shown = base_report_escape(name, 200);
    base_error_set_errno(error, errnum, "cannot create the seed '%s'", shown);
    return false;
}

bool seed_iso_write(const SeedTexts *texts, int dirfd, const char *name, bool is_replace,
                    GError **error)
{
    g_autoptr(GBytes) bytes = seed_iso_build(texts, error);
    if (!bytes) {
        return false;
    }
    gsize n_bytes;
    const void *data = g_bytes_get_data(bytes, &n_bytes);
    return is_replace ? base_file_write_whole(dirfd, name, data, n_bytes, 0600, error)
                      : write_new(dirfd, name, data, n_bytes, error);
}
