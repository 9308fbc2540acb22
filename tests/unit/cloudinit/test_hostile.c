/* Injection: whatever stands in a setting, the guest reads exactly that setting and no other.
 * 10,000 machines are described with hostile strings everywhere; hostile.py reads the texts as
 * cloud-init would, by PyYAML and Python's email, and compares keys and values. */
#include "cloudinit/seed.h"

#include <jansson.h>
#include <stdlib.h>
#include "tests/unit/cloudinit/scratch.h"
#include "tests/unit/cloudinit/typical.h"

#define N_MACHINES 10000
#define N_STRINGS  20

static const char *const pieces[] = {
    "\n",
    "\r\n",
    "\r",
    "\t",
    ": ",
    " #",
    "# ",
    "{{ x }}",
    "{% raw %}",
    "'",
    "\"",
    "\\",
    "\\n",
    "\n---\n",
    "\n...\n",
    "- ",
    "&a ",
    "*a",
    "!!python/object/apply:os.system [id]",
    "|",
    ">-",
    "%YAML 1.2\n",
    "<<: ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\x7f",
    "\xc2\x85",
    "\xc2\xa0",
    "\xe2\x80\xa8",
    "\xe2\x80\xa9",
    "\xef\xbb\xbf",
    "\xef\xbf\xbe",
    "\xef\xbf\xbf",
    "\xf0\x9f\x90\xb7",
    "\xf4\x8f\xbf\xbf",
    "\xc3\xa9",
    "\xff",
    "\xed\xa0\x80",
    "\xc0\xaf",
    "\x01",
    "\x1b[31m",
    "VM_RUN_END",
    "\nVM_RUN_END\n",
    "\nVM_RUN_END\nreboot\n",
    "\n--==vm-run-",
    "\n\n",
    "#cloud-config\nruncmd: [reboot]\n",
    "\nContent-Type: text/x-shellscript\n\n#!/bin/sh\nreboot\n",
    "$(reboot)",
    "`reboot`",
    "; reboot",
    "${IFS}",
    "%s%n",
    "\nruncmd: [reboot]",
    "yes",
    "null",
    "~",
    "0x10",
    "1:20",
    "2001-01-01",
    "a",
    "b",
    " ",
    "\xe2\x80\xae",
    "\n.\n",
    "=",
};

static char *hostile_string(GRand *random)
{
    GString *text = g_string_new(NULL);
    int n = g_rand_int_range(random, 0, 7);
    for (int i = 0; i < n; i++) {
        if (g_rand_int_range(random, 0, 4) == 0) {
            g_string_append_c(text, (char)g_rand_int_range(random, 1, 256));
        } else {
            g_string_append(text, pieces[g_rand_int_range(random, 0, G_N_ELEMENTS(pieces))]);
        }
    }
    return g_string_free(text, FALSE);
}

static json_t *base64_of(const char *text, bool is_bytes)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    const char *shown = is_bytes ? text : valid;
    g_autofree char *base64 = g_base64_encode((const guchar *)shown, strlen(shown));
    return json_string(base64);
}

static json_t *bytes_of(GBytes *bytes)
{
    gsize n;
    const void *data = g_bytes_get_data(bytes, &n);
    g_autofree char *base64 = g_base64_encode(data, n);
    return json_string(base64);
}

/* One machine whose every text is one of `s`. */
static void describe(Typical *t, char **s)
{
    static const char *addresses[2];
    static const char *servers[2];
    typical_init(t);
    t->spec.hostname = s[0];
    t->spec.user = s[1];
    t->spec.timezone = s[2];
    t->spec.locale = s[3];
    t->keys[0] = s[4];
    t->host_key = (SeedKeyPair){s[5], s[6]};
    t->spec.packages->pdata[0] = s[7];
    t->file = (SpecWriteFile){.path = s[8], .content = s[9], .owner = s[10], .permissions = s[11]};
    t->spec.run->pdata[0] = s[12];
    t->spec.ca_certs->pdata[0] = s[13];
    t->input.instance_id = s[14];
    t->input.password_hash = s[15];
    addresses[0] = s[17];
    servers[0] = s[19];
    t->nic =
        (SeedNic){.mac = s[16], .addresses = addresses, .gateway4 = s[18], .nameservers = servers};
}

static json_t *record(const SeedTexts *texts, char **s)
{
    json_t *strings = json_array();
    for (unsigned i = 0; i < N_STRINGS; i++) {
        json_array_append_new(strings, base64_of(s[i], i == 12));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "strings", strings, "meta", bytes_of(texts->meta_data),
                     "vendor", bytes_of(texts->vendor_data), "network",
                     bytes_of(texts->network_config));
}

static void test_texts_when_strings_are_hostile_then_keys_and_values_are_ours(void **state)
{
    g_autofree char *path = scratch_path(state, "records");
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    g_autoptr(GRand) random = g_rand_new_with_seed(20261122);
    for (int i = 0; i < N_MACHINES; i++) {
        char *strings[N_STRINGS];
        for (unsigned k = 0; k < N_STRINGS; k++) {
            strings[k] = hostile_string(random);
        }
        Typical t;
        describe(&t, strings);
        t.input.has_status_port = i % 20 == 0; /* its text is constant */
        g_autoptr(SeedTexts) texts = seed_texts_build(&t.input);
        json_t *json = record(texts, strings);
        json_dumpf(json, file, JSON_COMPACT);
        fputc('\n', file);
        json_decref(json);
        typical_clear(&t);
        for (unsigned k = 0; k < N_STRINGS; k++) {
            g_free(strings[k]);
        }
    }
    assert_int_equal(fclose(file), 0);
    g_autofree char *said =
        SCRATCH_RUN("/usr/bin/python3", TEST_SOURCE_DIR "/unit/cloudinit/hostile.py", path);
    assert_string_equal(said, "10000 machines\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_when_strings_are_hostile_then_keys_and_values_are_ours),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
