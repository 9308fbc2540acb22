#pragma once
#include "cloudinit/seed.h"

/*
 * Vendor-data: a MIME text of these parts, in this order.
 *   the user's own vendor_data      first, so that a setting of the spec wins over the same key in
 * it vm-config        cloud-config   user, timezone, locale, ca_certs, ssh_keys, manage_etc_hosts
 *   vm-feeder        boothook       the status feeder, when somebody listens
 *   vm-10-password   script         chpasswd reads the hash from its standard input
 *   vm-20-files      script         write_files, by cloud-init's own module
 *   vm-30-packages   script         packages, likewise
 *   vm-40-run-NNNN   script         one for each command of `run`: /bin/sh with the command as its
 * text cloud-init runs the scripts in the order of their names at the beginning of its final stage,
 * before the user's runcmd and scripts. All run, whatever becomes of the others; one that fails
 * makes the module scripts-vendor fail, and its name stands in the message.
 */
GBytes *seed_vendor_build(const SeedInput *input);
