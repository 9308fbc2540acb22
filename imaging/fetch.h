#pragma once
#include "imaging/meter.h"
#include "base/error.h"

/*
 * Images from the network: fetched with libcurl (loaded at its first use: vm-run-fetch.so) into a
 * cache, resumed, checked, kept. Only http and https; plain http only with a sha256, and never
 * after https.
 */
typedef struct {
    const char *url;
    const char *sha256;    /* 64 hex digits or NULL (https only) */
    const char *cache_dir; /* absolute; created 0700, must belong to us */
    const char *ca_file; /* PEM certificates to trust instead of the system's, NULL: the system's */
} ImgFetch;

/* Does the text begin with http:// or https://? */
bool img_fetch_is_url(const char *image);

/*
 * Path of the whole, checked file in the cache, transfer full. The file is named for its digest and
 * never changes again, so a machine can keep it as its base when the URL gives something newer
 * later. With sha256 a file that is there already needs no request; without, the server is asked
 * whether it has changed (ETag, Last-Modified), and when it can't be reached what is there is used.
 * What breaks off is continued, here and by the next call. Proxies: http_proxy, https_proxy,
 * no_proxy. Logins: ~/.netrc. progress may be NULL. Two processes that fetch the same wait for each
 * other. IMAGE: wrong digest, nothing is kept; NOT_FOUND, DENIED, HOST: as the server says;
 * TIMEOUT: no byte for a minute; NO_SPACE; CANCELLED by progress; RANGE: a malformed sha256; PATH:
 * cache_dir belongs to somebody else; SECRET: a password in the URL. Blocks for the network.
 */
char *img_fetch(const ImgFetch *fetch, ImgProgress progress, void *data, GError **error);
