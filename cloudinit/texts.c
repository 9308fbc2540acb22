#include "cloudinit/seed.h"

#include "cloudinit/json_text.h"
#include "cloudinit/vendor.h"
#include "cloudinit/yaml_tree.h"

#include <string.h>

void seed_texts_free(SeedTexts *texts)
{
    if (texts) {
        g_clear_pointer(&texts->user_data, g_bytes_unref);
        g_clear_pointer(&texts->vendor_data, g_bytes_unref);
        g_clear_pointer(&texts->meta_data, g_bytes_unref);
        g_clear_pointer(&texts->network_config, g_bytes_unref);
        g_free(texts);
    }
}

const char *seed_login_user(const MachineSpec *spec)
{
    return spec->user ? spec->user : SEED_DEFAULT_USER;
}

/* `value` is taken. */
static GBytes *json_bytes(json_t *value)
{
    g_autofree char *text = seed_json_text(value, TRUE);
    json_decref(value);
    g_autofree char *line = g_strconcat(text, "\n", NULL);
    size_t n_bytes = strlen(line);
    return g_bytes_new_take(g_steal_pointer(&line), n_bytes);
}

static GBytes *spec_text_bytes(const SpecText *text)
{
    return g_bytes_new(text->text ? text->text : "", text->text ? text->n_bytes : 0);
}

/* --- meta-data
 * ------------------------------------------------------------------------------------ */

static json_t *json_strv(const char *const *texts)
{
    json_t *list = json_array();
    for (; texts && *texts; texts++) {
        json_array_append_new(list, seed_json_string(*texts));
    }
    return list;
}

static json_t *read_map(const SpecText *text)
{
    YamlMistake mistake = {0};
    g_autoptr(YamlTree) tree =
        text->text ? seed_yaml_parse(text->text, text->n_bytes, &mistake) : NULL;
    g_free(mistake.what);
    json_t *map = tree && tree->root ? seed_yaml_to_json(tree->root) : NULL;
    if (json_is_object(map)) {
        return map;
    }
    json_decref(map);
    return json_object();
}

/* The user's keys stand beside ours: without the machine's own nobody could log in. Forms that
 * cloud-init takes: one key, a list, a map of names to either. */
static void add_keys(json_t *keys, const json_t *more)
{
    size_t i;
    json_t *item;
    const char *name;
    if (json_is_string(more)) {
        json_array_append(keys, (json_t *)more);
    }
    json_array_foreach(more, i, item)
    {
        if (json_is_string(item)) {
            json_array_append(keys, item);
        }
    }
    json_object_foreach((json_t *)more, name, item)
    {
        if (json_is_string(item) || json_is_array(item)) {
            add_keys(keys, item);
        }
    }
}

static GBytes *meta_data_build(const SeedInput *input)
{
    const MachineSpec *spec = input->spec;
    const char *hostname = spec->hostname ? spec->hostname : spec->name;
    json_t *meta = json_object();
    json_object_set_new(meta, "instance-id", seed_json_string(input->instance_id));
    if (hostname) {
        json_object_set_new(meta, "local-hostname", seed_json_string(hostname));
    }
    json_t *keys = json_strv(input->public_keys);
    json_object_set_new(meta, "public-keys", keys);
    json_t *users = read_map(&spec->cloud_init.meta_data);
    add_keys(keys, json_object_get(users, "public-keys"));
    json_object_del(users, "public-keys");
    json_object_del(users, "instance-id");
    json_object_update(meta, users);
    json_decref(users);
    return json_bytes(meta);
}

/* --- network-config
 * ------------------------------------------------------------------------------- */

static void add_route(json_t *routes, const char *to, const char *via)
{
    if (via) {
        json_array_append_new(routes,
                              json_pack("{s:s, s:o}", "to", to, "via", seed_json_string(via)));
    }
}

/*
 * The ways out, as all renderers of cloud-init 22.4 take them (tried: eni, netplan, networkd,
 * NetworkManager): "default" is an error but for netplan, gateway4 and gateway6 are a deprecation
 * that makes a newer cloud-init end as degraded, and "::/0" becomes "::/64" but for netplan; so
 * IPv6 goes by two halves.
 */
static json_t *routes_json(const SeedNic *nic)
{
    json_t *routes = json_array();
    add_route(routes, "0.0.0.0/0", nic->gateway4);
    add_route(routes, "::/1", nic->gateway6);
    add_route(routes, "8000::/1", nic->gateway6);
    return routes;
}

static json_t *nameservers_json(const SeedNic *nic)
{
    json_t *json = json_object();
    if (nic->nameservers && nic->nameservers[0]) {
        json_object_set_new(json, "addresses", json_strv(nic->nameservers));
        if (nic->domain) {
            json_object_set_new(json, "search", json_pack("[o]", seed_json_string(nic->domain)));
        }
    }
    return json;
}

/* `value` is taken; an empty one is left out. */
static void set_filled(json_t *object, const char *key, json_t *value)
{
    if (json_array_size(value) || json_object_size(value)) {
        json_object_set(object, key, value);
    }
    json_decref(value);
}

static json_t *nic_json(const SeedNic *nic)
{
    json_t *json = json_object();
    json_object_set_new(json, "match",
                        json_pack("{s:o}", "macaddress", seed_json_string(nic->mac)));
    json_object_set_new(json, "dhcp4", json_boolean(nic->is_dhcp4));
    set_filled(json, "addresses", json_strv(nic->addresses));
    set_filled(json, "routes", routes_json(nic));
    set_filled(json, "nameservers", nameservers_json(nic));
    if (nic->mtu) {
        json_object_set_new(json, "mtu", json_integer(nic->mtu));
    }
    return json;
}

/* Version 2, each NIC found by its MAC; names stay the guest's. */
static GBytes *network_config_build(const SeedInput *input)
{
    if (input->spec->cloud_init.network_config.text) {
        return spec_text_bytes(&input->spec->cloud_init.network_config);
    }
    if (input->n_nics == 0) {
        return NULL;
    }
    json_t *nics = json_object();
    for (unsigned i = 0; i < input->n_nics; i++) {
        g_autofree char *id = g_strdup_printf("nic%u", i);
        json_object_set_new(nics, id, nic_json(&input->nics[i]));
    }
    return json_bytes(json_pack("{s:i, s:o}", "version", 2, "ethernets", nics));
}

/* --- all
 * -------------------------------------------------------------------------------------------- */

SeedTexts *seed_texts_build(const SeedInput *input)
{
    SeedTexts *texts = g_new0(SeedTexts, 1);
    texts->user_data = spec_text_bytes(&input->spec->cloud_init.user_data);
    texts->vendor_data = seed_vendor_build(input);
    texts->meta_data = meta_data_build(input);
    texts->network_config = network_config_build(input);
    return texts;
}

char *seed_texts_digest(const SeedTexts *texts)
{
    GBytes *const all[] = {texts->user_data, texts->vendor_data, texts->meta_data,
                           texts->network_config};
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
        gsize n_bytes = 0;
        const void *data = all[i] ? g_bytes_get_data(all[i], &n_bytes) : NULL;
        guint64 mark = GUINT64_TO_BE(all[i] ? (guint64)n_bytes : G_MAXUINT64);
        g_checksum_update(sum, (const guchar *)&mark, sizeof mark);
        g_checksum_update(sum, data, (gssize)n_bytes);
    }
    return g_strdup(g_checksum_get_string(sum));
}
