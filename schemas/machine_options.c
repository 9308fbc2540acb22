#include "schemas/option.h"

#include "schemas/network_rows.h"
#include "schemas/rows.h"
#include "schemas/rules.h"
#include "schemas/value.h"

/* --- enums: texts in the order of their values ------------------------------------------------ */

static const char *const texts_SpecArch[] = {"x86_64", NULL};
static const char *const docs_SpecArch[] = {"64-bit PC"};
static const char *const later_SpecArch[] = {"aarch64", NULL};
SPEC_CHOICES(SpecArch, SPEC_ARCH_N, .later = later_SpecArch);

static const char *const texts_SpecMachineType[] = {"q35", "pc", NULL};
static const char *const docs_SpecMachineType[] = {"PCI Express", "PCI, for old guests"};
SPEC_CHOICES(SpecMachineType, SPEC_MACHINE_N);

static const char *const texts_SpecFirmware[] = {"auto", "bios", "uefi", "uefi-secure", NULL};
static const char *const docs_SpecFirmware[] = {"bios, unless the image can only boot by UEFI",
                                                "SeaBIOS", "UEFI",
                                                "UEFI with secure boot; needs machine q35"};
SPEC_CHOICES(SpecFirmware, SPEC_FIRMWARE_N);

static const char *const texts_SpecAccel[] = {"auto", "kvm", "tcg", NULL};
static const char *const docs_SpecAccel[] = {"KVM where this host can, else TCG", "hardware",
                                             "emulation, slow"};
SPEC_CHOICES(SpecAccel, SPEC_ACCEL_N);

static const char *const texts_SpecDisplay[] = {"none", "vnc", NULL};
static const char *const docs_SpecDisplay[] = {"serial console only",
                                               "a VNC server on a unix socket"};
static const char *const later_SpecDisplay[] = {"spice", NULL};
SPEC_CHOICES(SpecDisplay, SPEC_DISPLAY_N, .later = later_SpecDisplay);

static const char *const texts_SpecImageFormat[] = {"auto", "qcow2", "raw", NULL};
static const char *const docs_SpecImageFormat[] = {"what the file's header says", "qcow2", "raw"};
SPEC_CHOICES(SpecImageFormat, SPEC_IMAGE_FORMAT_N);

static const char *const texts_SpecCheck[] = {"strict", "warn", "off", NULL};
static const char *const docs_SpecCheck[] = {
    "mistakes are errors", "mistakes are warnings",
    "only what would make cloud-init ignore the text is an error"};
SPEC_CHOICES(SpecCheck, SPEC_CHECK_N);

static const char *const texts_SpecBus[] = {"virtio", "scsi", NULL};
static const char *const docs_SpecBus[] = {"virtio-blk", "virtio-scsi"};
SPEC_CHOICES(SpecBus, SPEC_BUS_N);

static const char *const texts_SpecWait[] = {"started", "boot", "ssh", "cloud-init", "ready", NULL};
static const char *const docs_SpecWait[] = {"QEMU runs", "kernel and init were seen", "ssh answers",
                                            "cloud-init has ended",
                                            "everything of `ready` is there"};
SPEC_CHOICES(SpecWait, SPEC_WAIT_N);

static const char *const texts_ready[] = {"boot", "ssh", "cloud-init", "agent", NULL};
static const char *const docs_ready[] = {"kernel and init were seen", "ssh answers",
                                         "cloud-init has ended", "the guest agent answers"};
static const char *const later_ready[] = {"tcp", "http", "exec", NULL};
SPEC_CHOICES(ready, 4, .later = later_ready);
G_STATIC_ASSERT(SPEC_READY_BOOT == 1 << 0 && SPEC_READY_SSH == 1 << 1 &&
                SPEC_READY_CLOUD_INIT == 1 << 2 && SPEC_READY_AGENT == 1 << 3);

typedef bool Encoding; /* SpecWriteFile.is_base64 */
static const char *const texts_Encoding[] = {"text", "base64", NULL};
static const char *const docs_Encoding[] = {"as it stands", "content is base64"};
SPEC_CHOICES(Encoding, 2);

/* The text of `value`; out of range: "?", which no caller ever sees. */
static const char *choice_text(const SpecChoices *choices, unsigned value, unsigned n)
{
    return value < n ? choices->texts[value] : "?";
}

const char *spec_firmware_name(SpecFirmware value)
{
    return choice_text(&choices_SpecFirmware, value, SPEC_FIRMWARE_N);
}

const char *spec_accel_name(SpecAccel value)
{
    return choice_text(&choices_SpecAccel, value, SPEC_ACCEL_N);
}

const char *spec_machine_type_name(SpecMachineType value)
{
    return choice_text(&choices_SpecMachineType, value, SPEC_MACHINE_N);
}

const char *spec_wait_name(SpecWait value)
{
    return choice_text(&choices_SpecWait, value, SPEC_WAIT_N);
}

bool spec_wait_from_text(const char *text, SpecWait *out_value)
{
    for (unsigned i = 0; i < SPEC_WAIT_N; i++) {
        if (g_str_equal(text, texts_SpecWait[i])) {
            *out_value = (SpecWait)i;
            return true;
        }
    }
    return false;
}

/* --- records ---------------------------------------------------------------------------------- */

#define NAME_PATTERN "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
#define NAME_HINT    "use lower-case letters, digits and '-' inside"

#define TABLE(rows)                                                                                \
    {                                                                                              \
        rows, G_N_ELEMENTS(rows)                                                                   \
    }

static const SpecOption disk_rows[] = {
    SPEC_STRING(SpecDisk, name, "name", "Name of the disk, unique in the machine.", .max = 20,
                .pattern = NAME_PATTERN, .pattern_hint = NAME_HINT, .code = VM_ERROR_NAME,
                .default_doc = "disk1, disk2 ..."),
    SPEC_SIZE(SpecDisk, size_bytes, "size",
              "Size of a new blank disk, or what the copy of `source` is grown to.",
              .min = SPEC_MIB, .max = 16 * SPEC_TIB, .unit = SPEC_KIB),
    SPEC_STRING(SpecDisk, source, "source",
                "An existing image file that the disk is a thin copy of.", .max = 4095,
                .rule = spec_rule_image_file, .code = VM_ERROR_PATH, .is_path = true),
    SPEC_BOOL(SpecDisk, is_readonly, "readonly", "The guest may not write to it.",
              .default_text = "false"),
    SPEC_ENUM(SpecDisk, bus, SpecBus, "bus", "How the guest sees it.", .default_text = "virtio"),
    SPEC_LATER("disk", "Name of a disk that outlives the machine."),
    SPEC_LATER("mount", "Where the guest mounts it."),
    SPEC_LATER("format", "File system to make on it."),
};
static const SpecTable disk_table = TABLE(disk_rows);
static const SpecRecordType record_SpecDisk = {
    .noun = "disk",
    .size = sizeof(SpecDisk),
    .pos_offset = offsetof(SpecDisk, pos),
    .table = &disk_table,
    .rule = spec_disk_rule,
};

static const SpecOption write_file_rows[] = {
    SPEC_STRING(SpecWriteFile, path, "path", "Absolute path of the file in the guest.", .max = 4095,
                .rule = spec_rule_guest_path, .code = VM_ERROR_CI, .is_required = true),
    SPEC_TEXT(SpecWriteFile, content, "content", "What the file holds.", .default_doc = "nothing"),
    SPEC_ENUM(SpecWriteFile, is_base64, Encoding, "encoding", "How `content` is written.",
              .default_text = "text"),
    SPEC_STRING(SpecWriteFile, owner, "owner", "Owner and group.", .max = 65,
                .pattern = "[a-z_][a-z0-9_-]*\\$?(:[a-z_][a-z0-9_-]*\\$?)?",
                .pattern_hint = "write user:group", .code = VM_ERROR_CI,
                .default_text = "root:root"),
    SPEC_STRING(SpecWriteFile, permissions, "permissions", "Octal permission bits.", .max = 5,
                .pattern = "0?[0-7]{3,4}", .pattern_hint = "write octal digits, such as 0644",
                .code = VM_ERROR_CI, .default_text = "0644"),
    SPEC_BOOL(SpecWriteFile, is_append, "append", "Add to a file that exists.",
              .default_text = "false"),
};
static const SpecTable write_file_table = TABLE(write_file_rows);
static const SpecRecordType record_SpecWriteFile = {
    .noun = "file",
    .size = sizeof(SpecWriteFile),
    .pos_offset = offsetof(SpecWriteFile, pos),
    .table = &write_file_table,
};

static const SpecOption xml_patch_rows[] = {
    SPEC_STRING(SpecXmlPatch, xpath, "xpath", "Where in the domain XML.", .max = 1024,
                .is_required = true),
    SPEC_TEXT(SpecXmlPatch, value, "value", "The text or the element that goes there.",
              .is_required = true),
};
static const SpecTable xml_patch_table = TABLE(xml_patch_rows);
static const SpecRecordType record_SpecXmlPatch = {
    .noun = "patch",
    .size = sizeof(SpecXmlPatch),
    .pos_offset = offsetof(SpecXmlPatch, pos),
    .table = &xml_patch_table,
};

/* --- the machine ------------------------------------------------------------------------------ */

#define M MachineSpec

static const SpecOption machine_rows[] = {
    SPEC_STRING(M, name, "name", "Name of the machine; in a file the key below `vms`.", .max = 63,
                .rule = spec_rule_name, .pattern = NAME_PATTERN, .pattern_hint = NAME_HINT,
                .code = VM_ERROR_NAME, .is_map_key = true, .change = SPEC_CHANGE_REPLACE,
                SPEC_FLAG("name", 'n', "NAME")),
    SPEC_STRING(M, image, "image", "The image to boot: a qcow2 or raw file, or a http(s) URL.",
                .max = 4095, .rule = spec_rule_image, .code = VM_ERROR_PATH, .is_path = true,
                .is_url_allowed = true, .is_required = true, .change = SPEC_CHANGE_REPLACE),
    SPEC_STRING(M, sha256, "sha256", "SHA-256 of the image file; required for http: URLs.",
                .max = 64, .pattern = "[0-9A-Fa-f]{64}", .pattern_hint = "write 64 hex digits",
                .code = VM_ERROR_SCHEMA, .is_lower = true, .change = SPEC_CHANGE_REPLACE,
                SPEC_FLAG("sha256", 0, "HEX")),
    SPEC_ENUM(M, image_format, SpecImageFormat, "image_format",
              "Format of the image; auto reads its header once and never again.",
              .default_text = "auto", .change = SPEC_CHANGE_REPLACE),
    SPEC_BOOL(M, is_thin, "thin", "An overlay that holds changes only, instead of a full copy.",
              .default_text = "true", .change = SPEC_CHANGE_REPLACE),
    SPEC_UINT(M, cpus, "cpus", "Number of virtual CPUs.", .min = 1, .max = 255, .default_text = "1",
              .change = SPEC_CHANGE_RESTART, SPEC_FLAG("cpus", 'c', "N")),
    SPEC_SIZE(M, memory_bytes, "memory", "Memory of the guest.", .min = 64 * SPEC_MIB,
              .max = 4 * SPEC_TIB, .unit = SPEC_MIB, .default_text = "1GiB",
              .change = SPEC_CHANGE_RESTART, SPEC_FLAG("memory", 'm', "SIZE")),
    SPEC_SIZE(M, disk_bytes, "disk", "Size of the root disk, at least that of the image.",
              .min = SPEC_MIB, .max = 16 * SPEC_TIB, .unit = SPEC_KIB,
              .default_doc = "the image's own", .change = SPEC_CHANGE_LIVE,
              SPEC_FLAG("disk", 0, "SIZE")),
    SPEC_RECORDS(M, disks, SpecDisk, "disks", "Further disks.", .max_items = 64,
                 .change = SPEC_CHANGE_RESTART),
    SPEC_ENUM(M, arch, SpecArch, "arch", "Architecture of the guest.", .default_text = "x86_64",
              .change = SPEC_CHANGE_REPLACE),
    SPEC_ENUM(M, machine, SpecMachineType, "machine", "Kind of board.", .default_text = "q35",
              .change = SPEC_CHANGE_RESTART),
    SPEC_ENUM(M, firmware, SpecFirmware, "firmware", "What starts the guest.",
              .default_text = "auto", .change = SPEC_CHANGE_RESTART,
              SPEC_FLAG("firmware", 0, "KIND")),
    SPEC_STRING(M, cpu_model, "cpu_model", "CPU that the guest sees, as QEMU names it.", .max = 64,
                .pattern = "[A-Za-z0-9][A-Za-z0-9_.+-]*",
                .pattern_hint = "use a name of `qemu-system-x86_64 -cpu help`",
                .code = VM_ERROR_NAME, .default_doc = "host under KVM, max under TCG",
                .change = SPEC_CHANGE_RESTART),
    SPEC_ENUM(M, accel, SpecAccel, "accel", "Hardware virtualization or emulation.",
              .default_text = "auto", .change = SPEC_CHANGE_RESTART, SPEC_FLAG("accel", 0, "KIND")),

    SPEC_STRING(M, hostname, "hostname", "Host name of the guest.", .max = 253,
                .rule = spec_rule_hostname, .code = VM_ERROR_NAME,
                .default_doc = "the machine's name", .change = SPEC_CHANGE_RESEED,
                SPEC_FLAG("hostname", 0, "NAME")),
    SPEC_STRING(M, user, "user", "Login user, made at the first boot.", .max = 32,
                .pattern = "[a-z_][a-z0-9_-]*",
                .pattern_hint = "use lower-case letters, digits, '_' and '-'", .code = VM_ERROR_CI,
                .default_doc = "`vm`", .change = SPEC_CHANGE_RESEED, SPEC_FLAG("user", 0, "NAME")),
    SPEC_STRINGS(M, ssh_keys, "ssh_keys",
                 "Public keys that may log in: `agent`, a key file, or a key as it stands.",
                 .max = 16384, .max_items = 256, .code = VM_ERROR_CI, .is_path = true,
                 .is_ssh_key = true, .info.is_file = true, .change = SPEC_CHANGE_RESEED,
                 SPEC_FLAG("ssh-key", 0, "KEY")),
    SPEC_STRING(M, password_hash, "password_hash",
                "Password of the login user, as a hash of crypt(5): $y$ or $6$.", .max = 512,
                .pattern = "\\$(y|gy|6|5|2b)\\$[./0-9A-Za-z$=,]+",
                .pattern_hint = "make one with `mkpasswd -m yescrypt`", .code = VM_ERROR_CI,
                .info.is_secret = true, .change = SPEC_CHANGE_RESEED),
    SPEC_STRING(M, password, "password",
                "Password in plain text, hashed before it leaves this host; needs "
                "`allow_plain_password: true`.",
                .max = 512, .code = VM_ERROR_CI, .info.is_secret = true,
                .change = SPEC_CHANGE_RESEED),
    SPEC_BOOL(M, is_plain_password_allowed, "allow_plain_password",
              "Accept that a password stands here in plain text.", .default_text = "false",
              .change = SPEC_CHANGE_LIVE),
    SPEC_STRING(M, timezone, "timezone", "Time zone, such as Europe/Berlin.", .max = 64,
                .pattern = "[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*",
                .pattern_hint = "use a name of `timedatectl list-timezones`", .code = VM_ERROR_CI,
                .default_doc = "the image's own", .change = SPEC_CHANGE_RESEED,
                SPEC_FLAG("timezone", 0, "ZONE")),
    SPEC_STRING(M, locale, "locale", "Locale, such as de_DE.UTF-8.", .max = 64,
                .pattern = "[A-Za-z0-9][A-Za-z0-9_.@-]*",
                .pattern_hint = "use a name of `locale -a`", .code = VM_ERROR_CI,
                .default_doc = "the image's own", .change = SPEC_CHANGE_RESEED,
                SPEC_FLAG("locale", 0, "NAME")),
    SPEC_STRINGS(M, packages, "packages", "Packages to install at the first boot.", .max = 255,
                 .max_items = 1000, .pattern = "[A-Za-z0-9@][A-Za-z0-9.+:~_=/@*^-]*",
                 .pattern_hint = "write a package name", .code = VM_ERROR_CI,
                 .change = SPEC_CHANGE_RESEED, SPEC_FLAG("package", 0, "NAME")),
    SPEC_RECORDS(M, write_files, SpecWriteFile, "write_files", "Files to write at the first boot.",
                 .max_items = 1000, .change = SPEC_CHANGE_RESEED),
    SPEC_STRINGS(M, run, "run", "Shell commands to run at the end of the first boot, in order.",
                 .max = 65536, .max_items = 1000, .is_multiline = true, .code = VM_ERROR_CI,
                 .change = SPEC_CHANGE_RESEED),
    SPEC_STRINGS(M, ca_certs, "ca_certs",
                 "CA certificates that the guest trusts: PEM texts, or paths of PEM files.",
                 .max = 65536, .max_items = 256, .is_multiline = true, .is_path = true,
                 .is_loadable = true, .code = VM_ERROR_CI, .change = SPEC_CHANGE_RESEED),

    SPEC_GROUP(spec_machine_table, "cloud_init",
               "What cloud-init gets besides the settings above."),
    SPEC_SOURCE(M, cloud_init.user_data, "cloud_init.user_data",
                "The guest's user-data, passed on byte for byte: a file, a text of several "
                "lines, or a map that becomes a #cloud-config.",
                .inline_head = "#cloud-config\n", .change = SPEC_CHANGE_RESEED,
                SPEC_FLAG("user-data", 0, "FILE")),
    SPEC_SOURCE(M, cloud_init.vendor_data, "cloud_init.vendor_data",
                "A vendor-data part of your own beside ours.", .inline_head = "#cloud-config\n",
                .change = SPEC_CHANGE_RESEED, SPEC_FLAG("vendor-data", 0, "FILE")),
    SPEC_SOURCE(M, cloud_init.network_config, "cloud_init.network_config",
                "A network-config (version 1 or 2) that replaces ours.",
                .change = SPEC_CHANGE_RESEED, SPEC_FLAG("network-config", 0, "FILE")),
    SPEC_SOURCE(M, cloud_init.meta_data, "cloud_init.meta_data",
                "A map of meta-data laid over ours, instance-id excepted.",
                .change = SPEC_CHANGE_RESEED),
    SPEC_LATER("cloud_init.on_change",
               "What a change of these texts does to a machine that exists."),
    SPEC_ENUM(M, cloud_init.schema, SpecCheck, "cloud_init.schema",
              "How strictly user-data is checked before anything is made.",
              .default_text = "strict", .change = SPEC_CHANGE_LIVE),
    SPEC_LATER("cloud_init.vars", "Names that are replaced in user-data."),
    SPEC_LATER("cloud_init.merge", "How several user-data texts are merged."),
    SPEC_LATER("cloud_init.datasource", "How the seed reaches the guest.",
               .default_text = "nocloud-disk"),

    SPEC_RECORDS(M, networks, SpecNetwork, "networks",
                 "Network interfaces, in order; an empty list means none.", .max_items = 64,
                 .default_doc = "one, `auto`", .change = SPEC_CHANGE_RESTART,
                 .info.is_network = true, SPEC_FLAG("network", 0, "NET")),
    SPEC_RECORDS(M, ports, SpecPort, "ports",
                 "Ports of this host that lead into the guest. HOST `auto` or 0 is the next free "
                 "one; FIRST-LAST on both sides maps a range.",
                 .max_items = 256, .change = SPEC_CHANGE_LIVE, SPEC_FLAG("publish", 'p', "PORTS")),
    SPEC_PORT_RANGE_ROW(M, "Where host ports come from that are `auto`.", SPEC_CHANGE_LIVE,
                        .default_doc = "that of the network"),
    SPEC_EGRESS_ROWS(M, spec_machine_table, SPEC_CHANGE_LIVE),
    SPEC_BOOL(M, is_console, "console", "A serial console with a log.", .default_text = "true",
              .change = SPEC_CHANGE_RESTART),
    SPEC_ENUM(M, display, SpecDisplay, "display", "A graphical display.", .default_text = "none",
              .change = SPEC_CHANGE_RESTART, SPEC_FLAG("display", 0, "KIND")),

    SPEC_WORDS(M, ready, ready, "ready", "What must be there before the machine counts as ready.",
               .max_items = 8, .default_doc = "ssh (where it can be reached) and cloud-init",
               .change = SPEC_CHANGE_LIVE),
    SPEC_GROUP(spec_machine_table, "timeouts", "How long things may take."),
    SPEC_DURATION(M, timeouts.boot_ms, "timeouts.boot", "Until kernel and init were seen.",
                  .min = 1000, .max = 86400000, .default_text = "5m", .change = SPEC_CHANGE_LIVE),
    SPEC_DURATION(M, timeouts.ready_ms, "timeouts.ready",
                  "Until everything that is waited for is there.", .min = 1000, .max = 86400000,
                  .default_text = "15m", .change = SPEC_CHANGE_LIVE),
    SPEC_DURATION(M, timeouts.stop_ms, "timeouts.stop",
                  "Until a guest that was asked to stop is ended.", .max = 3600000,
                  .default_text = "30s", .change = SPEC_CHANGE_LIVE),
    SPEC_MAP(M, tags, "tags", "Names and values of your own.", .max = 255, .max_items = 64,
             .pattern = "[A-Za-z0-9][A-Za-z0-9._/-]{0,62}",
             .pattern_hint = "use letters, digits, '.', '_', '/' and '-'", .code = VM_ERROR_NAME,
             .change = SPEC_CHANGE_LIVE, SPEC_FLAG("tag", 0, "NAME=VALUE")),
    SPEC_RECORDS(M, libvirt_xml, SpecXmlPatch, "libvirt_xml",
                 "Changes of the domain XML before it is defined. Unsupported.", .max_items = 64,
                 .change = SPEC_CHANGE_RESTART),
    SPEC_STRINGS(M, qemu_args, "qemu_args", "Further arguments of QEMU. Unsupported.", .max = 4096,
                 .max_items = 64, .code = VM_ERROR_SCHEMA, .change = SPEC_CHANGE_RESTART),

    SPEC_LATER("autostart", "Start the machine when the host starts.", .default_text = "false"),
    SPEC_LATER("tpm", "A TPM for the guest.", .default_text = "false"),
    SPEC_LATER("nested", "Virtualization inside the guest."),
    SPEC_LATER("hugepages", "Huge pages behind the guest's memory.", .default_text = "false"),
    SPEC_LATER("power", "Whether the machine should be running."),
    SPEC_LATER("mounts", "Folders of the host in the guest."),
    SPEC_LATER("devices", "Devices of the host in the guest."),
    SPEC_LATER("count", "Several machines from one block."),
    SPEC_LATER("for_each", "Several machines from one block."),
    SPEC_LATER("depends_on", "What must be there first."),
    SPEC_LATER("restart", "What happens when the guest ends."),
    SPEC_LATER("lifecycle", "Guards against losing data."),
    SPEC_LATER("snapshot_before", "Snapshots before changes."),
};
const SpecTable spec_machine_table = TABLE(machine_rows);

static void *make_machine(void)
{
    return spec_machine_new();
}

static void free_machine(void *object)
{
    spec_machine_free(object);
}

const SpecObjectType spec_machine_object = {
    .noun = "machine",
    .table = &spec_machine_table,
    .name_offset = offsetof(MachineSpec, name),
    .origins_offset = offsetof(MachineSpec, origins),
    .make = make_machine,
    .free = free_machine,
    .is_needed = true,
};
