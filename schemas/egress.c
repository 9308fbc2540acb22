#include <jansson.h>
#include <string.h>
#include "schemas/network_spec.h"
#include "schemas/value.h"

/* Rules of egress as texts, and a whole policy as JSON. */

static const char *const protos[] = {"all", "tcp", "udp", "icmp"};
G_STATIC_ASSERT(G_N_ELEMENTS(protos) == SPEC_EGRESS_PROTO_N);

static bool refuse(const char **out_why, const char *why)
{
    *out_why = why;
    return false;
}

/* Cuts "/tcp" off: what follows the last slash and is no number. */
static bool cut_proto(char *text, SpecEgressProto *out, const char **out_why)
{
    char *slash = strrchr(text, '/');
    *out = SPEC_EGRESS_PROTO_ALL;
    if (!slash || g_ascii_isdigit(slash[1])) {
        return true;
    }
    *slash = '\0';
    for (unsigned i = SPEC_EGRESS_PROTO_TCP; i < SPEC_EGRESS_PROTO_N; i++) {
        if (g_str_equal(slash + 1, protos[i])) {
            *out = (SpecEgressProto)i;
            return true;
        }
    }
    return refuse(out_why, "has a protocol that is none of tcp, udp, icmp");
}

/* Cuts ":443" off, and brackets; *out_ports: NULL for none. IPv6 with ports has brackets. */
static bool cut_ports(char **text, char **out_ports, const char **out_why)
{
    *out_ports = NULL;
    if (**text == '[') {
        char *end = strchr(*text, ']');
        if (!end || (end[1] != '\0' && end[1] != ':')) {
            return refuse(out_why, "has an address without its closing ']'");
        }
        *out_ports = end[1] ? end + 2 : NULL;
        *end = '\0';
        *text += 1;
        return strchr(*text, ':') ? true : refuse(out_why, "has brackets around no IPv6 address");
    }
    char *colon = strchr(*text, ':');
    if (colon && !strchr(colon + 1, ':')) {
        *colon = '\0';
        *out_ports = colon + 1;
    }
    return true;
}

static bool parse_port(const char *text, uint16_t *out)
{
    uint64_t value;
    bool is_port = spec_parse_decimal(text, strlen(text), &value) == SPEC_NUMBER_OK && value > 0 &&
                   value <= 65535;
    *out = is_port ? (uint16_t)value : 0;
    return is_port;
}

static bool parse_ports(const char *text, SpecEgressRule *rule, const char **out_why)
{
    g_auto(GStrv) ends = g_strsplit(text, "-", 2);
    unsigned n = g_strv_length(ends);
    if (n == 0 || !parse_port(ends[0], &rule->port_first) ||
        !parse_port(ends[n - 1], &rule->port_last)) {
        return refuse(out_why, "has a port that is no number from 1 to 65535");
    }
    if (rule->port_last < rule->port_first) {
        return refuse(out_why, "has a range that runs backwards");
    }
    return rule->proto == SPEC_EGRESS_PROTO_ICMP ? refuse(out_why, "has a port, and icmp has none")
                                                 : true;
}

bool spec_egress_rule_from_text(void *record, const char *text, VmError *out_code,
                                const char **out_why)
{
    SpecEgressRule *rule = record;
    g_autofree char *copy = g_strdup(text);
    char *rest = copy, *ports = NULL;
    *out_code = VM_ERROR_NET;
    if (!cut_proto(copy, &rule->proto, out_why) || !cut_ports(&rest, &ports, out_why) ||
        !base_cidr_parse(rest, &rule->to, out_why)) {
        return false;
    }
    if (base_cidr_has_host_bits(&rule->to)) {
        return refuse(out_why, "has an address with bits behind its prefix");
    }
    *out_code = VM_ERROR_PORT;
    return !ports || parse_ports(ports, rule, out_why);
}

char *spec_egress_rule_to_text(const void *record)
{
    const SpecEgressRule *rule = record;
    char cidr[BASE_CIDR_TEXT_BYTES];
    bool has_ports = rule->port_first > 0, is_ip6 = rule->to.ip.n_bytes == 16;
    GString *out = g_string_new(NULL);
    g_string_append_printf(out, has_ports && is_ip6 ? "[%s]" : "%s",
                           base_cidr_format(&rule->to, cidr));
    if (has_ports) {
        g_string_append_printf(out, ":%u", rule->port_first);
    }
    if (rule->port_last > rule->port_first) {
        g_string_append_printf(out, "-%u", rule->port_last);
    }
    if (rule->proto != SPEC_EGRESS_PROTO_ALL) {
        g_string_append_printf(out, "/%s", protos[rule->proto]);
    }
    return g_string_free(out, FALSE);
}

/* --- a policy --------------------------------------------------------------------------------- */

static void free_rule(void *data)
{
    SpecEgressRule *rule = data;
    g_free(rule->pos.file);
    g_free(rule);
}

static void clear_rules(GPtrArray *rules)
{
    if (rules) {
        g_ptr_array_set_free_func(rules, free_rule);
        g_ptr_array_unref(rules);
    }
}

void spec_egress_clear(SpecEgress *egress)
{
    clear_rules(egress->allow);
    clear_rules(egress->deny);
    memset(egress, 0, sizeof(*egress));
}

static GPtrArray *copy_rules(const GPtrArray *rules)
{
    GPtrArray *copy = g_ptr_array_new();
    for (unsigned i = 0; rules && i < rules->len; i++) {
        SpecEgressRule *rule = g_memdup2(g_ptr_array_index(rules, i), sizeof(SpecEgressRule));
        rule->pos = base_pos_copy(&rule->pos);
        g_ptr_array_add(copy, rule);
    }
    return copy;
}

void spec_egress_copy(const SpecEgress *egress, SpecEgress *out)
{
    *out = *egress;
    out->allow = copy_rules(egress->allow);
    out->deny = copy_rules(egress->deny);
}

bool spec_egress_is_open(const SpecEgress *egress)
{
    return !egress->is_hermetic && !egress->is_restricted && !egress->is_default_deny &&
           (!egress->deny || egress->deny->len == 0);
}

static json_t *json_of_rules(const GPtrArray *rules)
{
    json_t *list = json_array();
    for (unsigned i = 0; rules && i < rules->len; i++) {
        g_autofree char *text = spec_egress_rule_to_text(g_ptr_array_index(rules, i));
        json_array_append_new(list, json_string(text));
    }
    return list;
}

char *spec_egress_to_json(const SpecEgress *egress)
{
    json_t *root =
        json_pack("{s:b, s:b, s:s, s:o, s:o}", "hermetic", egress->is_hermetic, "restricted",
                  egress->is_restricted, "default", egress->is_default_deny ? "deny" : "allow",
                  "allow", json_of_rules(egress->allow), "deny", json_of_rules(egress->deny));
    char *dumped = json_dumps(root, JSON_COMPACT);
    char *text = g_strdup(dumped);
    free(dumped);
    json_decref(root);
    return text;
}

static bool read_rules(const json_t *json, GPtrArray *out)
{
    size_t i;
    json_t *item;
    json_array_foreach(json, i, item)
    {
        SpecEgressRule *rule = g_new0(SpecEgressRule, 1);
        VmError code;
        const char *why, *text = json_string_value(item);
        g_ptr_array_add(out, rule);
        if (!text || !spec_egress_rule_from_text(rule, text, &code, &why)) {
            return false;
        }
    }
    return json_is_array(json);
}

static bool read_egress(const json_t *root, SpecEgress *out)
{
    const json_t *hermetic = json_object_get(root, "hermetic");
    const json_t *restricted = json_object_get(root, "restricted");
    const char *otherwise = json_string_value(json_object_get(root, "default"));
    out->is_hermetic = json_is_true(hermetic);
    out->is_restricted = json_is_true(restricted);
    out->is_default_deny = g_strcmp0(otherwise, "deny") == 0;
    return json_is_boolean(hermetic) && json_is_boolean(restricted) &&
           (out->is_default_deny || g_strcmp0(otherwise, "allow") == 0) &&
           read_rules(json_object_get(root, "allow"), out->allow) &&
           read_rules(json_object_get(root, "deny"), out->deny);
}

bool spec_egress_from_json(const char *json, SpecEgress *out, GError **error)
{
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    SpecEgress egress = {.allow = g_ptr_array_new(), .deny = g_ptr_array_new()};
    bool is_read = read_egress(root, &egress);
    json_decref(root);
    if (!is_read) {
        spec_egress_clear(&egress);
        return base_fail(error, VM_ERROR_STATE, "the record of an egress policy is damaged");
    }
    *out = egress;
    return true;
}
