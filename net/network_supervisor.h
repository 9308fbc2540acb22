#pragma once
#include "net/network_internal.h"

/*
 * The supervisor of a network (program vm-run-net, net/supervisor/), seen from outside. A lock of
 * fcntl(2) on supervisor.lock tells who it is; supervisor.json, which it writes, tells its dnsmasq.
 */
#define NET_SUPERVISOR_LOCK "supervisor.lock"
#define NET_SUPERVISOR_FILE "supervisor.json"
#define NET_SUPERVISOR_LOG  "supervisor.log"

typedef struct {
    pid_t pid;              /* 0: none lives */
    pid_t dnsmasq_pid;      /* 0: none lives */
    uint64_t dnsmasq_start; /* its start time, base/proc.h */
    bool is_dnsmasq_ready;  /* it answers */
    uint64_t netns;         /* inode of the supervisor's network namespace */
} NetSupervisor;

uint64_t net_supervisor_own_netns(void);
void net_supervisor_find(int dirfd, NetSupervisor *out);
/* Its pid when it lives in another network namespace than this thread: the network is up there, and
 * nothing of it may be touched from here. 0: no. */
pid_t net_supervisor_elsewhere(int dirfd);
/* For the supervisor itself: pid, dnsmasq_pid, dnsmasq_start and is_dnsmasq_ready are written. */
bool net_supervisor_write(int dirfd, const NetSupervisor *state, GError **error);

/* One lives, and its dnsmasq, if the network has one, answers; starts one when none does. Nothing
 * is written when it is so already. */
bool net_supervisor_begin(NetNetwork *network, GError **error);
/* Ends it, and a dnsmasq that it left behind; none: success. */
bool net_supervisor_end(int dirfd, GError **error);
/* Re-reads the reservations; none lives: nothing. */
void net_supervisor_reload_dnsmasq(int dirfd);
/* Ends dnsmasq alone and waits for its end; the supervisor begins a new one. */
bool net_supervisor_end_dnsmasq(int dirfd, GError **error);
