#pragma once
#include "cli/command.h"
#include "imaging/source.h"

/* `--format raw|qcow2` of the image commands. */
#define CMD_IMAGE_FORMAT_FLAG                                                                      \
    {                                                                                              \
        .name = "format", .metavar = "FORMAT", .choices = cmd_image_formats,                       \
        .doc = "The format that the file must have (else what its header says)."                   \
    }
extern const char *const cmd_image_formats[];

/* The ImgFormat of --format, -1: not given. */
int cmd_image_format(const CmdContext *context);
