#include "schemas/rules.h"

#include <arpa/inet.h>
#include <string.h>
#include "schemas/value.h"

static bool refuse(const char **out_why, const char *why)
{
    *out_why = why;
    return false;
}

static bool is_made_of(const char *text, const char *characters)
{
    return *text && strspn(text, characters) == strlen(text);
}

static bool check_label(const char *text, const char **out_why)
{
    size_t n = strlen(text);
    if (n == 0) {
        return refuse(out_why, "is empty");
    }
    if (n > 63) {
        return refuse(out_why, "is longer than 63 characters");
    }
    for (size_t i = 0; i < n; i++) {
        if (!g_ascii_islower(text[i]) && !g_ascii_isdigit(text[i]) && text[i] != '-') {
            return refuse(out_why, "is not allowed: use lower-case letters, digits and '-'");
        }
    }
    if (text[0] == '-' || text[n - 1] == '-') {
        return refuse(out_why, "begins or ends with '-'");
    }
    return true;
}

bool spec_rule_name(const char *text, const char **out_why)
{
    if (is_made_of(text, "0123456789")) {
        return refuse(out_why, "is made of digits only, which a host name may not be");
    }
    return check_label(text, out_why);
}

bool spec_rule_hostname(const char *text, const char **out_why)
{
    if (strlen(text) > 253) {
        return refuse(out_why, "is longer than 253 characters");
    }
    if (is_made_of(text, "0123456789.")) {
        return refuse(out_why, "is made of digits only");
    }
    g_auto(GStrv) labels = g_strsplit(text, ".", -1);
    for (unsigned i = 0; labels[i]; i++) {
        g_autofree char *lower = g_ascii_strdown(labels[i], -1);
        if (*lower == '\0') {
            return refuse(out_why, "has an empty part between dots");
        }
        if (!check_label(lower, out_why)) {
            return refuse(out_why, "is no host name: use letters, digits and '-', at most 63 "
                                   "between dots");
        }
    }
    return true;
}

/* Linux takes 1..15 bytes without '/', ':' and blanks, and expands "%d" (net/core/dev.c,
 * dev_valid_name and
 * __dev_alloc_name, Linux 6.1). The words are special to sysctl's net.* trees and to everybody's
 * habits. */
bool spec_rule_bridge(const char *text, const char **out_why)
{
    static const char *const words[] = {"lo", "all", "default", ".", "..", NULL};
    if (strlen(text) > 15) {
        return refuse(out_why, "is longer than the 15 characters of an interface name");
    }
    if (strchr(text, '%')) {
        return refuse(out_why, "holds a '%', which the kernel would replace");
    }
    if (g_strv_contains(words, text)) {
        return refuse(out_why, "is no bridge");
    }
    if (g_str_has_prefix(text, "vmt") || g_str_has_prefix(text, "vmi")) {
        return refuse(out_why, "begins as the taps of machines do");
    }
    return true;
}

bool spec_rule_mac(const char *text, const char **out_why)
{
    if (strlen(text) != 17 || !g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1])) {
        return true; /* the pattern says it better */
    }
    if (g_ascii_xdigit_value(text[1]) & 1) {
        return refuse(out_why, g_ascii_strcasecmp(text, "ff:ff:ff:ff:ff:ff") == 0
                                   ? "is the broadcast address"
                                   : "is a multicast address: its first octet must be even");
    }
    if (g_str_equal(text, "00:00:00:00:00:00")) {
        return refuse(out_why, "is the zero address");
    }
    return true;
}

/* "nbd:...", "json:{...", "debian:12": what QEMU takes for a protocol, or a later version for a
 * name. */
static bool has_scheme(const char *text)
{
    return text[strcspn(text, ":/")] == ':' && text[0] != '.';
}

static bool check_home(const char *text, const char **out_why)
{
    if (text[0] == '~' && text[1] != '/') {
        return refuse(out_why, "names another user's home: write the path out");
    }
    return true;
}

bool spec_rule_image_file(const char *text, const char **out_why)
{
    if (has_scheme(text)) {
        return refuse(out_why, "is no path: write ./NAME for a file of this name");
    }
    return check_home(text, out_why);
}

bool spec_rule_image(const char *text, const char **out_why)
{
    bool is_url = g_str_has_prefix(text, "http://") || g_str_has_prefix(text, "https://");
    if (!is_url && has_scheme(text)) {
        return refuse(out_why, "is neither a path nor a http(s) URL (names of a catalogue are not "
                               "supported yet): write ./NAME for a file of this name");
    }
    if (!is_url) {
        return check_home(text, out_why);
    }
    const char *host = strstr(text, "://") + 3;
    if (*host == '\0' || *host == '/' || strpbrk(text, " \"<>\\^`{|}")) {
        return refuse(out_why, "is no URL");
    }
    if (memchr(host, '@', strcspn(host, "/"))) {
        return refuse(out_why, "holds a user name or password");
    }
    return true;
}

bool spec_rule_guest_path(const char *text, const char **out_why)
{
    if (text[0] != '/') {
        return refuse(out_why, "is not absolute");
    }
    g_auto(GStrv) parts = g_strsplit(text, "/", -1);
    if (g_strv_contains((const char *const *)parts, "..") ||
        g_strv_contains((const char *const *)parts, ".")) {
        return refuse(out_why, "has a '.' or '..' part");
    }
    if (g_str_has_suffix(text, "/")) {
        return refuse(out_why, "is a folder");
    }
    return true;
}

/* --- ports ------------------------------------------------------------------------------------ */

static bool parse_port(const char *text, uint16_t *out)
{
    uint64_t value;
    if (spec_parse_decimal(text, strlen(text), &value) != SPEC_NUMBER_OK || value > 65535) {
        return false;
    }
    *out = (uint16_t)value;
    return true;
}

/* "80" or "80-89". */
static bool parse_range(const char *text, uint16_t *out_first, uint16_t *out_last,
                        const char **out_why)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);
    bool is_range = ends[0] && ends[1];
    if (!ends[0] || !parse_port(ends[0], out_first) ||
        !parse_port(is_range ? ends[1] : ends[0], out_last)) {
        return refuse(out_why, "has a port that is no number from 1 to 65535");
    }
    if (*out_last < *out_first) {
        return refuse(out_why, "has a range that runs backwards");
    }
    if (is_range && *out_first == 0) {
        return refuse(out_why, "has a range that begins at port 0");
    }
    return true;
}

/* Cuts "/tcp" off. */
static bool parse_proto(char *text, SpecProto *out, const char **out_why)
{
    char *slash = strrchr(text, '/');
    *out = SPEC_PROTO_TCP;
    if (!slash) {
        return true;
    }
    *slash = '\0';
    for (unsigned i = 0; i < SPEC_PROTO_N; i++) {
        if (g_str_equal(slash + 1, spec_proto_name((SpecProto)i))) {
            *out = (SpecProto)i;
            return true;
        }
    }
    return refuse(out_why, "has a protocol that is none of tcp, udp, both");
}

/* Moves *text behind "127.0.0.1:" or "[::1]:". */
static bool parse_addr(char **text, char **out_addr, const char **out_why)
{
    unsigned char bytes[16];
    char *colon = strchr(*text, ':');
    if (**text == '[') {
        char *end = strchr(*text, ']');
        if (!end || end[1] != ':') {
            return refuse(out_why, "has an address without its closing ']:'");
        }
        *end = '\0';
        if (inet_pton(AF_INET6, *text + 1, bytes) != 1) {
            return refuse(out_why, "has an address that is none");
        }
        *out_addr = g_strdup(*text + 1);
        *text = end + 2;
    } else if (colon && strchr(colon + 1, ':')) {
        *colon = '\0';
        if (inet_pton(AF_INET, *text, bytes) != 1) {
            return refuse(out_why, "has an address that is none");
        }
        *out_addr = g_strdup(*text);
        *text = colon + 1;
    }
    return true;
}

static bool parse_host(const char *text, SpecPort *port, const char **out_why)
{
    if (g_str_equal(text, "auto") || g_str_equal(text, "0")) {
        port->host_first = port->host_last = 0;
        return true;
    }
    return parse_range(text, &port->host_first, &port->host_last, out_why);
}

bool spec_port_from_text(void *record, const char *text, VmError *out_code, const char **out_why)
{
    SpecPort *port = record;
    g_autofree char *copy = g_strdup(text);
    char *rest = copy;
    *out_code = VM_ERROR_PORT;
    if (!parse_proto(copy, &port->proto, out_why)) {
        return false;
    }
    if (!parse_addr(&rest, &port->host_addr, out_why)) {
        *out_code = VM_ERROR_NET;
        return false;
    }
    char *colon = strchr(rest, ':');
    if (!colon) {
        return refuse(out_why, "has no ':' between the host's and the guest's port");
    }
    *colon = '\0';
    if (!parse_host(rest, port, out_why) ||
        !parse_range(colon + 1, &port->guest_first, &port->guest_last, out_why)) {
        return false;
    }
    if (port->guest_first == 0) {
        return refuse(out_why, "has a guest port 0");
    }
    bool is_auto = port->host_first == 0;
    unsigned n_guest = port->guest_last - port->guest_first;
    if (!is_auto && n_guest != (unsigned)(port->host_last - port->host_first)) {
        return refuse(out_why, "has ranges of different lengths");
    }
    return true;
}

char *spec_port_to_text(const void *record)
{
    const SpecPort *port = record;
    GString *out = g_string_new(NULL);
    if (port->host_addr) {
        bool is_ip6 = strchr(port->host_addr, ':') != NULL;
        g_string_append_printf(out, is_ip6 ? "[%s]:" : "%s:", port->host_addr);
    }
    if (port->host_first == 0) {
        g_string_append(out, "auto");
    } else {
        g_string_append_printf(out, "%u", port->host_first);
    }
    if (port->host_last > port->host_first) {
        g_string_append_printf(out, "-%u", port->host_last);
    }
    g_string_append_printf(out, ":%u", port->guest_first);
    if (port->guest_last > port->guest_first) {
        g_string_append_printf(out, "-%u", port->guest_last);
    }
    if (port->proto != SPEC_PROTO_TCP) {
        g_string_append_printf(out, "/%s", spec_proto_name(port->proto));
    }
    return g_string_free(out, FALSE);
}

void spec_port_clear(void *record)
{
    g_free(((SpecPort *)record)->host_addr);
}

/* --- disks ---------------------------------------------------------------------------------- */

void spec_disk_rule(const void *record, const char *path, const BasePos *pos, BaseReport *report)
{
    const SpecDisk *disk = record;
    if (!disk->source && disk->size_bytes == 0) {
        base_report_error(report, VM_ERROR_SCHEMA, pos, "a new disk needs a size, a copy a source",
                          "%s: 'size' is missing", path);
    }
}
