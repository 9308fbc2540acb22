#include <string.h>
#include "schemas/write.h"
#include "schemas/yaml.h"

static void put_networks(SpecNode *top, const MachineSpec *spec)
{
    SpecNode *networks = spec_node_new(SPEC_NODE_MAP);
    for (unsigned i = 0; i < spec->network_specs->len; i++) {
        const NetworkSpec *network = g_ptr_array_index(spec->network_specs, i);
        SpecWriter writer = {.origins = network->origins};
        spec_node_put_key(networks, network->name,
                          spec_write_table(&writer, &spec_network_table, "", network));
    }
    if (spec_node_n(networks) > 0) {
        spec_node_put_key(top, "networks", networks);
    } else {
        spec_node_free(networks);
    }
}

char *spec_machine_to_yaml(const MachineSpec *spec, bool with_secrets)
{
    SpecWriter writer = {.origins = spec->origins, .with_secrets = with_secrets};
    g_autoptr(SpecNode) top = spec_node_new(SPEC_NODE_MAP);
    SpecNode *vms = spec_node_new(SPEC_NODE_MAP);
    const char *name = spec->name ? spec->name : "machine";
    spec_node_put_key(top, "version", spec_node_new_scalar("1", 1, true));
    spec_node_put_key(top, "name", spec_node_new_scalar(name, strlen(name), false));
    put_networks(top, spec);
    spec_node_put_key(top, "vms", vms);
    spec_node_put_key(vms, name, spec_write_table(&writer, &spec_machine_table, "", spec));
    return spec_yaml_emit(top);
}
