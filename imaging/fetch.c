#include "imaging/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/load.h"
#include "base/lock.h"
#include "base/proc.h"
#include "base/report.h"
#include "imaging/cache.h"
#include "imaging/fetch/part.h"

/*
 * How it works: under the lock of its key, bytes go into KEY.part and through SHA-256 as they come.
 * What the server said of them (validators, size) is recorded before the first one, so that a later
 * call can go on where this one broke off: Range with If-Range, and the bytes that are there are
 * hashed first. A request that was cut is repeated as long as each try brings something. When all
 * is there and the digest fits, the part becomes sha256-DIGEST.img.
 */
#define N_TRIES_MAX        20
#define RETRY_US           300000u
#define LOCK_SLICE_MS      200
#define N_URL_MAX          4096u
#define N_HASH_BYTES       (1u << 20)
#define SPACE_LEFT_BYTES   (UINT64_C(16) << 20)
#define HTTP_OK            200
#define HTTP_PARTIAL       206
#define HTTP_NOT_MODIFIED  304
#define HTTP_RANGE_INVALID 416

typedef struct {
    const ImgFetch *fetch;
    ImgMeter meter;
    ImgCache *cache;
    char *sha256; /* lower case, NULL: not pinned */
    char *shown;  /* the URL without its query, escaped */
    char *key;
    char *part_name;
    ImgCacheEntry *known; /* what an earlier call fetched; not with a pin */
    int fd;               /* the part */
    GChecksum *checksum;  /* of the n_have bytes in the part */
    uint64_t n_have, n_total;
    bool has_old_bytes; /* some of the part came with an earlier call */
    bool is_not_modified;
    bool must_restart; /* the part can't be continued */
} Fetch;

static void fetch_clear(Fetch *f)
{
    img_cache_free(f->cache);
    img_cache_entry_free(f->known);
    base_fd_close(&f->fd);
    g_clear_pointer(&f->checksum, g_checksum_free);
    g_free(f->sha256);
    g_free(f->shown);
    g_free(f->key);
    g_free(f->part_name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Fetch, fetch_clear)

/* --- what is asked for --------------------------------------------------------------------------
 */

static bool has_scheme(const char *url, const char *scheme)
{
    return g_ascii_strncasecmp(url, scheme, strlen(scheme)) == 0;
}

bool img_fetch_is_url(const char *image)
{
    return has_scheme(image, "http://") || has_scheme(image, "https://");
}

static bool check_url(const char *url, bool is_pinned, GError **error)
{
    size_t n = strlen(url);
    if (!img_fetch_is_url(url) || n > N_URL_MAX) {
        return base_fail(error, VM_ERROR_PATH, "not an http or https URL of up to %u bytes",
                         N_URL_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)url[i] <= ' ' || url[i] == 0x7f) {
            return base_fail(error, VM_ERROR_PATH, "a space or control character in the URL");
        }
    }
    const char *host = strstr(url, "://") + 3;
    if (memchr(host, '@', strcspn(host, "/?#"))) {
        return base_fail(
            error, VM_ERROR_SECRET,
            "a login in the URL would be seen in lists and logs - put it into ~/.netrc");
    }
    if (!is_pinned && has_scheme(url, "http://")) {
        return base_fail(
            error, VM_ERROR_IMAGE,
            "plain http needs a sha256, since anybody on the way can change what comes - "
            "use https, or give the digest");
    }
    return true;
}

static bool check_sha256(const char *text, char **out, GError **error)
{
    g_autofree char *lower = text ? g_ascii_strdown(text, -1) : NULL;
    if (lower && (strlen(lower) != 64 || strspn(lower, "0123456789abcdef") != 64)) {
        g_autofree char *shown = base_report_escape(text, 80);
        return base_fail(error, VM_ERROR_RANGE, "sha256 '%s' is not 64 hex digits", shown);
    }
    *out = g_steal_pointer(&lower);
    return true;
}

/* The URL as people and records may see it: no login, no query, which may hold a token. */
static char *show_url(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    const char *at = memchr(host, '@', strcspn(host, "/?#"));
    g_autofree char *shown =
        g_strdup_printf("%.*s%.*s", (int)(host - url), url, (int)strcspn(at ? at + 1 : host, "?#"),
                        at ? at + 1 : host);
    return base_report_escape(shown, 300);
}

/* --- the part -----------------------------------------------------------------------------------
 */

static bool start_over(Fetch *f, GError **error)
{
    g_checksum_reset(f->checksum);
    f->n_have = 0;
    f->has_old_bytes = false;
    if (ftruncate(f->fd, 0) != 0) {
        base_error_set_errno(error, errno, "cannot empty '%s'", f->part_name);
        return false;
    }
    return true;
}

/* Hashes what an earlier call left in the part. */
static bool take_up(Fetch *f, GError **error)
{
    g_autofree guchar *buffer = g_malloc(N_HASH_BYTES);
    ssize_t got;
    while ((got = pread(f->fd, buffer, N_HASH_BYTES, (off_t)f->n_have)) > 0) {
        g_checksum_update(f->checksum, buffer, got);
        f->n_have += (uint64_t)got;
    }
    if (got < 0) {
        base_error_set_errno(error, errno, "cannot read '%s'", f->part_name);
        return false;
    }
    f->has_old_bytes = f->n_have > 0;
    return true;
}

static bool open_part(Fetch *f, GError **error)
{
    struct stat st;
    f->fd = openat(f->cache->dirfd, f->part_name,
                   O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        base_error_set_errno(error, errno, "cannot open '%s/%s'", f->cache->path, f->part_name);
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        return base_fail(error, VM_ERROR_PATH, "'%s/%s' is no regular file", f->cache->path,
                         f->part_name);
    }
    f->checksum = g_checksum_new(G_CHECKSUM_SHA256);
    return take_up(f, error);
}

/* --- what comes ---------------------------------------------------------------------------------
 */

static bool fail_status(const ImgFetchReply *reply, GError **error)
{
    VmError code = reply->status == 404 || reply->status == 410   ? VM_ERROR_NOT_FOUND
                   : reply->status == 401 || reply->status == 403 ? VM_ERROR_DENIED
                                                                  : VM_ERROR_HOST;
    return base_fail(error, code, "the server answers %ld%s", reply->status,
                     code == VM_ERROR_NOT_FOUND ? " (not found) - check the address"
                     : code == VM_ERROR_DENIED  ? " - it wants a login: put it into ~/.netrc"
                                                : " - try again later");
}

static bool check_space(const Fetch *f, GError **error)
{
    struct statvfs fs;
    uint64_t n_needed = f->n_total > f->n_have ? f->n_total - f->n_have : 0;
    if (fstatvfs(f->fd, &fs) != 0) {
        return true; /* the write will tell */
    }
    uint64_t n_free = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (n_needed > 0 && n_free < n_needed + SPACE_LEFT_BYTES) {
        return base_fail(error, VM_ERROR_NO_SPACE,
                         "cache '%s': %" G_GUINT64_FORMAT " MiB are needed, %" G_GUINT64_FORMAT
                         " are free - free some, or name another folder",
                         f->cache->path, n_needed >> 20, n_free >> 20);
    }
    return true;
}

/* A weak ETag promises the same meaning, not the same bytes (RFC 9110 8.8.1). */
static bool is_strong(const char *etag)
{
    return etag && !g_str_has_prefix(etag, "W/");
}

static bool on_begin(const ImgFetchReply *reply, void *data, GError **error)
{
    Fetch *f = data;
    if (reply->status == HTTP_NOT_MODIFIED && f->known) {
        f->is_not_modified = true;
        return true;
    }
    if (reply->status == HTTP_RANGE_INVALID ||
        (reply->status == HTTP_PARTIAL && reply->start != f->n_have)) {
        f->must_restart = true;
        return base_fail(error, VM_ERROR_HOST, "the server can't continue the download");
    }
    if (reply->status != HTTP_OK && reply->status != HTTP_PARTIAL) {
        return fail_status(reply, error);
    }
    if (reply->status == HTTP_OK && !start_over(f, error)) {
        return false;
    }
    f->n_total = reply->total_bytes;
    ImgCacheEntry part = {.url = f->shown,
                          .etag = (char *)reply->etag,
                          .last_modified = (char *)reply->last_modified,
                          .boot_id = (char *)base_proc_boot_id(),
                          .size = reply->total_bytes};
    return check_space(f, error) && img_cache_record_part(f->cache, f->key, &part, error);
}

static bool on_take(const void *bytes, size_t n, void *data, GError **error)
{
    Fetch *f = data;
    for (size_t done = 0; done < n;) {
        ssize_t put = pwrite(f->fd, (const char *)bytes + done, n - done, (off_t)f->n_have);
        if (put < 0 && errno != EINTR) {
            base_error_set_errno(error, errno, "cache '%s'", f->cache->path);
            return false;
        }
        if (put > 0) {
            g_checksum_update(f->checksum, (const guchar *)bytes + done, put);
            done += (size_t)put;
            f->n_have += (uint64_t)put;
        }
    }
    return f->n_total == 0 || f->n_have <= f->n_total ||
           base_fail(error, VM_ERROR_HOST, "the server sends more than it announced");
}

static bool on_is_cancelled(void *data)
{
    Fetch *f = data;
    return !img_meter_tell(&f->meter, f->n_have, f->n_total, false);
}

/* --- tries --------------------------------------------------------------------------------------
 */

/* Which validator lets us go on with the part? NULL: none, and without a pin it must start over; so
 * it must after a power loss, which may have left other bytes in the part, and no digest would
 * tell. */
static char *resume_validator(const Fetch *f)
{
    g_autoptr(ImgCacheEntry) part = img_cache_find_part(f->cache, f->key);
    bool is_of_this_boot = part && g_strcmp0(part->boot_id, base_proc_boot_id()) == 0;
    if (!part || g_strcmp0(part->url, f->shown) != 0 || (!f->sha256 && !is_of_this_boot)) {
        return NULL;
    }
    return g_strdup(is_strong(part->etag) ? part->etag : part->last_modified);
}

static bool request_once(Fetch *f, bool *out_is_cut, GError **error)
{
    ImgFetchPartRequest *request = base_load_symbol(IMG_FETCH_PART, IMG_FETCH_SYMBOL, error);
    if (!request) {
        return false;
    }
    g_autofree char *validator = resume_validator(f);
    if (f->n_have > 0 && !validator && !f->sha256 && !start_over(f, error)) {
        return false;
    }
    ImgFetchRequest it = {
        .url = f->fetch->url,
        .ca_file = f->fetch->ca_file,
        .resume_at = f->n_have,
        .if_range = validator,
        .if_none_match = f->known ? f->known->etag : NULL,
        .if_modified_since = f->known && !f->known->etag ? f->known->last_modified : NULL,
        .begin = on_begin,
        .take = on_take,
        .is_cancelled = on_is_cancelled,
        .data = f,
    };
    return request(&it, out_is_cut, error);
}

static bool download(Fetch *f, GError **error)
{
    for (int i = 0; i < N_TRIES_MAX; i++) {
        GError *failure = NULL;
        bool is_cut = false;
        uint64_t n_before = f->n_have;
        f->must_restart = false;
        if (request_once(f, &is_cut, &failure)) {
            return true;
        }
        bool can_go_on = (is_cut && f->n_have > n_before) || (f->must_restart && n_before > 0);
        if (!can_go_on || i + 1 == N_TRIES_MAX) {
            g_propagate_error(error, failure);
            return false;
        }
        g_clear_error(&failure);
        if (f->must_restart && !start_over(f, error)) {
            return false;
        }
        g_usleep(RETRY_US);
    }
    return base_fail(error, VM_ERROR_HOST, "the connection broke %d times", N_TRIES_MAX);
}

/* --- the end ------------------------------------------------------------------------------------
 */

static bool check_digest(Fetch *f, GError **error)
{
    const char *digest = g_checksum_get_string(f->checksum);
    if (f->n_have == 0) {
        return base_fail(error, VM_ERROR_IMAGE, "the server sends an empty file");
    }
    return !f->sha256 || strcmp(digest, f->sha256) == 0 ||
           base_fail(error, VM_ERROR_IMAGE,
                     "sha256 is %s, not %s - the publisher has a new version, or somebody changed "
                     "the file",
                     digest, f->sha256);
}

/* Old bytes may belong to another version of the file: then once more, all of it. */
static bool download_checked(Fetch *f, GError **error)
{
    GError *failure = NULL;
    if (!download(f, error)) {
        return false;
    }
    if (f->is_not_modified || check_digest(f, &failure)) {
        return true;
    }
    if (!f->has_old_bytes) {
        g_propagate_error(error, failure);
        return false;
    }
    g_clear_error(&failure);
    img_cache_drop_part(f->cache, f->key);
    base_fd_close(&f->fd);
    g_clear_pointer(&f->checksum, g_checksum_free);
    f->n_have = 0;
    return open_part(f, error) && download(f, error) && check_digest(f, error);
}

static char *keep(Fetch *f, GError **error)
{
    g_autoptr(ImgCacheEntry) said = img_cache_find_part(f->cache, f->key);
    ImgCacheEntry entry = {.url = f->shown,
                           .etag = said ? said->etag : NULL,
                           .last_modified = said ? said->last_modified : NULL,
                           .sha256 = (char *)g_checksum_get_string(f->checksum)};
    return img_cache_keep(f->cache, f->key, f->fd, &entry, error)
               ? img_cache_path(f->cache, entry.sha256)
               : NULL;
}

/* What stays of a failure: nothing, if it is wrong or the disk is full; else what can be continued.
 */
static char *fail_fetch(Fetch *f, GError *failure, GError **error)
{
    bool is_useless = failure->domain == VM_ERROR &&
                      (failure->code == VM_ERROR_IMAGE || failure->code == VM_ERROR_NO_SPACE);
    bool is_unreachable = failure->domain == VM_ERROR &&
                          (failure->code == VM_ERROR_HOST || failure->code == VM_ERROR_TIMEOUT);
    if (is_useless || f->n_have == 0) {
        img_cache_drop_part(f->cache, f->key);
    }
    if (is_unreachable && f->known) {
        g_error_free(failure);
        return img_cache_path(f->cache, f->known->sha256);
    }
    g_propagate_error(error, failure);
    return NULL;
}

static char *fetch_locked(Fetch *f, GError **error)
{
    GError *failure = NULL;
    g_autoptr(ImgCacheEntry) known = img_cache_find(f->cache, f->key);
    if (known && f->sha256) { /* somebody else was faster */
        return img_cache_path(f->cache, f->sha256);
    }
    f->known = g_steal_pointer(&known);
    if (!open_part(f, &failure) || !download_checked(f, &failure)) {
        return fail_fetch(f, failure, error);
    }
    if (f->is_not_modified) {
        img_cache_drop_part(f->cache, f->key);
        return img_cache_path(f->cache, f->known->sha256);
    }
    img_meter_tell(&f->meter, f->n_have, f->n_have, true);
    return keep(f, error);
}

/* The wait can be cancelled: it is as long as somebody else's download. */
static BaseLock *take_lock(Fetch *f, GError **error)
{
    g_autofree char *name = g_strconcat(f->key, ".lock", NULL);
    for (;;) {
        GError *failure = NULL;
        BaseLock *lock = base_lock_take(f->cache->dirfd, name, LOCK_SLICE_MS, &failure);
        if (lock) {
            return lock;
        }
        if (!g_error_matches(failure, VM_ERROR, VM_ERROR_BUSY)) {
            g_propagate_error(error, failure);
            return NULL;
        }
        g_error_free(failure);
        if (!img_meter_tell(&f->meter, 0, 0, false)) {
            base_fail(error, VM_ERROR_CANCELLED, "waiting for another download was cancelled");
            return NULL;
        }
    }
}

static char *fetch_cached(Fetch *f, GError **error)
{
    f->cache = img_cache_open(f->fetch->cache_dir, error);
    if (!f->cache) {
        return NULL;
    }
    g_autofree char *url_hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, f->fetch->url, -1);
    f->key = f->sha256 ? g_strconcat("sha256-", f->sha256, NULL)
                       : g_strdup_printf("url-%.32s", url_hash);
    f->part_name = g_strconcat(f->key, ".part", NULL);
    g_autoptr(ImgCacheEntry) pinned = f->sha256 ? img_cache_find(f->cache, f->key) : NULL;
    if (pinned) {
        return img_cache_path(f->cache, f->sha256);
    }
    BaseLock *lock = take_lock(f, error);
    char *path = lock ? fetch_locked(f, error) : NULL;
    if (lock) {
        base_lock_free_and_unlink(lock);
    }
    return path;
}

char *img_fetch(const ImgFetch *fetch, ImgProgress progress, void *data, GError **error)
{
    g_auto(Fetch) f = {.fetch = fetch, .meter = {progress, data, 0}, .fd = -1};
    f.shown = show_url(fetch->url);
    char *path = NULL;
    if (check_sha256(fetch->sha256, &f.sha256, error) &&
        check_url(fetch->url, f.sha256 != NULL, error)) {
        path = fetch_cached(&f, error);
    }
    if (!path) {
        g_prefix_error(error, "image '%s': ", f.shown);
    }
    return path;
}
