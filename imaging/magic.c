#include "imaging/magic.h"

#include <stdbool.h>
#include <string.h>

typedef enum {
    AT_START,
    AT_END,   /* offset counts back from the end of the file */
    IN_QCOW2, /* as AT_START, foreign only in a file that has a qcow2 header */
} Where;

typedef struct {
    ImgMagic magic;
    Where where;
    size_t offset;
    const char *bytes;
    size_t n_bytes;
} Sign;

#define BYTES(text)   text, sizeof(text) - 1
#define CONVERT(name) "convert it: qemu-img convert -f " name " -O qcow2 OLD NEW.qcow2"
#define UNPACK(tool)  "unpack it first: " tool
#define A_DISK        "give a disk image (qcow2 or raw), such as a cloud image"
#define ONE_FORMAT    "make a clean copy of it: qemu-img convert -f qcow2 -O qcow2 OLD NEW.qcow2"

static const char vmdk_text_hint[] =
    "a descriptor names other files: get the disk itself as qcow2 or raw";

static const ImgMagic vmdk_text = {"VMDK descriptor", vmdk_text_hint};

static const Sign signs[] = {
    {{"VMDK descriptor", vmdk_text_hint}, AT_START, 0, BYTES("# Disk DescriptorFile")},
    {{"VMDK", CONVERT("vmdk")}, AT_START, 0, BYTES("KDMV")},
    {{"VMDK", CONVERT("vmdk")}, AT_START, 0, BYTES("COWD")},
    {{"VDI", CONVERT("vdi")}, AT_START, 64, BYTES("\x7f\x10\xda\xbe")},
    {{"VHD", CONVERT("vpc")}, AT_START, 0, BYTES("conectix")},
    {{"VHD", CONVERT("vpc")}, AT_END, 512, BYTES("conectix")},
    {{"VHD", CONVERT("vpc")}, AT_END, 511, BYTES("conectix")},
    {{"VHDX", CONVERT("vhdx")}, AT_START, 0, BYTES("vhdxfile")},
    {{"QED", CONVERT("qed")}, AT_START, 0, BYTES("QED\0")},
    {{"QCOW version 1", CONVERT("qcow")}, AT_START, 0, BYTES("QFI\xfb\0\0\0\1")},
    {{"Parallels", CONVERT("parallels")}, AT_START, 0, BYTES("WithoutFreeSpace")},
    {{"Parallels", CONVERT("parallels")}, AT_START, 0, BYTES("WithouFreSpacExt")},
    {{"Bochs", CONVERT("bochs")}, AT_START, 0, BYTES("Bochs Virtual HD Image")},
    {{"cloop", CONVERT("cloop")}, AT_START, 0, BYTES("#!/bin/sh\n#V2.0 Format\n")},
    {{"DMG", CONVERT("dmg")}, AT_END, 512, BYTES("koly")},
    {{"LUKS", "encrypted disks are not supported: give one in the clear"},
     AT_START,
     0,
     BYTES("LUKS\xba\xbe")},
    {{"ISO 9660", "this is a CD or DVD, not a disk: " A_DISK}, AT_START, 32769, BYTES("CD001")},
    {{"UDF", "this is a DVD, not a disk: " A_DISK}, AT_START, 32769, BYTES("BEA01")},
    {{"gzip", UNPACK("gzip -d FILE")}, AT_START, 0, BYTES("\x1f\x8b")},
    {{"xz", UNPACK("xz -d FILE")},
     AT_START,
     0,
     BYTES("\xfd"
           "7zXZ\0")},
    {{"zstd", UNPACK("zstd -d FILE")}, AT_START, 0, BYTES("\x28\xb5\x2f\xfd")},
    {{"bzip2", UNPACK("bzip2 -d FILE")}, AT_START, 4, BYTES("\x31\x41\x59\x26\x53\x59")},
    {{"lz4", UNPACK("lz4 -d FILE")}, AT_START, 0, BYTES("\x04\x22\x4d\x18")},
    {{"zip", UNPACK("unzip FILE")}, AT_START, 0, BYTES("PK\x03\x04")},
    {{"7z", UNPACK("7z x FILE")}, AT_START, 0, BYTES("7z\xbc\xaf\x27\x1c")},
    {{"tar", UNPACK("tar xf FILE") " (an OVA holds a VMDK)"}, AT_START, 257, BYTES("ustar")},
    {{"ELF", "this is a program: " A_DISK},
     AT_START,
     0,
     BYTES("\x7f"
           "ELF")},
    {{"HTML", "this is a web page, perhaps of a failed download: " A_DISK},
     AT_START,
     0,
     BYTES("<!DOCTYPE")},
    {{"HTML", "this is a web page, perhaps of a failed download: " A_DISK},
     AT_START,
     0,
     BYTES("<html")},
    {{"GPT", ONE_FORMAT}, IN_QCOW2, 512, BYTES("EFI PART")},
    {{"MBR", ONE_FORMAT}, IN_QCOW2, 510, BYTES("\x55\xaa")},
};

static bool sign_matches(const Sign *sign, const uint8_t *bytes, size_t n_bytes, size_t offset)
{
    return offset <= n_bytes && n_bytes - offset >= sign->n_bytes &&
           memcmp(bytes + offset, sign->bytes, sign->n_bytes) == 0;
}

static size_t skip_line(const char *text, size_t n, size_t at)
{
    const char *end = memchr(text + at, '\n', n - at);
    return end ? (size_t)(end - text) + 1 : n;
}

/* As QEMU's vmdk_probe(): comment and blank lines, then "version=". The head comment is not needed.
 */
static bool is_vmdk_text(const char *text, size_t n)
{
    size_t at = 0;
    while (at < n && (text[at] == '#' || text[at] == ' ' || text[at] == '\r' || text[at] == '\n')) {
        at = skip_line(text, n, at);
    }
    return n - at >= 8 && memcmp(text + at, "version=", 8) == 0;
}

const ImgMagic *img_magic_find(const uint8_t *start, size_t n_start, const uint8_t *end,
                               size_t n_end, gboolean is_qcow2)
{
    for (size_t i = 0; i < G_N_ELEMENTS(signs); i++) {
        const Sign *sign = &signs[i];
        bool is_found;
        if (sign->where == AT_END) {
            is_found =
                n_end >= sign->offset && sign_matches(sign, end, n_end, n_end - sign->offset);
        } else {
            is_found = (sign->where == AT_START || is_qcow2) &&
                       sign_matches(sign, start, n_start, sign->offset);
        }
        if (is_found) {
            return &sign->magic;
        }
    }
    return is_vmdk_text((const char *)start, n_start) ? &vmdk_text : NULL;
}

const char *img_magic_hint(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(signs); i++) {
        if (strcmp(signs[i].magic.name, name) == 0) {
            return signs[i].magic.hint;
        }
    }
    return "";
}
