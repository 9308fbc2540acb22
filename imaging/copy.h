#pragma once
#include "imaging/meter.h"
#include "imaging/source.h"

/*
 * Full private copies of images (`thin: false`): the file as it is, in its own format.
 */

/*
 * Copies source into dirfd as `name` (a path is allowed), mode 0600, whole or absent: by reflink,
 * else copy_file_range() with holes kept, else read and write. virtual_bytes: 0 as the image;
 * larger: the copy is grown (raw by ftruncate(); qcow2 by `qemu-img resize`, on the descriptor,
 * under rlimits and a deadline). progress may be NULL. The header of the copy is read and vetted
 * again: what the owner of the image wrote meanwhile can't get through. RANGE: smaller than the
 * image or over IMG_VIRTUAL_BYTES_MAX; EXISTS; NO_SPACE; IMAGE: written to while it was copied;
 * CANCELLED by progress; HOST, NOT_FOUND, TIMEOUT of qemu-img. Blocks for the disk: a reflink 1 ms,
 * else about 1 s per GiB of data. No fsync.
 */
bool img_copy_create(const ImgSource *source, int dirfd, const char *name, uint64_t virtual_bytes,
                     ImgProgress progress, void *data, GError **error);
