#include "net/rules.h"

#include "base/error.h"
#include "net/filter.h"
#include "net/rules_internal.h"

static void say(GPtrArray *differences, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void say(GPtrArray *differences, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(differences, g_strdup_vprintf(format, args));
    va_end(args);
}

static bool check_port(const NetRulesElement *element, GPtrArray *differences, GError **error)
{
    NetRulesState state = NET_RULES_ABSENT;
    g_autofree char *holder = NULL;
    if (!net_rules_look(element, &state, &holder, NULL, error)) {
        return false;
    }
    g_autofree char *who = net_rules_owner_text(holder);
    switch (state) {
    case NET_RULES_ABSENT:
        say(differences, "%s is missing", element->what);
        break;
    case NET_RULES_STALE:
        say(differences, "%s leads elsewhere", element->what);
        break;
    case NET_RULES_TAKEN:
        say(differences, "%s is taken by %s", element->what, who);
        break;
    case NET_RULES_OURS:
        break;
    }
    return true;
}

static bool check_member(const NetMember *member, GPtrArray *differences, GError **error)
{
    g_autoptr(GPtrArray) elements = net_rules_elements_new();
    net_rules_port_elements(member, elements);
    for (unsigned i = 0; i < elements->len; i++) {
        if (!check_port(elements->pdata[i], differences, error)) {
            return false;
        }
    }
    return net_rules_check_egress(member, differences, error) &&
           net_filter_check(member, differences, error);
}

bool net_rules_check(NetMember *const *members, unsigned n_members, GPtrArray *differences,
                     GError **error)
{
    bool is_whole = false;
    if (!net_rules_base_is_whole(&is_whole, error)) {
        return false;
    }
    if (!is_whole) {
        say(differences, "base rules of nf_tables are missing or changed");
    }
    for (unsigned i = 0; i < n_members; i++) {
        if (members[i]->is_up && !check_member(members[i], differences, error)) {
            return false;
        }
    }
    return true;
}
