#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "net/rules.h"

/*
 * A host with a network and two guests, all in network namespaces: the test's own is the host.
 *
 *   outside  198.51.100.2, 2001:db8:1::2, and 192.168.77.1 behind it --- up0 (198.51.100.1,
 *            2001:db8:1::1) the host
 *   guests   A 10.9.0.2, fd09::2 and B 10.9.0.3, fd09::3 on the bridge vmbt (10.9.0.1, fd09::1):
 *            veth pairs in the place of taps, with the taps' names, so that the filter counts too
 */
enum { LAB_HOST, LAB_OUTSIDE, LAB_A, LAB_B, LAB_N };

/* The guests of the lab as members (machines 2 and 3). */
extern NetMember *lab_member_a, *lab_member_b;

/* Makes namespaces and links, without any rule of ours; the thread is then in LAB_HOST. */
void lab_make(SpecNetMode mode, bool is_br_netfilter_on);
/* Adds network, and both guests without ports; before, everything of nf_tables is removed. */
void lab_add_rules(SpecNetMode mode);
/* Frees the members; links and rules go with the namespaces, at the next lab_make() or the end. */
void lab_remove(void);

/* ip(8) there; fails the test when it fails. */
void lab_ip(int where, const char *words);
/* Writes a file of /proc/sys there. */
void lab_sysctl(int where, const char *path, const char *value);

/* A socket of that namespace, non-blocking; bound when `address` is given (port may be 0). */
int lab_socket(int where, int type, const char *address, uint16_t port);
struct sockaddr_storage lab_address(const char *address, uint16_t port, socklen_t *out_n);
/* Waits for a socket: false when nothing came in timeout_ms. */
bool lab_wait(int fd, short events, int timeout_ms);

/* Whether lab_reach() waits long (the default) or, since it is to fail, not. */
void lab_expect(bool is_reached);
/* A server of that namespace: a TCP listener (or a UDP socket). */
int lab_serve(int where, int type, const char *address, uint16_t port);
/* Does something sent from there to `address`:port reach the server, and its answer come back?
 * out_peer (INET6_ADDRSTRLEN, may be NULL): who it came from, as the server sees it. */
bool lab_reach(int where, int type, const char *address, uint16_t port, int server, char *out_peer);
/* As lab_reach(), but the connection stays: *out_client, *out_served. TCP only. */
bool lab_connect(int where, const char *address, uint16_t port, int server, int *out_client,
                 int *out_served);
/* Do bytes still pass over a connection, both ways? */
bool lab_is_alive(int client, int served);
