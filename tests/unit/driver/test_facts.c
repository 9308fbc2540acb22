/* Host facts: the KVM rule, CPU flags, firmware descriptors, QEMU's user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "driver/facts.h"
#include "driver/firmware.h"
#include "driver/qemu_user.h"

static void test_kvm_each_missing_fact_gives_its_reason(void **context)
{
    (void)context;
    static const struct {
        bool cpu, node, open, listed;
        const char *reason; /* NULL: usable */
    } rows[] = {
        {true, true, true, true, NULL},
        {false, true, true, true, "/dev/kvm is there but this CPU offers no virtualization"},
        {false, false, false, true, "this CPU offers no virtualization"},
        {true, false, false, true, "/dev/kvm is missing"},
        {true, true, false, true, "does not open for uid 64055"},
        {true, true, true, false, "libvirt does not list KVM"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(HostFacts) facts = host_facts_new();
        facts->has_cpu_virt = rows[i].cpu;
        facts->has_dev_kvm = rows[i].node;
        facts->can_open_kvm = rows[i].open;
        facts->is_kvm_listed = rows[i].listed;
        facts->qemu_uid = 64055;
        host_facts_judge_kvm(facts);
        host_facts_judge_kvm(facts); /* twice: nothing leaks, nothing changes */
        assert_int_equal(facts->is_kvm_usable, rows[i].reason == NULL);
        if (rows[i].reason) {
            assert_non_null(strstr(facts->kvm_reason, rows[i].reason));
        } else {
            assert_null(facts->kvm_reason);
        }
    }
}

static void test_cpu_flags_are_whole_words_of_the_flags_line(void **context)
{
    (void)context;
    assert_true(host_facts_cpu_has_virt("processor\t: 0\nflags\t\t: fpu vmx sse\nbugs\t: x\n"));
    assert_true(host_facts_cpu_has_virt("processor\t: 0\nflags\t\t: fpu svm"));
    assert_false(host_facts_cpu_has_virt("processor\t: 0\nflags\t\t: fpu vmxx asvm sse\n"));
    assert_false(host_facts_cpu_has_virt("processor\t: 0\nflags\t\t: fpu\nvmx flags\t: vmx svm\n"));
    assert_false(host_facts_cpu_has_virt("model name\t: vmx svm\nflags\t: fpu\n"));
    assert_false(host_facts_cpu_has_virt(""));
}

static void test_probe_local_agrees_with_this_host(void **context)
{
    (void)context;
    g_autoptr(HostFacts) facts = host_facts_new();
    host_facts_probe_local(facts);
    host_facts_probe_local(facts); /* again: nothing leaks */
    g_autofree char *cpuinfo = NULL;
    assert_true(g_file_get_contents("/proc/cpuinfo", &cpuinfo, NULL, NULL));
    assert_int_equal(facts->has_cpu_virt, host_facts_cpu_has_virt(cpuinfo));
    assert_int_equal(facts->is_root, geteuid() == 0);
    assert_int_equal(facts->has_dev_kvm, access("/dev/kvm", F_OK) == 0);
    assert_true(facts->n_cpus >= 1);
    assert_true(facts->memory_bytes > 64 * 1024 * 1024);
}

/* --- firmware ----------------------------------------------------------- */

typedef struct {
    char *dir, *one, *two;
} Folders;

static void setup_folders(Folders *f)
{
    f->dir = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    f->one = g_build_filename(f->dir, "one", NULL);
    f->two = g_build_filename(f->dir, "two", NULL);
    assert_int_equal(g_mkdir(f->one, 0755) | g_mkdir(f->two, 0755), 0);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void write_descriptor(const Folders *f, const char *folder, const char *name,
                             const char *image, const char *features)
{
    g_autofree char *text = g_strdup_printf(
        "{\"interface-types\":[\"uefi\"],\"mapping\":{\"device\":\"flash\",\"executable\":{"
        "\"filename\":\"%s/%s.code\",\"format\":\"raw\"},\"nvram-template\":{\"filename\":"
        "\"%s/%s.vars\",\"format\":\"raw\"}},\"targets\":[{\"architecture\":\"x86_64\","
        "\"machines\":[\"pc-q35-*\"]}],\"features\":[%s]}",
        f->dir, image, f->dir, image, features);
    g_autofree char *code = g_strconcat(image, ".code", NULL);
    g_autofree char *vars = g_strconcat(image, ".vars", NULL);
    write_text(folder, name, text);
    write_text(f->dir, code, "");
    write_text(f->dir, vars, "");
}

static void remove_folders(Folders *f)
{
    const char *const folders[] = {f->one, f->two, f->dir};
    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        g_autoptr(GDir) dir = g_dir_open(folders[i], 0, NULL);
        for (const char *name; (name = g_dir_read_name(dir));) {
            g_autofree char *path = g_build_filename(folders[i], name, NULL);
            g_remove(path);
        }
        g_rmdir(folders[i]);
    }
    g_free(f->one);
    g_free(f->two);
    g_free(f->dir);
}

static void test_firmware_picks_plain_and_enrolled_by_name_order(void **context)
{
    (void)context;
    Folders f;
    setup_folders(&f);
    write_descriptor(&f, f.one, "10-secure-empty.json", "empty",
                     "\"secure-boot\",\"requires-smm\"");
    write_descriptor(&f, f.one, "20-secure.json", "secure",
                     "\"secure-boot\",\"requires-smm\",\"enrolled-keys\"");
    write_descriptor(&f, f.one, "30-plain.json", "plain", "\"acpi-s3\"");
    write_descriptor(&f, f.one, "40-later.json", "later", "\"acpi-s3\"");
    const char *folders[] = {f.one, f.two, NULL};
    g_auto(Firmware) firmware;
    machine_firmware_find(folders, &firmware);
    assert_true(g_str_has_suffix(firmware.uefi_code, "/plain.code"));
    assert_true(g_str_has_suffix(firmware.uefi_vars, "/plain.vars"));
    assert_true(g_str_has_suffix(firmware.uefi_secure_code, "/secure.code"));
    remove_folders(&f);
}

static void test_firmware_later_folder_replaces_by_name(void **context)
{
    (void)context;
    Folders f;
    setup_folders(&f);
    write_descriptor(&f, f.one, "30-plain.json", "plain", "");
    write_descriptor(&f, f.two, "30-plain.json", "local", "");
    const char *folders[] = {f.one, f.two, NULL};
    g_auto(Firmware) firmware;
    machine_firmware_find(folders, &firmware);
    assert_true(g_str_has_suffix(firmware.uefi_code, "/local.code"));
    remove_folders(&f);
}

static void test_firmware_damaged_descriptors_are_passed_over(void **context)
{
    (void)context;
    Folders f;
    setup_folders(&f);
    write_text(f.one, "01.json", "");
    write_text(f.one, "02.json", "[1,2");
    write_text(f.one, "03.json", "[]");
    write_text(f.one, "04.json", "{\"mapping\":7,\"targets\":{},\"features\":\"x\"}");
    write_text(f.one, "05.json",
               "{\"interface-types\":[\"uefi\",1],\"targets\":[1,{\"machines\":[2]}]}");
    write_descriptor(&f, f.one, "06.json", "gone", "");
    g_autofree char *gone = g_build_filename(f.dir, "gone.code", NULL);
    g_remove(gone);
    const char *folders[] = {f.one, "/nonexistent", NULL};
    g_auto(Firmware) firmware;
    machine_firmware_find(folders, &firmware);
    assert_null(firmware.uefi_code);
    assert_null(firmware.uefi_secure_code);
    remove_folders(&f);
}

/* --- QEMU's user -------------------------------------------------------- */

static void test_system_user_comes_from_qemu_conf(void **context)
{
    (void)context;
    QemuUser usual = machine_qemu_user_system(NULL);
    QemuUser numbers =
        machine_qemu_user_system("#user = \"root\"\n  user = \"+123\"\ngroup=\"+45\" \n");
    QemuUser names = machine_qemu_user_system("user = \"root\"\ngroup = \"root\"\n");
    QemuUser broken = machine_qemu_user_system("user\n=\nuser = root\nuser = \"no-such-user\"\n\"");
    assert_int_equal(numbers.uid, 123);
    assert_int_equal(numbers.gid, 45);
    assert_int_equal(names.uid, 0);
    assert_int_equal(names.gid, 0);
    assert_int_equal(broken.uid, usual.uid);
    assert_int_equal(broken.gid, usual.gid);
}

static void test_blocker_is_the_first_closed_folder(void **context)
{
    (void)context;
    g_autofree char *top = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    g_autofree char *closed = g_build_filename(top, "closed", NULL);
    g_autofree char *inner = g_build_filename(closed, "inner", NULL);
    g_autofree char *missing = g_build_filename(inner, "missing", NULL);
    QemuUser other = {4242, 4242}, own = {geteuid(), getegid()};
    assert_int_equal(g_chmod(top, 0711), 0);
    assert_int_equal(g_mkdir(closed, 0700) | g_mkdir(inner, 0755), 0);
    g_autofree char *blocked = machine_qemu_user_blocker(&other, missing);
    assert_string_equal(blocked, closed);
    assert_null(machine_qemu_user_blocker(&own, missing));
    assert_int_equal(g_chmod(closed, 0711), 0);
    assert_null(machine_qemu_user_blocker(&other, missing));
    assert_null(machine_qemu_user_blocker(&other, "/"));
    g_rmdir(inner);
    g_rmdir(closed);
    g_rmdir(top);
}

static void test_can_open_follows_owner_group_and_mode(void **context)
{
    (void)context;
    g_autofree char *path = g_strdup("/tmp/vm-test-mode-XXXXXX");
    close(g_mkstemp(path));
    QemuUser other = {4242, 4242}, member = {4242, getegid()};
    assert_int_equal(g_chmod(path, 0660), 0);
    assert_false(machine_qemu_user_can_open(&other, path));
    assert_true(machine_qemu_user_can_open(&member, path));
    assert_int_equal(g_chmod(path, 0606), 0);
    assert_true(machine_qemu_user_can_open(&other, path));
    g_remove(path);
    assert_false(machine_qemu_user_can_open(&other, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kvm_each_missing_fact_gives_its_reason),
        cmocka_unit_test(test_cpu_flags_are_whole_words_of_the_flags_line),
        cmocka_unit_test(test_probe_local_agrees_with_this_host),
        cmocka_unit_test(test_firmware_picks_plain_and_enrolled_by_name_order),
        cmocka_unit_test(test_firmware_later_folder_replaces_by_name),
        cmocka_unit_test(test_firmware_damaged_descriptors_are_passed_over),
        cmocka_unit_test(test_system_user_comes_from_qemu_conf),
        cmocka_unit_test(test_blocker_is_the_first_closed_folder),
        cmocka_unit_test(test_can_open_follows_owner_group_and_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
