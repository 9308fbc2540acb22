#pragma once
#include <stdbool.h>
#include <glib.h>

/*
 * Settings of one link below /proc/sys/net/ipv[46]/conf/, of the network namespace of the calling
 * thread. Names are checked and opened component by component, so none leads elsewhere.
 */
typedef enum { NET_SYSCTL_IPV4, NET_SYSCTL_IPV6, NET_SYSCTL_FAMILY_N } NetSysctlFamily;

/* link: its name, or "all". key: [a-z0-9_]. NOT_FOUND: no such link, or this kernel has no such
 * setting (or no IPv6). NET: a malformed name. */
bool net_sysctl_read(NetSysctlFamily family, const char *link, const char *key, int *out_value,
                     GError **error);
/* Writes when the value differs, else only reads. HOST: /proc/sys is read-only. */
bool net_sysctl_ensure(NetSysctlFamily family, const char *link, const char *key, int value,
                       GError **error);
/* Does this kernel have the setting, for links as such? */
bool net_sysctl_exists(NetSysctlFamily family, const char *key);
