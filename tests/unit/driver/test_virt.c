/* libvirt through driver/virt.h on test:///default: the part, its errors, and the domains' life. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/error.h"
#include "driver/domain_ns.h"
#include "driver/virt_ops.h"

#define URI   "test:///default"
#define UUID  "5f1c2f0e-2f56-5a57-9f66-2d6a5c1d3a10"
#define OWNER "/state\nvm-run:/state:web"

static char *domain_xml(const char *name, const char *uuid)
{
    return g_strdup_printf("<domain type='test'><name>%s</name><uuid>%s</uuid>"
                           "<metadata><vm:owner xmlns:vm='" DOMAIN_NS_URI "'>" OWNER
                           "</vm:owner></metadata><memory unit='b'>268435456</memory>"
                           "<vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os></domain>",
                           name, uuid);
}

static VirtConn *open_test(void)
{
    g_autoptr(GError) error = NULL;
    VirtConn *conn = virt_open(URI, &error);
    assert_null(error);
    assert_non_null(conn);
    return conn;
}

static VirtState state_of(VirtConn *conn, const char *uuid)
{
    VirtState state = VIRT_STATE_ABSENT;
    assert_true(virt_state(conn, uuid, &state, NULL));
    return state;
}

static void test_life_define_to_undefine_passes_every_state(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autofree char *xml = domain_xml("web", UUID);
    assert_int_equal(state_of(conn, UUID), VIRT_STATE_ABSENT);
    assert_true(virt_define(conn, xml, NULL));
    assert_true(virt_define(conn, xml, NULL)); /* the same twice */
    assert_int_equal(state_of(conn, UUID), VIRT_STATE_OFF);
    assert_true(virt_start(conn, UUID, NULL, 0, NULL));
    assert_int_equal(state_of(conn, UUID), VIRT_STATE_RUNNING);
    g_autoptr(GError) again = NULL;
    assert_false(virt_start(conn, UUID, NULL, 0, &again));
    assert_true(g_error_matches(again, VM_ERROR, VM_ERROR_BUSY));
    assert_true(virt_shutdown(conn, UUID, NULL));
    assert_int_equal(state_of(conn, UUID), VIRT_STATE_OFF);
    assert_true(virt_destroy(conn, UUID, NULL)); /* off already */
    assert_true(virt_undefine(conn, UUID, NULL));
    assert_true(virt_undefine(conn, UUID, NULL)); /* absent */
    assert_true(virt_destroy(conn, UUID, NULL));
    assert_int_equal(state_of(conn, UUID), VIRT_STATE_ABSENT);
}

static void test_define_name_of_another_uuid_then_exists(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autofree char *mine = domain_xml("web", UUID);
    g_autofree char *other = domain_xml("web", "11111111-2222-5333-9444-555555555555");
    g_autoptr(GError) error = NULL;
    assert_true(virt_define(conn, mine, NULL));
    assert_false(virt_define(conn, other, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_EXISTS));
    assert_non_null(strstr(error->message, UUID));
    assert_true(virt_undefine(conn, UUID, NULL));
}

static void test_define_unknown_element_then_one_line_error(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    const char *const bad[] = {"<domain type='test'><name>x</name><memory>1</memory>"
                               "<os><type>hvm</type></os><nonsense/></domain>",
                               "<domain", ""};
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(virt_define(conn, bad[i], &error));
        assert_non_null(error);
        assert_null(strchr(error->message, '\n'));
    }
}

static void test_find_and_list_know_whose_domain_it_is(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autofree char *xml = domain_xml("web", UUID);
    g_autoptr(GError) error = NULL;
    assert_null(virt_find_by_name(conn, "web", &error));
    assert_null(error);
    VirtDomain *foreign = virt_find_by_name(conn, "test", NULL); /* the driver's own domain */
    assert_non_null(foreign);
    assert_null(foreign->owner);
    assert_int_equal(foreign->state, VIRT_STATE_RUNNING);
    virt_domain_free(foreign);

    assert_true(virt_define(conn, xml, NULL));
    VirtDomain *ours = virt_find_by_name(conn, "web", NULL);
    assert_string_equal(ours->owner, OWNER);
    assert_string_equal(ours->uuid, UUID);
    virt_domain_free(ours);
    g_autoptr(GPtrArray) list = virt_list_ours(conn, NULL);
    assert_int_equal(list->len, 1);
    assert_string_equal(((VirtDomain *)list->pdata[0])->name, "web");
    assert_true(virt_undefine(conn, UUID, NULL));
}

static void test_absent_domain_then_not_found(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autoptr(GError) start = NULL, stats = NULL, xml = NULL, agent = NULL;
    VirtStats numbers;
    assert_false(virt_start(conn, UUID, NULL, 0, &start));
    assert_false(virt_stats(conn, UUID, &numbers, &stats));
    assert_null(virt_domain_xml(conn, UUID, &xml));
    assert_null(virt_agent_command(conn, UUID, "{}", 1, &agent));
    assert_true(g_error_matches(start, VM_ERROR, VM_ERROR_NOT_FOUND));
    assert_true(g_error_matches(stats, VM_ERROR, VM_ERROR_NOT_FOUND));
    assert_true(g_error_matches(xml, VM_ERROR, VM_ERROR_NOT_FOUND));
    assert_true(g_error_matches(agent, VM_ERROR, VM_ERROR_NOT_FOUND));
}

static void test_what_the_test_driver_lacks_then_unsupported(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autofree char *xml = domain_xml("web", UUID);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    VirtDiskFd disk = {"disk0", fd, false};
    g_autoptr(GError) error = NULL;
    assert_true(virt_define(conn, xml, NULL));
    assert_false(virt_start(conn, UUID, &disk, 1, &error));
    assert_true(g_error_matches(error, VM_ERROR, VM_ERROR_UNSUPPORTED));
    assert_true(fcntl(fd, F_GETFD) >= 0); /* borrowed: still ours */
    close(fd);
    assert_true(virt_undefine(conn, UUID, NULL));
}

static void test_stats_and_xml_of_a_running_domain(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autofree char *xml = domain_xml("web", UUID);
    VirtStats stats;
    assert_true(virt_define(conn, xml, NULL));
    assert_true(virt_start(conn, UUID, NULL, 0, NULL));
    assert_true(virt_stats(conn, UUID, &stats, NULL));
    assert_int_equal(stats.n_vcpus, 2);
    g_autofree char *live = virt_domain_xml(conn, UUID, NULL);
    assert_non_null(strstr(live, DOMAIN_NS_URI));
    assert_true(virt_destroy(conn, UUID, NULL));
    assert_true(virt_undefine(conn, UUID, NULL));
}

static void test_facts_of_the_test_driver_have_no_qemu(void **context)
{
    (void)context;
    g_autoptr(VirtConn) conn = open_test();
    g_autofree HostFacts *facts = g_new0(HostFacts, 1);
    assert_true(virt_facts(conn, facts, NULL));
    assert_int_equal(strncmp(facts->libvirt_version, "9.", 2), 0);
    assert_null(facts->emulator);
    assert_false(facts->has_fd_associate);
    g_free(facts->libvirt_version);
}

static void test_open_unknown_or_dead_uri_then_says_which(void **context)
{
    (void)context;
    static const struct {
        const char *uri;
        int code;
    } rows[] = {
        {"xen:///system", VM_ERROR_UNSUPPORTED},
        {"", VM_ERROR_UNSUPPORTED},
        {"qemu:///nonsense", VM_ERROR_UNSUPPORTED},
        {"qemu:///\x01", VM_ERROR_UNSUPPORTED},
        {"qemu+unix:///system?socket=/nonexistent/sock", VM_ERROR_HOST},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(virt_open(rows[i].uri, &error));
        assert_int_equal(error->code, rows[i].code);
        assert_non_null(strstr(error->message, rows[i].uri));
        assert_null(strchr(error->message, '\n'));
    }
}

static void test_libvirt_never_writes_to_stderr(void **context)
{
    (void)context;
    g_autofree char *path = g_strdup("/tmp/vm-test-stderr-XXXXXX");
    int file = g_mkstemp(path), saved = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    assert_null(virt_open("qemu+unix:///system?socket=/nonexistent/sock", NULL));
    VirtConn *conn = virt_open(URI, NULL);
    bool is_defined = virt_define(conn, "<domain type='test'><bad/></domain>", NULL);
    virt_close(conn);
    dup2(saved, STDERR_FILENO);
    close(saved);
    off_t size = lseek(file, 0, SEEK_END);
    close(file);
    unlink(path);
    assert_false(is_defined);
    assert_int_equal(size, 0);
}

static void test_kind_of_uri(void **context)
{
    (void)context;
    assert_int_equal(virt_kind_of_uri("qemu:///embed?root=/a"), VIRT_KIND_EMBED);
    assert_int_equal(virt_kind_of_uri("qemu:///system"), VIRT_KIND_SYSTEM);
    assert_int_equal(virt_kind_of_uri("qemu:///session"), VIRT_KIND_SESSION);
    assert_int_equal(virt_kind_of_uri("qemu://host/system"), VIRT_KIND_REMOTE);
    assert_int_equal(virt_kind_of_uri("qemu+ssh://root@host/system"), VIRT_KIND_REMOTE);
    assert_int_equal(virt_kind_of_uri("test:///default"), VIRT_KIND_TEST);
    g_autofree char *root = virt_embed_root_of_uri("qemu:///embed?root=/a%20b%26c/d");
    assert_string_equal(root, "/a b&c/d");
    assert_null(virt_embed_root_of_uri("qemu:///embed"));
    assert_null(virt_embed_root_of_uri("qemu:///system?root=/a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libvirt_never_writes_to_stderr),
        cmocka_unit_test(test_life_define_to_undefine_passes_every_state),
        cmocka_unit_test(test_define_name_of_another_uuid_then_exists),
        cmocka_unit_test(test_define_unknown_element_then_one_line_error),
        cmocka_unit_test(test_find_and_list_know_whose_domain_it_is),
        cmocka_unit_test(test_absent_domain_then_not_found),
        cmocka_unit_test(test_what_the_test_driver_lacks_then_unsupported),
        cmocka_unit_test(test_stats_and_xml_of_a_running_domain),
        cmocka_unit_test(test_facts_of_the_test_driver_have_no_qemu),
        cmocka_unit_test(test_open_unknown_or_dead_uri_then_says_which),
        cmocka_unit_test(test_kind_of_uri),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
