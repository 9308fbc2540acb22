#include "imaging/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <jansson.h>

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"

#define N_RECORD_BYTES_MAX 65536u
#define N_HASH_BYTES       (1u << 20)

void img_cache_free(ImgCache *cache)
{
    if (!cache) {
        return;
    }
    base_fd_close(&cache->dirfd);
    g_free(cache->path);
    g_free(cache);
}

void img_cache_entry_free(ImgCacheEntry *entry)
{
    if (!entry) {
        return;
    }
    g_free(entry->url);
    g_free(entry->etag);
    g_free(entry->last_modified);
    g_free(entry->sha256);
    g_free(entry->boot_id);
    g_free(entry);
}

ImgCache *img_cache_open(const char *path, GError **error)
{
    struct stat st;
    g_autoptr(ImgCache) cache = g_new0(ImgCache, 1);
    cache->path = g_strdup(path);
    cache->dirfd = base_dir_open_make(path, 0700, error);
    if (cache->dirfd < 0) {
        return NULL;
    }
    if (fstat(cache->dirfd, &st) != 0) {
        base_error_set_errno(error, errno, "cache '%s': cannot look at it", path);
        return NULL;
    }
    if (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))) {
        base_fail(error, VM_ERROR_PATH,
                  "cache '%s': belongs to somebody else, or others may write to it - name another "
                  "folder, or take that right away: chmod go-w",
                  path);
        return NULL;
    }
    return g_steal_pointer(&cache);
}

static char *file_name(const char *sha256)
{
    return g_strdup_printf("sha256-%s.img", sha256);
}

char *img_cache_path(const ImgCache *cache, const char *sha256)
{
    g_autofree char *name = file_name(sha256);
    return g_build_filename(cache->path, name, NULL);
}

static uint64_t mtime_ns_of(const struct stat *st)
{
    return (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

/* --- records ---------------------------------------------------------------------------------- */

static char *string_of(const json_t *object, const char *key)
{
    return g_strdup(json_string_value(json_object_get(object, key)));
}

static uint64_t number_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static ImgCacheEntry *load(const ImgCache *cache, const char *key, const char *suffix)
{
    size_t n = 0;
    g_autofree char *name = g_strconcat(key, suffix, NULL);
    g_autofree char *text = base_file_read(cache->dirfd, name, N_RECORD_BYTES_MAX, &n, NULL);
    json_t *object = text ? json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(object)) { /* absent or torn: as if it was never fetched */
        json_decref(object);
        return NULL;
    }
    ImgCacheEntry *entry = g_new0(ImgCacheEntry, 1);
    entry->url = string_of(object, "url");
    entry->etag = string_of(object, "etag");
    entry->last_modified = string_of(object, "last_modified");
    entry->sha256 = string_of(object, "sha256");
    entry->boot_id = string_of(object, "boot_id");
    entry->size = number_of(object, "size");
    entry->mtime_ns = number_of(object, "mtime_ns");
    json_decref(object);
    return entry;
}

static void put_string(json_t *object, const char *key, const char *value)
{
    if (value) {
        json_object_set_new(object, key, json_string(value));
    }
}

static char *emit(const ImgCacheEntry *entry)
{
    json_t *object = json_object();
    put_string(object, "url", entry->url);
    put_string(object, "etag", entry->etag);
    put_string(object, "last_modified", entry->last_modified);
    put_string(object, "sha256", entry->sha256);
    put_string(object, "boot_id", entry->boot_id);
    json_object_set_new(object, "size", json_integer((json_int_t)entry->size));
    json_object_set_new(object, "mtime_ns", json_integer((json_int_t)entry->mtime_ns));
    char *text = json_dumps(object, JSON_INDENT(2));
    char *own = g_strdup(text ? text : "{}"); /* jansson says NULL to text that is not UTF-8 */
    free(text);
    json_decref(object);
    return own;
}

static bool record(const ImgCache *cache, const char *key, const ImgCacheEntry *entry,
                   GError **error)
{
    g_autofree char *text = emit(entry);
    g_autofree char *name = g_strconcat(key, ".json", NULL);
    return base_file_write_atomic(cache->dirfd, name, text, strlen(text), 0600, error);
}

bool img_cache_record_part(const ImgCache *cache, const char *key, const ImgCacheEntry *entry,
                           GError **error)
{
    g_autofree char *text = emit(entry);
    g_autofree char *name = g_strconcat(key, ".part.json", NULL);
    return base_file_write_whole(cache->dirfd, name, text, strlen(text), 0600, error);
}

/* --- files ------------------------------------------------------------------------------------ */

static char *digest_of(int fd)
{
    g_autoptr(GChecksum) checksum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autofree guchar *buffer = g_malloc(N_HASH_BYTES);
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, buffer, N_HASH_BYTES, at)) > 0) {
        g_checksum_update(checksum, buffer, got);
        at += got;
    }
    return got < 0 ? NULL : g_strdup(g_checksum_get_string(checksum));
}

/* Is the file still what was recorded? Its time may have changed (restored from a backup): then its
 * bytes decide. */
static bool fits(const ImgCache *cache, const char *key, ImgCacheEntry *entry)
{
    struct stat st;
    g_autofree char *name = file_name(entry->sha256);
    autofd int fd = openat(cache->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    if ((uint64_t)st.st_size == entry->size && mtime_ns_of(&st) == entry->mtime_ns) {
        return true;
    }
    g_autofree char *digest = digest_of(fd);
    if (g_strcmp0(digest, entry->sha256) != 0) {
        unlinkat(cache->dirfd, name, 0);
        return false;
    }
    entry->mtime_ns = mtime_ns_of(&st);
    entry->size = (uint64_t)st.st_size;
    return record(cache, key, entry, NULL);
}

ImgCacheEntry *img_cache_find(const ImgCache *cache, const char *key)
{
    g_autoptr(ImgCacheEntry) entry = load(cache, key, ".json");
    bool is_sound = entry && entry->sha256 && strlen(entry->sha256) == 64 &&
                    strspn(entry->sha256, "0123456789abcdef") == 64;
    return is_sound && fits(cache, key, entry) ? g_steal_pointer(&entry) : NULL;
}

ImgCacheEntry *img_cache_find_part(const ImgCache *cache, const char *key)
{
    return load(cache, key, ".part.json");
}

void img_cache_drop_part(const ImgCache *cache, const char *key)
{
    g_autofree char *part = g_strconcat(key, ".part", NULL);
    g_autofree char *record = g_strconcat(key, ".part.json", NULL);
    unlinkat(cache->dirfd, part, 0);
    unlinkat(cache->dirfd, record, 0);
}

/* Gives the part the name of its digest. A sound file of that name stays: a machine may have it as
 * its base, and the inode is part of what was checked then. */
static bool place(const ImgCache *cache, const char *part, const char *name, const char *sha256)
{
    if (renameat2(cache->dirfd, part, cache->dirfd, name, RENAME_NOREPLACE) == 0) {
        return true;
    }
    if (errno != EEXIST) {
        return false;
    }
    autofd int fd = openat(cache->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    g_autofree char *digest = fd >= 0 ? digest_of(fd) : NULL;
    return g_strcmp0(digest, sha256) == 0 || renameat(cache->dirfd, part, cache->dirfd, name) == 0;
}

bool img_cache_keep(const ImgCache *cache, const char *key, int fd, ImgCacheEntry *entry,
                    GError **error)
{
    struct stat st;
    g_autofree char *part = g_strconcat(key, ".part", NULL);
    g_autofree char *name = file_name(entry->sha256);
    g_autofree char *digest_key = g_strconcat("sha256-", entry->sha256, NULL);
    /* the record trusts the bytes by their time alone, so they must be on the disk before it */
    if (fchmod(fd, 0444) != 0 || fsync(fd) != 0 || !place(cache, part, name, entry->sha256) ||
        fstatat(cache->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        base_error_set_errno(error, errno, "cache '%s': cannot keep '%s'", cache->path, name);
        return false;
    }
    entry->size = (uint64_t)st.st_size;
    entry->mtime_ns = mtime_ns_of(&st);
    img_cache_drop_part(cache, key);
    return record(cache, digest_key, entry, error) &&
           (strcmp(key, digest_key) == 0 || record(cache, key, entry, error));
}
