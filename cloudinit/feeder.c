#include "cloudinit/feeder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number as in /proc/uptime: digits and one point, nothing else (strtod would take more, and
 * follow the locale). */
static const char *read_uptime(const char *text, double *out_s)
{
    double value = 0;
    double scale = 0;
    const char *at = text;
    for (; (*at >= '0' && *at <= '9') || (*at == '.' && scale == 0); at++) {
        if (at - text > 18) {
            return NULL;
        }
        if (*at == '.') {
            scale = 1;
        } else if (scale > 0) {
            scale /= 10;
            value += scale * (*at - '0');
        } else {
            value = value * 10 + (*at - '0');
        }
    }
    if (at == text || (*at != ' ' && *at != '\0')) {
        return NULL;
    }
    *out_s = value;
    return *at == ' ' ? at + 1 : at;
}

static const char *after(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* Copies up to one of `stops`; false when it is empty or does not fit. */
static bool copy_until(char *to, size_t n_to, const char *from, const char *stops,
                       const char **out_rest)
{
    size_t n = strcspn(from, stops);
    if (n == 0 || n >= n_to) {
        return false;
    }
    memcpy(to, from, n);
    to[n] = '\0';
    *out_rest = from + n;
    return true;
}

static const struct {
    const char *word;
    SeedOutcome outcome;
} outcomes[] = {
    {"SUCCESS", SEED_OUTCOME_SUCCESS}, {"WARN", SEED_OUTCOME_WARN},
    {"FAIL", SEED_OUTCOME_FAIL},       {"done", SEED_OUTCOME_SUCCESS},
    {"error", SEED_OUTCOME_FAIL},      {"degraded", SEED_OUTCOME_DEGRADED},
    {"unknown", SEED_OUTCOME_UNKNOWN},
};

static const char *read_outcome(const char *text, SeedOutcome *out_outcome)
{
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++) {
        const char *rest = after(text, outcomes[i].word);
        if (rest && (*rest == ':' || *rest == '\0' || *rest == ' ')) {
            *out_outcome = outcomes[i].outcome;
            return rest;
        }
    }
    return NULL;
}

/* "init-network/config-ssh: SUCCESS: config-ssh ran ..." */
static bool read_event(const char *text, bool is_end, SeedStatus *status)
{
    const char *rest = text;
    if (!copy_until(status->stage, sizeof status->stage, text, "/: ", &rest)) {
        return false;
    }
    bool is_module = *rest == '/';
    if (is_module && !copy_until(status->module, sizeof status->module, rest + 1, ": ", &rest)) {
        return false;
    }
    rest = after(rest, ": ");
    if (rest && is_end) {
        rest = read_outcome(rest, &status->outcome);
        rest = rest ? after(rest, ": ") : NULL;
    }
    if (!rest) {
        return false;
    }
    status->text = rest;
    status->kind = is_module ? (is_end ? SEED_STATUS_MODULE_END : SEED_STATUS_MODULE_BEGIN)
                             : (is_end ? SEED_STATUS_STAGE_END : SEED_STATUS_STAGE_BEGIN);
    return true;
}

/* cloud-init's reporter logs "... - handlers.py[DEBUG]: start: NAME: DESCRIPTION" (finish at DEBUG,
 * or at WARNING when it failed). */
static void read_log_line(const char *line, SeedStatus *status)
{
    static const char *const marks[] = {"]: start: ", "]: finish: "};
    for (int is_end = 0; is_end < 2; is_end++) {
        const char *found = strstr(line, marks[is_end]);
        SeedStatus event = *status;
        if (found && read_event(found + strlen(marks[is_end]), is_end, &event)) {
            *status = event;
            return;
        }
    }
    status->kind = SEED_STATUS_LOG;
    status->text = line;
}

SeedStatus seed_status_parse(const char *line)
{
    SeedStatus status = {.kind = SEED_STATUS_OTHER, .text = line};
    const char *rest = read_uptime(line, &status.uptime_s);
    if (rest) {
        read_log_line(rest, &status);
        return status;
    }
    if ((rest = after(line, "result "))) {
        status.kind = SEED_STATUS_RESULT;
        status.text = rest;
    } else if ((rest = after(line, "hello ")) && read_uptime(rest, &status.uptime_s)) {
        status.kind = SEED_STATUS_HELLO;
    } else if ((rest = after(line, "ssh ")) && read_uptime(rest, &status.uptime_s)) {
        status.kind = SEED_STATUS_SSH;
    } else if ((rest = after(line, "done ")) && (rest = read_uptime(rest, &status.uptime_s)) &&
               read_outcome(rest, &status.outcome)) {
        status.kind = SEED_STATUS_DONE;
        status.text = rest;
    }
    return status;
}
