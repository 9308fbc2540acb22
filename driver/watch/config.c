#include "driver/watch/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_MAX 65536

/* The file as a JSON value, NULL: `why` is set. */
static json_t *read_json(int dirfd, char *why, size_t n_why)
{
    int fd = openat(dirfd, WATCH_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat file;
    if (fd < 0 || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || file.st_size > CONFIG_MAX) {
        snprintf(why, n_why, "cannot read " WATCH_FILE ": %s",
                 fd < 0 ? strerror(errno) : "no usable file");
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    json_error_t error;
    json_t *json = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
    close(fd);
    if (!json) {
        snprintf(why, n_why, WATCH_FILE ":%d:%d: %s", error.line, error.column, error.text);
    }
    return json;
}

static bool load_end_command(WatchConfig *config)
{
    json_t *words = json_object_get(config->json, "end_command");
    size_t n = json_array_size(words);
    if (!words || n == 0) {
        return !words || json_is_array(words);
    }
    config->end_command = calloc(n + 1, sizeof *config->end_command);
    for (size_t i = 0; config->end_command && i < n; i++) {
        const char *word = json_string_value(json_array_get(words, i));
        if (!word || (i == 0 && word[0] != '/')) {
            return false;
        }
        config->end_command[i] = (char *)word;
    }
    return config->end_command != NULL;
}

typedef enum { TEXT, NUMBER, FLAG } Kind;

/* Members of the file and of WatchConfig; those of an EventStamp, a pid and a port have the widths
 * of their types. */
static const struct {
    const char *name;
    Kind kind;
    size_t offset, size;
    json_int_t min, max;
    bool is_optional;
} members[] = {
#define MEMBER(member) offsetof(WatchConfig, member), sizeof(((WatchConfig *)0)->member)
    {"name", TEXT, MEMBER(name), 0, 0, false},
    {"boot", NUMBER, MEMBER(stamp.boot), 0, UINT_MAX, false},
    {"start_ms", NUMBER, MEMBER(stamp.start_ms), 0, INT64_MAX, false},
    {"qemu_pid", NUMBER, MEMBER(qemu_pid), 2, INT_MAX, false},
    {"qemu_start", NUMBER, MEMBER(qemu_start), 0, INT64_MAX, false},
    {"qmp", TEXT, MEMBER(qmp), 0, 0, false},
    {"serial_log", TEXT, MEMBER(serial_log), 0, 0, false},
    {"log_limit_bytes", NUMBER, MEMBER(log_limit_bytes), 0, INT64_MAX, false},
    {"log_offset", NUMBER, MEMBER(log_offset), 0, INT64_MAX, true},
    {"status", TEXT, MEMBER(status), 0, 0, false},
    {"agent", FLAG, MEMBER(has_agent), 0, 0, false},
    {"ssh_addr", TEXT, MEMBER(ssh_addr), 0, 0, false},
    {"ssh_port", NUMBER, MEMBER(ssh_port), 0, UINT16_MAX, false},
    {"wants_cloud_init", FLAG, MEMBER(wants_cloud_init), 0, 0, false},
    {"stall_ms", NUMBER, MEMBER(stall_ms), 0, UINT32_MAX, false},
    {"boot_ms", NUMBER, MEMBER(boot_ms), 0, UINT32_MAX, false},
    {"ready_ms", NUMBER, MEMBER(ready_ms), 0, UINT32_MAX, false},
    {"ready", NUMBER, MEMBER(ready), 0, 15, false},
#undef MEMBER
};

static bool store_number(void *to, size_t size, json_int_t number)
{
    uint64_t u64 = (uint64_t)number;
    uint32_t u32 = (uint32_t)number;
    uint16_t u16 = (uint16_t)number;
    memcpy(to, size == 8 ? (void *)&u64 : size == 4 ? (void *)&u32 : (void *)&u16, size);
    return true;
}

static bool load_member(WatchConfig *config, size_t row)
{
    const json_t *value = json_object_get(config->json, members[row].name);
    void *to = (char *)config + members[row].offset;
    json_int_t number = json_integer_value(value);
    switch (members[row].kind) {
    case TEXT:
        *(const char **)to = json_string_value(value);
        return json_is_string(value);
    case FLAG:
        *(bool *)to = json_is_true(value);
        return json_is_boolean(value);
    case NUMBER:
        return json_is_integer(value) && number >= members[row].min && number <= members[row].max &&
               store_number(to, members[row].size, number);
    }
    return false;
}

/* Conditions that nothing could meet are not waited for. */
static void settle_ready(WatchConfig *config)
{
    unsigned ready = config->ready ? config->ready : READY_SSH | READY_CLOUD_INIT;
    ready &= ~(config->ssh_port == 0 ? (unsigned)READY_SSH : 0);
    ready &= ~(!config->wants_cloud_init ? (unsigned)READY_CLOUD_INIT : 0);
    ready &= ~(!config->has_agent ? (unsigned)READY_AGENT : 0);
    config->ready = ready ? ready : READY_BOOT;
}

bool watch_config_load(WatchConfig *config, int dirfd, char *why, size_t n_why)
{
    *config = (WatchConfig){.json = read_json(dirfd, why, n_why)};
    if (!config->json) {
        return false;
    }
    if (json_integer_value(json_object_get(config->json, "v")) != 1) {
        snprintf(why, n_why, WATCH_FILE ": no version 1");
        return false;
    }
    for (size_t row = 0; row < sizeof members / sizeof *members; row++) {
        bool is_missing = !json_object_get(config->json, members[row].name);
        if (!(is_missing && members[row].is_optional) && !load_member(config, row)) {
            snprintf(why, n_why, WATCH_FILE ": '%s' is missing or out of range", members[row].name);
            return false;
        }
    }
    settle_ready(config);
    if (!load_end_command(config)) {
        snprintf(why, n_why,
                 WATCH_FILE ": end_command is no list of words that begins with an absolute path");
        return false;
    }
    return true;
}

void watch_config_clear(WatchConfig *config)
{
    free(config->end_command);
    json_decref(config->json);
    *config = (WatchConfig){0};
}
