#include "driver/watch/boot.h"

#include <stdio.h>
#include <string.h>

#include "driver/watch/state.h"

#define LINES_MAX         20
#define PROVISION_WAIT_MS 5000
#define RESET_ECHO_MS                                                                              \
    200 /* SeaBIOS resets once more when it comes up after a reset (33 ms later) */

static const char *const stall_names[] = {
    [STALL_NO_OUTPUT] = "no-output",
    [STALL_GRUB] = "grub",
    [STALL_PANIC] = "panic",
    [STALL_EMERGENCY] = "emergency",
    [STALL_INITRAMFS] = "initramfs",
    [STALL_NO_BOOT_DEVICE] = "no-bootable-device",
    [STALL_UEFI_SHELL] = "uefi-shell",
    [STALL_BOOT_TIMEOUT] = "boot-timeout",
    [STALL_READY_TIMEOUT] = "ready-timeout",
};
_Static_assert(sizeof stall_names / sizeof *stall_names == STALL_N, "one name a kind");

StallKind boot_stall_kind(const char *name)
{
    unsigned kind = 0;
    while (kind < STALL_N && strcmp(stall_names[kind], name) != 0) {
        kind++;
    }
    return kind;
}

/* --- stages --------------------------------------------------------------------------------------
 */

static void tell(Boot *boot, Stage stage, const char *state, const char *detail)
{
    json_t *text = detail && *detail ? event_text(detail, strlen(detail)) : NULL;
    journal_write(&boot->watch->journal, "stage",
                  json_pack("{s:s, s:s, s:o*}", "stage", machine_stage_name(stage), "state", state,
                            "detail", text));
}

static bool has(unsigned set, Stage stage)
{
    return set & 1u << stage;
}

static void stage_begin(Boot *boot, Stage stage)
{
    if (!has(boot->begun, stage)) {
        boot->begun |= 1u << stage;
        tell(boot, stage, "begin", NULL);
    }
}

static void stage_end(Boot *boot, Stage stage, const char *state)
{
    if (!has(boot->done, stage)) {
        boot->begun |= 1u << stage;
        boot->done |= 1u << stage;
        tell(boot, stage, state, NULL);
    }
}

/* The stages before this one are over, those of them that ever began. */
static void stages_passed(Boot *boot, Stage before)
{
    for (unsigned stage = STAGE_FIRMWARE; stage < before; stage++) {
        if (has(boot->begun, stage)) {
            stage_end(boot, stage, "done");
        }
    }
}

static void check_ready(Boot *boot)
{
    unsigned wanted = boot->watch->config.ready;
    if (boot->is_ready || (boot->conditions & wanted) != wanted || boot->conditions == 0) {
        return;
    }
    boot->is_ready = true;
    stages_passed(boot, STAGE_CLOUD_INIT);
    stage_end(boot, STAGE_READY, "done");
    loop_timer_stop(&boot->silence);
    loop_timer_stop(&boot->boot_limit);
    loop_timer_stop(&boot->ready_limit);
}

static void meet(Boot *boot, unsigned condition)
{
    boot->conditions |= condition | READY_BOOT;
    loop_timer_stop(&boot->boot_limit);
    check_ready(boot);
}

void boot_init_seen(Boot *boot)
{
    stages_passed(boot, STAGE_INIT);
    stage_begin(boot, STAGE_INIT);
    boot->conditions |= READY_BOOT;
    probe_now(&boot->watch->probe);
    if (boot->watch->probe.is_on) { /* perhaps for longer, in the dark */
        stage_begin(boot, STAGE_SSH);
    }
    meet(boot, READY_BOOT);
}

void boot_network(Boot *boot)
{
    boot_init_seen(boot);
    stages_passed(boot, STAGE_NETWORK);
    stage_end(boot, STAGE_NETWORK, "done");
}

void boot_ssh_done(Boot *boot)
{
    stages_passed(boot, STAGE_CLOUD_INIT);
    stage_begin(boot, STAGE_SSH);
    stage_end(boot, STAGE_SSH, "done");
    meet(boot, READY_SSH);
}

void boot_agent(Boot *boot, bool is_connected)
{
    if (is_connected == boot->is_agent) {
        return;
    }
    boot->is_agent = is_connected;
    journal_write(&boot->watch->journal, "agent",
                  json_pack("{s:s}", "state", is_connected ? "connected" : "disconnected"));
    if (is_connected) {
        boot_init_seen(boot);
        meet(boot, READY_AGENT);
    } else {
        boot->conditions &= ~(unsigned)READY_AGENT;
    }
}

/* --- provisioning --------------------------------------------------------------------------------
 */

/* The order of cloud-init's stages; 0: none of them. */
static unsigned cloud_init_rank(const char *stage)
{
    static const char *const order[] = {"", "local", "network", "config", "final"};
    for (unsigned rank = 1; rank < sizeof order / sizeof *order; rank++) {
        if (strcmp(stage, order[rank]) == 0) {
            return rank;
        }
    }
    return 0;
}

void boot_cloud_init(Boot *boot, const char *stage, const char *module)
{
    boot_init_seen(boot);
    stages_passed(boot, STAGE_NETWORK);
    if (strcmp(stage, "local") == 0) {
        stage_begin(boot, STAGE_NETWORK);
    } else {
        boot_network(boot);
    }
    char detail[sizeof boot->module];
    unsigned rank = cloud_init_rank(stage);
    snprintf(detail, sizeof detail, "%s%s%s", stage, *module ? "/" : "", module);
    if (boot->is_provisioned || strcmp(detail, boot->module) == 0 || rank < boot->rank ||
        (rank == boot->rank && !*module && boot->module[0])) {
        return; /* known, or late: the feeder tells first what was before it began */
    }
    strcpy(boot->module, detail);
    boot->rank = rank;
    boot->begun |= 1u << STAGE_CLOUD_INIT;
    tell(boot, STAGE_CLOUD_INIT, "begin", detail);
}

/* The error entry of a module, NULL: none yet. */
static json_t *find_error(Boot *boot, const char *module)
{
    for (size_t i = 0; i < json_array_size(boot->errors); i++) {
        json_t *entry = json_array_get(boot->errors, i);
        const char *name = json_string_value(json_object_get(entry, "module"));
        if (name && strcmp(name, module) == 0) {
            return entry;
        }
    }
    return NULL;
}

void boot_error(Boot *boot, const char *module, const char *message)
{
    json_t *entry = find_error(boot, module);
    json_t *text = event_text(message, strlen(message));
    if (entry) {
        json_object_set_new(entry, "message", text);
    } else if (json_array_size(boot->errors) < BOOT_ERRORS_MAX) {
        json_array_append_new(
            boot->errors,
            json_pack("{s:o, s:o}", "module", event_text(module, strlen(module)), "message", text));
    } else {
        json_decref(text);
    }
}

void boot_log(Boot *boot, const char *text)
{
    if (json_array_size(boot->lines) >= LINES_MAX) {
        json_array_remove(boot->lines, 0);
    }
    json_array_append_new(boot->lines, event_text(text, strlen(text)));
}

void boot_provisioned(Boot *boot, const char *status)
{
    if (boot->is_provisioned) {
        return;
    }
    bool is_error = strcmp(status, "error") == 0;
    bool is_clean = strcmp(status, "done") == 0;
    boot->is_provisioned = true;
    loop_timer_stop(&boot->provision_wait);
    boot_network(boot);
    stages_passed(boot, STAGE_CLOUD_INIT);
    json_t *nothing = json_array();
    journal_write(&boot->watch->journal, "provision",
                  json_pack("{s:s, s:O, s:O}", "status", status, "errors", boot->errors, "lines",
                            is_clean ? nothing : boot->lines));
    json_decref(nothing);
    stage_end(boot, STAGE_CLOUD_INIT, is_error ? "failed" : "done");
    if (!is_error) {
        meet(boot, READY_CLOUD_INIT);
    } else if (boot->watch->config.ready & READY_CLOUD_INIT && !boot->is_ready) {
        boot->is_ready = true;
        stage_end(boot, STAGE_READY, "failed");
        loop_timer_stop(&boot->ready_limit);
        loop_timer_stop(&boot->silence);
    }
}

/* What the console alone tells: cloud-init ended, and which modules failed. */
static void provisioned_by_console(void *data)
{
    Boot *boot = data;
    boot_provisioned(boot, json_array_size(boot->errors) > 0 ? "error" : "done");
}

static void console_cloud_init_done(Boot *boot)
{
    if (boot->has_feeder) { /* it knows better, in a moment */
        loop_timer_in(&boot->watch->loop, &boot->provision_wait, PROVISION_WAIT_MS);
    } else {
        provisioned_by_console(boot);
    }
}

/* "... Running module locale (<module ...>) failed" */
static void console_cloud_init_error(Boot *boot, const char *line)
{
    static const char phrase[] = "Running module ";
    const char *at = strstr(line, phrase);
    char module[64] = "cloud-init";
    if (at) {
        snprintf(module, sizeof module, "%.*s", (int)strcspn(at + strlen(phrase), " "),
                 at + strlen(phrase));
    }
    if (!boot->has_feeder) {
        boot_error(boot, module, line);
        boot_log(boot, line);
    }
}

/* "Cloud-init v. 22.4.2 running 'modules:config' at ..." */
static void console_cloud_init(Boot *boot, const char *line)
{
    static const struct {
        const char *said, *stage;
    } stages[] = {
        {"'init-local'", "local"},
        {"'init'", "network"},
        {"'modules:config'", "config"},
        {"'modules:final'", "final"},
    };
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (strstr(line, stages[i].said)) {
            boot_cloud_init(boot, stages[i].stage, "");
        }
    }
    boot_init_seen(boot);
}

/* --- stalls --------------------------------------------------------------------------------------
 */

void boot_stall(Boot *boot, StallKind kind, const char *text)
{
    if (boot->stalls & 1u << kind || (boot->is_ready && kind != STALL_PANIC)) {
        return;
    }
    boot->stalls |= 1u << kind;
    json_t *lines = json_array();
    const char *line;
    for (unsigned i = 0; (line = console_scan_kept(&boot->watch->console.scan, i)); i++) {
        json_array_append_new(lines, event_text(line, strlen(line)));
    }
    journal_write(&boot->watch->journal, "stall",
                  json_pack("{s:s, s:o, s:o}", "kind", stall_names[kind], "text",
                            event_text(text, strlen(text)), "lines", lines));
}

static void silence_expired(void *data)
{
    Boot *boot = data;
    uint64_t due_ms = boot->heard_ms + boot->watch->config.stall_ms;
    if (event_clock_ms() < due_ms) {
        loop_timer_at(&boot->watch->loop, &boot->silence, due_ms);
        return;
    }
    char text[80];
    snprintf(text, sizeof text, "the console has been silent for %llu s",
             (unsigned long long)(boot->watch->config.stall_ms / 1000));
    boot_stall(boot, STALL_NO_OUTPUT, text);
}

static void boot_limit_expired(void *data)
{
    boot_stall(data, STALL_BOOT_TIMEOUT, "the guest's init was not seen in time");
}

static void ready_limit_expired(void *data)
{
    boot_stall(data, STALL_READY_TIMEOUT, "the machine was not ready in time");
}

void boot_heard(Boot *boot)
{
    boot->heard_ms = event_clock_ms();
}

/* --- signs of the console
 * -------------------------------------------------------------------------------------- */

static void sign_bootloader(Boot *boot, const char *line)
{
    (void)line;
    stage_end(boot, STAGE_FIRMWARE, "done");
}

static void sign_kernel(Boot *boot, const char *line)
{
    (void)line;
    stages_passed(boot, STAGE_KERNEL);
    stage_begin(boot, STAGE_KERNEL);
}

static void sign_init(Boot *boot, const char *line)
{
    (void)line;
    boot_init_seen(boot);
}

static void sign_network(Boot *boot, const char *line)
{
    (void)line;
    boot_network(boot);
}

static void sign_cloud_init_done(Boot *boot, const char *line)
{
    (void)line;
    console_cloud_init_done(boot);
}

static void sign_login(Boot *boot, const char *line)
{
    (void)line;
    boot_init_seen(boot);
    stages_passed(boot, STAGE_NETWORK);
}

static void sign_tiny_ready(Boot *boot, const char *line)
{
    (void)line;
    provisioned_by_console(boot);
}

/* What a sign means: something to do, or a stall. Firmware that speaks says nothing new. */
static const struct {
    void (*take)(Boot *boot, const char *line); /* NULL: a stall, or nothing */
    bool is_stall;
    StallKind stall;
} signs[CONSOLE_N] = {
    [CONSOLE_BOOTLOADER] = {.take = sign_bootloader},
    [CONSOLE_KERNEL] = {.take = sign_kernel},
    [CONSOLE_INIT] = {.take = sign_init},
    [CONSOLE_NETWORK] = {.take = sign_network},
    [CONSOLE_CLOUD_INIT] = {.take = console_cloud_init},
    [CONSOLE_CLOUD_INIT_ERROR] = {.take = console_cloud_init_error},
    [CONSOLE_CLOUD_INIT_DONE] = {.take = sign_cloud_init_done},
    [CONSOLE_LOGIN] = {.take = sign_login},
    [CONSOLE_TINY_READY] = {.take = sign_tiny_ready},
    [CONSOLE_STALL_NO_BOOT_DEVICE] = {.is_stall = true, .stall = STALL_NO_BOOT_DEVICE},
    [CONSOLE_STALL_GRUB] = {.is_stall = true, .stall = STALL_GRUB},
    [CONSOLE_STALL_PANIC] = {.is_stall = true, .stall = STALL_PANIC},
    [CONSOLE_STALL_EMERGENCY] = {.is_stall = true, .stall = STALL_EMERGENCY},
    [CONSOLE_STALL_INITRAMFS] = {.is_stall = true, .stall = STALL_INITRAMFS},
    [CONSOLE_STALL_UEFI_SHELL] = {.is_stall = true, .stall = STALL_UEFI_SHELL},
};

void boot_sign(Boot *boot, ConsoleSign sign, const char *line)
{
    if (signs[sign].take) {
        signs[sign].take(boot, line);
    } else if (signs[sign].is_stall) {
        boot_stall(boot, signs[sign].stall, line);
    }
}

/* --- a boot's beginning
 * --------------------------------------------------------------------------- */

static void start_timers(Boot *boot)
{
    const WatchConfig *config = &boot->watch->config;
    Loop *loop = &boot->watch->loop;
    if (config->stall_ms != 0 && *config->serial_log) {
        loop_timer_at(loop, &boot->silence, boot->heard_ms + config->stall_ms);
    }
    if (config->boot_ms != 0) {
        loop_timer_at(loop, &boot->boot_limit, boot->began_ms + config->boot_ms);
    }
    if (config->ready_ms != 0) {
        loop_timer_at(loop, &boot->ready_limit, boot->began_ms + config->ready_ms);
    }
}

/* What another watcher told before us. */
static void take_over(Boot *boot, const JournalPast *past)
{
    boot->begun = past->stages_begun;
    boot->done = past->stages_done;
    boot->stalls = past->stalls;
    boot->is_ready = has(past->stages_done, STAGE_READY);
    boot->is_provisioned = past->has_provision;
    boot->is_agent = past->has_agent;
    boot->has_feeder = *boot->watch->config.status; /* perhaps: the console waits for it */
    boot->conditions |= has(past->stages_begun, STAGE_INIT) || past->has_agent ? READY_BOOT : 0;
    boot->conditions |= has(past->stages_done, STAGE_SSH) ? READY_BOOT | READY_SSH : 0;
    boot->conditions |= past->has_provision ? READY_BOOT | READY_CLOUD_INIT : 0;
    boot->conditions |= past->has_agent ? READY_AGENT : 0;
}

static void set_timer(LoopTimer *timer, void (*expired)(void *data), Boot *boot)
{
    timer->expired = expired;
    timer->data = boot;
}

void boot_begin(Boot *boot, Watch *watch, const JournalPast *past)
{
    uint64_t now = event_clock_ms();
    bool is_first = !past || !past->has_rebooted;
    *boot = (Boot){.watch = watch, .heard_ms = now, .errors = json_array(), .lines = json_array()};
    boot->began_ms = is_first ? watch->config.stamp.start_ms : now;
    set_timer(&boot->silence, silence_expired, boot);
    set_timer(&boot->boot_limit, boot_limit_expired, boot);
    set_timer(&boot->ready_limit, ready_limit_expired, boot);
    set_timer(&boot->provision_wait, provisioned_by_console, boot);
    if (past) {
        take_over(boot, past);
    }
    stage_begin(boot, STAGE_FIRMWARE);
    if (!boot->is_ready) {
        start_timers(boot);
    }
    if (boot->conditions & READY_BOOT) {
        loop_timer_stop(&boot->boot_limit);
    }
    if (boot->conditions & READY_SSH) {
        probe_end(&watch->probe);
    } else if (boot->conditions & READY_BOOT) {
        probe_now(&watch->probe);
    }
}

void boot_reset(Boot *boot, bool is_by_guest)
{
    uint64_t now = event_clock_ms();
    bool is_echo = boot->reset_ms != 0 && now - boot->reset_ms < RESET_ECHO_MS;
    boot->reset_ms = now;
    if (is_echo) {
        return;
    }
    boot_agent(boot, false); /* QEMU said so before, as a rule */
    journal_write(&boot->watch->journal, "reboot",
                  json_pack("{s:s}", "by", is_by_guest ? "guest" : "host"));
    boot->begun = boot->done = boot->stalls = boot->conditions = 0;
    boot->is_ready = boot->is_provisioned = boot->has_feeder = false;
    boot->module[0] = '\0';
    boot->rank = 0;
    json_array_clear(boot->errors);
    json_array_clear(boot->lines);
    boot->began_ms = boot->heard_ms = now;
    loop_timer_stop(&boot->provision_wait);
    stage_begin(boot, STAGE_FIRMWARE);
    start_timers(boot);
    probe_restart(&boot->watch->probe);
}

void boot_clear(Boot *boot)
{
    loop_timer_stop(&boot->silence);
    loop_timer_stop(&boot->boot_limit);
    loop_timer_stop(&boot->ready_limit);
    loop_timer_stop(&boot->provision_wait);
    json_decref(boot->errors);
    json_decref(boot->lines);
    boot->errors = boot->lines = NULL;
}
