#pragma once
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

/* Signs of file formats that are neither qcow2 nor a plain raw disk. */
typedef struct {
    const char *name; /* "VMDK" */
    const char *hint; /* what the person does next */
} ImgMagic;

/*
 * The first foreign format whose sign stands in the file, or NULL. Static.
 * start: the first n_start bytes of the file; 36 KiB or more show all signs.
 * end: the last n_end bytes (up to 512).
 * is_qcow2: the file has a qcow2 header; what a raw disk may have (MBR, GPT) is foreign there too.
 * Pure. Signs: QEMU 7.2 block drivers' probe functions, file(1) magic, ECMA-119 8.1.1.
 */
const ImgMagic *img_magic_find(const uint8_t *start, size_t n_start, const uint8_t *end,
                               size_t n_end, gboolean is_qcow2);

/* The hint of the format of that name, "" when there is none. Static. */
const char *img_magic_hint(const char *name);
