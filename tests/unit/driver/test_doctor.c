/* Doctor: a healthy host passes, each seeded fault is found with its remedy, and looking changes
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "base/error.h"
#include "driver/doctor_probe.h"

#define GIB ((uint64_t)1 << 30)

static DoctorProbe *healthy(void)
{
    DoctorProbe *p = g_new0(DoctorProbe, 1);
    p->facts = host_facts_new();
    *p->facts = (HostFacts){
        .kind = VIRT_KIND_SYSTEM,
        .uri = g_strdup("qemu:///system"),
        .is_root = true,
        .has_cpu_virt = true,
        .has_dev_kvm = true,
        .can_open_kvm = true,
        .is_kvm_listed = true,
        .is_kvm_usable = true,
        .libvirt_version = g_strdup("9.0.0"),
        .emulator = g_strdup("/usr/bin/qemu-system-x86_64"),
        .machine_q35 = g_strdup("pc-q35-7.2"),
        .uefi_code = g_strdup("/a"),
        .uefi_vars = g_strdup("/b"),
        .uefi_secure_code = g_strdup("/c"),
        .uefi_secure_vars = g_strdup("/d"),
        .has_fd_associate = true,
        .qemu_uid = 64055,
        .is_netns_shared = true,
        .has_net_admin = true,
        .has_tun = true,
        .has_nft = true,
        .has_dnsmasq = true,
        .n_cpus = 2,
    };
    p->drops = g_ptr_array_new_with_free_func(g_free);
    p->amiss = g_ptr_array_new_with_free_func(g_free);
    p->user_name = g_strdup("ada");
    p->account_in_kvm = p->process_in_kvm = true;
    p->account_in_libvirt = p->process_in_libvirt = true;
    p->has_qemu_account = p->can_qemu_open_kvm = true;
    p->is_connected = true;
    p->connect_why = g_strdup("libvirtd answers");
    p->qemu_version = g_strdup("7.2.22");
    p->embed_root = g_strdup("/var/lib/vm-run/libvirt");
    p->state_dir = g_strdup("/var/lib/vm-run");
    p->fs_type = g_strdup("ext4");
    p->free_bytes = 100 * GIB;
    p->free_inodes = UINT64_MAX;
    p->kernel = g_strdup("/boot/vmlinuz-1");
    p->has_kernel = p->has_qemu_img = p->has_ssh = p->has_watch = p->has_embed = p->has_tun = true;
    p->now_s = 2000000000;
    p->built_s = 1900000000;
    p->memory_available_bytes = 4 * GIB;
    p->n_files_max = 1024;
    return p;
}

static void set(char **member, const char *text)
{
    g_free(*member);
    *member = g_strdup(text);
}

static void seed_disconnected(DoctorProbe *p, VmError code, const char *text)
{
    p->is_connected = false;
    p->connect_code = code;
    set(&p->connect_error, text);
}

/* --- the faults --------------------------------------------------------- */

static void no_virt(DoctorProbe *p)
{
    p->facts->has_cpu_virt = p->facts->is_kvm_usable = false;
}

static void no_virt_no_node(DoctorProbe *p)
{
    no_virt(p);
    p->facts->has_dev_kvm = p->can_qemu_open_kvm = false;
}

static void no_node(DoctorProbe *p)
{
    p->facts->has_dev_kvm = p->facts->is_kvm_usable = p->can_qemu_open_kvm = false;
}

static void kvm_closed(DoctorProbe *p)
{
    p->facts->is_kvm_usable = p->can_qemu_open_kvm = p->account_in_kvm = p->process_in_kvm = false;
}

static void kvm_closed_for_user(DoctorProbe *p)
{
    kvm_closed(p);
    p->facts->is_root = false;
}

static void kvm_old_session(DoctorProbe *p)
{
    kvm_closed_for_user(p);
    p->account_in_kvm = true;
}

static void kvm_not_listed(DoctorProbe *p)
{
    p->facts->is_kvm_usable = p->facts->is_kvm_listed = false;
    set(&p->facts->kvm_reason, "libvirt does not list KVM for this QEMU");
}

static void libvirt_down(DoctorProbe *p)
{
    seed_disconnected(p, VM_ERROR_HOST, "cannot connect to libvirt (qemu:///system): refused");
}

static void libvirt_denied(DoctorProbe *p)
{
    seed_disconnected(p, VM_ERROR_DENIED, "cannot connect: Permission denied");
    p->account_in_libvirt = p->process_in_libvirt = false;
}

static void libvirt_old_session(DoctorProbe *p)
{
    libvirt_denied(p);
    p->account_in_libvirt = true;
}

static void embed_missing(DoctorProbe *p)
{
    seed_disconnected(p, VM_ERROR_HOST, "no driver");
    p->facts->kind = VIRT_KIND_EMBED;
}

static void root_held(DoctorProbe *p)
{
    seed_disconnected(p, VM_ERROR_BUSY, "held by pid 7");
    p->facts->kind = VIRT_KIND_EMBED;
}

static void libvirt_old(DoctorProbe *p)
{
    p->facts->has_fd_associate = false;
}

static void qemu_broken(DoctorProbe *p)
{
    g_clear_pointer(&p->qemu_version, g_free);
}

static void qemu_as_root(DoctorProbe *p)
{
    p->has_qemu_account = false;
}

static void closed_folder(DoctorProbe *p)
{
    set(&p->blocker, "/root");
}

static void no_firmware(DoctorProbe *p)
{
    g_clear_pointer(&p->facts->uefi_code, g_free);
}

static void no_secure_firmware(DoctorProbe *p)
{
    g_clear_pointer(&p->facts->uefi_secure_code, g_free);
}

static void state_not_writable(DoctorProbe *p)
{
    set(&p->state_error, "the state directory '/x' can't be written");
}

static void space_low(DoctorProbe *p)
{
    p->free_bytes = GIB;
}

static void space_gone(DoctorProbe *p)
{
    p->free_bytes = 1 << 20;
}

static void inodes_low(DoctorProbe *p)
{
    p->free_inodes = 3;
}

static void on_nfs(DoctorProbe *p)
{
    set(&p->fs_type, "nfs");
}

static void on_tmpfs(DoctorProbe *p)
{
    set(&p->fs_type, "tmpfs");
}

static void long_path(DoctorProbe *p)
{
    set(&p->embed_root, "/home/somebody/with/a/very/long/path/to/the/state/libvirt");
}

static void other_netns(DoctorProbe *p)
{
    p->facts->is_netns_shared = false;
}

static void no_tun(DoctorProbe *p)
{
    p->has_tun = false;
}

static void no_dnsmasq(DoctorProbe *p)
{
    p->facts->has_dnsmasq = false;
}

static void no_nft(DoctorProbe *p)
{
    p->facts->has_nft = false;
}

static void rules_amiss(DoctorProbe *p)
{
    g_ptr_array_add(p->amiss, g_strdup("network 'lab': the table inet vm_driver is missing"));
    g_ptr_array_add(p->amiss, g_strdup("network 'lab': the bridge has no address"));
}

static void foreign_drop(DoctorProbe *p)
{
    g_ptr_array_add(p->drops, g_strdup("table ip filter drops it"));
    g_ptr_array_add(p->drops, g_strdup("table ip6 filter, too"));
}

static void no_watch(DoctorProbe *p)
{
    p->has_watch = false;
}

static void no_embed(DoctorProbe *p)
{
    p->has_embed = false;
}

static void no_qemu_img(DoctorProbe *p)
{
    p->has_qemu_img = false;
}

static void no_ssh(DoctorProbe *p)
{
    p->has_ssh = false;
}

static void kernel_unreadable(DoctorProbe *p)
{
    g_clear_pointer(&p->kernel, g_free);
}

static void no_kernel(DoctorProbe *p)
{
    kernel_unreadable(p);
    p->has_kernel = false;
}

static void clock_behind(DoctorProbe *p)
{
    p->now_s = 1000;
}

static void memory_low(DoctorProbe *p)
{
    p->memory_available_bytes = GIB / 4;
}

static void memory_gone(DoctorProbe *p)
{
    p->memory_available_bytes = GIB / 16;
}

static void few_files(DoctorProbe *p)
{
    p->n_files_max = 64;
}

static void leftovers(DoctorProbe *p)
{
    p->n_leftovers = 3;
}

static const struct {
    void (*seed)(DoctorProbe *probe);
    const char *id;
    DoctorLevel level;
    const char *text, *remedy; /* parts of them */
} faults[] = {
    {no_virt, "cpu", DOCTOR_WARN,
     "/dev/kvm is there but this CPU offers no virtualization: using TCG", "nested"},
    {no_virt_no_node, "cpu", DOCTOR_WARN, "this CPU offers no virtualization: using TCG", "VT-x"},
    {no_node, "kvm", DOCTOR_WARN, "/dev/kvm is missing", "modprobe"},
    {kvm_closed, "kvm", DOCTOR_WARN, "uid 64055", "chgrp kvm"},
    {kvm_closed_for_user, "kvm", DOCTOR_WARN, "'ada'", "usermod -aG kvm ada"},
    {kvm_old_session, "kvm", DOCTOR_WARN, "this session is not", "log out and in again"},
    {kvm_not_listed, "kvm", DOCTOR_WARN, "does not list KVM", "QEMU package"},
    {libvirt_down, "libvirt", DOCTOR_FAIL, "refused", "--connect embed"},
    {libvirt_denied, "libvirt", DOCTOR_FAIL, "Permission denied", "usermod -aG libvirt ada"},
    {libvirt_old_session, "libvirt", DOCTOR_FAIL, "Permission denied", "log out and in again"},
    {embed_missing, "libvirt", DOCTOR_FAIL, "no driver", "apt-get install libvirt-daemon"},
    {root_held, "libvirt", DOCTOR_FAIL, "pid 7", "wait for the process"},
    {libvirt_old, "libvirt", DOCTOR_WARN, "by path", "9.0"},
    {qemu_broken, "qemu", DOCTOR_FAIL, "does not run", "qemu-system-x86"},
    {qemu_as_root, "qemu-user", DOCTOR_WARN, "runs as root", "libvirt-daemon-system"},
    {closed_folder, "state-path", DOCTOR_FAIL, "'/root'", "chmod o+x '/root'"},
    {no_firmware, "firmware", DOCTOR_WARN, "no UEFI firmware", "ovmf"},
    {no_secure_firmware, "firmware", DOCTOR_WARN, "Secure Boot", "ovmf"},
    {state_not_writable, "state-dir", DOCTOR_FAIL, "can't be written", "--state-dir"},
    {space_low, "state-space", DOCTOR_WARN, "1024 MiB", "free some space"},
    {space_gone, "state-space", DOCTOR_FAIL, "1 MiB", "free some space"},
    {inodes_low, "state-space", DOCTOR_WARN, "3 files", "free some space"},
    {on_nfs, "state-fs", DOCTOR_WARN, "nfs", "local disk"},
    {on_tmpfs, "state-fs", DOCTOR_WARN, "next boot", "local disk"},
    {long_path, "socket-path", DOCTOR_FAIL, "too long", "shorter"},
    {other_netns, "netns", DOCTOR_FAIL, "another network namespace", "--connect embed"},
    {no_tun, "tun", DOCTOR_WARN, "/dev/net/tun", "modprobe tun"},
    {no_dnsmasq, "networks", DOCTOR_WARN, "dnsmasq is not installed", "dnsmasq-base"},
    {no_nft, "networks", DOCTOR_WARN, "nf_tables", "user network"},
    {rules_amiss, "network-rules", DOCTOR_WARN, "2 things of the networks are not", "check --fix"},
    {foreign_drop, "firewall", DOCTOR_WARN, "drops it; table ip6 filter, too", "networking.md"},
    {no_watch, "parts", DOCTOR_FAIL, "vm-run-watch", "install vm-run again"},
    {no_embed, "parts", DOCTOR_FAIL, "vm-run-embed", "install vm-run again"},
    {no_qemu_img, "qemu-img", DOCTOR_WARN, "qemu-img", "qemu-utils"},
    {no_ssh, "ssh", DOCTOR_WARN, "ssh", "openssh-client"},
    {kernel_unreadable, "libguestfs", DOCTOR_WARN, "not readable", "chmod +r"},
    {no_kernel, "libguestfs", DOCTOR_WARN, "no kernel", "linux-image"},
    {clock_behind, "clock", DOCTOR_WARN, "clock", "timedatectl"},
    {memory_low, "memory", DOCTOR_WARN, "256 MiB", "--memory"},
    {memory_gone, "memory", DOCTOR_FAIL, "64 MiB", "--memory"},
    {few_files, "limits", DOCTOR_WARN, "64 files", "ulimit"},
    {leftovers, "leftovers", DOCTOR_WARN, "3 things", "vm-run gc"},
};

static const MachineCheck *find(GPtrArray *checks, const char *id)
{
    for (unsigned i = 0; i < checks->len; i++) {
        const MachineCheck *check = checks->pdata[i];
        if (strcmp(check->id, id) == 0) {
            return check;
        }
    }
    return NULL;
}

static void test_healthy_host_passes_every_check(void **context)
{
    (void)context;
    g_autoptr(DoctorProbe) probe = healthy();
    g_autoptr(GPtrArray) checks = doctor_judge(probe);
    assert_int_equal(checks->len, 24);
    for (unsigned i = 0; i < checks->len; i++) {
        const MachineCheck *check = checks->pdata[i];
        if (check->level != DOCTOR_PASS || check->remedy || !check->text) {
            fail_msg("%s: %s", check->id, check->text);
        }
    }
}

static void test_each_seeded_fault_is_found_and_nothing_else(void **context)
{
    (void)context;
    for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
        g_autoptr(DoctorProbe) probe = healthy();
        faults[i].seed(probe);
        g_autoptr(GPtrArray) checks = doctor_judge(probe);
        const MachineCheck *check = find(checks, faults[i].id);
        if (!check || check->level != faults[i].level || !strstr(check->text, faults[i].text) ||
            !check->remedy || !strstr(check->remedy, faults[i].remedy)) {
            fail_msg("fault %u (%s): '%s' - '%s'", i, faults[i].id, check ? check->text : "",
                     check && check->remedy ? check->remedy : "");
        }
        for (unsigned j = 0; j < checks->len; j++) {
            const MachineCheck *other = checks->pdata[j];
            if (other != check && other->level != DOCTOR_PASS) {
                fail_msg("fault %u (%s) is also seen as %s", i, faults[i].id, other->id);
            }
        }
    }
}

static void test_every_text_is_one_line_without_full_stop(void **context)
{
    (void)context;
    for (unsigned i = 0; i < G_N_ELEMENTS(faults); i++) {
        g_autoptr(DoctorProbe) probe = healthy();
        faults[i].seed(probe);
        g_autoptr(GPtrArray) checks = doctor_judge(probe);
        for (unsigned j = 0; j < checks->len; j++) {
            const MachineCheck *check = checks->pdata[j];
            assert_null(strchr(check->text, '\n'));
            assert_false(g_str_has_suffix(check->text, "."));
            assert_true(!check->remedy || !strchr(check->remedy, '\n'));
        }
    }
}

static void test_level_names(void **context)
{
    (void)context;
    assert_string_equal(machine_check_level_name(DOCTOR_PASS), "pass");
    assert_string_equal(machine_check_level_name(DOCTOR_WARN), "warn");
    assert_string_equal(machine_check_level_name(DOCTOR_FAIL), "fail");
}

static void test_this_host_through_the_test_driver(void **context)
{
    (void)context;
    g_autofree char *dir = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    g_autoptr(GPtrArray) checks = machine_doctor(dir, "test:///default");
    const MachineCheck *libvirt = find(checks, "libvirt"), *state = find(checks, "state-dir");
    assert_int_equal(libvirt->level, DOCTOR_PASS);
    assert_non_null(strstr(libvirt->text, "test:///default (--connect)"));
    assert_int_equal(state->level, DOCTOR_PASS);
    assert_int_equal(find(checks, "memory")->level != DOCTOR_N, 1);
    assert_int_equal(g_rmdir(dir), 0); /* empty: nothing was made */
}

static void test_this_host_with_an_absent_state_directory_makes_nothing(void **context)
{
    (void)context;
    g_autofree char *dir = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    g_autofree char *state = g_build_filename(dir, "state", NULL);
    assert_int_equal(g_chmod(dir, 0711), 0);
    g_autoptr(GPtrArray) checks = machine_doctor(state, "embed");
    const MachineCheck *libvirt = find(checks, "libvirt"), *qemu = find(checks, "qemu");
    if (libvirt->level != DOCTOR_PASS) {
        fail_msg("%s", libvirt->text);
    }
    assert_non_null(strstr(libvirt->text, state));
    assert_int_equal(qemu->level, DOCTOR_PASS);
    assert_non_null(strstr(qemu->text, "QEMU 7."));
    assert_int_equal(access(state, F_OK), -1);
    assert_int_equal(g_rmdir(dir), 0);
}

static void test_this_host_with_a_dead_connection_fails_with_a_remedy(void **context)
{
    (void)context;
    g_autofree char *dir = g_dir_make_tmp("vm-test-XXXXXX", NULL);
    g_autoptr(GPtrArray) checks =
        machine_doctor(dir, "qemu+unix:///system?socket=/nonexistent/sock");
    const MachineCheck *libvirt = find(checks, "libvirt");
    assert_int_equal(libvirt->level, DOCTOR_FAIL);
    assert_non_null(libvirt->remedy);
    assert_null(strchr(libvirt->text, '\n'));
    assert_null(strstr(libvirt->text, "vm-run doctor")); /* this is it */
    assert_int_equal(g_rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_healthy_host_passes_every_check),
        cmocka_unit_test(test_each_seeded_fault_is_found_and_nothing_else),
        cmocka_unit_test(test_every_text_is_one_line_without_full_stop),
        cmocka_unit_test(test_level_names),
        cmocka_unit_test(test_this_host_through_the_test_driver),
        cmocka_unit_test(test_this_host_with_an_absent_state_directory_makes_nothing),
        cmocka_unit_test(test_this_host_with_a_dead_connection_fails_with_a_remedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
