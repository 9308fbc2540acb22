#pragma once
#include "imaging/source.h"

/* Progress of long work: done and total in bytes. Called at most ten times a second. Return false to cancel. */
typedef bool (*ImgProgress)(uint64_t done_bytes, uint64_t total_bytes, void *data);

/* A full private copy of the image file as it is (`thin: false`): reflink, else copy_file_range with holes kept, else pread/pwrite.
 * Whole or absent, 0600. virtual_bytes larger than the image's: the copy is grown (raw: ftruncate; qcow2: `qemu-img resize` under rlimits). */
bool img_copy_create(const ImgSource *source, int dirfd, const char *name, uint64_t virtual_bytes,
                     ImgProgress progress, void *data, GError **error);
