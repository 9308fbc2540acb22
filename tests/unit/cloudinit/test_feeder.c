#include "cloudinit/feeder.h"

#include <glib.h>
#include "tests/unit/cloudinit/scratch.h"

/* Lines as a Debian 12 guest (cloud-init 22.4.2) sent them. */
#define LOG(text) "47.54 2026-11-25 13:35:40,921 - handlers.py[DEBUG]: " text

static void test_status_when_lines_of_a_guest_then_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        SeedStatusKind kind;
        double uptime_s;
        SeedOutcome outcome;
        const char *stage, *module, *text;
    } cases[] = {
        {"hello 47.37", SEED_STATUS_HELLO, 47.37, 0, "", "", "hello 47.37"},
        {LOG("start: init-local/search-NoCloud: searching for local data from DataSourceNoCloud"),
         SEED_STATUS_MODULE_BEGIN, 47.54, 0, "init-local", "search-NoCloud",
         "searching for local data from DataSourceNoCloud"},
        {LOG("finish: init-local/check-cache: SUCCESS: no cache found"), SEED_STATUS_MODULE_END,
         47.54, SEED_OUTCOME_SUCCESS, "init-local", "check-cache", "no cache found"},
        {"136.30 2026-11-25 13:37:22,116 - handlers.py[DEBUG]: finish: modules-config: SUCCESS: "
         "running modules for config",
         SEED_STATUS_STAGE_END, 136.30, SEED_OUTCOME_SUCCESS, "modules-config", "",
         "running modules for config"},
        {LOG("start: modules-final: running modules for final"), SEED_STATUS_STAGE_BEGIN, 47.54, 0,
         "modules-final", "", "running modules for final"},
        {"1.5 2026-11-25 13:35:40,921 - handlers.py[WARNING]: finish: "
         "modules-final/config-scripts_vendor: FAIL: running config-scripts_vendor with frequency "
         "once-per-instance",
         SEED_STATUS_MODULE_END, 1.5, SEED_OUTCOME_FAIL, "modules-final", "config-scripts_vendor",
         "running config-scripts_vendor with frequency once-per-instance"},
        {"2 2026-11-25 13:35:40,921 - util.py[WARNING]: Failed loading yaml blob", SEED_STATUS_LOG,
         2, 0, "", "", "2026-11-25 13:35:40,921 - util.py[WARNING]: Failed loading yaml blob"},
        {"ssh 118.61", SEED_STATUS_SSH, 118.61, 0, "", "", "ssh 118.61"},
        {"result { \"v1\": { \"errors\": [] } } ", SEED_STATUS_RESULT, 0, 0, "", "",
         "{ \"v1\": { \"errors\": [] } } "},
        {"done 165.33 done", SEED_STATUS_DONE, 165.33, SEED_OUTCOME_SUCCESS, "", "", "done"},
        {"done 165.33 error", SEED_STATUS_DONE, 165.33, SEED_OUTCOME_FAIL, "", "", "error"},
        {"done 165.33 degraded", SEED_STATUS_DONE, 165.33, SEED_OUTCOME_DEGRADED, "", "",
         "degraded"},
        {"done 165.33 unknown", SEED_STATUS_DONE, 165.33, SEED_OUTCOME_UNKNOWN, "", "", "unknown"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        SeedStatus got = seed_status_parse(cases[i].line);
        if (got.kind != cases[i].kind || got.outcome != cases[i].outcome ||
            strcmp(got.text, cases[i].text) != 0) {
            fail_msg("%s: kind %d, outcome %d, text %s", cases[i].line, got.kind, got.outcome,
                     got.text);
        }
        assert_true(got.uptime_s > cases[i].uptime_s - 0.001 &&
                    got.uptime_s < cases[i].uptime_s + 0.001);
        assert_string_equal(got.stage, cases[i].stage);
        assert_string_equal(got.module, cases[i].module);
    }
}

static void test_status_when_guest_lies_then_harmless(void **state)
{
    (void)state;
    static const char *const others[] = {
        "",       "x",     "hello",  "hello x",     "ssh",
        "ssh 1x", "done",  "done 1", "done 1 fine", "result",
        "-1 x",   "1e9 x", "nan x",  "1.2.3 x",     "99999999999999999999 x",
        ". .",    "12"};
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        SeedStatusKind kind = seed_status_parse(others[i]).kind;
        assert_true(kind == SEED_STATUS_OTHER || kind == SEED_STATUS_LOG);
    }
    g_autofree char *name = g_strnfill(4000, 'n');
    g_autofree char *line = g_strdup_printf("1.0 x]: start: %s: y", name);
    assert_int_equal(seed_status_parse(line).kind, SEED_STATUS_LOG);
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    for (int i = 0; i < 20000; i++) {
        char bytes[64];
        for (size_t k = 0; k < sizeof bytes - 1; k++) {
            bytes[k] = "1.: /]startfinish\xff\x01"[g_rand_int_range(random, 0, 19)];
        }
        bytes[sizeof bytes - 1] = '\0';
        SeedStatus got = seed_status_parse(bytes);
        assert_true(got.text >= bytes && got.text < bytes + sizeof bytes);
    }
}

static void test_feeder_text_when_shells_read_it_then_no_syntax_error(void **state)
{
    g_autofree char *path = scratch_write(state, "feeder", seed_feeder_text());
    g_autofree char *dash = SCRATCH_RUN("dash", "-n", path);
    g_autofree char *bash = SCRATCH_RUN("bash", "--posix", "-n", path);
    const char *inner = strstr(seed_feeder_text(), "<<'VM_RUN_END'\n") + strlen("<<'VM_RUN_END'\n");
    g_autofree char *feed = g_strndup(inner, (gsize)(strstr(inner, "VM_RUN_END\n") - inner));
    g_autofree char *feed_path = scratch_write(state, "feed", feed);
    g_autofree char *dash_feed = SCRATCH_RUN("dash", "-n", feed_path);
    g_autofree char *bash_feed = SCRATCH_RUN("bash", "--posix", "-n", feed_path);
}

static void test_feeder_text_when_no_port_then_leaves_at_once(void **state)
{
    g_autofree char *path = scratch_write(state, "hook", strchr(seed_feeder_text(), '\n') + 1);
    g_autofree char *before = g_strdup(access("/run/vm-run-feed", F_OK) == 0 ? "there" : "absent");
    assert_int_not_equal(access("/dev/virtio-ports/" SEED_STATUS_PORT, F_OK), 0);
    g_autofree char *said = SCRATCH_RUN("dash", path);
    assert_string_equal(said, "");
    assert_string_equal(access("/run/vm-run-feed", F_OK) == 0 ? "there" : "absent", before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_when_lines_of_a_guest_then_parsed),
        cmocka_unit_test(test_status_when_guest_lies_then_harmless),
        cmocka_unit_test(test_feeder_text_when_shells_read_it_then_no_syntax_error),
        cmocka_unit_test(test_feeder_text_when_no_port_then_leaves_at_once),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
