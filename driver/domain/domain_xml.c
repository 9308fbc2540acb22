#include <inttypes.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <string.h>

#include "driver/domain_ns.h"
#include "driver/domain/part.h"

/*
 * How it works: the document is built as a tree; values never meet markup, libxml2 escapes them.
 * Libvirt validates the result against its schema when it is defined. What is here follows
 * libvirt's "Domain XML format" (9.0) and what was measured of it.
 */
#define QEMU_NS_URI     "http://libvirt.org/schemas/domain/qemu/1.0"
#define N_HOTPLUG_PORTS 4 /* free PCIe ports: q35 can't add one to a running machine */

/* A child element; content NULL: none. */
static xmlNode *add(xmlNode *parent, const char *name, const char *content)
{
    return xmlNewTextChild(parent, NULL, BAD_CAST name, BAD_CAST content);
}

static void set(xmlNode *node, const char *name, const char *value)
{
    xmlNewProp(node, BAD_CAST name, BAD_CAST value);
}

/* An element with one attribute: most of this language. */
static xmlNode *add_with(xmlNode *parent, const char *name, const char *attr, const char *value)
{
    xmlNode *node = add(parent, name, NULL);
    set(node, attr, value);
    return node;
}

static void add_bytes(xmlNode *parent, const char *name, uint64_t bytes)
{
    g_autofree char *text = g_strdup_printf("%" PRIu64, bytes / 1024);
    set(add(parent, name, text), "unit", "KiB");
}

static char *run_path(const MachinePlan *plan, const char *file)
{
    return g_build_filename(plan->run_dir, file, NULL);
}

static void add_identity(xmlNode *domain, const MachinePlan *plan)
{
    add(domain, "name", plan->ident->name);
    add(domain, "uuid", plan->ident->uuid);
    xmlNode *metadata = add(domain, "metadata", NULL);
    g_autofree char *mark = g_strdup_printf("%s\n%s", plan->ident->state_dir, plan->ident->full_id);
    xmlNode *owner = xmlNewTextChild(metadata, NULL, BAD_CAST DOMAIN_NS_ELEMENT, BAD_CAST mark);
    xmlSetNs(owner, xmlNewNs(owner, BAD_CAST DOMAIN_NS_URI, BAD_CAST DOMAIN_NS_PREFIX));
}

static void add_firmware(xmlNode *os, const MachinePlan *plan)
{
    if (plan->firmware == SPEC_FIRMWARE_BIOS) {
        if (plan->has_console) { /* "No bootable device." is said there */
            set(add(os, "bios", NULL), "useserial", "yes");
        }
        return;
    }
    xmlNode *loader = add(os, "loader", plan->uefi_code);
    set(loader, "readonly", "yes");
    set(loader, "type", "pflash");
    if (plan->firmware == SPEC_FIRMWARE_UEFI_SECURE) {
        set(loader, "secure", "yes");
    }
    g_autofree char *vars = g_build_filename(plan->dir, "nvram.fd", NULL);
    add(os, "nvram", vars);
}

static void add_platform(xmlNode *domain, const MachinePlan *plan)
{
    add_bytes(domain, "memory", plan->memory_bytes);
    add_bytes(domain, "currentMemory", plan->memory_bytes);
    g_autofree char *cpus = g_strdup_printf("%u", plan->cpus);
    set(add(domain, "vcpu", cpus), "placement", "static");

    xmlNode *os = add(domain, "os", NULL);
    xmlNode *type = add(os, "type", "hvm");
    if (plan->is_test_driver) {
        return;
    }
    set(type, "arch", "x86_64");
    set(type, "machine", plan->machine);
    add_firmware(os, plan);

    xmlNode *features = add(domain, "features", NULL);
    add(features, "acpi", NULL);
    add(features, "apic", NULL);
    if (plan->firmware == SPEC_FIRMWARE_UEFI_SECURE) {
        add_with(features, "smm", "state", "on");
    }
    xmlNode *cpu = add_with(domain, "cpu", "mode", plan->cpu_mode);
    if (plan->cpu_model) {
        set(cpu, "match", "exact");
        set(cpu, "check", "none");
        set(add(cpu, "model", plan->cpu_model), "fallback", "forbid");
    }
    xmlNode *clock = add_with(domain, "clock", "offset", "utc");
    set(add_with(clock, "timer", "name", "rtc"), "tickpolicy", "catchup");
    set(add_with(clock, "timer", "name", "pit"), "tickpolicy", "delay");
    set(add_with(clock, "timer", "name", "hpet"), "present", "no");
}

static void add_lifecycle(xmlNode *domain)
{
    add(domain, "on_poweroff", "destroy");
    add(domain, "on_reboot", "restart");
    add(domain, "on_crash", "destroy");
}

/* <source file= [fdgroup=]> that libvirt never relabels. */
static void add_source(xmlNode *disk, const MachinePlan *plan, const char *file, const char *group)
{
    xmlNode *source = add_with(disk, "source", "file", file);
    if (plan->is_fd_mode) {
        set(source, "fdgroup", group);
    } else if (!plan->is_test_driver) {
        xmlNode *label = add_with(source, "seclabel", "model", "dac");
        set(label, "relabel", "no");
    }
}

static xmlNode *add_disk_element(xmlNode *devices, ImgFormat format)
{
    xmlNode *disk = add_with(devices, "disk", "type", "file");
    set(disk, "device", "disk");
    xmlNode *driver = add_with(disk, "driver", "name", "qemu");
    set(driver, "type", img_format_name(format));
    return disk;
}

static void add_backing(xmlNode *disk, const MachinePlan *plan, const PlanDisk *from)
{
    if (from->base_path && !from->is_copy) {
        xmlNode *backing = add_with(disk, "backingStore", "type", "file");
        add_with(backing, "format", "type", img_format_name(from->base_format));
        g_autofree char *group = g_strdup_printf("%s-base", from->name);
        add_source(backing, plan, from->base_path, group);
        add(backing, "backingStore", NULL);
    } else {
        add(disk, "backingStore", NULL); /* ends the chain: nothing is probed */
    }
}

static void add_disk(xmlNode *devices, const MachinePlan *plan, unsigned index)
{
    const PlanDisk *from = g_ptr_array_index(plan->disks, index);
    xmlNode *disk = add_disk_element(devices, from->format);
    xmlNode *driver = xmlFirstElementChild(disk);
    set(driver, "discard", "unmap");
    set(driver, "detect_zeroes", "unmap");
    g_autofree char *path = g_build_filename(plan->dir, from->file, NULL);
    add_source(disk, plan, path, from->name);
    add_backing(disk, plan, from);
    set(add_with(disk, "target", "dev", from->target), "bus",
        from->bus == SPEC_BUS_SCSI ? "scsi" : "virtio");
    if (from->is_readonly) {
        add(disk, "readonly", NULL);
    }
    add(disk, "serial", from->name); /* /dev/disk/by-id/virtio-NAME */
    if (index == 0 && !plan->is_test_driver) {
        add_with(disk, "boot", "order", "1");
    }
}

static void add_seed(xmlNode *devices, const MachinePlan *plan)
{
    unsigned n_virtio = 0;
    for (unsigned i = 0; i < plan->disks->len; i++) {
        n_virtio += ((PlanDisk *)g_ptr_array_index(plan->disks, i))->bus == SPEC_BUS_VIRTIO;
    }
    g_autofree char *target =
        n_virtio < 26 ? g_strdup_printf("vd%c", 'a' + n_virtio)
                      : g_strdup_printf("vd%c%c", 'a' + n_virtio / 26 - 1, 'a' + n_virtio % 26);
    xmlNode *disk = add_disk_element(devices, IMG_FORMAT_RAW);
    g_autofree char *path = g_build_filename(plan->dir, "seed.iso", NULL);
    add_source(disk, plan, path, "seed");
    add(disk, "backingStore", NULL);
    set(add_with(disk, "target", "dev", target), "bus", "virtio");
    add(disk, "readonly", NULL);
    add(disk, "serial", "seed");
}

static void add_controllers(xmlNode *devices, const MachinePlan *plan)
{
    set(add_with(devices, "controller", "type", "usb"), "model", "none");
    if (g_str_has_prefix(plan->machine, "pc-q35") || strcmp(plan->machine, "q35") == 0) {
        set(add_with(devices, "controller", "type", "pci"), "model", "pcie-root");
        unsigned n_used =
            plan->disks->len + plan->nics->len + 5; /* seed, serial, rng, balloon, video */
        for (unsigned i = 0; i < n_used + N_HOTPLUG_PORTS && i < 30; i++) {
            set(add_with(devices, "controller", "type", "pci"), "model", "pcie-root-port");
        }
    }
    for (unsigned i = 0; i < plan->disks->len; i++) {
        if (((PlanDisk *)g_ptr_array_index(plan->disks, i))->bus == SPEC_BUS_SCSI) {
            set(add_with(devices, "controller", "type", "scsi"), "model", "virtio-scsi");
            break;
        }
    }
    add_with(devices, "controller", "type", "virtio-serial");
}

/* As many queues as the tap has, else QEMU can't open it. The kernel's vhost only where it is
 * there: named and missing, libvirt refuses the domain. */
static void add_nic_driver(xmlNode *interface, const PlanNic *nic)
{
    if (nic->queues <= 1 && !nic->is_vhost) {
        return;
    }
    xmlNode *driver = add_with(interface, "driver", "name", nic->is_vhost ? "vhost" : "qemu");
    if (nic->queues > 1) {
        g_autofree char *queues = g_strdup_printf("%u", nic->queues);
        set(driver, "queues", queues);
    }
}

/* A tap and a macvtap of ours are the same to libvirt 9.0: of the latter it opens /dev/tap<index>
 * itself. Both outlive QEMU. */
static void add_nic(xmlNode *devices, const PlanNic *nic)
{
    bool is_tap = nic->tap;
    xmlNode *interface = add_with(devices, "interface", "type", is_tap ? "ethernet" : "user");
    add_with(interface, "mac", "address", nic->mac);
    if (is_tap) {
        set(add_with(interface, "target", "dev", nic->tap), "managed", "no");
    }
    add_with(interface, "model", "type", "virtio");
    add_nic_driver(interface, nic);
    if (nic->is_link_down) {
        add_with(interface, "link", "state", "down");
    }
    if (nic->mtu) {
        g_autofree char *mtu = g_strdup_printf("%u", nic->mtu);
        add_with(interface, "mtu", "size", mtu);
    }
    add_with(interface, "rom", "enabled", "no"); /* no iPXE before the disk boots */
}

static void add_channel(xmlNode *devices, const MachinePlan *plan, const char *file,
                        const char *name)
{
    xmlNode *channel = add_with(devices, "channel", "type", "unix");
    g_autofree char *path = run_path(plan, file);
    set(add_with(channel, "source", "mode", "bind"), "path", path);
    set(add_with(channel, "target", "type", "virtio"), "name", name);
}

static void add_console(xmlNode *devices, const MachinePlan *plan)
{
    xmlNode *serial = add_with(devices, "serial", "type", "unix");
    g_autofree char *path = run_path(plan, "c");
    g_autofree char *log_path = g_build_filename(plan->dir, "serial.log", NULL);
    set(add_with(serial, "source", "mode", "bind"), "path", path);
    set(add_with(serial, "log", "file", log_path), "append", "on");
    set(add_with(serial, "target", "type", "isa-serial"), "port", "0");
}

static void add_display(xmlNode *devices, const MachinePlan *plan)
{
    if (!plan->has_vnc) {
        add_with(add(devices, "video", NULL), "model", "type", "none");
        return;
    }
    xmlNode *graphics = add_with(devices, "graphics", "type", "vnc");
    g_autofree char *path = run_path(plan, "v");
    set(add_with(graphics, "listen", "type", "socket"), "socket", path);
    add_with(add(devices, "video", NULL), "model", "type", "virtio");
}

static void add_devices(xmlNode *domain, const MachinePlan *plan)
{
    xmlNode *devices = add(domain, "devices", NULL);
    if (plan->emulator) {
        add(devices, "emulator", plan->emulator);
    }
    for (unsigned i = 0; i < plan->disks->len; i++) {
        add_disk(devices, plan, i);
    }
    add_seed(devices, plan);
    if (plan->is_test_driver) {
        return;
    }
    add_controllers(devices, plan);
    for (unsigned i = 0; i < plan->nics->len; i++) {
        add_nic(devices, g_ptr_array_index(plan->nics, i));
    }
    if (plan->has_console) {
        add_console(devices, plan);
    }
    add_channel(devices, plan, "a", "org.qemu.guest_agent.0");
    add_channel(devices, plan, "s", "vmrun.status");
    add_display(devices, plan);
    set(add_with(devices, "audio", "id", "1"), "type", "none");
    xmlNode *balloon = add_with(devices, "memballoon", "model", "virtio");
    set(balloon, "freePageReporting", "on");
    add_with(balloon, "stats", "period", "5");
    set(add(add_with(devices, "rng", "model", "virtio"), "backend", "/dev/urandom"), "model",
        "random");
    add_with(devices, "panic", "model", "isa");
}

static void add_qemu_arg(xmlNode *commandline, const char *value)
{
    xmlNode *arg = xmlNewChild(commandline, commandline->ns, BAD_CAST "arg", NULL);
    set(arg, "value", value);
}

/* Our own monitor for the watcher, and a QEMU that ends itself when its guest does. */
static void add_commandline(xmlNode *domain, const MachinePlan *plan, const MachineSpec *spec)
{
    xmlNs *ns = xmlNewNs(domain, BAD_CAST QEMU_NS_URI, BAD_CAST "qemu");
    xmlNode *commandline = xmlNewChild(domain, ns, BAD_CAST "commandline", NULL);
    g_autofree char *path = run_path(plan, "q");
    g_auto(GStrv) parts = g_strsplit(path, ",", -1); /* QEMU's option syntax doubles commas */
    g_autofree char *quoted = g_strjoinv(",,", parts);
    g_autofree char *chardev =
        g_strdup_printf("socket,id=vmrunqmp,path=%s,server=on,wait=off", quoted);
    add_qemu_arg(commandline, "-chardev");
    add_qemu_arg(commandline, chardev);
    add_qemu_arg(commandline, "-mon");
    add_qemu_arg(commandline, "chardev=vmrunqmp,mode=control");
    add_qemu_arg(commandline, "-action");
    add_qemu_arg(commandline, "shutdown=poweroff");
    for (unsigned i = 0; spec && i < spec->qemu_args->len; i++) {
        add_qemu_arg(commandline, g_ptr_array_index(spec->qemu_args, i));
    }
    /* Half of a start went into about 400 questions of libvirt, one a feature, which features of
     * the emulated CPU are missing (libvirt 9.0): nobody needs the answer for `maximum`. */
    if (plan->accel == SPEC_ACCEL_TCG && !plan->cpu_model) {
        xmlNode *caps = xmlNewChild(domain, ns, BAD_CAST "capabilities", NULL);
        set(xmlNewChild(caps, ns, BAD_CAST "del", NULL), "capability", "cpu-unavailable-features");
    }
}

/* --- the escape hatch
 * ------------------------------------------------------------------------------ */

/* A value that begins with '<' is an element to append, anything else the new text or attribute
 * value. */
static bool patch_node(xmlNode *node, const SpecXmlPatch *patch)
{
    if (patch->value[0] != '<') {
        if (node->type == XML_ATTRIBUTE_NODE) {
            xmlSetNsProp(node->parent, node->ns, node->name, BAD_CAST patch->value);
            return true;
        }
        xmlNodeSetContent(node, NULL);
        xmlNodeAddContent(node, BAD_CAST patch->value);
        return true;
    }
    xmlNode *list = NULL;
    if (node->type != XML_ELEMENT_NODE ||
        xmlParseInNodeContext(node, patch->value, (int)strlen(patch->value),
                              XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING,
                              &list) != XML_ERR_OK ||
        !list) {
        return false;
    }
    return xmlAddChildList(node, list) != NULL;
}

static bool apply_patch(xmlXPathContext *xpath, const SpecXmlPatch *patch, GError **error)
{
    xmlXPathObject *found = xmlXPathEvalExpression(BAD_CAST patch->xpath, xpath);
    bool is_ok =
        found && found->type == XPATH_NODESET && found->nodesetval && found->nodesetval->nodeNr > 0;
    for (int i = 0; is_ok && i < found->nodesetval->nodeNr; i++) {
        is_ok = patch_node(found->nodesetval->nodeTab[i], patch);
    }
    xmlXPathFreeObject(found);
    return is_ok || base_fail(error, VM_ERROR_SCHEMA,
                              "libvirt_xml: '%s': it matches nothing in the domain's XML, or its "
                              "value is no XML - correct its xpath or its value",
                              patch->xpath);
}

static void ignore_xml_error(void *data G_GNUC_UNUSED, xmlErrorPtr problem G_GNUC_UNUSED)
{
}

static bool apply_patches(xmlDoc *doc, const MachineSpec *spec, GError **error)
{
    if (!spec || !spec->libvirt_xml->len) {
        return true;
    }
    xmlXPathContext *xpath = xmlXPathNewContext(doc);
    xpath->error = ignore_xml_error;
    xmlXPathRegisterNs(xpath, BAD_CAST "qemu", BAD_CAST QEMU_NS_URI);
    bool is_ok = true;
    for (unsigned i = 0; is_ok && i < spec->libvirt_xml->len; i++) {
        is_ok = apply_patch(xpath, g_ptr_array_index(spec->libvirt_xml, i), error);
    }
    xmlXPathFreeContext(xpath);
    return is_ok;
}

static const char *domain_type(const MachinePlan *plan)
{
    return plan->is_test_driver ? "test" : plan->accel == SPEC_ACCEL_KVM ? "kvm" : "qemu";
}

char *machine_domain_part_xml(const MachinePlan *plan, const MachineSpec *spec, GError **error)
{
    xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *domain = xmlNewNode(NULL, BAD_CAST "domain");
    xmlDocSetRootElement(doc, domain);
    set(domain, "type", domain_type(plan));
    add_identity(domain, plan);
    add_platform(domain, plan);
    add_lifecycle(domain);
    add_devices(domain, plan);
    if (!plan->is_test_driver) {
        add_commandline(domain, plan, spec);
    }
    char *out = NULL;
    if (apply_patches(doc, spec, error)) {
        xmlChar *text = NULL;
        int n = 0;
        xmlDocDumpFormatMemoryEnc(doc, &text, &n, "UTF-8", 1);
        out = g_strndup((const char *)text, (gsize)n);
        xmlFree(text);
    }
    xmlFreeDoc(doc);
    return out;
}
