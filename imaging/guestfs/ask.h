#pragma once
#include <guestfs.h>
#include <jansson.h>

/*
 * Questions to a launched libguestfs handle; each answer is a JSON value, transfer full, never
 * NULL: what can't be found out is null in it. Source: guestfs(3), 1.48.
 */
json_t *guestfs_ask_filesystems(guestfs_h *g);

/* The first operating system that is found, mounted read-only for the questions below; null: none.
 */
json_t *guestfs_ask_os(guestfs_h *g);

/* Of the mounted system. */
json_t *guestfs_ask_cloud_init(guestfs_h *g);
json_t *guestfs_ask_kernels(guestfs_h *g);
json_t *guestfs_ask_guest_agent(guestfs_h *g);
json_t *guestfs_ask_sshd(guestfs_h *g);
