#include <fcntl.h>
#include <stdio.h>
#include "base/error.h"
#include "base/fd.h"
#include "base/path.h"
#include "cli/commands.h"
#include "cli/describe.h"
#include "cli/json.h"
#include "cli/say.h"
#include "cloudinit/seed.h"

/* An interface whose address nobody chose is left to cloud-init's own DHCP: only those with a MAC
 * are configured. */
static GArray *nics_build(const MachineSpec *spec)
{
    GArray *nics = g_array_new(FALSE, TRUE, sizeof(SeedNic));
    for (guint i = 0; i < spec->networks->len; i++) {
        const SpecNetwork *network = spec->networks->pdata[i];
        SeedNic nic = {.mac = network->mac, .is_dhcp4 = true};
        if (network->mac && network->kind != SPEC_NET_NONE) {
            g_array_append_val(nics, nic);
        }
    }
    return nics;
}

static char *instance_id_build(const CmdContext *context, const MachineSpec *spec)
{
    const char *given = cmd_args_text(context->args, "instance-id");
    return given ? g_strdup(given) : g_strdup_printf("iid-%s", spec->name ? spec->name : "vm-run");
}

static bool write_iso(const CmdContext *context, const SeedTexts *texts, GError **error)
{
    const char *last = NULL;
    autofd int dirfd =
        base_path_open_parent(AT_FDCWD, cmd_args_text(context->args, "output"), &last, error);
    bool is_replace = cmd_args_has(context->args, "force");
    return dirfd >= 0 && seed_iso_write(texts, dirfd, last, is_replace, error);
}

static SeedTexts *texts_build(const CmdContext *context, const MachineSpec *spec, GPtrArray *keys,
                              GError **error)
{
    g_autofree char *hash = g_strdup(spec->password_hash);
    if (!hash && spec->password) {
        hash = seed_password_hash(spec->password, error);
        if (!hash) {
            return NULL;
        }
    }
    g_autofree char *instance_id = instance_id_build(context, spec);
    g_autoptr(GArray) nics = nics_build(spec);
    g_ptr_array_add(keys, NULL);
    SeedInput input = {
        .spec = spec,
        .instance_id = instance_id,
        .public_keys = (const char *const *)keys->pdata,
        .password_hash = hash,
        .nics = (const SeedNic *)(const void *)nics->data,
        .n_nics = nics->len,
    };
    return seed_texts_build(&input);
}

static int seed_main(const CmdContext *context, GError **error)
{
    if (!cmd_args_has(context->args, "output")) {
        base_fail(error, VM_ERROR_CLI, "no output file given - add -o FILE");
        return 0;
    }
    g_autoptr(BaseReport) report = base_report_new();
    g_autoptr(MachineSpec) spec = cmd_describe(context, false, report, error);
    g_autoptr(GPtrArray) keys = spec ? cmd_describe_check(spec, report) : NULL;
    if (cmd_say_report(context, report) || !spec) {
        return base_report_exit_status(report);
    }
    g_autoptr(SeedTexts) texts = texts_build(context, spec, keys, error);
    if (!texts || !write_iso(context, texts, error)) {
        return 0;
    }
    if (context->is_json) {
        g_autofree char *digest = seed_texts_digest(texts);
        json_t *object = json_object();
        json_object_set_new(object, "v", json_integer(1));
        json_object_set_new(object, "file", cmd_json_text(cmd_args_text(context->args, "output")));
        json_object_set_new(object, "digest", cmd_json_text(digest));
        cmd_json_print(object);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "output",
     .letter = 'o',
     .metavar = "FILE",
     .kind = CMD_VALUE_FILE,
     .doc = "The ISO to write."},
    {.name = "force", .doc = "Replace FILE when it is there."},
    {.name = "instance-id",
     .metavar = "ID",
     .doc = "What cloud-init tells instances apart by (else iid-NAME): a new one runs everything "
            "again."},
    CMD_DESCRIBE_FLAGS,
    {.name = NULL},
};

static const char *const examples[] = {
    "vm-run seed --hostname web --ssh-key agent --user-data web.yaml -o seed.iso",
    "a NoCloud seed for any machine", NULL};

const CmdCommand cmd_seed = {
    .name = "seed",
    .synopsis = "[flags] [-f SPEC] -o FILE",
    .doc = "Write the NoCloud seed (ISO, label cidata) of a machine that is described but not "
           "started.",
    .detail =
        "The texts are checked as `run` checks them, the same input gives the same bytes, and the "
        "file is "
        "readable by its owner alone, since keys and hashes are in it. An interface is configured "
        "only when its MAC address is given; otherwise cloud-init's own DHCP serves the first one.",
    .examples = examples,
    .flags = flags,
    .n_operands_max = 0,
    .has_spec_flags = true,
    .has_json = true,
    .handler = seed_main,
};
