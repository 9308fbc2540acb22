/* The peer of `start`: what a program that does nothing else needs to start a domain.
 *
 * bench-bare start URI XML [GROUP=FILE | GROUP=FILE:rw]...
 *     opens libvirt, defines the domain (checked, as ours), passes the disks' descriptors, starts
 * it, ends. One JSON line: {"open_ms": connecting, "calls_ms": from define to started}. bench-bare
 * end URI NAME destroys and undefines it.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <libvirt/libvirt.h>

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static char *read_file(const char *path)
{
    enum { MAX_BYTES = 1024 * 1024 };
    char *text = calloc(1, MAX_BYTES + 1);
    FILE *file = fopen(path, "re");
    size_t n = file && text ? fread(text, 1, MAX_BYTES, file) : 0;
    if (file) {
        fclose(file);
    }
    if (n == 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* "GROUP=FILE" or "GROUP=FILE:rw" */
static int pass_disk(virDomainPtr domain, char *arg)
{
    char *path = strchr(arg, '=');
    if (!path) {
        return -1;
    }
    *path++ = '\0';
    char *mode = strrchr(path, ':');
    int flags = O_RDONLY;
    if (mode && strcmp(mode, ":rw") == 0) {
        *mode = '\0';
        flags = O_RDWR;
    }
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        perror(path);
        return -1;
    }
    int result = virDomainFDAssociate(domain, arg, 1, &fd, 0);
    close(fd);
    return result;
}

static int start(virConnectPtr conn, const char *xml, char **disks)
{
    virDomainPtr domain = virDomainDefineXMLFlags(conn, xml, VIR_DOMAIN_DEFINE_VALIDATE);
    int result = domain ? 0 : -1;
    for (; result == 0 && *disks; disks++) {
        result = pass_disk(domain, *disks);
    }
    if (result == 0) {
        result = virDomainCreateWithFlags(domain, 0);
    }
    if (domain) {
        virDomainFree(domain);
    }
    return result;
}

static int start_timed(virConnectPtr conn, const char *xml_path, char **disks, double open_ms)
{
    char *xml = read_file(xml_path);
    if (!xml) {
        fprintf(stderr, "bench-bare: cannot read '%s'\n", xml_path);
        return -1;
    }
    double begin_ms = now_ms();
    int result = start(conn, xml, disks);
    if (result == 0) {
        printf("{\"open_ms\": %.3f, \"calls_ms\": %.3f}\n", open_ms, now_ms() - begin_ms);
    }
    free(xml);
    return result;
}

/* libvirt 9.0 answers -1 when somebody else has reaped QEMU; what counts is whether it runs. */
static int end(virConnectPtr conn, const char *name)
{
    virDomainPtr domain = virDomainLookupByName(conn, name);
    if (!domain) {
        return -1;
    }
    virDomainDestroy(domain);
    int result = virDomainIsActive(domain) == 1 ? -1 : virDomainUndefine(domain);
    virDomainFree(domain);
    return result;
}

/* The embedded driver waits for events of its monitors. */
static void *run_events(void *data)
{
    while (virEventRunDefaultImpl() == 0) {
    }
    return data;
}

int main(int argc, char **argv)
{
    bool is_start = argc >= 4 && strcmp(argv[1], "start") == 0;
    bool is_end = argc == 4 && strcmp(argv[1], "end") == 0;
    if (!is_start && !is_end) {
        fprintf(stderr, "usage: bench-bare start URI XML [GROUP=FILE[:rw]]... | end URI NAME\n");
        return 2;
    }
    pthread_t thread;
    if (virEventRegisterDefaultImpl() < 0 || pthread_create(&thread, NULL, run_events, NULL) != 0) {
        return 1;
    }
    double begin_ms = now_ms();
    virConnectPtr conn = virConnectOpen(argv[2]);
    double open_ms = now_ms() - begin_ms;
    if (!conn) {
        return 1;
    }
    int result = is_start ? start_timed(conn, argv[3], argv + 4, open_ms) : end(conn, argv[3]);
    virConnectClose(conn);
    return result == 0 ? 0 : 1;
}
