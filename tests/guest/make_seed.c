/* make-seed SPEC DIR PORT INSTANCE: checks the first machine of SPEC and writes, into DIR, its
 * seed.iso with a status feeder, the machine's own key (id) and known_hosts for 127.0.0.1:PORT. For
 * guest tests of the seed alone. */
#include "cloudinit/check.h"
#include "cloudinit/seed.h"
#include "schemas/spec.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GUEST_MAC "52:54:00:aa:bb:01"

static MachineSpec *load(const char *path, BaseReport *report, GPtrArray **out_keys)
{
    g_autoptr(SpecFile) file = spec_file_load(path, report);
    MachineSpec *spec = file ? spec_file_steal_machine(file, 0) : NULL;
    if (spec) {
        spec_machine_finish(spec, report);
        seed_check_user_data(spec, report);
        seed_check_spec(spec, report);
        *out_keys = seed_keys_resolve(spec, NULL, report);
    }
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        fprintf(stderr, "%s\n", line);
    }
    return spec;
}

static bool put(const char *dir, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL);
}

static bool write_all(const SeedInput *input, const char *dir, const char *port,
                      const SeedKeyPair *own)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *known =
        g_strdup_printf("[127.0.0.1]:%s %s\n", port, input->host_key->public_line);
    g_autofree char *iso = g_build_filename(dir, "seed.iso", NULL);
    g_autoptr(SeedTexts) texts = seed_texts_build(input);
    if (!put(dir, "id", own->private_openssh) || !put(dir, "known_hosts", known) ||
        !seed_iso_write(texts, AT_FDCWD, iso, true, &error)) {
        fprintf(stderr, "make-seed: %s\n", error ? error->message : "cannot write");
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: make-seed SPEC DIR PORT INSTANCE\n");
        return 2;
    }
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(GPtrArray) keys = NULL;
    g_autoptr(MachineSpec) spec = load(argv[1], report, &keys);
    if (!spec || base_report_n_errors(report) > 0) {
        return 3;
    }
    g_autoptr(SeedKeyPair) host = seed_keypair_new("host", NULL);
    g_autoptr(SeedKeyPair) own = seed_keypair_new("own", NULL);
    g_ptr_array_add(keys, g_strdup(own->public_line));
    g_ptr_array_add(keys, NULL);
    SeedNic nic = {.mac = GUEST_MAC, .is_dhcp4 = true};
    SeedInput input = {.spec = spec,
                       .instance_id = argv[4],
                       .public_keys = (const char *const *)keys->pdata,
                       .host_key = host,
                       .password_hash = spec->password_hash,
                       .nics = &nic,
                       .n_nics = 1,
                       .has_status_port = true};
    return write_all(&input, argv[2], argv[3], own) ? 0 : 1;
}
