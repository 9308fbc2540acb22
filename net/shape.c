#include "net/shape.h"

#include <limits.h>
#include <string.h>
#include "base/error.h"
#include "net/link_birth.h"
#include "net/shape_tc.h"

/*
 * How it works. Each direction is one ifb and one filter. Setting a limit goes from the ifb to the
 * filter, so no frame is ever sent where nothing is; removing goes the other way. What is there is
 * read first: the ifb's rate, and where the filter leads.
 */

#define KIND "ifb"

enum { BITS_PER_BYTE = 8, PREFIX_CHARS = 3 };

/* As the tap sees it: what the guest sends comes in at a tap, and goes out by a macvtap. */
typedef struct {
    const char *prefix, *suffix; /* of the ifb's name and of its tag */
    NetTcHook tap_hook, macvtap_hook;
    const char *words;
} Direction;

static const Direction to_guest = {"vmo", ":to", NET_TC_EGRESS, NET_TC_INGRESS, "to the guest"};
static const Direction from_guest = {"vmi", ":from", NET_TC_INGRESS, NET_TC_EGRESS,
                                     "from the guest"};
static const Direction *const directions[] = {&to_guest, &from_guest};

typedef struct {
    NetSocket *sock;
    const char *name, *tag; /* of the tap */
    NetLink *tap;           /* NULL: gone */
    bool has_lost_filter;   /* we took one of ours off it */
} Shape;

static void clear_shape(Shape *shape)
{
    g_clear_pointer(&shape->sock, net_socket_close);
    g_clear_pointer(&shape->tap, net_link_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Shape, clear_shape)

static bool begin(Shape *shape, const char *tap, const char *tap_tag, GError **error)
{
    *shape = (Shape){.name = tap, .tag = tap_tag};
    if (!net_link_name_check(tap, error) || !net_link_tag_check(tap_tag, error)) {
        return false;
    }
    if (strlen(tap) <= PREFIX_CHARS ||
        strlen(tap_tag) + strlen(from_guest.suffix) > NET_ALTNAME_MAX_BYTES) {
        return base_fail(error, VM_ERROR_NET, "'%s' with tag '%s' is no tap of ours", tap, tap_tag);
    }
    shape->sock = net_socket_open(error);
    return shape->sock && net_link_find(shape->sock, tap, &shape->tap, error);
}

/* The tap must be there and ours. */
static bool check_tap(const Shape *shape, GError **error)
{
    if (!shape->tap) {
        return base_fail(error, VM_ERROR_NOT_FOUND, "there is no tap '%s'", shape->name);
    }
    if (!net_link_has_altname(shape->tap, shape->tag)) {
        return base_fail(error, VM_ERROR_EXISTS, "tap '%s' is not ours - left as it is",
                         shape->name);
    }
    return true;
}

static NetTcHook hook_of(const Shape *shape, const Direction *direction)
{
    return strcmp(shape->tap->kind, "macvtap") ? direction->tap_hook : direction->macvtap_hook;
}

static char *ifb_name(const Shape *shape, const Direction *direction)
{
    return g_strconcat(direction->prefix, shape->name + PREFIX_CHARS, NULL);
}

static char *ifb_tag(const Shape *shape, const Direction *direction)
{
    return g_strconcat(shape->tag, direction->suffix, NULL);
}

static bool find_ifb(const Shape *shape, const Direction *direction, NetLink **out_ifb,
                     GError **error)
{
    g_autofree char *name = ifb_name(shape, direction);
    g_autofree char *tag = ifb_tag(shape, direction);
    return net_link_find_ours(shape->sock, name, KIND, tag, out_ifb, error);
}

/* --- setting ------------------------------------------------------------------- */

/* The ifb, up and with its rate. */
static bool settle_ifb(Shape *shape, const Direction *direction, uint64_t bytes_per_s,
                       NetLink **out_ifb, GError **error)
{
    static const uint32_t no_group = 0;
    uint64_t found = 0;
    g_autoptr(NetLink) ifb = NULL;
    g_autofree char *name = ifb_name(shape, direction);
    g_autofree char *tag = ifb_tag(shape, direction);
    NetLinkBirth birth = {.name = name, .kind = KIND, .tag = tag};
    if (!net_link_create(shape->sock, &birth, &ifb, error) ||
        !net_tc_find_rate(shape->sock, ifb, &found, error)) {
        return false;
    }
    NetLinkChange change = {
        .group = ifb->group == net_link_birth_group(ifb->name) ? &no_group : NULL,
        .silences_ipv6 = !ifb->is_ipv6_silent,
        .sets_up = !ifb->is_up,
    };
    if ((found != bytes_per_s &&
         !net_tc_set_rate(shape->sock, ifb, bytes_per_s, shape->tap->mtu, error)) ||
        !net_link_change(shape->sock, ifb, &change, error)) {
        return false;
    }
    *out_ifb = g_steal_pointer(&ifb);
    return true;
}

static bool add_limit(Shape *shape, const Direction *direction, uint64_t bytes_per_s,
                      GError **error)
{
    unsigned target = 0;
    g_autoptr(NetLink) ifb = NULL;
    NetTcHook hook = hook_of(shape, direction);
    if (!settle_ifb(shape, direction, bytes_per_s, &ifb, error) ||
        !net_tc_find_redirect(shape->sock, shape->tap, hook, &target, NULL, error)) {
        return false;
    }
    if (target == ifb->index) {
        return true;
    }
    return (!target || net_tc_remove_redirect(shape->sock, shape->tap, hook, error)) &&
           net_tc_add_redirect(shape->sock, shape->tap, hook, ifb->index, error);
}

/* Takes our filter off the tap. One that goes away meanwhile has none. */
static bool remove_filter(Shape *shape, const Direction *direction, GError **error)
{
    unsigned target = 0;
    GError *problem = NULL;
    NetTcHook hook = hook_of(shape, direction);
    if (net_tc_find_redirect(shape->sock, shape->tap, hook, &target, NULL, &problem) &&
        (!target || net_tc_remove_redirect(shape->sock, shape->tap, hook, &problem))) {
        shape->has_lost_filter = shape->has_lost_filter || target;
        return true;
    }
    if (g_error_matches(problem, VM_ERROR, VM_ERROR_NOT_FOUND)) {
        g_clear_pointer(&shape->tap, net_link_free);
        g_clear_error(&problem);
        return true;
    }
    g_propagate_error(error, problem);
    return false;
}

static bool remove_limit(Shape *shape, const Direction *direction, GError **error)
{
    g_autoptr(NetLink) ifb = NULL;
    return (!shape->tap || remove_filter(shape, direction, error)) &&
           find_ifb(shape, direction, &ifb, error) &&
           (!ifb || net_link_delete(shape->sock, ifb, error));
}

/* The classifier goes with the last filter, when that was ours. */
static bool remove_hooks(Shape *shape, GError **error)
{
    if (!shape->tap || !shape->has_lost_filter) {
        return true;
    }
    for (int hook = 0; hook < NET_TC_HOOK_N; hook++) {
        unsigned target = 0, n_foreign = 0;
        if (!net_tc_find_redirect(shape->sock, shape->tap, (NetTcHook)hook, &target, &n_foreign,
                                  error)) {
            return false;
        }
        if (target || n_foreign) {
            return true;
        }
    }
    return net_tc_remove_hooks(shape->sock, shape->tap, error);
}

bool net_shape_apply(const char *tap, const char *tap_tag, uint64_t to_guest_bps,
                     uint64_t from_guest_bps, GError **error)
{
    g_auto(Shape) shape = {0};
    const uint64_t rates[] = {to_guest_bps, from_guest_bps};
    if (!begin(&shape, tap, tap_tag, error)) {
        return false;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(rates); i++) {
        if (!check_tap(&shape, error)) { /* also when it went away meanwhile */
            return false;
        }
        if (rates[i] && rates[i] < BITS_PER_BYTE) {
            return base_fail(error, VM_ERROR_NET, "tap '%s': a limit of %u bits/s is too low", tap,
                             (unsigned)rates[i]);
        }
        uint64_t bytes_per_s = rates[i] / BITS_PER_BYTE;
        if (!(bytes_per_s ? add_limit(&shape, directions[i], bytes_per_s, error)
                          : remove_limit(&shape, directions[i], error))) {
            return false;
        }
    }
    return to_guest_bps || from_guest_bps || remove_hooks(&shape, error);
}

bool net_shape_remove(const char *tap, const char *tap_tag, GError **error)
{
    g_auto(Shape) shape = {0};
    if (!begin(&shape, tap, tap_tag, error)) {
        return false;
    }
    if (shape.tap && !net_link_has_altname(shape.tap, tap_tag)) { /* somebody else's */
        g_clear_pointer(&shape.tap, net_link_free);
    }
    return remove_limit(&shape, &to_guest, error) && remove_limit(&shape, &from_guest, error) &&
           remove_hooks(&shape, error);
}

/* --- checking, listing --------------------------------------------------------- */

static bool tell(Shape *shape, const Direction *direction, uint64_t bps, GPtrArray *differences,
                 GError **error)
{
    unsigned target = 0;
    uint64_t found = 0;
    g_autoptr(NetLink) ifb = NULL;
    if (!find_ifb(shape, direction, &ifb, error) ||
        (ifb && !net_tc_find_rate(shape->sock, ifb, &found, error)) ||
        !net_tc_find_redirect(shape->sock, shape->tap, hook_of(shape, direction), &target, NULL,
                              error)) {
        return false;
    }
    if (found != bps / BITS_PER_BYTE) {
        g_ptr_array_add(differences,
                        g_strdup_printf("tap '%s' has a limit of %" G_GUINT64_FORMAT
                                        " bits/s %s, not %" G_GUINT64_FORMAT,
                                        shape->name, found * BITS_PER_BYTE, direction->words, bps));
    }
    bool is_led = ifb ? target == ifb->index && ifb->is_up : target == 0;
    if (!is_led) {
        g_ptr_array_add(differences, g_strdup_printf("tap '%s': its frames %s don't go through "
                                                     "their limit",
                                                     shape->name, direction->words));
    }
    return true;
}

bool net_shape_check(const char *tap, const char *tap_tag, uint64_t to_guest_bps,
                     uint64_t from_guest_bps, GPtrArray *differences, GError **error)
{
    g_auto(Shape) shape = {0};
    if (!begin(&shape, tap, tap_tag, error) || !check_tap(&shape, error)) {
        return false;
    }
    return tell(&shape, &to_guest, to_guest_bps, differences, error) &&
           tell(&shape, &from_guest, from_guest_bps, differences, error);
}

/* "name tag" of the tap that an ifb belongs to; NULL: it is none of ours. */
static char *owner_of(const NetLink *ifb)
{
    const char *tag = net_link_tag(ifb);
    for (gsize i = 0; tag && i < G_N_ELEMENTS(directions); i++) {
        const Direction *direction = directions[i];
        if (g_str_has_prefix(ifb->name, direction->prefix) &&
            g_str_has_suffix(tag, direction->suffix)) {
            return g_strdup_printf("vmt%s %.*s", ifb->name + PREFIX_CHARS,
                                   (int)(strlen(tag) - strlen(direction->suffix)), tag);
        }
    }
    return NULL;
}

GPtrArray *net_shape_list(GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    g_autoptr(GPtrArray) links = sock ? net_link_list(sock, KIND, 0, error) : NULL;
    if (!links) {
        return NULL;
    }
    GPtrArray *owners = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < links->len; i++) {
        char *owner = owner_of(links->pdata[i]);
        if (owner && !g_ptr_array_find_with_equal_func(owners, owner, g_str_equal, NULL)) {
            g_ptr_array_add(owners, owner);
        } else {
            g_free(owner);
        }
    }
    return owners;
}

GPtrArray *net_shape_sweep(bool is_dry_run, GError **error)
{
    g_autoptr(NetSocket) sock = net_socket_open(error);
    return sock ? net_link_sweep(sock, KIND, is_dry_run, error) : NULL;
}
