#include "driver/watch/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

static bool is_number(json_int_t number, json_int_t max)
{
    return number >= 0 && number <= max;
}

static bool load_members(WatchConfig *config, json_error_t *error)
{
    json_int_t boot, start, pid, ticks, limit, offset = 0, port, stall, boot_ms, ready_ms, ready;
    int version, agent, seed, cloud_init;
    const char *firmware;
    if (json_unpack_ex(
            config->json, error, 0,
            "{s:i, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:I, s?I, s:s, s:b, s:s, s:I, s:b, "
            "s:b, s:s, s:I, s:I, s:I, s:I}",
            "v", &version, "name", &config->name, "boot", &boot, "start_ms", &start, "qemu_pid",
            &pid, "qemu_start", &ticks, "qmp", &config->qmp, "serial_log", &config->serial_log,
            "log_limit_bytes", &limit, "log_offset", &offset, "status", &config->status, "agent",
            &agent, "ssh_addr", &config->ssh_addr, "ssh_port", &port, "has_seed", &seed,
            "wants_cloud_init", &cloud_init, "firmware", &firmware, "stall_ms", &stall, "boot_ms",
            &boot_ms, "ready_ms", &ready_ms, "ready", &ready) != 0) {
        return false;
    }
    if (version != 1 || pid <= 1 || !is_number(pid, INT_MAX) || !is_number(boot, UINT_MAX) ||
        !is_number(start, INT64_MAX) || !is_number(ticks, INT64_MAX) ||
        !is_number(limit, INT64_MAX) || !is_number(offset, INT64_MAX) ||
        !is_number(port, UINT16_MAX) || !is_number(stall, UINT32_MAX) ||
        !is_number(boot_ms, UINT32_MAX) || !is_number(ready_ms, UINT32_MAX) ||
        !is_number(ready, 15)) {
        snprintf(error->text, sizeof error->text, "a number is out of range");
        return false;
    }
    config->stamp = (EventStamp){.boot = (unsigned)boot, .start_ms = (uint64_t)start};
    config->qemu_pid = (pid_t)pid;
    config->qemu_start = (uint64_t)ticks;
    config->log_limit_bytes = (uint64_t)limit;
    config->log_offset = (uint64_t)offset;
    config->has_agent = agent;
    config->ssh_port = (uint16_t)port;
    config->has_seed = seed;
    config->wants_cloud_init = cloud_init;
    config->is_uefi = strcmp(firmware, "uefi") == 0;
    config->stall_ms = (uint64_t)stall;
    config->boot_ms = (uint64_t)boot_ms;
    config->ready_ms = (uint64_t)ready_ms;
    config->ready = (unsigned)ready;
    return true;
}

bool watch_config_load(WatchConfig *config, int dirfd, char *why, size_t n_why)
{
    *config = (WatchConfig){.json = read_json(dirfd, why, n_why)};
    if (!config->json) {
        return false;
    }
    json_error_t error = {.text = ""};
    if (!load_members(config, &error)) {
        snprintf(why, n_why, WATCH_FILE ": %s", error.text);
        return false;
    }
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
