#pragma once
#include "imaging/source.h"

/* What is inside an image, asked of libguestfs (loaded at its first use: vm-run-guestfs.so; direct
 * backend, TCG forced where KVM is not usable; the image attached read-only with its format given).
 * Blocks up to timeout_ms (a minute under TCG). JSON object, transfer full. */
char *img_inspect_json(const ImgSource *source, bool is_kvm_usable, unsigned timeout_ms,
                       GError **error);
