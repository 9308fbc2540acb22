#pragma once
#include "imaging/copy.h"

/*
 * Images from the network: fetched with libcurl (loaded at its first use: vm-run-fetch.so) into a cache, resumed,
 * checked, kept. Only http and https; plain http, and anything but a sha256-pinned URL over http, is refused.
 */
typedef struct {
    const char *url;
    const char *sha256;       /* lower-case hex or NULL (https only) */
    const char *cache_dir;    /* absolute; created 0700 */
} ImgFetch;

bool img_fetch_is_url(const char *image);

/* Path of the whole, checked file in the cache, transfer full. A cached file is used again when its recorded digest (and validators: ETag, size) still fit. */
char *img_fetch(const ImgFetch *fetch, ImgProgress progress, void *data, GError **error);
