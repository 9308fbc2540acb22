#include "cloudinit/keys.h"

#include <fcntl.h>
#include "tests/unit/cloudinit/scratch.h"

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJi0WTMn4XzmjZWJJ4UJfxhE6fC6TR6zsyLqmjHbVBkK"

static char *keygen(void **state, const char *name, const char *type, const char *bits)
{
    g_autofree char *path = scratch_path(state, name);
    g_autofree char *output = SCRATCH_RUN("ssh-keygen", "-q", "-t", type, "-b", bits, "-N", "",
                                          "-C", "somebody at home", "-f", path);
    g_autofree char *public = g_strconcat(path, ".pub", NULL);
    char *line = scratch_read(public);
    return g_strstrip(line);
}

static void test_key_check_when_made_by_ssh_keygen_then_accepts(void **state)
{
    static const char *const kinds[][2] = {
        {"ed25519", "256"}, {"rsa", "2048"},  {"rsa", "3072"},
        {"ecdsa", "256"},   {"ecdsa", "384"}, {"ecdsa", "521"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *name = g_strdup_printf("kind%zu", i);
        g_autofree char *line = keygen(state, name, kinds[i][0], kinds[i][1]);
        g_autoptr(GError) error = NULL;
        if (!seed_key_check(line, &error)) {
            fail_msg("%s %s: %s", kinds[i][0], kinds[i][1], error->message);
        }
        /* One digit less or a byte more is no key. */
        g_auto(GStrv) words = g_strsplit(line, " ", 3);
        words[1][strlen(words[1]) - 4] = '\0';
        g_autofree char *cut = g_strdup_printf("%s %s", words[0], words[1]);
        assert_false(seed_key_check(cut, NULL));
    }
}

static void test_key_check_when_rsa_is_short_then_says_bits(void **state)
{
    g_autofree char *line = keygen(state, "short", "rsa", "1024");
    g_autoptr(GError) error = NULL;
    assert_false(seed_key_check(line, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_CI));
    assert_non_null(strstr(error->message, "1024 bits"));
}

static void test_key_check_when_security_key_then_accepts(void **state)
{
    (void)state;
    /* Built by the rules of openssh's PROTOCOL.u2f: type, 32 bytes, application "ssh:". */
    g_autoptr(GByteArray) blob = g_byte_array_new();
    const char type[] = "sk-ssh-ed25519@openssh.com";
    const guint8 head[] = {0, 0, 0, sizeof type - 1};
    const guint8 mid[36] = {0, 0, 0, 32, 1, 2, 3};
    const guint8 tail[] = {0, 0, 0, 4, 's', 's', 'h', ':'};
    g_byte_array_append(blob, head, sizeof head);
    g_byte_array_append(blob, (const guint8 *)type, sizeof type - 1);
    g_byte_array_append(blob, mid, sizeof mid);
    g_byte_array_append(blob, tail, sizeof tail);
    g_autofree char *base64 = g_base64_encode(blob->data, blob->len);
    g_autofree char *line = g_strdup_printf("%s %s", type, base64);
    assert_true(seed_key_check(line, NULL));
    g_autofree char *cut = g_base64_encode(blob->data, blob->len - 8);
    g_autofree char *bad = g_strdup_printf("%s %s", type, cut);
    assert_false(seed_key_check(bad, NULL));
}

static void test_key_check_when_malformed_then_says_why(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        VmError code;
        const char *word;
    } cases[] = {
        {"", VM_ERROR_CI, "empty"},
        {"  ", VM_ERROR_CI, "empty"},
        {"ssh-ed25519", VM_ERROR_CI, "base64"},
        {"ssh-ed25519 !!!!", VM_ERROR_CI, "base64"},
        {"ssh-ed25519 AAAA", VM_ERROR_CI, "not that of"},
        {"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIJi0WTMn4XzmjZWJJ4UJfxhE6fC6TR6zsyLqmjHbVBkK",
         VM_ERROR_CI, "not that of"},
        {ED25519 "\n" ED25519, VM_ERROR_CI, "line break"},
        {ED25519 " a\rb", VM_ERROR_CI, "line break"},
        {ED25519 " a\x1b[31m", VM_ERROR_CI, "control"},
        {ED25519 " \xff", VM_ERROR_CI, "UTF-8"},
        {"command=\"id\" " ED25519, VM_ERROR_CI, "options"},
        {"no-pty,from=\"10.0.0.1\" " ED25519, VM_ERROR_CI, "options"},
        {"ssh-dss AAAAB3NzaC1kc3MAAACB", VM_ERROR_CI, "DSA"},
        {"ssh-ed25519-cert-v01@openssh.com AAAA", VM_ERROR_CI, "certificate"},
        {"hello world", VM_ERROR_CI, "'hello'"},
        {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r", VM_ERROR_SECRET, "private"},
        {"-----BEGIN RSA PRIVATE KEY-----", VM_ERROR_SECRET, "private"},
        {"PuTTY-User-Key-File-2: ssh-rsa", VM_ERROR_SECRET, "private"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(seed_key_check(cases[i].line, &error));
        if (error->code != (int)cases[i].code || !strstr(error->message, cases[i].word)) {
            fail_msg("case %zu: %s", i, error->message);
        }
        assert_null(strchr(error->message, '\n'));
    }
    assert_true(seed_key_check(ED25519, NULL));
    assert_true(seed_key_check("  " ED25519 "\tAndré's laptop  ", NULL));
}

static void test_keypair_when_new_then_ssh_keygen_agrees(void **state)
{
    g_autoptr(SeedKeyPair) pair = seed_keypair_new("vm-run host web", NULL);
    assert_non_null(pair);
    assert_true(seed_key_check(pair->public_line, NULL));
    g_autofree char *path = scratch_write(state, "own", pair->private_openssh);
    g_autofree char *derived = SCRATCH_RUN("ssh-keygen", "-y", "-P", "", "-f", path);
    assert_string_equal(g_strstrip(derived), pair->public_line);
    g_autoptr(SeedKeyPair) other = seed_keypair_new("vm-run host web", NULL);
    assert_string_not_equal(other->public_line, pair->public_line);
}

static void test_keypair_when_signing_then_ssh_keygen_verifies(void **state)
{
    g_autoptr(SeedKeyPair) pair = seed_keypair_new("", NULL);
    g_autofree char *path = scratch_write(state, "signer", pair->private_openssh);
    g_autofree char *text = scratch_write(state, "text", "some words\n");
    g_autofree char *signed_by =
        SCRATCH_RUN("ssh-keygen", "-Y", "sign", "-q", "-n", "file", "-f", path, text);
    g_autofree char *signature = g_strconcat(text, ".sig", NULL);
    int fd = open(text, O_RDONLY | O_CLOEXEC);
    const char *argv[] = {"ssh-keygen", "-Y", "check-novalidate", "-n",
                          "file",       "-s", signature,          NULL};
    BaseChild child = {.argv = argv, .stdin_fd = fd, .stdout_fd = -1, .stderr_fd = -1};
    g_autoptr(GError) error = NULL;
    bool is_good = base_child_run(&child, NULL, NULL, &error);
    close(fd);
    assert_true(is_good);
}

static void test_keypair_when_read_back_then_equal(void **state)
{
    (void)state;
    static const char *const comments[] = {"", "a", "host key of 'web' é", "1234567", "12345678"};
    for (size_t i = 0; i < G_N_ELEMENTS(comments); i++) {
        g_autoptr(SeedKeyPair) pair = seed_keypair_new(comments[i], NULL);
        g_autoptr(GError) error = NULL;
        g_autoptr(SeedKeyPair) again = seed_keypair_from_private(pair->private_openssh, &error);
        assert_null(error);
        assert_string_equal(again->private_openssh, pair->private_openssh);
        assert_string_equal(again->public_line, pair->public_line);
    }
}

static void test_keypair_when_from_ssh_keygen_then_reads(void **state)
{
    g_autofree char *line = keygen(state, "foreign", "ed25519", "256");
    g_autofree char *path = scratch_path(state, "foreign");
    g_autofree char *text = scratch_read(path);
    g_autoptr(SeedKeyPair) pair = seed_keypair_from_private(text, NULL);
    assert_non_null(pair);
    assert_string_equal(pair->public_line, line);
}

static void test_keypair_when_not_ours_then_refused(void **state)
{
    g_autofree char *line = keygen(state, "rsa", "rsa", "2048");
    g_autofree char *rsa_path = scratch_path(state, "rsa");
    g_autofree char *rsa = scratch_read(rsa_path);
    g_autofree char *locked_path = scratch_path(state, "locked");
    g_autofree char *output =
        SCRATCH_RUN("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", locked_path);
    g_autofree char *locked = scratch_read(locked_path);
    g_autoptr(SeedKeyPair) pair = seed_keypair_new("c", NULL);
    g_autofree char *cut = g_strndup(pair->private_openssh, strlen(pair->private_openssh) / 2);
    g_autofree char *flipped = g_strdup(pair->private_openssh);
    char *digit = flipped + strlen("-----BEGIN OPENSSH PRIVATE KEY-----\n") + 180;
    *digit = *digit == 'A' ? 'B' : 'A';
    const char *const bad[] = {"", "x", rsa, locked, cut, flipped};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(seed_keypair_from_private(bad[i], &error));
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_CI));
    }
    assert_null(seed_keypair_new("a\nb", NULL));
}

static void test_password_hash_when_made_then_checks(void **state)
{
    (void)state;
    g_autofree char *one = seed_password_hash("correct horse", NULL);
    g_autofree char *two = seed_password_hash("correct horse", NULL);
    assert_true(g_str_has_prefix(one, "$y$"));
    assert_string_not_equal(one, two);
    assert_true(seed_password_hash_check(one, NULL));
}

static void test_password_hash_when_malformed_then_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "!",
        "*",
        "x",
        "secret",
        "$1$abcdefgh$0123456789abcdefghijkl",
        "$6$",
        "$6$salt",
        "$6$salt$",
        "$6$salt$short",
        "$y$j9T$salt$short",
        "$y$",
        "$6$salt$\n",
        "$7$x",
        "$2y$05$abcdefg",
        "$6$sa:lt$"
        "IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.",
        "$6$rounds=5000$a$b$"
        "IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        if (seed_password_hash_check(bad[i], &error)) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_CI));
        assert_true(strlen(bad[i]) < 6 || !strstr(error->message, bad[i]));
    }
    static const char *const good[] = {
        "$6$saltstring$"
        "IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.",
        "$6$rounds=5000$saltstring$"
        "IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g.",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        assert_true(seed_password_hash_check(good[i], NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_check_when_made_by_ssh_keygen_then_accepts),
        cmocka_unit_test(test_key_check_when_rsa_is_short_then_says_bits),
        cmocka_unit_test(test_key_check_when_security_key_then_accepts),
        cmocka_unit_test(test_key_check_when_malformed_then_says_why),
        cmocka_unit_test(test_keypair_when_new_then_ssh_keygen_agrees),
        cmocka_unit_test(test_keypair_when_signing_then_ssh_keygen_verifies),
        cmocka_unit_test(test_keypair_when_read_back_then_equal),
        cmocka_unit_test(test_keypair_when_from_ssh_keygen_then_reads),
        cmocka_unit_test(test_keypair_when_not_ours_then_refused),
        cmocka_unit_test(test_password_hash_when_made_then_checks),
        cmocka_unit_test(test_password_hash_when_malformed_then_refused),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
