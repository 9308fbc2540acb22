/*
 * tests/golden/CASE/: spec.yaml and facts.json in; what the machine is made from out, byte for
 * byte: record.json, domain.xml and the seed's texts, and `warnings` where there are some - or
 * `error`, the lines that a person sees. UPDATE_GENERATED=1 writes them anew.
 * tests/golden/README.md.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <fcntl.h>
#include <jansson.h>
#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include <glib/gstdio.h>
#include "base/dir.h"
#include "cloudinit/check.h"
#include "cloudinit/seed.h"
#include "driver/connection.h"
#include "driver/plan_net.h"
#include "schemas/spec.h"

#define GOLDEN     TEST_SOURCE_DIR "/golden"
#define DOMAIN_RNG "/usr/share/libvirt/schemas/domain.rng"
#define RUN_DIR    "/run/vm-run/x.y"
/* The machine's own key, as every start makes one. */
#define USER_KEY                                                                                   \
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAPabWM2cNSdDrESUIGNw4gx+hqnvWnA4SLCjS+trl6K vm-run:web"

/* --- facts.json ------------------------------------------------------------------------------- */

typedef enum { FACT_TEXT, FACT_BOOL, FACT_UINT } FactKind;

typedef struct {
    const char *key;
    FactKind kind;
    size_t offset;
} Fact;

#define FACT(member, kind)                                                                         \
    {                                                                                              \
#member, kind, offsetof(HostFacts, member)                                                 \
    }

static const Fact facts_rows[] = {
    FACT(uri, FACT_TEXT),
    FACT(is_root, FACT_BOOL),
    FACT(has_cpu_virt, FACT_BOOL),
    FACT(has_dev_kvm, FACT_BOOL),
    FACT(can_open_kvm, FACT_BOOL),
    FACT(is_kvm_listed, FACT_BOOL),
    FACT(emulator, FACT_TEXT),
    FACT(machine_q35, FACT_TEXT),
    FACT(machine_pc, FACT_TEXT),
    FACT(uefi_code, FACT_TEXT),
    FACT(uefi_vars, FACT_TEXT),
    FACT(uefi_secure_code, FACT_TEXT),
    FACT(uefi_secure_vars, FACT_TEXT),
    FACT(has_fd_associate, FACT_BOOL),
    FACT(qemu_uid, FACT_UINT),
    FACT(qemu_gid, FACT_UINT),
    FACT(is_netns_shared, FACT_BOOL),
    FACT(has_vhost_net, FACT_BOOL),
};

static const char *const virt_kinds[] = {
    [VIRT_KIND_EMBED] = "embed", [VIRT_KIND_SYSTEM] = "system", [VIRT_KIND_SESSION] = "session",
    [VIRT_KIND_TEST] = "test",   [VIRT_KIND_REMOTE] = "remote",
};
G_STATIC_ASSERT(G_N_ELEMENTS(virt_kinds) == VIRT_KIND_N);

static const Fact *find_fact(const char *key)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(facts_rows); i++) {
        if (strcmp(facts_rows[i].key, key) == 0) {
            return &facts_rows[i];
        }
    }
    return NULL;
}

static void set_fact(HostFacts *facts, const char *key, const json_t *value)
{
    const Fact *fact = find_fact(key);
    if (!fact) {
        fail_msg("facts.json: unknown fact '%s'", key);
        return;
    }
    void *at = (char *)facts + fact->offset;
    if (fact->kind == FACT_TEXT) {
        *(char **)at = g_strdup(json_string_value(value));
    } else if (fact->kind == FACT_BOOL) {
        *(bool *)at = json_is_true(value);
    } else {
        *(unsigned *)at = (unsigned)json_integer_value(value);
    }
}

static VirtKind virt_kind_of(const char *name)
{
    for (unsigned i = 0; i < VIRT_KIND_N; i++) {
        if (strcmp(virt_kinds[i], name) == 0) {
            return (VirtKind)i;
        }
    }
    fail_msg("facts.json: unknown kind '%s'", name);
    return VIRT_KIND_N;
}

static json_t *load_json(const char *path)
{
    json_error_t at;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &at);
    if (!root) {
        fail_msg("%s:%d: %s", path, at.line, at.text);
    }
    return root;
}

/* The usual host with what is other in this case. */
static json_t *load_facts(const char *case_dir)
{
    g_autofree char *path = g_build_filename(case_dir, "facts.json", NULL);
    json_t *usual = load_json(GOLDEN "/facts.json");
    json_t *own = load_json(path);
    json_object_update(usual, own);
    json_decref(own);
    return usual;
}

static HostFacts *facts_of(const json_t *root)
{
    HostFacts *facts = host_facts_new();
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value)
    {
        if (strcmp(key, "kind") == 0) {
            facts->kind = virt_kind_of(json_string_value(value));
        } else if (strcmp(key, "images") != 0 && strcmp(key, "networks") != 0 &&
                   strcmp(key, "net_reason") != 0) {
            set_fact(facts, key, value);
        }
    }
    host_facts_judge_kvm(facts);
    return facts;
}

/* "PATH FORMAT VIRTUAL_SIZE" each, as looking at the images gave. Paths are borrowed from root. */
static GArray *images_of(const json_t *root)
{
    GArray *images = g_array_new(FALSE, TRUE, sizeof(PlanImage));
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(root, "images"), i, one)
    {
        const char *size = json_string_value(json_object_get(one, "virtual_size"));
        const char *format = json_string_value(json_object_get(one, "format"));
        PlanImage image = {
            .path = json_string_value(json_object_get(one, "path")),
            .format = (ImgFormat)img_format_from_name(format),
            .file_bytes = 1000 + i,
            .dev = 1,
            .ino = 2 + i,
            .mtime_ns = 3,
        };
        assert_true(spec_parse_size(size, &image.virtual_bytes));
        g_array_append_val(images, image);
    }
    return images;
}

/* --- networks: what looking gave for each NIC ------------------------------------------------- */

static const char *text_in(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void ip_in(const json_t *object, const char *key, BaseIp *out)
{
    const char *text = text_in(object, key);
    if (text && !base_ip_parse(text, out)) {
        fail_msg("facts.json: %s: '%s' is no address", key, text);
    }
}

/* "10.77.0.10/24": address and prefix; without one the guest asks by DHCP. */
static void cidr_in(const json_t *object, const char *key, BaseIp *out, uint8_t *out_bits)
{
    const char *text = text_in(object, key);
    const char *why = NULL;
    BaseCidr cidr = {0};
    if (text && !base_cidr_parse(text, &cidr, &why)) {
        fail_msg("facts.json: %s: '%s' %s", key, text, why);
    }
    *out = cidr.ip;
    *out_bits = text && strchr(text, '/') ? cidr.n_bits : 0;
}

static SpecNetKind net_kind_of(const char *name)
{
    for (unsigned i = 0; name && i < SPEC_NET_N; i++) {
        if (strcmp(spec_net_kind_name((SpecNetKind)i), name) == 0) {
            return (SpecNetKind)i;
        }
    }
    fail_msg("facts.json: networks: unknown kind '%s'", name ? name : "");
    return SPEC_NET_N;
}

static const char *const *nameservers_in(const json_t *one, GPtrArray *kept)
{
    const json_t *list = json_object_get(one, "nameservers");
    const char **texts = g_new0(const char *, json_array_size(list) + 1);
    for (size_t i = 0; i < json_array_size(list); i++) {
        texts[i] = json_string_value(json_array_get(list, i));
    }
    g_ptr_array_add(kept, texts);
    return texts;
}

/* NULL where the case has none: then each NIC is what its spec says. Texts are borrowed from root.
 */
static GArray *nets_of(const json_t *root, GPtrArray *kept)
{
    const json_t *list = json_object_get(root, "networks");
    GArray *nets = list ? g_array_new(FALSE, TRUE, sizeof(PlanNet)) : NULL;
    size_t i;
    json_t *one;
    json_array_foreach((json_t *)list, i, one)
    {
        PlanNet net = {
            .kind = net_kind_of(text_in(one, "kind")),
            .network = text_in(one, "network"),
            .bridge = text_in(one, "bridge"),
            .libvirt_network = text_in(one, "libvirt_network"),
            .domain = text_in(one, "domain"),
            .nameservers = nameservers_in(one, kept),
            .mtu = (uint32_t)json_integer_value(json_object_get(one, "mtu")),
        };
        cidr_in(one, "ip4", &net.ip4, &net.n_bits4);
        cidr_in(one, "ip6", &net.ip6, &net.n_bits6);
        ip_in(one, "gateway4", &net.gateway4);
        ip_in(one, "gateway6", &net.gateway6);
        g_array_append_val(nets, net);
    }
    return nets;
}

/* --- what comes out --------------------------------------------------------------------------- */

enum {
    OUT_RECORD,
    OUT_DOMAIN,
    OUT_USER_DATA,
    OUT_META_DATA,
    OUT_VENDOR_DATA,
    OUT_NETWORK_CONFIG,
    OUT_WARNINGS,
    OUT_ERROR,
    OUT_N
};

static const char *const out_names[OUT_N] = {
    "record.json", "domain.xml",     "user-data", "meta-data",
    "vendor-data", "network-config", "warnings",  "error",
};

typedef struct {
    char *dir;
    char *texts[OUT_N]; /* NULL: there is none */
    bool is_tcg, is_test_driver;
    char *uuid;
} Case;

static char *text_of(GBytes *bytes)
{
    gsize n = 0;
    const char *data = bytes ? g_bytes_get_data(bytes, &n) : NULL;
    return n ? g_strndup(data, n) : NULL;
}

static char *report_lines(BaseReport *report)
{
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        g_string_append_printf(out, "%s\n", line);
    }
    return g_string_free(out, out->len == 0);
}

static MachineSpec *load_spec(const Case *c, BaseReport *report)
{
    g_autofree char *path = g_build_filename(c->dir, "spec.yaml", NULL);
    g_autofree char *text = NULL;
    gsize n = 0;
    assert_true(g_file_get_contents(path, &text, &n, NULL));
    g_autoptr(SpecFile) file = spec_file_load_text(text, n, "spec.yaml", c->dir, report);
    assert_non_null(file);
    assert_int_equal(spec_file_n_machines(file), 1);
    return spec_file_steal_machine(file, 0);
}

/* As the step `seed` does it, with keys that stay the same. */
static void build_seed(Case *c, const MachineSpec *spec, const MachinePlan *plan, GPtrArray *keys)
{
    g_autofree char *private = NULL;
    assert_true(g_file_get_contents(GOLDEN "/host_key", &private, NULL, NULL));
    g_autoptr(SeedKeyPair) host_key = seed_keypair_from_private(private, NULL);
    assert_non_null(host_key);
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    g_autofree SeedNic *nics = machine_plan_seed_nics(plan, kept);
    g_ptr_array_insert(keys, 0, g_strdup(USER_KEY));
    g_ptr_array_add(keys, NULL);
    SeedInput input = {
        .spec = spec,
        .instance_id = plan->instance_id,
        .public_keys = (const char *const *)keys->pdata,
        .host_key = host_key,
        .password_hash = spec->password_hash,
        .nics = nics,
        .n_nics = plan->nics->len,
        .has_status_port = !plan->is_test_driver,
    };
    g_autoptr(SeedTexts) texts = seed_texts_build(&input);
    c->texts[OUT_USER_DATA] = text_of(texts->user_data);
    c->texts[OUT_META_DATA] = text_of(texts->meta_data);
    c->texts[OUT_VENDOR_DATA] = text_of(texts->vendor_data);
    c->texts[OUT_NETWORK_CONFIG] = text_of(texts->network_config);
}

static void build_texts(Case *c, const MachineSpec *spec, const MachinePlan *plan, GPtrArray *keys,
                        BaseReport *report)
{
    g_autoptr(GError) error = NULL;
    char *xml = machine_plan_domain_xml(plan, spec, &error);
    if (!xml) {
        base_report_error(report, (VmError)error->code, NULL, NULL, "%s", error->message);
        c->texts[OUT_ERROR] = report_lines(report);
        return;
    }
    c->texts[OUT_DOMAIN] = xml;
    c->texts[OUT_RECORD] = machine_plan_to_json(plan);
    c->texts[OUT_WARNINGS] = report_lines(report);
    c->is_tcg = plan->accel == SPEC_ACCEL_TCG;
    c->is_test_driver = plan->is_test_driver;
    c->uuid = g_strdup(plan->ident->uuid);
    build_seed(c, spec, plan, keys);
}

static void build(Case *c)
{
    json_t *root = load_facts(c->dir);
    g_autoptr(HostFacts) facts = facts_of(root);
    g_autoptr(GArray) images = images_of(root);
    g_autoptr(GPtrArray) kept = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) nets = nets_of(root, kept);
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = load_spec(c, report);
    spec_machine_finish(spec, report);
    seed_check_spec(spec, report);
    seed_check_user_data(spec, report);
    g_autoptr(GPtrArray) keys = seed_keys_resolve(spec, NULL, report);
    g_autoptr(MachineIdent) ident = machine_ident_new("/s", spec->name);
    PlanInput input = {.spec = spec,
                       .facts = facts,
                       .ident = ident,
                       .run_dir = RUN_DIR,
                       .generation = 1,
                       .images = (const PlanImage *)(const void *)images->data,
                       .n_images = images->len,
                       .nets = nets ? (const PlanNet *)(const void *)nets->data : NULL,
                       .net_reason = text_in(root, "net_reason")};
    if (nets && base_report_n_errors(report) == 0) {
        assert_int_equal(nets->len, spec->networks->len);
    }
    g_autoptr(MachinePlan) plan =
        base_report_n_errors(report) ? NULL : machine_plan_build(&input, report);
    if (plan) {
        build_texts(c, spec, plan, keys, report);
    } else {
        c->texts[OUT_ERROR] = report_lines(report);
    }
    json_decref(root);
}

/* --- compared --------------------------------------------------------------------------------- */

static bool is_update(void)
{
    return g_getenv("UPDATE_GENERATED") != NULL;
}

static void update(const char *path, const char *text)
{
    if (text) {
        assert_true(g_file_set_contents(path, text, -1, NULL));
    } else {
        g_unlink(path);
    }
}

static void print_first_difference(const char *path, const char *expected, const char *got)
{
    g_auto(GStrv) want = g_strsplit(expected ? expected : "", "\n", -1);
    g_auto(GStrv) have = g_strsplit(got ? got : "", "\n", -1);
    unsigned i = 0;
    while (want[i] && have[i] && strcmp(want[i], have[i]) == 0) {
        i++;
    }
    print_error("%s:%u:\n  expected: %s\n  got:      %s\n"
                "(UPDATE_GENERATED=1 build/tests/test-driver-golden writes it anew)\n",
                path, i + 1, want[i] ? want[i] : "the end", have[i] ? have[i] : "the end");
}

static unsigned n_different(const Case *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < OUT_N; i++) {
        g_autofree char *path = g_build_filename(c->dir, out_names[i], NULL);
        g_autofree char *expected = NULL;
        if (is_update()) {
            update(path, c->texts[i]);
            continue;
        }
        g_file_get_contents(path, &expected, NULL, NULL);
        if (g_strcmp0(expected, c->texts[i]) != 0) {
            print_first_difference(path, expected, c->texts[i]);
            n++;
        }
    }
    return n;
}

/* --- and judged by libvirt -------------------------------------------------------------------- */

static xmlRelaxNG *domain_schema; /* libvirt's own */
static char *state_dir;
static MachineConnection *embed;

static int set_up_all(void **state)
{
    (void)state;
    xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt(DOMAIN_RNG);
    domain_schema = xmlRelaxNGParse(parser);
    xmlRelaxNGFreeParserCtxt(parser);
    state_dir = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    assert_int_equal(g_chmod(state_dir, 0711), 0); /* QEMU is another user when we are root */
    g_autoptr(GError) error = NULL;
    embed = machine_connection_open(state_dir, "embed", &error);
    if (!embed) {
        print_error("%s\n", error->message);
    }
    return embed && domain_schema ? 0 : -1;
}

static int tear_down_all(void **state)
{
    (void)state;
    machine_connection_close(embed);
    base_dir_remove_tree(AT_FDCWD, state_dir, NULL);
    g_free(state_dir);
    xmlRelaxNGFree(domain_schema);
    xmlRelaxNGCleanupTypes();
    return 0;
}

static void assert_valid_by_schema(const Case *c)
{
    const char *xml = c->texts[OUT_DOMAIN];
    xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), c->dir, NULL, XML_PARSE_NONET);
    assert_non_null(doc);
    xmlRelaxNGValidCtxt *valid = xmlRelaxNGNewValidCtxt(domain_schema);
    int result = xmlRelaxNGValidateDoc(valid, doc);
    xmlRelaxNGFreeValidCtxt(valid);
    xmlFreeDoc(doc);
    assert_int_equal(result, 0);
}

static void assert_defined(VirtConn *conn, const Case *c)
{
    g_autoptr(GError) error = NULL;
    if (!virt_define(conn, c->texts[OUT_DOMAIN], &error)) {
        fail_msg("%s/domain.xml: %s", c->dir, error->message);
    }
    assert_true(virt_undefine(conn, c->uuid, NULL));
}

/* A domain of KVM needs a host that has it. */
static void assert_taken_by_libvirt(const Case *c)
{
    assert_valid_by_schema(c);
    if (c->is_test_driver) {
        g_autoptr(VirtConn) conn = virt_open("test:///default", NULL);
        assert_non_null(conn);
        assert_defined(conn, c);
    } else if (c->is_tcg) {
        assert_defined(machine_connection_virt(embed), c);
    }
}

static void test_case(void **state)
{
    Case c = {.dir = g_build_filename(GOLDEN, *state, NULL)};
    build(&c);
    assert_int_equal(n_different(&c), 0);
    if (c.texts[OUT_DOMAIN]) {
        assert_taken_by_libvirt(&c);
    }
    for (unsigned i = 0; i < OUT_N; i++) {
        g_free(c.texts[i]);
    }
    g_free(c.uuid);
    g_free(c.dir);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Every folder that has a spec. */
static GPtrArray *list_cases(void)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(GOLDEN, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *spec = g_build_filename(GOLDEN, name, "spec.yaml", NULL);
        if (g_file_test(spec, G_FILE_TEST_EXISTS)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_sort(names, compare_names);
    return names;
}

int main(void)
{
    g_autoptr(GPtrArray) names = list_cases();
    g_autofree struct CMUnitTest *tests = g_new0(struct CMUnitTest, names->len);
    for (unsigned i = 0; i < names->len; i++) {
        tests[i] = (struct CMUnitTest){
            .name = names->pdata[i], .test_func = test_case, .initial_state = names->pdata[i]};
    }
    int n_failed = _cmocka_run_group_tests("golden", tests, names->len, set_up_all, tear_down_all);
    return names->len ? n_failed : 1;
}
