/*
 * peer: who reaches whom, over TCP and UDP, IPv4 and IPv6.
 *
 *   peer serve PORT                     answers for ever: a TCP connection gets the line
 *                                       "tcp PEER PEERPORT HOSTNAME", then its own bytes; a
 *                                       datagram TEXT gets "udp PEER PEERPORT HOSTNAME TEXT"
 *   peer tcp|udp HOST PORT [TEXT]       prints the answer's first line; status 1: there is none
 *                                       within 3 s
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIMIT_S = 3, TEXT_BYTES = 1500, LINE_BYTES = 2048 };

/* "PEER PEERPORT HOSTNAME"; IPv4 without "::ffff:". */
static void peer_describe(const struct sockaddr_in6 *peer, char *out, size_t n)
{
    char host[64] = "", address[INET6_ADDRSTRLEN] = "";
    const char *text = address;

    gethostname(host, sizeof host - 1);
    inet_ntop(AF_INET6, &peer->sin6_addr, address, sizeof address);
    if (IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr))
        text += strlen("::ffff:");
    snprintf(out, n, "%s %u %s", text, ntohs(peer->sin6_port), host);
}

static int bind_any(int type, const char *port)
{
    int fd = socket(AF_INET6, type, 0), yes = 1, no = 0;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) || (type == SOCK_STREAM && listen(fd, 16))) {
        perror("peer");
        exit(1);
    }
    return fd;
}

static void tcp_serve(int listener)
{
    struct sockaddr_in6 peer;
    socklen_t length = sizeof peer;
    int fd = accept(listener, (struct sockaddr *)&peer, &length);
    char text[TEXT_BYTES];
    ssize_t n;

    if (fd < 0 || fork() != 0) {
        close(fd);
        return;
    }
    peer_describe(&peer, text, sizeof text);
    dprintf(fd, "tcp %s\n", text);
    while ((n = read(fd, text, sizeof text)) > 0 && write(fd, text, (size_t)n) == n) {
    }
    exit(0);
}

static void udp_serve(int fd)
{
    struct sockaddr_in6 peer;
    socklen_t length = sizeof peer;
    char text[TEXT_BYTES], who[128], line[LINE_BYTES];
    ssize_t n = recvfrom(fd, text, sizeof text - 1, 0, (struct sockaddr *)&peer, &length);

    if (n < 0)
        return;
    text[n] = '\0';
    peer_describe(&peer, who, sizeof who);
    n = snprintf(line, sizeof line, "udp %s %s", who, text);
    sendto(fd, line, (size_t)n, 0, (struct sockaddr *)&peer, length);
}

static _Noreturn void serve(const char *port)
{
    struct pollfd fds[] = {{.fd = bind_any(SOCK_STREAM, port), .events = POLLIN},
                           {.fd = bind_any(SOCK_DGRAM, port), .events = POLLIN}};

    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        poll(fds, 2, -1);
        if (fds[0].revents)
            tcp_serve(fds[0].fd);
        if (fds[1].revents)
            udp_serve(fds[1].fd);
    }
}

static int ask(bool is_udp, const char *host, const char *port, const char *text)
{
    struct addrinfo hints = {.ai_socktype = is_udp ? SOCK_DGRAM : SOCK_STREAM}, *found = NULL;
    char line[LINE_BYTES];
    int error = getaddrinfo(host, port, &hints, &found), fd;
    ssize_t n;

    if (error) {
        fprintf(stderr, "peer: %s: %s\n", host, gai_strerror(error));
        return 1;
    }
    alarm(LIMIT_S);
    fd = socket(found->ai_family, found->ai_socktype, 0);
    if (connect(fd, found->ai_addr, found->ai_addrlen) ||
        (is_udp && send(fd, text, strlen(text), 0) < 0) ||
        (n = read(fd, line, sizeof line - 1)) <= 0) {
        perror("peer");
        return 1;
    }
    line[n] = '\0';
    puts(strtok(line, "\n"));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve(argv[2]);
    if (argc == 4 || argc == 5)
        return ask(strcmp(argv[1], "udp") == 0, argv[2], argv[3], argc == 5 ? argv[4] : "hello");
    fprintf(stderr, "usage: peer serve PORT | peer tcp|udp HOST PORT [TEXT]\n");
    return 2;
}
