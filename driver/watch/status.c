#include "driver/watch/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cloudinit/feeder.h"
#include "driver/watch/connect.h"
#include "driver/watch/state.h"

#define RETRY_MIN_MS 200
#define RETRY_MAX_MS 5000
#define REST_MS      20u

/* The feeder's names of cloud-init's stages and what is shown. */
static const struct {
    const char *said, *shown;
} stages[] = {
    {"init-local", "local"},
    {"init-network", "network"},
    {"modules-config", "config"},
    {"modules-final", "final"},
};

static const char *shown_stage(const char *said)
{
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (strcmp(said, stages[i].said) == 0) {
            return stages[i].shown;
        }
    }
    return said;
}

/* "config-locale" is the module locale. */
static const char *shown_module(const char *said)
{
    return strncmp(said, "config-", strlen("config-")) == 0 ? said + strlen("config-") : said;
}

static void take_begin(Boot *boot, const SeedStatus *said)
{
    boot_cloud_init(boot, shown_stage(said->stage), shown_module(said->module));
}

static void take_module_end(Boot *boot, const SeedStatus *said)
{
    if (said->outcome == SEED_OUTCOME_FAIL) {
        boot_error(boot, shown_module(said->module), said->text);
    }
}

static void take_ssh(Boot *boot, const SeedStatus *said)
{
    (void)said;
    boot_init_seen(boot);
    probe_hurry(&boot->watch->probe);
}

/* An entry of result.json's errors: "('scripts-user', RuntimeError('Runparts: 1 failures ...'))".
 */
static void take_result_error(Boot *boot, const char *text)
{
    char module[64];
    int n = 0;
    if (sscanf(text, "('%63[^']', %n", module, &n) == 1 && n > 0) {
        boot_error(boot, module, text + n);
    } else {
        boot_error(boot, "cloud-init", text);
    }
}

static void take_result(Boot *boot, const SeedStatus *said)
{
    json_t *result = json_loads(said->text, 0, NULL);
    const json_t *errors = json_object_get(json_object_get(result, "v1"), "errors");
    for (size_t i = 0; i < json_array_size(errors); i++) {
        const char *text = json_string_value(json_array_get(errors, i));
        if (text) {
            take_result_error(boot, text);
        }
    }
    json_decref(result);
}

static void take_log(Boot *boot, const SeedStatus *said)
{
    boot_log(boot, said->text);
}

static void take_done(Boot *boot, const SeedStatus *said)
{
    bool has_errors = json_array_size(boot->errors) > 0;
    switch (said->outcome) {
    case SEED_OUTCOME_SUCCESS:
        boot_provisioned(boot, "done");
        break;
    case SEED_OUTCOME_WARN:
    case SEED_OUTCOME_DEGRADED:
        boot_provisioned(boot, "degraded");
        break;
    case SEED_OUTCOME_FAIL:
        boot_provisioned(boot, "error");
        break;
    case SEED_OUTCOME_UNKNOWN: /* no result file: what was heard decides */
        boot_provisioned(boot, has_errors ? "error" : "degraded");
        break;
    }
}

static void (*const takers[])(Boot *boot, const SeedStatus *said) = {
    [SEED_STATUS_STAGE_BEGIN] = take_begin,
    [SEED_STATUS_MODULE_BEGIN] = take_begin,
    [SEED_STATUS_MODULE_END] = take_module_end,
    [SEED_STATUS_SSH] = take_ssh,
    [SEED_STATUS_RESULT] = take_result,
    [SEED_STATUS_LOG] = take_log,
    [SEED_STATUS_DONE] = take_done,
};

static void take_line(StatusPort *status, const char *line)
{
    Boot *boot = &status->watch->boot;
    SeedStatus said = seed_status_parse(line);
    if (said.kind == SEED_STATUS_OTHER) {
        return;
    }
    boot->has_feeder = true;
    boot_heard(boot);
    boot_init_seen(boot);
    if ((size_t)said.kind < sizeof takers / sizeof *takers && takers[said.kind]) {
        takers[said.kind](boot, &said);
    }
}

static void retry_later(StatusPort *status)
{
    if (status->fd >= 0) {
        loop_remove(&status->watch->loop, &status->source);
        close(status->fd);
        status->fd = -1;
    }
    loop_timer_in(&status->watch->loop, &status->retry, status->retry_ms);
    status->retry_ms = status->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : status->retry_ms * 2;
}

/* One reading; false: nothing more now, or ever. */
static bool read_some(StatusPort *status)
{
    size_t n;
    char *line;
    long n_read = line_buffer_fill(&status->lines, status->fd);
    if (n_read < 0 && errno == EAGAIN) {
        return false;
    }
    if (n_read <= 0) {
        retry_later(status);
        return false;
    }
    status->retry_ms = RETRY_MIN_MS;
    while ((line = line_buffer_next(&status->lines, &n))) {
        take_line(status, line);
    }
    return true;
}

static void status_ready(void *data, uint32_t events)
{
    StatusPort *status = data;
    (void)events;
    if (read_some(status)) {
        loop_rest(&status->watch->loop, &status->source, REST_MS);
    }
}

static void status_connect(void *data)
{
    StatusPort *status = data;
    status->fd = connect_unix(status->watch->config.status);
    line_buffer_reset(&status->lines);
    if (status->fd < 0 || !loop_add(&status->watch->loop, &status->source, status->fd, EPOLLIN)) {
        retry_later(status);
    }
}

void status_begin(StatusPort *status, Watch *watch)
{
    *status = (StatusPort){.watch = watch, .fd = -1, .retry_ms = RETRY_MIN_MS};
    status->retry.expired = status_connect;
    status->retry.data = status;
    loop_source_init(&status->source, status_ready, status);
    if (*watch->config.status && line_buffer_init(&status->lines, SEED_STATUS_LINE_MAX + 1)) {
        status_connect(status);
    }
}

void status_drain(StatusPort *status)
{
    for (int i = 0; i < 16 && status->fd >= 0 && read_some(status); i++) {
        continue;
    }
}

void status_end(StatusPort *status)
{
    loop_remove(&status->watch->loop, &status->source);
    loop_timer_stop(&status->retry);
    if (status->fd >= 0) {
        close(status->fd);
        status->fd = -1;
    }
    line_buffer_clear(&status->lines);
}
