#pragma once
#include "net/network_supervisor.h"

/*
 * vm-run-net STATE-DIR STORE-ID NETWORK: the supervisor of one network; started by
 * net_network_up(), gone with its network.
 *
 * How it works: one process, one thread, one loop that sleeps until something happens. It owns the
 * network's dnsmasq (resolver.c), listens to what others do to nf_tables and links (events.c), and
 * when that concerns its network it lets a child compare all with the record and mend it
 * (checker.c), so that it stays small itself. SIGTERM ends it and dnsmasq; dnsmasq dies with it in
 * any case. When the network's folder is removed it ends as well.
 */
typedef struct Supervisor {
    const char *state_dir, *store_id, *name;
    char *bridge;
    int dirfd, lock_fd;
    int answer_fd; /* who started us waits there; -1: was told */
    int exit_status;
    bool is_orphan; /* the network's folder was removed under us */
    GMainLoop *loop;
    NetSupervisor state; /* as in supervisor.json */

    /* events.c */
    int nft_fd, route_fd;
    unsigned bridge_index; /* 0: there is none now */
    GHashTable *ports;     /* set of the indexes of our taps on the bridge */
    bool is_touched;       /* this transaction changed something of ours */

    /* checker.c */
    pid_t check_pid; /* 0: none runs */
    int check_pidfd;
    guint check_timer, check_source;
    bool is_check_wanted; /* again, when the one that runs has ended */
    gint64 mends_us[5];   /* when something was mended last, a ring */
    unsigned n_mends;

    /* resolver.c */
    bool needs_dnsmasq;
    char **dnsmasq_argv;
    const char *ready_mark; /* in the line that tells that it answers */
    pid_t dnsmasq_pid;
    int dnsmasq_pidfd, dnsmasq_log_fd;
    guint dnsmasq_source, dnsmasq_log_source, dnsmasq_timer;
    GString *dnsmasq_line; /* what is read of its next line */
    char *dnsmasq_last;    /* its last line */
    gint64 log_second;     /* of its last line, and how many there were in it */
    unsigned n_log_lines;
    unsigned dnsmasq_bridge;     /* index of the bridge that it serves */
    unsigned n_dnsmasq_failures; /* without a good one between */
} Supervisor;

/* Tells who started us: NULL: all is ready; else why not. Once. */
void supervisor_answer(Supervisor *supervisor, const char *problem);
void supervisor_quit(Supervisor *supervisor, int exit_status);
/* A line of supervisor.log, which stays below 512 KiB with its older half. */
G_GNUC_PRINTF(2, 3) void supervisor_log(const Supervisor *supervisor, const char *format, ...);
void supervisor_write_state(Supervisor *supervisor);

bool events_begin(Supervisor *supervisor, GError **error);
void events_end(Supervisor *supervisor);

/* Soon: events that come together are looked at once. */
void checker_request(Supervisor *supervisor);
void checker_end(Supervisor *supervisor);

bool resolver_begin(Supervisor *supervisor, NetNetwork *network, GError **error);
/* The bridge was made anew, or something was mended: it may serve again, or must listen anew. */
void resolver_refresh(Supervisor *supervisor);
void resolver_end(Supervisor *supervisor);
