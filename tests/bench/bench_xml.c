/* bench-xml STATE_DIR NAME: prints the domain XML that starting this machine gives libvirt, so
 * that the peer of `start` starts the same. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "driver/machine.h"
#include "driver/plan.h"

enum { RECORD_MAX_BYTES = 1024 * 1024 };

static MachinePlan *load_record(const char *state_dir, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(state_dir, "machines", name, "record.json", NULL);
    g_autofree char *text = base_file_read_user(path, RECORD_MAX_BYTES, NULL, error);
    return text ? machine_plan_from_json(text, error) : NULL;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bench-xml STATE_DIR NAME\n");
        return 2;
    }
    g_autoptr(GError) error = NULL;
    MachineHost *host = machine_host_new(argv[1], NULL, true, &error);
    MachineSpec *spec = host ? machine_spec_load(host, argv[2], &error) : NULL;
    g_autoptr(MachinePlan) plan = spec ? load_record(argv[1], argv[2], &error) : NULL;
    g_autofree char *xml = plan ? machine_plan_domain_xml(plan, spec, &error) : NULL;
    if (xml) {
        fputs(xml, stdout);
    } else {
        fprintf(stderr, "bench-xml: %s\n", error->message);
    }
    spec_machine_free(spec);
    machine_host_free(host);
    return xml ? 0 : 1;
}
