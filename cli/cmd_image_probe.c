#include <inttypes.h>
#include <stdio.h>
#include "base/error.h"
#include "base/report.h"
#include "cli/commands.h"
#include "cli/image.h"
#include "cli/json.h"
#include "schemas/spec.h"

const char *const cmd_image_formats[] = {"qcow2", "raw", NULL};

int cmd_image_format(const CmdContext *context)
{
    const char *name = cmd_args_text(context->args, "format");
    return name ? img_format_from_name(name) : -1;
}

static void print_size(const char *label, uint64_t bytes)
{
    g_autofree char *text = spec_format_size(bytes);
    printf("%-15s %s (%" PRIu64 " bytes)\n", label, text, bytes);
}

static void print_name(const char *label, const char *name)
{
    if (name) {
        g_autofree char *shown = base_report_escape(name, 0);
        printf("%-15s %s\n", label, shown);
    }
}

static void print_qcow2(const ImgHeader *header)
{
    printf("%-15s %" PRIu32 "\n", "version", header->version);
    printf("%-15s %" PRIu64 "\n", "cluster size", (uint64_t)1 << header->cluster_bits);
    printf("%-15s %" PRIu32 " bits\n", "refcounts", header->refcount_bits);
    print_name("compression", header->compression);
    printf("%-15s incompatible 0x%" PRIx64 ", compatible 0x%" PRIx64 ", autoclear 0x%" PRIx64 "\n",
           "feature bits", header->incompatible, header->compatible, header->autoclear);
    printf("%-15s %" PRIu32 "\n", "snapshots", header->n_snapshots);
    print_name("backing file", header->backing_name);
    print_name("backing format", header->backing_format);
    print_name("data file", header->data_file);
}

static void print_text(const ImgSource *source, const GError *refusal)
{
    const ImgHeader *header = source->header;
    print_name("file", source->path);
    printf("%-15s %s\n", "format", img_format_name(header->format));
    print_size("virtual size", header->virtual_bytes);
    print_size("file size", header->file_bytes);
    print_size("on disk", header->allocated_bytes);
    if (header->format == IMG_FORMAT_QCOW2) {
        print_qcow2(header);
    }
    print_name("looks like", header->foreign);
    print_name("usable", refusal ? NULL : "yes");
    g_autofree char *why = refusal ? g_strdup_printf("no: %s", refusal->message) : NULL;
    print_name("usable", why);
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static json_t *qcow2_to_json(const ImgHeader *header)
{
    json_t *object = json_object();
    set_number(object, "version", header->version);
    set_number(object, "cluster_bytes", (uint64_t)1 << header->cluster_bits);
    set_number(object, "refcount_bits", header->refcount_bits);
    set_number(object, "crypt_method", header->crypt_method);
    set_number(object, "incompatible", header->incompatible);
    set_number(object, "compatible", header->compatible);
    set_number(object, "autoclear", header->autoclear);
    set_number(object, "n_snapshots", header->n_snapshots);
    json_object_set_new(object, "compression", cmd_json_text(header->compression));
    json_object_set_new(object, "backing_file", cmd_json_text(header->backing_name));
    json_object_set_new(object, "backing_format", cmd_json_text(header->backing_format));
    json_object_set_new(object, "data_file", cmd_json_text(header->data_file));
    return object;
}

static void print_json(const ImgSource *source, const GError *refusal)
{
    const ImgHeader *header = source->header;
    json_t *object = json_object();
    set_number(object, "v", 1);
    json_object_set_new(object, "file", cmd_json_text(source->path));
    json_object_set_new(object, "format", json_string(img_format_name(header->format)));
    set_number(object, "virtual_bytes", header->virtual_bytes);
    set_number(object, "file_bytes", header->file_bytes);
    set_number(object, "allocated_bytes", header->allocated_bytes);
    json_object_set_new(object, "looks_like", cmd_json_text(header->foreign));
    json_object_set_new(object, "is_usable", json_boolean(!refusal));
    json_object_set_new(object, "refusal", cmd_json_text(refusal ? refusal->message : NULL));
    json_object_set_new(object, "qcow2",
                        header->format == IMG_FORMAT_QCOW2 ? qcow2_to_json(header) : json_null());
    cmd_json_print(object);
}

static int probe_main(const CmdContext *context, GError **error)
{
    const char *path = cmd_args_operand(context->args, 0);
    g_autoptr(ImgSource) source = img_source_probe(path, cmd_image_format(context), error);
    if (!source) {
        return 0;
    }
    g_autoptr(GError) refusal = NULL;
    img_header_vet(source->header, &refusal);
    if (context->is_json) {
        print_json(source, refusal);
    } else {
        print_text(source, refusal);
    }
    return 0;
}

static const CmdFlag flags[] = {CMD_IMAGE_FORMAT_FLAG, {.name = NULL}};

static const char *const examples[] = {"vm-run image probe debian-12.qcow2",
                                       "what the header says, and whether a machine may use it",
                                       NULL};

const CmdCommand cmd_image_probe = {
    .name = "image probe",
    .synopsis = "[flags] FILE",
    .doc = "Show what the header of an image file says.",
    .detail = "Read by our own reader, which starts no program and follows no name found inside. "
              "An image that a "
              "machine may not use is shown all the same, with the reason under 'usable'; the exit "
              "status is 0 "
              "then, and 13 when the header can't be read as any image.",
    .examples = examples,
    .flags = flags,
    .n_operands_min = 1,
    .n_operands_max = 1,
    .operand = CMD_OPERAND_FILE,
    .has_json = true,
    .handler = probe_main,
};
