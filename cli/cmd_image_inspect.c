#include <stdio.h>
#include <stdlib.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/image.h"
#include "cli/json.h"
#include "driver/facts.h"
#include "imaging/inspect.h"

enum { INSPECT_MS = 5 * 60 * 1000 };

/* A member's value as a word: the text itself, yes or no, a number. Transfer full. */
static char *format_value(const json_t *value)
{
    if (json_is_string(value)) {
        return g_strdup(json_string_value(value));
    }
    if (json_is_boolean(value)) {
        return g_strdup(json_is_true(value) ? "yes" : "no");
    }
    char *dumped = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    char *text = g_strdup(dumped ? dumped : "");
    free(dumped);
    return text;
}

/* "version 6.1, virtio_blk yes" of an object in a list; what is not known is left out. */
static char *format_object(const json_t *object)
{
    GString *out = g_string_new(NULL);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        g_autofree char *text = format_value(value);
        if (!json_is_null(value)) {
            g_string_append_printf(out, "%s%s %s", out->len ? ", " : "", key, text);
        }
    }
    return g_string_free(out, FALSE);
}

static void print_line(const char *label, const char *text)
{
    g_autofree char *shown = base_report_escape(text, 0);
    printf("%-15s %s\n", label, shown);
}

static void print_member(const char *label, const json_t *value)
{
    size_t i;
    const json_t *entry;
    g_autofree char *text = json_is_object(value) ? format_object(value) : format_value(value);
    if (json_is_null(value) || g_str_equal(label, "v")) {
        return;
    }
    if (!json_is_array(value)) {
        print_line(label, text);
        return;
    }
    json_array_foreach(value, i, entry)
    {
        g_autofree char *line = format_object(entry);
        print_line(label, line);
    }
}

static void print_text(const char *json)
{
    json_t *object = json_loads(json, 0, NULL);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        print_member(key, value);
    }
    json_decref(object);
}

static int inspect_main(const CmdContext *context, GError **error)
{
    uint64_t timeout_ms = INSPECT_MS;
    if (!cmd_args_duration(context->args, "timeout", &timeout_ms, error)) {
        return 0;
    }
    g_autoptr(ImgSource) source =
        img_source_open(cmd_args_operand(context->args, 0), NULL, cmd_image_format(context), error);
    if (!source) {
        return 0;
    }
    g_autoptr(HostFacts) facts = host_facts_new();
    host_facts_probe_local(facts);
    bool is_kvm_usable = facts->has_cpu_virt && facts->can_open_kvm;
    g_autofree char *json =
        img_inspect_json(source, is_kvm_usable, (unsigned)MIN(timeout_ms, G_MAXUINT), error);
    if (json && context->is_json) {
        puts(json);
    } else if (json) {
        print_text(json);
    }
    return 0;
}

static const CmdFlag flags[] = {
    {.name = "timeout", .metavar = "TIME", .doc = "Give up after this time (5m)."},
    CMD_IMAGE_FORMAT_FLAG,
    {.name = NULL},
};

const CmdCommand cmd_image_inspect = {
    .name = "image inspect",
    .synopsis = "[flags] FILE",
    .doc = "Look into an image: operating system, architecture, file systems, cloud-init.",
    .detail =
        "libguestfs is loaded for it and starts a small machine of its own with the image attached "
        "read-only: seconds with KVM, up to a minute without.",
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_FILE,
    .has_json = true,
    .handler = inspect_main,
};
