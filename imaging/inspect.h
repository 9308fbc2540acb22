#pragma once
#include "imaging/source.h"

/*
 * What is inside an image, asked of libguestfs by a program of its own, vm-run-inspect: nothing
 * else of ours loads that library, a deadline can end it with all it started, and no byte of the
 * image is looked at outside its appliance. The image is attached read-only, with its format given.
 */

#define IMG_INSPECT_LATE 3 /* exit status of vm-run-inspect at its deadline */

/*
 * A JSON object, transfer full:
 *   v            1
 *   os           null or {type, distro, product, version, arch, hostname, package_format}
 *   filesystems  [{device, type, size, label}]
 *   cloud_init   {present, version, default_user}
 *   kernels      [{version, virtio_blk, virtio_net}]
 *   guest_agent, sshd   is the program there?
 * (the last four are null without an os)
 * What is not known is null; strings are the guest's and may hold any valid UTF-8.
 * is_kvm_usable false: TCG is forced. Blocks up to timeout_ms (a minute under TCG).
 * TIMEOUT; HOST: the program, libguestfs or its appliance is missing or fails; IMAGE: the file at
 * the path was replaced meanwhile. Nothing is left of it: its temporary files are in a folder of
 * our own.
 */
char *img_inspect_json(const ImgSource *source, bool is_kvm_usable, unsigned timeout_ms,
                       GError **error);
