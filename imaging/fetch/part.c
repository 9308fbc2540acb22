#include "imaging/fetch/part.h"

#include <stdio.h>
#include <string.h>
#include <curl/curl.h>

#include "base/error.h"
#include "base/report.h"

#define N_REDIRECTS_MAX   10
#define CONNECT_TIMEOUT_S 20L
#define STALL_S           60L
#define STALL_BYTES_PER_S 1L
#define N_HEADER_MAX      1024

typedef struct {
    const ImgFetchRequest *request;
    CURL *curl;
    GError *error; /* of a callback */
    bool has_begun;
    bool is_cancelled;
} Transfer;

__attribute__((visibility("default"))) ImgFetchPartRequest img_fetch_part_request;

static void add_header(struct curl_slist **headers, const char *name, const char *value)
{
    if (value) {
        g_autofree char *line = g_strdup_printf("%s: %s", name, value);
        *headers = curl_slist_append(*headers, line);
    }
}

/* A header of the final answer, NULL: none or absurdly long. Borrowed until the next request. */
static const char *reply_header(const Transfer *transfer, const char *name)
{
    struct curl_header *header = NULL;
    if (curl_easy_header(transfer->curl, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK) {
        return NULL;
    }
    return strlen(header->value) <= N_HEADER_MAX ? header->value : NULL;
}

static bool is_redirect(const Transfer *transfer)
{
    char *target = NULL;
    curl_easy_getinfo(transfer->curl, CURLINFO_REDIRECT_URL, &target);
    return target != NULL;
}

/* RFC 9110 14.4: "bytes FIRST-LAST/TOTAL", TOTAL may be "*". */
static bool read_content_range(const char *text, ImgFetchReply *reply)
{
    unsigned long long first, last, total = 0;
    int n = text ? sscanf(text, "bytes %llu-%llu/%llu", &first, &last, &total) : 0;
    if (n < 2 || last < first || (n == 3 && last >= total)) {
        return false;
    }
    reply->start = first;
    reply->total_bytes = total;
    return true;
}

static bool begin(Transfer *transfer)
{
    ImgFetchReply reply = {0};
    curl_off_t length = -1;
    transfer->has_begun = true;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &reply.status);
    curl_easy_getinfo(transfer->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (reply.status == 206 &&
        !read_content_range(reply_header(transfer, "Content-Range"), &reply)) {
        base_fail(&transfer->error, VM_ERROR_HOST, "the server's Content-Range is malformed");
        return false;
    }
    if (reply.status == 200 && length > 0) {
        reply.total_bytes = (uint64_t)length;
    }
    reply.etag = reply_header(transfer, "ETag");
    reply.last_modified = reply_header(transfer, "Last-Modified");
    return transfer->request->begin(&reply, transfer->request->data, &transfer->error);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *data)
{
    Transfer *transfer = data;
    if (is_redirect(transfer)) {
        return size * n;
    }
    bool is_fine =
        (transfer->has_begun || begin(transfer)) &&
        transfer->request->take(bytes, size * n, transfer->request->data, &transfer->error);
    return is_fine ? size * n : 0;
}

static int on_progress(void *data, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up)
{
    Transfer *transfer = data;
    (void)total, (void)now, (void)up_total, (void)up;
    transfer->is_cancelled = transfer->request->is_cancelled(transfer->request->data);
    return transfer->is_cancelled;
}

static void set_options(Transfer *transfer, struct curl_slist *headers, char *message)
{
    CURL *curl = transfer->curl;
    const ImgFetchRequest *request = transfer->request;
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION,
                     0L); /* ours, since the rule depends on the hop */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "vm-run/" VM_VERSION);
    curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    if (request->ca_file) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, request->ca_file);
    }
}

static bool is_cut(CURLcode code)
{
    switch (code) {
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_OPERATION_TIMEDOUT:
        return true;
    default:
        return false;
    }
}

static bool fail_transfer(Transfer *transfer, CURLcode code, const char *message, GError **error)
{
    if (transfer->error) {
        g_propagate_error(error, g_steal_pointer(&transfer->error));
        return false;
    }
    if (transfer->is_cancelled) {
        return base_fail(error, VM_ERROR_CANCELLED, "the download was cancelled");
    }
    VmError class = code == CURLE_OPERATION_TIMEDOUT ? VM_ERROR_TIMEOUT : VM_ERROR_HOST;
    g_autofree char *shown = base_report_escape(*message ? message : curl_easy_strerror(code), 300);
    return base_fail(error, class, "%s", shown);
}

/* Where the answer leads. NULL and no error: nowhere, it is the last one. */
static char *next_url(const Transfer *transfer, const char *url, GError **error)
{
    char *target = NULL;
    curl_easy_getinfo(transfer->curl, CURLINFO_REDIRECT_URL, &target);
    if (!target) {
        return NULL;
    }
    bool was_https = g_ascii_strncasecmp(url, "https:", 6) == 0;
    bool is_https = g_ascii_strncasecmp(target, "https:", 6) == 0;
    bool is_http = g_ascii_strncasecmp(target, "http:", 5) == 0;
    if (is_https || (is_http && !was_https)) {
        return g_strdup(target);
    }
    g_autofree char *scheme = g_strndup(target, strcspn(target, ":"));
    g_autofree char *shown = base_report_escape(scheme, 20);
    base_fail(error, VM_ERROR_HOST, "the server redirects from %s to %s, which is not followed",
              was_https ? "https" : "http", shown);
    return NULL;
}

static bool perform(Transfer *transfer, struct curl_slist *headers, bool *out_is_cut,
                    GError **error)
{
    char message[CURL_ERROR_SIZE] = "";
    g_autofree char *url = g_strdup(transfer->request->url);
    set_options(transfer, headers, message);
    for (int hop = 0; hop <= N_REDIRECTS_MAX; hop++) {
        curl_easy_setopt(transfer->curl, CURLOPT_URL, url);
        CURLcode code = curl_easy_perform(transfer->curl);
        *out_is_cut = is_cut(code) && !transfer->error;
        if (code != CURLE_OK) {
            return fail_transfer(transfer, code, message, error);
        }
        GError *refused = NULL;
        char *target = next_url(transfer, url, &refused);
        if (refused) {
            g_propagate_error(error, refused);
            return false;
        }
        if (!target) { /* an answer without a body has not begun yet */
            return transfer->has_begun || begin(transfer) ||
                   fail_transfer(transfer, code, "", error);
        }
        g_free(url);
        url = target;
    }
    return base_fail(error, VM_ERROR_HOST, "more than %d redirects", N_REDIRECTS_MAX);
}

bool img_fetch_part_request(const ImgFetchRequest *request, bool *out_is_cut, GError **error)
{
    static gsize is_ready = 0;
    *out_is_cut = false;
    if (g_once_init_enter(&is_ready)) {
        g_once_init_leave(&is_ready, curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? 1 : 2);
    }
    Transfer transfer = {.request = request, .curl = is_ready == 1 ? curl_easy_init() : NULL};
    if (!transfer.curl) {
        return base_fail(error, VM_ERROR_HOST, "libcurl can't be initialised");
    }
    struct curl_slist *headers = NULL;
    g_autofree char *range =
        request->resume_at ? g_strdup_printf("bytes=%" G_GUINT64_FORMAT "-", request->resume_at)
                           : NULL;
    add_header(&headers, "Range", range);
    add_header(&headers, "If-Range", range ? request->if_range : NULL);
    add_header(&headers, "If-None-Match", request->if_none_match);
    add_header(&headers, "If-Modified-Since", request->if_modified_since);
    bool is_done = perform(&transfer, headers, out_is_cut, error);
    curl_slist_free_all(headers);
    curl_easy_cleanup(transfer.curl);
    g_clear_error(&transfer.error);
    return is_done;
}
