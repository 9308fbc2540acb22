#include "tests/unit/imaging/images.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/dir.h"
#include "base/fd.h"
#include "imaging/fetch.h"

/* An http and an https server (http_server.py) over one folder; each test has a cache of its own.
 */
#define N_FILE_BYTES (3u << 20)

typedef struct {
    GPid pid;
    int port;
} Server;

typedef struct {
    char *top, *files, *log, *cert;
    char *sha256; /* of files/image */
    Server http, https;
    char *cache;
} Site;

static Site site;

/* A server never outlives its test, however that ends. */
static void die_with_parent(void *data)
{
    (void)data;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void start_server(Server *server, char *cert, char *key)
{
    char *argv[] = {
        "python3", TEST_SOURCE_DIR "/unit/imaging/http_server.py", site.files, site.log, cert, key,
        NULL};
    int out = -1;
    g_autoptr(GError) error = NULL;
    if (!g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                                  die_with_parent, NULL, &server->pid, NULL, &out, NULL, &error)) {
        fail_msg("%s", error->message);
    }
    char line[16] = "";
    for (size_t n = 0; n < sizeof(line) - 1 && !strchr(line, '\n'); n++) {
        assert_int_equal(read(out, line + n, 1), 1);
    }
    server->port = atoi(line);
    close(out);
}

static void put_file(const char *name, unsigned seed)
{
    g_autofree char *path = g_build_filename(site.files, name, NULL);
    g_autofree char *bytes = g_malloc(N_FILE_BYTES);
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    for (size_t i = 0; i < N_FILE_BYTES; i++) {
        bytes[i] = (char)g_rand_int(random);
    }
    assert_true(g_file_set_contents(path, bytes, N_FILE_BYTES, NULL));
    if (strcmp(name, "image") == 0) {
        g_free(site.sha256);
        site.sha256 = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)bytes, N_FILE_BYTES);
    }
}

static int start_site(void **state)
{
    (void)state;
    site.top = g_dir_make_tmp("vm-fetch-XXXXXX", NULL);
    site.files = g_build_filename(site.top, "files", NULL);
    site.log = g_build_filename(site.top, "log", NULL);
    site.cert = g_build_filename(site.top, "cert.pem", NULL);
    g_autofree char *key = g_build_filename(site.top, "key.pem", NULL);
    assert_int_equal(mkdir(site.files, 0755), 0);
    g_free(RUN("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
               "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out",
               site.cert));
    start_server(&site.http, NULL, NULL);
    start_server(&site.https, site.cert, key);
    return 0;
}

static int stop_site(void **state)
{
    (void)state;
    const Server *servers[] = {&site.http, &site.https};
    for (size_t i = 0; i < G_N_ELEMENTS(servers); i++) {
        kill(servers[i]->pid, SIGKILL);
        waitpid(servers[i]->pid, NULL, 0);
    }
    base_dir_remove_tree(AT_FDCWD, site.top, NULL);
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    site.cache = g_build_filename(site.top, "cache", NULL);
    put_file("image", 1);
    return truncate(site.log, 0) == 0 || access(site.log, F_OK) != 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    bool is_removed = base_dir_remove_tree(AT_FDCWD, site.cache, NULL);
    g_clear_pointer(&site.cache, g_free);
    return is_removed ? 0 : -1;
}

static char *http_url(const char *path)
{
    return g_strdup_printf("http://127.0.0.1:%d/%s", site.http.port, path);
}

static char *https_url(const char *path)
{
    return g_strdup_printf("https://127.0.0.1:%d/%s", site.https.port, path);
}

static char *fetch_it(const char *url, const char *sha256, GError **error)
{
    ImgFetch fetch = {url, sha256, site.cache, site.cert};
    return img_fetch(&fetch, NULL, NULL, error);
}

static void check_fetched(const char *url, const char *sha256)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = fetch_it(url, sha256, &error);
    if (!path) {
        fail_msg("%s", error->message);
    }
    g_autofree char *bytes = NULL;
    gsize n = 0;
    struct stat st;
    assert_true(g_file_get_contents(path, &bytes, &n, NULL));
    g_autofree char *digest = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)bytes, n);
    assert_string_equal(digest, site.sha256);
    assert_non_null(strstr(path, site.sha256));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0444);
}

static void check_fails(const char *url, const char *sha256, int code, const char *what)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = fetch_it(url, sha256, &error);
    if (path || error->code != code || !strstr(error->message, what)) {
        fail_msg("%s: '%s' (%d), expected '%s' (%d)", url, path ? path : error->message,
                 path ? -1 : error->code, what, code);
    }
}

static char *log_text(void)
{
    char *text = NULL;
    return g_file_get_contents(site.log, &text, NULL, NULL) ? text : g_strdup("");
}

static unsigned n_requests(void)
{
    g_autofree char *text = log_text();
    unsigned n = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) {
        n++;
    }
    return n;
}

static void check_log_has(const char *what)
{
    g_autofree char *text = log_text();
    if (!strstr(text, what)) {
        fail_msg("'%s' is not in the log:\n%s", what, text);
    }
}

/* Files in the cache, but for records of whole images. */
static unsigned n_leftovers(void)
{
    g_autoptr(GDir) dir = g_dir_open(site.cache, 0, NULL);
    unsigned n = 0;
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        bool is_record = g_str_has_suffix(name, ".json") && !strstr(name, ".part");
        n += !is_record && !g_str_has_suffix(name, ".img");
    }
    return n;
}

static unsigned n_images(void)
{
    g_autoptr(GDir) dir = g_dir_open(site.cache, 0, NULL);
    unsigned n = 0;
    for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
        n += g_str_has_suffix(name, ".img");
    }
    return n;
}

/* --- what is fetched ----------------------------------------------------------------------------
 */

static void test_pinned_url_when_fetched_again_then_no_request(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    g_autofree char *other = http_url("plain/elsewhere");
    g_autofree char *upper = g_ascii_strup(site.sha256, -1);
    check_fetched(url, site.sha256);
    assert_int_equal(n_requests(), 1);
    check_fetched(url, site.sha256);
    check_fetched(other, upper);
    assert_int_equal(n_requests(), 1);
    assert_int_equal(n_leftovers(), 0);
}

static void test_https_url_when_unchanged_then_not_sent_again(void **state)
{
    (void)state;
    g_autofree char *url = https_url("plain/image");
    check_fetched(url, NULL);
    check_log_has("GET /plain/image - 200");
    check_fetched(url, NULL);
    check_log_has("GET /plain/image - 304");
    check_fetched(url, site.sha256); /* its digest is known now */
    assert_int_equal(n_requests(), 2);
    assert_int_equal(n_leftovers(), 0);
}

static void test_https_url_when_it_has_something_newer_then_both_are_kept(void **state)
{
    (void)state;
    g_autofree char *url = https_url("plain/image");
    check_fetched(url, NULL);
    put_file("image", 2);
    check_fetched(url, NULL);
    assert_int_equal(n_images(), 2); /* the first may be the base of a machine */
    check_fetched(url, NULL);
    check_log_has("304");
}

static void test_https_url_when_the_server_is_gone_then_the_cached_file_is_used(void **state)
{
    (void)state;
    g_autofree char *key = g_build_filename(site.top, "key.pem", NULL);
    Server server;
    start_server(&server, site.cert, key);
    g_autofree char *url = g_strdup_printf("https://127.0.0.1:%d/plain/image", server.port);
    check_fetched(url, NULL);
    kill(server.pid, SIGKILL);
    waitpid(server.pid, NULL, 0);
    check_fetched(url, NULL);
    g_autofree char *other = g_strdup_printf("https://127.0.0.1:%d/plain/other", server.port);
    check_fails(other, NULL, VM_ERROR_HOST, "connect");
}

static void test_cached_file_when_it_was_changed_then_fetched_again(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    check_fetched(url, site.sha256);
    g_autofree char *path = fetch_it(url, site.sha256, NULL);
    assert_int_equal(chmod(path, 0644), 0);
    autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "hello", 5, 1000), 5);
    check_fetched(url, site.sha256);
    assert_int_equal(n_requests(), 2);
}

static void test_cached_file_when_only_its_time_changed_then_its_bytes_decide(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    check_fetched(url, site.sha256);
    g_autofree char *path = fetch_it(url, site.sha256, NULL);
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){{1, 0}, {1, 0}}, 0), 0);
    check_fetched(url, site.sha256);
    assert_int_equal(n_requests(), 1);
}

static void test_record_when_torn_or_foreign_then_as_if_never_fetched(void **state)
{
    static const char *const texts[] = {"",     "{",
                                        "[]",   "{\"sha256\": \"../../etc/shadow\"}",
                                        "null", "{\"sha256\": 7, \"size\": -1}"};
    (void)state;
    g_autofree char *url = http_url("plain/image");
    check_fetched(url, site.sha256);
    g_autofree char *record = g_strdup_printf("%s/sha256-%s.json", site.cache, site.sha256);
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        assert_true(g_file_set_contents(record, texts[i], -1, NULL));
        check_fetched(url, site.sha256);
        assert_int_equal(n_requests(), i + 2);
        assert_int_equal(n_images(), 1);
    }
}

/* --- what breaks off ----------------------------------------------------------------------------
 */

static void test_download_when_cut_then_continued_by_range(void **state)
{
    (void)state;
    g_autofree char *url = http_url("cut/image");
    check_fetched(url, site.sha256);
    check_log_has("GET /cut/image - 200");
    check_log_has("GET /cut/image bytes=1572864- 206");
    assert_int_equal(n_requests(), 2);
    assert_int_equal(n_leftovers(), 0);
}

static void test_download_when_it_broke_off_then_a_later_call_continues(void **state)
{
    (void)state;
    for (int is_pinned = 0; is_pinned < 2; is_pinned++) {
        g_autofree char *url = https_url("dead/image");
        const char *sha256 = is_pinned ? site.sha256 : NULL;
        check_fails(url, sha256, VM_ERROR_HOST, "");
        assert_int_equal(n_images(), 0);
        assert_int_equal(n_leftovers(), 2); /* the part and its record */
        unsigned n_before = n_requests();
        check_fails(url, sha256, VM_ERROR_HOST, "");
        assert_int_equal(n_requests(), n_before + 1);
        check_log_has("GET /dead/image bytes=100000- 206");
        base_dir_remove_tree(AT_FDCWD, site.cache, NULL);
        assert_int_equal(truncate(site.log, 0), 0);
    }
}

static void test_unpinned_part_when_of_an_earlier_boot_then_started_over(void **state)
{
    (void)state;
    g_autofree char *url = https_url("dead/image");
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, url, -1);
    g_autofree char *record = g_strdup_printf("%s/url-%.32s.part.json", site.cache, hash);
    g_autofree char *text = NULL;
    check_fails(url, NULL, VM_ERROR_HOST, "");
    assert_true(g_file_get_contents(record, &text, NULL, NULL));
    char *boot_id = strstr(text, "\"boot_id\": \"");
    assert_non_null(boot_id);
    boot_id[12] = 'x';
    assert_true(g_file_set_contents(record, text, -1, NULL));
    assert_int_equal(truncate(site.log, 0), 0);
    check_fails(url, NULL, VM_ERROR_HOST, "");
    g_autofree char *log = log_text();
    assert_true(g_str_has_prefix(log, "GET /dead/image - 200"));
}

static void test_part_when_the_file_has_changed_since_then_started_over(void **state)
{
    (void)state;
    g_autofree char *dead = https_url("dead/image");
    check_fails(dead, NULL, VM_ERROR_HOST, "");
    put_file("image", 3);
    assert_int_equal(truncate(site.log, 0), 0);
    check_fails(dead, NULL, VM_ERROR_HOST, "");
    g_autofree char *log = log_text();
    assert_true(g_str_has_prefix(log, "GET /dead/image bytes=100000- 200"));
}

static void test_part_when_it_holds_other_bytes_then_all_is_fetched_once_more(void **state)
{
    (void)state;
    g_autofree char *dead = http_url("dead/image");
    g_autofree char *plain = http_url("plain/image");
    check_fails(dead, site.sha256, VM_ERROR_HOST, "");
    g_autofree char *part = g_strdup_printf("%s/sha256-%s.part", site.cache, site.sha256);
    autofd int fd = open(part, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "XXXX", 4, 10), 4);
    check_fetched(plain, site.sha256);
    check_log_has("GET /plain/image bytes=100000- 206");
    check_log_has("GET /plain/image - 200");
    assert_int_equal(n_leftovers(), 0);
}

static void test_part_when_longer_than_the_file_then_started_over(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    g_autofree char *part = g_strdup_printf("%s/sha256-%s.part", site.cache, site.sha256);
    g_autofree char *junk = g_malloc0(N_FILE_BYTES + 5);
    assert_int_equal(mkdir(site.cache, 0700), 0);
    assert_true(g_file_set_contents(part, junk, N_FILE_BYTES + 5, NULL));
    check_fetched(url, site.sha256);
    check_log_has(" 416");
}

static void
test_download_when_the_server_has_no_ranges_or_validators_then_started_over(void **state)
{
    static const char *const paths[] = {"norange/image", "noetag/image", "changed/image"};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autofree char *dead = https_url("dead/image");
        g_autofree char *url = https_url(paths[i]);
        check_fails(dead, NULL, VM_ERROR_HOST, "");
        /* the same key for the other address: as if the server had changed its ways */
        g_autofree char *a = g_compute_checksum_for_string(G_CHECKSUM_SHA256, dead, -1);
        g_autofree char *b = g_compute_checksum_for_string(G_CHECKSUM_SHA256, url, -1);
        g_autofree char *from = g_strdup_printf("%s/url-%.32s.part", site.cache, a);
        g_autofree char *to = g_strdup_printf("%s/url-%.32s.part", site.cache, b);
        assert_int_equal(rename(from, to), 0);
        check_fetched(url, NULL);
        base_dir_remove_tree(AT_FDCWD, site.cache, NULL);
    }
}

/* --- what is refused ----------------------------------------------------------------------------
 */

static void test_digest_when_wrong_then_image_error_and_nothing_kept(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    g_autofree char *wrong = g_strnfill(64, 'a');
    check_fails(url, wrong, VM_ERROR_IMAGE, site.sha256);
    assert_int_equal(n_images(), 0);
    assert_int_equal(n_leftovers(), 0);
}

static void test_url_when_not_allowed_then_refused_without_a_request(void **state)
{
    (void)state;
    g_autofree char *plain = http_url("plain/image");
    g_autofree char *login = g_strdup_printf("https://me:hunter2@127.0.0.1:%d/x", site.https.port);
    g_autofree char *spaced = https_url("a b");
    g_autofree char *lines = https_url("a\r\nHost: evil");
    check_fails(plain, NULL, VM_ERROR_IMAGE, "plain http needs a sha256");
    check_fails(plain, "abc", VM_ERROR_RANGE, "not 64 hex digits");
    check_fails(login, NULL, VM_ERROR_SECRET, "~/.netrc");
    check_fails(spaced, NULL, VM_ERROR_PATH, "space or control");
    check_fails(lines, NULL, VM_ERROR_PATH, "space or control");
    check_fails("ftp://h/x", NULL, VM_ERROR_PATH, "not an http");
    g_autoptr(GError) error = NULL;
    assert_null(fetch_it(login, NULL, &error));
    assert_null(strstr(error->message, "hunter2"));
    assert_int_equal(n_requests(), 0);
}

static void test_redirect_when_followed_then_never_from_https_to_http(void **state)
{
    (void)state;
    g_autofree char *http = http_url("plain/image");
    g_autofree char *https = https_url("plain/image");
    g_autofree char *to_http = g_strconcat("redirect/", http, NULL);
    g_autofree char *to_https = g_strconcat("redirect/", https, NULL);
    g_autofree char *up = http_url(to_https);
    g_autofree char *down = https_url(to_http);
    g_autofree char *same = https_url(to_https);
    g_autofree char *file = https_url("redirect/file:///etc/passwd");
    g_autofree char *loop = https_url("loop");
    check_fails(down, NULL, VM_ERROR_HOST, "redirects from https to http");
    check_fails(down, site.sha256, VM_ERROR_HOST, "redirects from https to http");
    check_fails(file, NULL, VM_ERROR_HOST, "redirects from https to file");
    check_fails(loop, NULL, VM_ERROR_HOST, "more than 10 redirects");
    assert_int_equal(n_images(), 0);
    check_fetched(same, NULL);
    base_dir_remove_tree(AT_FDCWD, site.cache, NULL);
    check_fetched(up, site.sha256);
}

static void test_answer_when_not_200_then_the_class_that_fits(void **state)
{
    static const struct {
        const char *path;
        int code;
    } cases[] = {{"status/404", VM_ERROR_NOT_FOUND}, {"plain/none", VM_ERROR_NOT_FOUND},
                 {"status/403", VM_ERROR_DENIED},    {"status/401", VM_ERROR_DENIED},
                 {"status/500", VM_ERROR_HOST},      {"status/429", VM_ERROR_HOST},
                 {"status/304", VM_ERROR_HOST},      {"status/206", VM_ERROR_HOST},
                 {"status/200", VM_ERROR_IMAGE}};
    (void)state;
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *url = https_url(cases[i].path);
        check_fails(url, NULL, cases[i].code, "127.0.0.1");
        assert_int_equal(n_leftovers(), 0);
    }
}

static void test_certificate_when_not_trusted_then_refused(void **state)
{
    (void)state;
    g_autofree char *url = https_url("plain/image");
    ImgFetch fetch = {url, NULL, site.cache, NULL};
    g_autoptr(GError) error = NULL;
    assert_null(img_fetch(&fetch, NULL, NULL, &error));
    assert_int_equal(error->code, VM_ERROR_HOST);
    assert_non_null(strstr(error->message, "certificate"));
    assert_int_equal(n_requests(), 0);
}

static void test_cache_when_others_may_write_to_it_then_path_error(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    assert_int_equal(mkdir(site.cache, 0700), 0);
    assert_int_equal(chmod(site.cache, 0777), 0);
    check_fails(url, site.sha256, VM_ERROR_PATH, "others may write");
    assert_int_equal(n_requests(), 0);
}

/* --- how it is used -----------------------------------------------------------------------------
 */

typedef struct {
    unsigned n_calls;
    uint64_t last_done, total, cancel_at;
} Watch;

static bool watch(uint64_t done_bytes, uint64_t total_bytes, void *data)
{
    Watch *it = data;
    it->n_calls++;
    it->last_done = done_bytes;
    it->total = total_bytes;
    return it->cancel_at == 0 || done_bytes < it->cancel_at;
}

static void test_download_when_watched_then_progress_reaches_its_total(void **state)
{
    (void)state;
    g_autofree char *url = http_url("slow/image");
    ImgFetch fetch = {url, site.sha256, site.cache, NULL};
    Watch it = {0};
    g_autofree char *path = img_fetch(&fetch, watch, &it, NULL);
    assert_non_null(path);
    assert_true(it.n_calls >= 3 && it.n_calls <= 50);
    assert_int_equal(it.last_done, N_FILE_BYTES);
    assert_int_equal(it.total, N_FILE_BYTES);
}

static void test_download_when_cancelled_then_the_next_call_continues(void **state)
{
    (void)state;
    g_autofree char *url = http_url("slow/image");
    ImgFetch fetch = {url, site.sha256, site.cache, NULL};
    Watch it = {.cancel_at = 500000};
    g_autoptr(GError) error = NULL;
    assert_null(img_fetch(&fetch, watch, &it, &error));
    assert_int_equal(error->code, VM_ERROR_CANCELLED);
    assert_int_equal(n_images(), 0);
    check_fetched(url, site.sha256);
    check_log_has(" 206");
    assert_int_equal(n_requests(), 2);
}

static void test_two_processes_when_they_fetch_the_same_then_one_request(void **state)
{
    (void)state;
    g_autofree char *url = http_url("slow/image");
    pid_t pids[3];
    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            g_autofree char *path = fetch_it(url, site.sha256, NULL);
            _exit(path ? 0 : 1);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(pids); i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(n_requests(), 1);
    assert_int_equal(n_leftovers(), 0);
}

static void test_process_when_killed_in_the_middle_then_the_next_call_continues(void **state)
{
    (void)state;
    g_autofree char *url = http_url("slow/image");
    g_autofree char *part = g_strdup_printf("%s/sha256-%s.part", site.cache, site.sha256);
    pid_t pid = fork();
    if (pid == 0) {
        g_autofree char *path = fetch_it(url, site.sha256, NULL);
        _exit(0);
    }
    struct stat st;
    for (int i = 0; i < 1000 && (stat(part, &st) != 0 || st.st_size < 200000); i++) {
        g_usleep(5000);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    waitpid(pid, NULL, 0);
    check_fetched(url, site.sha256);
    check_log_has(" 206");
    assert_int_equal(n_leftovers(), 0);
}

static void test_proxy_when_set_in_the_environment_then_asked(void **state)
{
    (void)state;
    g_autofree char *proxy = http_url("");
    assert_int_equal(setenv("http_proxy", proxy, 1), 0);
    check_fetched("http://images.invalid/plain/image", site.sha256);
    unsetenv("http_proxy");
    check_log_has("GET http://images.invalid/plain/image - 200");
}

/* In a child with a mount namespace: a cache on a tmpfs of 2 MiB, the file has 3. 0: as it should
 * be. */
static int fetch_to_small_tmpfs(const char *url)
{
    if (!enter_mount_namespace() || mkdir(site.cache, 0700) != 0 ||
        mount("none", site.cache, "tmpfs", 0, "size=2M,mode=0700") != 0) {
        return 77;
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *path = fetch_it(url, site.sha256, &error);
    return !path && error->code == VM_ERROR_NO_SPACE && n_leftovers() + n_images() == 0 ? 0 : 1;
}

static void test_download_when_the_disk_is_full_then_no_space_and_nothing_left(void **state)
{
    (void)state;
    g_autofree char *url = http_url("plain/image");
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fetch_to_small_tmpfs(url));
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: no right to mount\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void test_text_when_it_names_a_url_then_known_as_one(void **state)
{
    (void)state;
    assert_true(img_fetch_is_url("https://h/x"));
    assert_true(img_fetch_is_url("HTTP://h/x"));
    assert_false(img_fetch_is_url("https:/h"));
    assert_false(img_fetch_is_url("file:///x"));
    assert_false(img_fetch_is_url("/http://x"));
    assert_false(img_fetch_is_url(""));
}

#define WITH_CACHE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(test_pinned_url_when_fetched_again_then_no_request),
        WITH_CACHE(test_https_url_when_unchanged_then_not_sent_again),
        WITH_CACHE(test_https_url_when_it_has_something_newer_then_both_are_kept),
        WITH_CACHE(test_https_url_when_the_server_is_gone_then_the_cached_file_is_used),
        WITH_CACHE(test_cached_file_when_it_was_changed_then_fetched_again),
        WITH_CACHE(test_cached_file_when_only_its_time_changed_then_its_bytes_decide),
        WITH_CACHE(test_record_when_torn_or_foreign_then_as_if_never_fetched),
        WITH_CACHE(test_download_when_cut_then_continued_by_range),
        WITH_CACHE(test_download_when_it_broke_off_then_a_later_call_continues),
        WITH_CACHE(test_unpinned_part_when_of_an_earlier_boot_then_started_over),
        WITH_CACHE(test_part_when_the_file_has_changed_since_then_started_over),
        WITH_CACHE(test_part_when_it_holds_other_bytes_then_all_is_fetched_once_more),
        WITH_CACHE(test_part_when_longer_than_the_file_then_started_over),
        WITH_CACHE(test_download_when_the_server_has_no_ranges_or_validators_then_started_over),
        WITH_CACHE(test_digest_when_wrong_then_image_error_and_nothing_kept),
        WITH_CACHE(test_url_when_not_allowed_then_refused_without_a_request),
        WITH_CACHE(test_redirect_when_followed_then_never_from_https_to_http),
        WITH_CACHE(test_answer_when_not_200_then_the_class_that_fits),
        WITH_CACHE(test_certificate_when_not_trusted_then_refused),
        WITH_CACHE(test_cache_when_others_may_write_to_it_then_path_error),
        WITH_CACHE(test_download_when_watched_then_progress_reaches_its_total),
        WITH_CACHE(test_download_when_cancelled_then_the_next_call_continues),
        WITH_CACHE(test_two_processes_when_they_fetch_the_same_then_one_request),
        WITH_CACHE(test_process_when_killed_in_the_middle_then_the_next_call_continues),
        WITH_CACHE(test_proxy_when_set_in_the_environment_then_asked),
        WITH_CACHE(test_download_when_the_disk_is_full_then_no_space_and_nothing_left),
        WITH_CACHE(test_text_when_it_names_a_url_then_known_as_one),
    };
    return cmocka_run_group_tests_name("imaging/fetch", tests, start_site, stop_site);
}
