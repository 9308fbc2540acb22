#include "driver/event_line.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *const stage_names[] = {
    [STAGE_IMAGE] = "image",           [STAGE_OVERLAY] = "overlay", [STAGE_SEED] = "seed",
    [STAGE_DEFINE] = "define",         [STAGE_BOOT] = "boot",       [STAGE_FIRMWARE] = "firmware",
    [STAGE_KERNEL] = "kernel",         [STAGE_INIT] = "init",       [STAGE_NETWORK] = "network",
    [STAGE_CLOUD_INIT] = "cloud-init", [STAGE_SSH] = "ssh",         [STAGE_READY] = "ready",
};
_Static_assert(sizeof stage_names / sizeof *stage_names == STAGE_N, "one name a stage");

const char *machine_stage_name(Stage stage)
{
    return (unsigned)stage < STAGE_N ? stage_names[stage] : "";
}

uint64_t event_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Length of the UTF-8 character at `s` (RFC 3629: shortest form, no surrogates), 0: not one. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    static const struct {
        unsigned char first, last, second_min, second_max, length;
    } forms[] = {
        {0x01, 0x7e, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (s[0] < forms[i].first || s[0] > forms[i].last) {
            continue;
        }
        if (n < forms[i].length) {
            return 0;
        }
        if (forms[i].length > 1 && (s[1] < forms[i].second_min || s[1] > forms[i].second_max)) {
            return 0;
        }
        for (size_t k = 2; k < forms[i].length; k++) {
            if (s[k] < 0x80 || s[k] > 0xbf) {
                return 0;
            }
        }
        return forms[i].length;
    }
    return 0;
}

json_t *event_text(const char *bytes, size_t n)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *clean = malloc(3 * n + 1);
    if (!clean) {
        return NULL;
    }
    size_t n_clean = 0;
    for (size_t i = 0; i < n;) {
        size_t length = utf8_length((const unsigned char *)bytes + i, n - i);
        memcpy(clean + n_clean, length ? bytes + i : replacement, length ? length : 3);
        n_clean += length ? length : 3;
        i += length ? length : 1;
    }
    json_t *text = json_stringn_nocheck(clean, n_clean);
    free(clean);
    return text;
}

static json_t *line_object(const EventStamp *stamp, const char *type, json_t *members)
{
    struct timespec now;
    struct tm utc;
    char time_text[40];
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t then_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 - (int64_t)stamp->age_ms;
    now.tv_sec = then_ms / 1000;
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time_text + n, sizeof time_text - n, ".%03dZ", (int)(then_ms % 1000));
    uint64_t clock = event_clock_ms() - stamp->age_ms;
    double since = clock > stamp->start_ms ? (double)(clock - stamp->start_ms) / 1000 : 0;
    json_t *line = json_pack("{s:i, s:s, s:I, s:f, s:s}", "v", 1, "time", time_text, "boot",
                             (json_int_t)stamp->boot, "t", since, "type", type);
    if (line && members && json_object_update_missing(line, members) != 0) {
        json_decref(line);
        return NULL;
    }
    return line;
}

static bool ends_in_line(int fd)
{
    struct stat file;
    char last = '\n';
    if (fstat(fd, &file) == 0 && file.st_size > 0 && pread(fd, &last, 1, file.st_size - 1) != 1) {
        return false;
    }
    return last != '\n';
}

/*
 * A line that a full disk cut short must not swallow the next one. One that another process is just
 * writing looks the same for a moment; should it take longer, an empty line is all that comes of
 * it.
 */
static bool ends_torn(int fd)
{
    static const struct timespec moment = {.tv_nsec = 500000};
    for (int i = 0; i < 6; i++) {
        if (!ends_in_line(fd)) {
            return false;
        }
        nanosleep(&moment, NULL);
    }
    return true;
}

static int append_bytes(int dirfd, bool is_created, const char *bytes, size_t n)
{
    int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int fd = openat(dirfd, EVENT_FILE, flags | (is_created ? O_CREAT : 0), 0600);
    if (fd < 0) {
        return errno;
    }
    struct iovec parts[3] = {{"\n", ends_torn(fd) ? 1 : 0}, {(char *)bytes, n}, {"\n", 1}};
    ssize_t n_written = writev(fd, parts, 3);
    int errnum = n_written < 0 ? errno : 0;
    if (n_written >= 0 && (size_t)n_written < parts[0].iov_len + n + 1) {
        errnum = ENOSPC;
    }
    close(fd);
    return errnum;
}

int event_line_append(int dirfd, bool is_created, const EventStamp *stamp, const char *type,
                      json_t *members)
{
    if (members && !json_is_object(members)) {
        return EINVAL;
    }
    json_t *line = line_object(stamp, type, members);
    char *bytes =
        line ? json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(13)) : NULL;
    json_decref(line);
    if (!bytes) {
        return ENOMEM;
    }
    size_t n = strlen(bytes);
    int errnum = n < EVENT_LINE_MAX ? append_bytes(dirfd, is_created, bytes, n) : EINVAL;
    free(bytes);
    return errnum;
}
