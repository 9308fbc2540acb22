#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/*
 * The part that is linked with libcurl, vm-run-fetch.so: one HTTP request with its redirects. It
 * knows neither files nor digests; what comes is handed on.
 */
#define IMG_FETCH_PART   "vm-run-fetch"
#define IMG_FETCH_SYMBOL "img_fetch_part_request"

typedef struct {
    long status;    /* 200, 206, 304, 404 ... */
    uint64_t start; /* first byte of the body in the whole file: 0, or where it is continued */
    uint64_t total_bytes;      /* of the whole file; 0: the server doesn't say */
    const char *etag;          /* borrowed, NULL: none */
    const char *last_modified; /* borrowed, NULL: none */
} ImgFetchReply;

typedef struct {
    const char *url;
    const char *ca_file;           /* NULL: the system's */
    uint64_t resume_at;            /* 0: the whole file */
    const char *if_range;          /* validator that must still hold to continue; NULL: none */
    const char *if_none_match;     /* NULL: none */
    const char *if_modified_since; /* NULL: none */
    /* The final answer is there, its body is not; called once, redirects are behind. false: stop.
     */
    bool (*begin)(const ImgFetchReply *reply, void *data, GError **error);
    /* Some of the body. false: stop. */
    bool (*take)(const void *bytes, size_t n, void *data, GError **error);
    /* Asked a few times a second, also while nothing comes. */
    bool (*is_cancelled)(void *data);
    void *data;
} ImgFetchRequest;

/*
 * Makes the request. false and `error`: what begin() or take() said; HOST: no connection, TLS or
 * HTTP failure, or a redirect that is not allowed (from https only to https; ten at most); TIMEOUT:
 * no byte for a minute; CANCELLED. *out_is_cut (never NULL): the connection ended early, continuing
 * can help.
 */
typedef bool ImgFetchPartRequest(const ImgFetchRequest *request, bool *out_is_cut, GError **error);
