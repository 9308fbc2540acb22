#include "cloudinit/iso/part.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <libburn/libburn.h>
#include <libisofs/libisofs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * How it works: libisofs builds an image of memory streams and hands its sectors out; they are
 * collected in memory and written as one file. So that the same texts give the same bytes at any
 * time and in any time zone, every time stamp is 0 and owners and modes are fixed.
 */
#define SEED_LABEL   "cidata"
#define SECTOR_BYTES 2048

G_DEFINE_AUTOPTR_CLEANUP_FUNC(IsoImage, iso_image_unref)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IsoWriteOpts, iso_write_opts_free)

static bool iso_fail(GError **error, int status, const char *what)
{
    return base_fail(error, VM_ERROR_HOST, "cannot build the seed: %s: %s", what,
                     iso_error_to_msg(status));
}

/* libisofs wants to be initialized once in a process, and would print to stderr. */
static bool iso_begin(GError **error)
{
    static gsize begun = 0;
    if (g_once_init_enter(&begun)) {
        int status = iso_init();
        if (status >= 0) {
            iso_set_msgs_severities("NEVER", "NEVER", "");
        }
        g_once_init_leave(&begun, status >= 0 ? 1 : 2);
    }
    return begun == 1 || base_fail(error, VM_ERROR_HOST, "cannot start libisofs");
}

static void node_set_zero_times(IsoNode *node)
{
    iso_node_set_mtime(node, 0);
    iso_node_set_atime(node, 0);
    iso_node_set_ctime(node, 0);
}

static bool file_add(IsoImage *image, const char *name, GBytes *bytes, GError **error)
{
    gsize n_bytes;
    const void *data = g_bytes_get_data(bytes, &n_bytes);
    unsigned char *copy = malloc(n_bytes + 1); /* the stream frees it */
    if (!copy) {
        return base_fail(error, VM_ERROR_NO_SPACE, "cannot build the seed: out of memory");
    }
    memcpy(copy, n_bytes > 0 ? data : "", n_bytes);
    IsoStream *stream = NULL;
    int status = iso_memory_stream_new(copy, n_bytes, &stream);
    if (status < 0) {
        free(copy);
        return iso_fail(error, status, name);
    }
    IsoFile *file = NULL;
    status = iso_tree_add_new_file(iso_image_get_root(image), name, stream, &file);
    if (status < 0) {
        iso_stream_unref(stream);
        return iso_fail(error, status, name);
    }
    node_set_zero_times(ISO_NODE(file));
    return true;
}

static IsoImage *image_new(const SeedTexts *texts, GError **error)
{
    const struct {
        const char *name;
        GBytes *bytes;
    } files[] = {
        {"meta-data", texts->meta_data},
        {"user-data", texts->user_data},
        {"vendor-data", texts->vendor_data},
        {"network-config", texts->network_config},
    };
    g_autoptr(IsoImage) image = NULL;
    int status = iso_image_new(SEED_LABEL, &image);
    if (status < 0) {
        iso_fail(error, status, "image");
        return NULL;
    }
    iso_image_set_volume_id(image, SEED_LABEL);
    iso_image_set_application_id(image, "vm-run");
    node_set_zero_times(ISO_NODE(iso_image_get_root(image)));
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        if (files[i].bytes && !file_add(image, files[i].name, files[i].bytes, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&image);
}

/* The settings are those of run-of-the-mill NoCloud seeds, plus whatever else would bring the clock
 * in. */
static IsoWriteOpts *options_new(GError **error)
{
    IsoWriteOpts *options = NULL;
    int status = iso_write_opts_new(&options, 0);
    if (status < 0) {
        iso_fail(error, status, "options");
        return NULL;
    }
    char no_time[] = "1970010100000000";
    iso_write_opts_set_iso_level(options, 2);
    iso_write_opts_set_rockridge(options, 1);
    iso_write_opts_set_joliet(options, 1);
    iso_write_opts_set_relaxed_vol_atts(options, 1);
    iso_write_opts_set_omit_version_numbers(options, 2); /* "user-data", not "user-data.;1" */
    iso_write_opts_set_no_force_dots(options, 2);
    iso_write_opts_set_pvd_times(options, 1, 1, 0, 0, no_time);
    iso_write_opts_set_replace_timestamps(options, 1);
    iso_write_opts_set_default_timestamp(options, 0);
    iso_write_opts_set_always_gmt(options, 1);
    iso_write_opts_set_replace_mode(options, 2, 2, 2, 2);
    iso_write_opts_set_default_dir_mode(options, 0555);
    iso_write_opts_set_default_file_mode(options, 0400);
    iso_write_opts_set_default_uid(options, 0);
    iso_write_opts_set_default_gid(options, 0);
    iso_write_opts_set_tail_blocks(options, 0);
    return options;
}

/* libisofs fills a FIFO from a thread of its own; the read calls take a sector each. */
static GBytes *sectors_collect(struct burn_source *source, GError **error)
{
    off_t n_expected = source->get_size(source);
    g_autoptr(GByteArray) all =
        g_byte_array_sized_new(n_expected > 0 ? (guint)n_expected : SECTOR_BYTES);
    unsigned char sector[SECTOR_BYTES];
    int n;
    while ((n = source->read_xt ? source->read_xt(source, sector, SECTOR_BYTES)
                                : source->read(source, sector, SECTOR_BYTES)) > 0) {
        g_byte_array_append(all, sector, (guint)n);
    }
    if (n < 0 || (off_t)all->len != n_expected) {
        base_fail(error, VM_ERROR_HOST, "cannot build the seed: libisofs gave %u of %lld bytes",
                  all->len, (long long)n_expected);
        return NULL;
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&all));
}

GBytes *seed_iso_part_build(const SeedTexts *texts, GError **error)
{
    if (!iso_begin(error)) {
        return NULL;
    }
    g_autoptr(IsoImage) image = image_new(texts, error);
    g_autoptr(IsoWriteOpts) options = image ? options_new(error) : NULL;
    if (!options) {
        return NULL;
    }
    struct burn_source *source = NULL;
    int status = iso_image_create_burn_source(image, options, &source);
    if (status < 0) {
        iso_fail(error, status, "sectors");
        return NULL;
    }
    GBytes *bytes = sectors_collect(source, error);
    source->free_data(source);
    free(source);
    return bytes;
}
