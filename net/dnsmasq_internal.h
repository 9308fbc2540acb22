#pragma once
#include "net/dnsmasq.h"

/* Names of dnsmasq's folders, for its arguments (dnsmasq.c) and its files (dnsmasq_files.c). */
#define NET_DNSMASQ_PARENT       "/run/vm-run"
#define NET_DNSMASQ_HOSTS        "hosts"
#define NET_DNSMASQ_RESERVATIONS "reservations"
#define NET_DNSMASQ_LEASES       "leases"
