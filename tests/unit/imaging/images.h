#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>
#include <cmocka.h>
#include <glib.h>

#include "imaging/qcow2.h"

/*
 * Images made in memory for tests: a small sound qcow2 (cluster size 512, so 2 KiB in all), a raw
 * disk, and the table of hostile ones, each a sound image with something done to it.
 */
#define SMALL_BITS    9
#define SMALL_BYTES   (4 << SMALL_BITS)
#define SMALL_VIRTUAL (1u << 20)
#define NAME_AT       256 /* where hostile names are put in the header's cluster */
#define EXT_AT        112

typedef struct {
    uint8_t *bytes; /* owned */
    size_t n;
} Image;

typedef struct {
    size_t offset;
    size_t n_bytes;
    uint64_t value;
} Patch;

#define FIELD(member, value)                                                                       \
    {                                                                                              \
        offsetof(ImgQcow2Disk, member), sizeof(((ImgQcow2Disk *)0)->member), value                 \
    }

typedef struct {
    const char *name;
    const char *what; /* part of the message */
    bool is_raw;      /* start from a raw disk, not from a qcow2 */
    Patch patches[6];
    const char *text; /* bytes put at text_at; the file grows for it */
    size_t n_text;
    long text_at; /* negative: from the end */
    size_t cut;   /* length to cut the file to */
} Hostile;

#define TEXT(at, literal) .text = literal, .n_text = sizeof(literal) - 1, .text_at = at
#define BACKING(literal)                                                                           \
    .patches = {FIELD(backing_offset, NAME_AT), FIELD(backing_bytes, sizeof(literal) - 1)},        \
    TEXT(NAME_AT, literal)
#define EXTENSION(type, n)                                                                         \
    {EXT_AT, 4, type},                                                                             \
    {                                                                                              \
        EXT_AT + 4, 4, n                                                                           \
    }

static const Hostile hostiles[] = {
    /* names inside */
    {"backing-absolute", "backing file ('/etc/shadow')", BACKING("/etc/shadow")},
    {"backing-relative", "backing file", BACKING("secret.raw")},
    {"backing-parent", "backing file", BACKING("../../etc/shadow")},
    {"backing-absent", "backing file", BACKING("/nonexistent")},
    {"backing-self", "backing file", BACKING("self.qcow2")},
    {"backing-json", "backing file",
     BACKING("json:{\"driver\":\"file\",\"filename\":\"/etc/shadow\"}")},
    {"backing-nbd", "backing file", BACKING("nbd://127.0.0.1:1/x")},
    {"backing-fat", "backing file", BACKING("fat:/etc")},
    {"backing-fd", "backing file", BACKING("/proc/self/fd/0")},
    {"backing-control", "backing file ('a\\x1b", BACKING("a\033[2Jb")},
    {"backing-empty", "backing file", .patches = {FIELD(backing_offset, NAME_AT)}},
    {"backing-past-cluster", "outside the first cluster",
     .patches = {FIELD(backing_offset, 500), FIELD(backing_bytes, 100)}},
    {"backing-far", "outside the first cluster",
     .patches = {FIELD(backing_offset, UINT64_MAX - 8), FIELD(backing_bytes, 100)}},
    {"backing-huge", "outside the first cluster",
     .patches = {FIELD(backing_offset, NAME_AT), FIELD(backing_bytes, 0xffffffff)}},
    {"backing-in-header", "outside the first cluster",
     .patches = {FIELD(backing_offset, 8), FIELD(backing_bytes, 8)}},
    {"data-file", "external data file ('/dev/vda')",
     .patches = {FIELD(incompatible, IMG_QCOW2_DATA_FILE), EXTENSION(IMG_QCOW2_EXT_DATA_FILE, 8)},
     TEXT(EXT_AT + 8, "/dev/vda")},
    {"data-file-nameless", "external data file",
     .patches = {FIELD(incompatible, IMG_QCOW2_DATA_FILE)}},
    {"data-file-bitless", "external data file ('a.raw')",
     .patches = {EXTENSION(IMG_QCOW2_EXT_DATA_FILE, 5)}, TEXT(EXT_AT + 8, "a.raw")},
    /* features */
    {"corrupt", "marked corrupt", .patches = {FIELD(incompatible, IMG_QCOW2_CORRUPT)}},
    {"unknown-bit-5", "0x20", .patches = {FIELD(incompatible, 1u << 5)}},
    {"unknown-bit-63", "0x8000000000000000", .patches = {FIELD(incompatible, UINT64_C(1) << 63)}},
    {"encrypted-aes", "encrypted (AES)", .patches = {FIELD(crypt_method, 1)}},
    {"encrypted-luks", "encrypted (LUKS)", .patches = {FIELD(crypt_method, 2)}},
    {"encrypted-unknown", "encryption method 9", .patches = {FIELD(crypt_method, 9)}},
    {"compression-bitless", "contradicts its feature bit", .patches = {FIELD(compression, 1)}},
    {"compression-typeless", "contradicts its feature bit",
     .patches = {FIELD(incompatible, IMG_QCOW2_COMPRESSION)}},
    {"compression-unknown", "compression type 7",
     .patches = {FIELD(incompatible, IMG_QCOW2_COMPRESSION), FIELD(compression, 7)}},
    {"extended-l2-small-clusters", "extended L2",
     .patches = {FIELD(incompatible, IMG_QCOW2_EXTENDED_L2)}},
    {"version-0", "version 0", .patches = {FIELD(version, 0)}},
    {"version-1", "QCOW version 1", .patches = {FIELD(version, 1)}},
    {"version-4", "version 4", .patches = {FIELD(version, 4)}},
    {"version-9", "version 9", .patches = {FIELD(version, 9)}},
    /* sizes */
    {"size-0", "is empty", .patches = {FIELD(virtual_bytes, 0)}},
    {"size-odd", "no multiple of 512", .patches = {FIELD(virtual_bytes, 1000)}},
    {"size-8e", "absurd", .patches = {FIELD(virtual_bytes, UINT64_C(8) << 60)}},
    {"size-64p", "too small", .patches = {FIELD(virtual_bytes, UINT64_C(64) << 50)}},
    {"size-max", "absurd", .patches = {FIELD(virtual_bytes, UINT64_MAX)}},
    {"cluster-bits-0", "cluster_bits is 0", .patches = {FIELD(cluster_bits, 0)}},
    {"cluster-bits-8", "cluster_bits is 8", .patches = {FIELD(cluster_bits, 8)}},
    {"cluster-bits-22", "cluster_bits is 22", .patches = {FIELD(cluster_bits, 22)}},
    {"cluster-bits-31", "cluster_bits is 31", .patches = {FIELD(cluster_bits, 31)}},
    {"cluster-bits-63", "cluster_bits is 63", .patches = {FIELD(cluster_bits, 63)}},
    {"cluster-bits-max", "cluster_bits is 4294967295",
     .patches = {FIELD(cluster_bits, UINT32_MAX)}},
    {"header-length-72", "header_length is 72", .patches = {FIELD(header_bytes, 72)}},
    {"header-length-odd", "header_length 107", .patches = {FIELD(header_bytes, 107)}},
    {"header-length-past", "header_length 520", .patches = {FIELD(header_bytes, 520)}},
    {"header-length-max", "header_length", .patches = {FIELD(header_bytes, UINT32_MAX)}},
    {"l1-max", "larger than 32 MiB", .patches = {FIELD(n_l1, UINT32_MAX)}},
    {"l1-32m-and-1", "larger than 32 MiB", .patches = {FIELD(n_l1, (4u << 20) + 1)}},
    {"l1-past-end", "outside the file", .patches = {FIELD(n_l1, 4096)}},
    {"l1-none", "too small", .patches = {FIELD(n_l1, 0)}},
    {"l1-offset-0", "no cluster of its own", .patches = {FIELD(l1_offset, 0)}},
    {"l1-offset-odd", "no cluster of its own", .patches = {FIELD(l1_offset, 1537)}},
    {"l1-offset-far", "outside the file", .patches = {FIELD(l1_offset, UINT64_C(1) << 62)}},
    {"l1-on-refcounts", "overlap", .patches = {FIELD(l1_offset, 512)}},
    {"l2-past-end", "an L2 table", .patches = {{3 << SMALL_BITS, 8, UINT64_C(1) << 40}}},
    {"l2-odd", "not aligned",
     .patches = {FIELD(cluster_bits, 10),
                 FIELD(l1_offset, 1024),
                 FIELD(refcount_table_offset, 0x1000),
                 {1024, 8, 512}},
     TEXT(0x1400, " ")},
    {"data-past-end", "a data cluster",
     .patches = {{3 << SMALL_BITS, 8, 1024}, {1024, 8, UINT64_C(1) << 33}}},
    {"refcounts-none", "refcount table of 0", .patches = {FIELD(n_refcount_table_clusters, 0)}},
    {"refcounts-max", "refcount table of 4294967295",
     .patches = {FIELD(n_refcount_table_clusters, UINT32_MAX)}},
    {"refcounts-past-end", "outside the file", .patches = {FIELD(n_refcount_table_clusters, 64)}},
    {"refcounts-offset-far", "outside the file",
     .patches = {FIELD(refcount_table_offset, UINT64_MAX << SMALL_BITS)}},
    {"refcount-order-7", "refcount_order is 7", .patches = {FIELD(refcount_order, 7)}},
    {"refcount-order-max", "refcount_order", .patches = {FIELD(refcount_order, UINT32_MAX)}},
    {"snapshots-65536", "65536 internal snapshots", .patches = {FIELD(n_snapshots, 65536)}},
    {"snapshots-max", "internal snapshots", .patches = {FIELD(n_snapshots, UINT32_MAX)}},
    {"snapshots-past-end", "snapshot table",
     .patches = {FIELD(n_snapshots, 3), FIELD(snapshots_offset, 1 << 20)}},
    /* extensions */
    {"ext-past-cluster", "past the first cluster", .patches = {EXTENSION(0x12345678, 400)}},
    {"ext-max", "past the first cluster", .patches = {EXTENSION(0x12345678, UINT32_MAX)}},
    {"ext-endless", "no end",
     .patches = {FIELD(backing_offset, EXT_AT + 4), FIELD(backing_bytes, 4)}},
    {"ext-name-long", "longer than 1023",
     .patches = {FIELD(cluster_bits, 11), EXTENSION(IMG_QCOW2_EXT_BACKING, 1100),
                 FIELD(l1_offset, 2048), FIELD(refcount_table_offset, 4096)},
     TEXT(8191, " ")},
    {"ext-bitmaps-short", "bitmaps extension", .patches = {EXTENSION(IMG_QCOW2_EXT_BITMAPS, 8)}},
    {"ext-bitmaps-far", "bitmap directory",
     .patches = {EXTENSION(IMG_QCOW2_EXT_BITMAPS, 24),
                 {EXT_AT + 16, 8, 64},
                 {EXT_AT + 24, 8, 1 << 30}}},
    {"ext-bitmaps-huge", "bitmap directory",
     .patches = {EXTENSION(IMG_QCOW2_EXT_BITMAPS, 24), {EXT_AT + 16, 8, UINT64_MAX}}},
    /* cut short */
    {"cut-0", "is empty", .is_raw = true, .cut = 1},
    {"cut-4", "truncated", .cut = 4},
    {"cut-20", "truncated", .cut = 20},
    {"cut-71", "truncated", .cut = 71},
    {"cut-103", "truncated", .cut = 103},
    {"cut-l1", "outside the file", .cut = 1600},
    {"raw-odd", "no multiple of 512", .is_raw = true, .cut = 1000},
    /* other formats */
    {"vmdk-sparse", "VMDK is not supported", .is_raw = true, TEXT(0, "KDMV\1\0\0\0")},
    {"vmdk-esx", "VMDK is not supported", .is_raw = true, TEXT(0, "COWD")},
    {"vmdk-text", "VMDK descriptor", .is_raw = true,
     TEXT(0, "# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n")},
    {"vmdk-text-headless", "VMDK descriptor", .is_raw = true,
     TEXT(0, "# x\n \r\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n")},
    {"vmdk-text-bare", "VMDK descriptor", .is_raw = true, TEXT(0, "version=1\n")},
    {"vdi", "VDI is not", .is_raw = true, TEXT(64, "\x7f\x10\xda\xbe")},
    {"vhd-start", "VHD is not", .is_raw = true, TEXT(0, "conectix")},
    {"vhd-end", "VHD is not", .is_raw = true, TEXT(-512, "conectix")},
    {"vhd-end-511", "VHD is not", .is_raw = true, TEXT(-511, "conectix")},
    {"vhdx", "VHDX is not", .is_raw = true, TEXT(0, "vhdxfile")},
    {"qed", "QED is not", .is_raw = true, TEXT(0, "QED\0")},
    {"parallels", "Parallels is not", .is_raw = true, TEXT(0, "WithoutFreeSpace")},
    {"parallels-ext", "Parallels is not", .is_raw = true, TEXT(0, "WithouFreSpacExt")},
    {"bochs", "Bochs is not", .is_raw = true, TEXT(0, "Bochs Virtual HD Image")},
    {"cloop", "cloop is not", .is_raw = true, TEXT(0, "#!/bin/sh\n#V2.0 Format\n")},
    {"dmg", "DMG is not", .is_raw = true, TEXT(-512, "koly")},
    {"luks", "LUKS is not", .is_raw = true, TEXT(0, "LUKS\xba\xbe")},
    {"iso", "ISO 9660 is not", .is_raw = true, TEXT(32769, "CD001")},
    {"iso-hybrid", "ISO 9660 is not", .is_raw = true, .patches = {{510, 2, 0x55aa}},
     TEXT(32769, "CD001")},
    {"udf", "UDF is not", .is_raw = true, TEXT(32769, "BEA01")},
    {"gzip", "gzip is not", .is_raw = true, TEXT(0, "\x1f\x8b\x08")},
    {"xz", "xz is not", .is_raw = true, TEXT(0, "\xfd\x37zXZ\0")},
    {"zstd", "zstd is not", .is_raw = true, TEXT(0, "\x28\xb5\x2f\xfd")},
    {"bzip2", "bzip2 is not", .is_raw = true, TEXT(0, "BZh9\x31\x41\x59\x26\x53\x59")},
    {"zip", "zip is not", .is_raw = true, TEXT(0, "PK\x03\x04")},
    {"tar", "tar is not", .is_raw = true, TEXT(257, "ustar")},
    {"elf", "ELF is not", .is_raw = true, TEXT(0, "\x7f\x45LF\2\1\1")},
    {"html", "HTML is not", .is_raw = true, TEXT(0, "<!DOCTYPE html>")},
    /* two formats in one file */
    {"qcow2-and-iso", "qcow2 and ISO 9660 at once", TEXT(32769, "CD001")},
    {"qcow2-and-vhd", "qcow2 and VHD at once", .patches = {{2552, 8, 0}}, TEXT(-512, "conectix")},
    {"qcow2-and-dmg", "qcow2 and DMG at once", .patches = {{2552, 8, 0}}, TEXT(-512, "koly")},
    {"qcow2-and-gpt", "qcow2 and GPT at once", TEXT(512, "EFI PART")},
    {"qcow2-and-mbr", "qcow2 and MBR at once", .patches = {{510, 2, 0x55aa}}},
    {"qcow2-and-tar", "qcow2 and tar at once", TEXT(257, "ustar")},
    {"gpt-and-vmdk-text", "VMDK descriptor", .is_raw = true,
     .patches = {{510, 2, 0x55aa}, {512, 8, 0x4546492050415254}},
     TEXT(0, "# Disk DescriptorFile\nversion=1\n")},
};

static inline void image_put(Image *image, size_t offset, size_t n_bytes, uint64_t value)
{
    if (offset + n_bytes > image->n) {
        image->bytes = g_realloc(image->bytes, offset + n_bytes);
        memset(image->bytes + image->n, 0, offset + n_bytes - image->n);
        image->n = offset + n_bytes;
    }
    for (size_t i = 0; i < n_bytes; i++) {
        image->bytes[offset + i] = (uint8_t)(value >> (8 * (n_bytes - 1 - i)));
    }
}

/* A sound qcow2 of 2 KiB, virtual size 1 MiB. */
static inline Image image_new_qcow2(uint32_t version)
{
    static const Patch fields[] = {
        FIELD(magic, IMG_QCOW2_MAGIC),
        FIELD(cluster_bits, SMALL_BITS),
        FIELD(virtual_bytes, SMALL_VIRTUAL),
        FIELD(n_l1, 32),
        FIELD(l1_offset, 3 << SMALL_BITS),
        FIELD(refcount_table_offset, 1 << SMALL_BITS),
        FIELD(n_refcount_table_clusters, 1),
        FIELD(refcount_order, 4),
        FIELD(header_bytes, 112),
    };
    Image image = {g_malloc0(SMALL_BYTES), SMALL_BYTES};
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        bool is_v3 = fields[i].offset >= IMG_QCOW2_V2_BYTES;
        if (version == 3 || !is_v3) {
            image_put(&image, fields[i].offset, fields[i].n_bytes, fields[i].value);
        }
    }
    image_put(&image, offsetof(ImgQcow2Disk, version), 4, version);
    image_put(&image, 1 << SMALL_BITS, 8, 2 << SMALL_BITS); /* refcount block */
    image_put(&image, 2 << SMALL_BITS, 8, 0x0001000100010001);
    return image;
}

/* An empty raw disk of 64 KiB. */
static inline Image image_new_raw(void)
{
    return (Image){g_malloc0(65536), 65536};
}

static inline Image image_new_hostile(const Hostile *hostile)
{
    Image image = hostile->is_raw ? image_new_raw() : image_new_qcow2(3);
    for (size_t i = 0; i < G_N_ELEMENTS(hostile->patches) && hostile->patches[i].n_bytes; i++) {
        const Patch *patch = &hostile->patches[i];
        image_put(&image, patch->offset, patch->n_bytes, patch->value);
    }
    if (hostile->text) {
        size_t at =
            hostile->text_at < 0 ? image.n - (size_t)-hostile->text_at : (size_t)hostile->text_at;
        for (size_t i = 0; i < hostile->n_text; i++) {
            image_put(&image, at + i, 1, (uint8_t)hostile->text[i]);
        }
    }
    if (hostile->cut) {
        image.n = hostile->cut;
    }
    return image;
}

/* A nameless file that holds the image. */
static inline int image_open(const Image *image)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, image->bytes, image->n, 0), (ssize_t)image->n);
    return fd;
}

/* Runs a program of the host to its end; asserts that it exits 0. stdout, transfer full. */
static inline char *run_program(const char *const *argv)
{
    char *out = NULL;
    g_autofree char *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;
    bool is_run = g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out,
                               &err, &status, &error);
    if (!is_run || !g_spawn_check_wait_status(status, NULL)) {
        fail_msg("%s %s: %s", argv[0], argv[1], is_run ? err : error->message);
    }
    return out;
}
#define RUN(...) run_program((const char *const[]){__VA_ARGS__, NULL})

static inline bool write_proc(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return is_written;
}

/* In a child: a mount namespace of its own, where mounts are allowed and stay inside; an ordinary
 * user is root in there. false: this host does not allow it. */
static inline bool enter_mount_namespace(void)
{
    g_autofree char *uid_map = g_strdup_printf("0 %u 1", geteuid());
    g_autofree char *gid_map = g_strdup_printf("0 %u 1", getegid());
    bool is_root = geteuid() == 0;
    if (unshare(CLONE_NEWNS | (is_root ? 0 : CLONE_NEWUSER)) != 0) {
        return false;
    }
    bool is_mapped = is_root || (write_proc("/proc/self/setgroups", "deny") &&
                                 write_proc("/proc/self/uid_map", uid_map) &&
                                 write_proc("/proc/self/gid_map", gid_map));
    return is_mapped && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}
