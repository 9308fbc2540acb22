#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/commands.h"
#include "cli/image.h"
#include "cli/json.h"
#include "imaging/overlay.h"

static bool create(const ImgSource *source, const char *path, uint64_t virtual_bytes,
                   uint64_t *out_bytes, GError **error)
{
    const char *last = NULL;
    autofd int dirfd = base_path_open_parent(AT_FDCWD, path, &last, error);
    if (dirfd < 0) {
        return false;
    }
    ImgOverlay overlay = {
        .backing_path = source->path,
        .backing_format = source->header->format,
        .backing_bytes = source->header->virtual_bytes,
        .virtual_bytes = virtual_bytes,
    };
    return img_overlay_create(dirfd, last, &overlay, out_bytes, error);
}

static void print_json(const char *path, const ImgSource *source, uint64_t bytes)
{
    json_t *object = json_object();
    json_object_set_new(object, "v", json_integer(1));
    json_object_set_new(object, "file", cmd_json_text(path));
    json_object_set_new(object, "virtual_bytes", json_integer((json_int_t)bytes));
    json_object_set_new(object, "backing_file", cmd_json_text(source->path));
    json_object_set_new(object, "backing_format",
                        json_string(img_format_name(source->header->format)));
    cmd_json_print(object);
}

static int overlay_main(const CmdContext *context, GError **error)
{
    const char *path = cmd_args_operand(context->args, 1);
    uint64_t size = 0, bytes = 0;
    if (!cmd_args_size(context->args, "size", &size, error)) {
        return 0;
    }
    g_autoptr(ImgSource) source =
        img_source_open(cmd_args_operand(context->args, 0), NULL, cmd_image_format(context), error);
    if (!source || !create(source, path, size, &bytes, error)) {
        return 0;
    }
    if (context->is_json) {
        print_json(path, source, bytes);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "size",
     .metavar = "SIZE",
     .doc = "Virtual size, at least that of BASE (else just that)."},
    CMD_IMAGE_FORMAT_FLAG,
    {.name = NULL},
};

static const char *const examples[] = {"vm-run image overlay debian-12.qcow2 web.qcow2 --size 40G",
                                       "a 40 GiB disk that begins as the image", NULL};

const CmdCommand cmd_image_overlay = {
    .name = "image overlay",
    .synopsis = "[flags] BASE FILE",
    .doc = "Create a thin qcow2 overlay FILE on the image BASE.",
    .detail = "FILE is whole or absent, readable by its owner alone, and never replaces a file "
              "that is there.",
    .examples = examples,
    .flags = flags,
    .n_operands_min = 2,
    .n_operands_max = 2,
    .operand = CMD_OPERAND_FILE,
    .has_json = true,
    .handler = overlay_main,
};
