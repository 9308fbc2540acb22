#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>
#include "base/error.h"

/*
 * The cache of fetched images; private to this folder. In its folder:
 *   sha256-<digest>.img   a whole, checked file, 0444; never written again
 *   <key>.json            what is known of it: url, etag, last_modified, sha256, size, mtime_ns
 *   <key>.part, .part.json   a download that is under way or broke off, and its validators
 *   <key>.lock            held while somebody fetches
 * The key is "sha256-<digest>" where the digest is known before, else "url-<hash of the URL>".
 */
typedef struct {
    int dirfd;  /* owned */
    char *path; /* owned */
} ImgCache;

typedef struct {
    char *url;           /* owned, as all; without its query */
    char *etag;          /* NULL: none */
    char *last_modified; /* NULL: none */
    char *sha256;        /* NULL: of a part */
    char *boot_id;       /* of a part: the boot in which it was written; NULL: of a file */
    uint64_t size, mtime_ns;
} ImgCacheEntry;

/* Makes the folder (0700) or checks that it is ours and nobody else may write to it (PATH). */
ImgCache *img_cache_open(const char *path, GError **error);
void img_cache_free(ImgCache *cache);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgCache, img_cache_free)

void img_cache_entry_free(ImgCacheEntry *entry);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ImgCacheEntry, img_cache_entry_free)

/* The entry of that key, whose file is there with the recorded size and time; when only the time
 * differs the file is hashed again. NULL: there is none that fits (a file with another digest is
 * removed). */
ImgCacheEntry *img_cache_find(const ImgCache *cache, const char *key);

/* What was recorded of the part of that key, NULL: none. Not compared with the file. */
ImgCacheEntry *img_cache_find_part(const ImgCache *cache, const char *key);

/* Records what is known of the part. Not durable, as the part's bytes aren't. */
bool img_cache_record_part(const ImgCache *cache, const char *key, const ImgCacheEntry *entry,
                           GError **error);

/* Makes the whole part of `key` the file of entry->sha256 and records it under the key and the
 * digest. fd: the part. Durable. */
bool img_cache_keep(const ImgCache *cache, const char *key, int fd, ImgCacheEntry *entry,
                    GError **error);

/* Removes the part and what was recorded of it. Absent is fine. */
void img_cache_drop_part(const ImgCache *cache, const char *key);

/* Path of the file with that digest, transfer full. */
char *img_cache_path(const ImgCache *cache, const char *sha256);
