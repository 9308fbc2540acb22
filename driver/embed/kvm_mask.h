#pragma once

/*
 * Where QEMU's user may not open /dev/kvm, libvirt 9.0 asks QEMU for its capabilities again at
 * every call, for seconds each time: it probes with CAP_DAC_OVERRIDE, finds KVM, then finds it
 * inaccessible and throws the answer away. Here this process (and the QEMUs it starts, which
 * couldn't use it anyway) gets a mount namespace in which /dev/kvm is an unreadable file. Does
 * nothing elsewhere, when we are not root, or when namespaces are forbidden.
 */
void embed_kvm_mask(void);
