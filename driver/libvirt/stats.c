#include "driver/libvirt/part.h"

#include <stdio.h>
#include <unistd.h>

/*
 * One domain's numbers, from virDomainListGetStats(): keys as documented there, summed over disks
 * and NICs. CPU_TOTAL is not asked of an embedded driver: it would ask every installed QEMU for its
 * capabilities (4 s once), for numbers that /proc has.
 */
static uint64_t sum(virTypedParameterPtr params, int n, const char *prefix, const char *suffix)
{
    uint64_t total = 0;
    for (int i = 0; i < n; i++) {
        if (g_str_has_prefix(params[i].field, prefix) &&
            g_str_has_suffix(params[i].field, suffix) && params[i].type == VIR_TYPED_PARAM_ULLONG) {
            total += params[i].value.ul;
        }
    }
    return total;
}

static uint64_t number(virTypedParameterPtr params, int n, const char *name)
{
    unsigned long long value = 0;
    unsigned small = 0;
    if (virTypedParamsGetULLong(params, n, name, &value) != 1) {
        virResetLastError();
        value = virTypedParamsGetUInt(params, n, name, &small) == 1 ? small : 0;
        virResetLastError();
    }
    return value;
}

/* User and system time of the embedded driver's QEMU from /proc; both stay 0 when it is gone. */
static void read_proc_times(VirtPart *part, virDomainPtr domain, uint64_t *out_user_ns,
                            uint64_t *out_system_ns)
{
    g_autofree char *root = virt_embed_root_of_uri(part->uri);
    g_autofree char *name = g_strconcat(virDomainGetName(domain), ".pid", NULL);
    g_autofree char *file = root ? g_build_filename(root, "run", "qemu", name, NULL) : NULL;
    g_autofree char *pid = NULL, *stat = NULL;
    if (!file || !g_file_get_contents(file, &pid, NULL, NULL)) {
        return;
    }
    g_autofree char *proc = g_strdup_printf("/proc/%s/stat", g_strstrip(pid));
    unsigned long long user = 0, system = 0;
    long ticks = sysconf(_SC_CLK_TCK);
    const char *after = g_file_get_contents(proc, &stat, NULL, NULL) ? strrchr(stat, ')') : NULL;
    if (after && ticks > 0 &&
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
               &system) == 2) {
        *out_user_ns = user * (1000000000ull / (unsigned long)ticks);
        *out_system_ns = system * (1000000000ull / (unsigned long)ticks);
    }
}

static json_t *pack(VirtPart *part, virDomainPtr domain, virTypedParameterPtr p, int n)
{
    virDomainInfo info = {0};
    uint64_t user_ns = number(p, n, "cpu.user"), system_ns = number(p, n, "cpu.system");
    if (virDomainGetInfo(domain, &info) < 0) {
        virResetLastError();
    }
    if (part->kind == VIRT_KIND_EMBED) {
        read_proc_times(part, domain, &user_ns, &system_ns);
    }
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"cpu_time_ns", info.cpuTime},
        {"cpu_user_ns", user_ns},
        {"cpu_system_ns", system_ns},
        {"n_vcpus", info.nrVirtCpu},
        {"mem_actual_bytes", number(p, n, "balloon.current") * 1024},
        {"mem_rss_bytes", number(p, n, "balloon.rss") * 1024},
        {"mem_unused_bytes", number(p, n, "balloon.unused") * 1024},
        {"mem_usable_bytes", number(p, n, "balloon.usable") * 1024},
        {"net_rx_bytes", sum(p, n, "net.", ".rx.bytes")},
        {"net_tx_bytes", sum(p, n, "net.", ".tx.bytes")},
        {"disk_rd_bytes", sum(p, n, "block.", ".rd.bytes")},
        {"disk_wr_bytes", sum(p, n, "block.", ".wr.bytes")},
        {"disk_allocation_bytes", sum(p, n, "block.", ".allocation")},
    };
    json_t *object = json_object();
    for (unsigned i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_object_set_new(object, rows[i].name, json_integer((json_int_t)rows[i].value));
    }
    return object;
}

char *virt_op_stats(VirtPart *part, const VirtArgs *args, GError **error)
{
    g_autoptr(virDomain) domain = virt_part_lookup(part, args->uuid, error);
    if (!domain) {
        return NULL;
    }
    unsigned types = VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_BALLOON |
                     VIR_DOMAIN_STATS_INTERFACE | VIR_DOMAIN_STATS_BLOCK;
    if (part->kind != VIRT_KIND_EMBED && part->kind != VIRT_KIND_TEST) {
        types |= VIR_DOMAIN_STATS_CPU_TOTAL;
    }
    virDomainPtr domains[] = {domain, NULL};
    virDomainStatsRecordPtr *records = NULL;
    virt_part_freshen(part, domain);
    int n = virDomainListGetStats(domains, part->kind == VIRT_KIND_TEST ? 0 : types, &records, 0);
    if (n < 0 && virGetLastErrorCode() != VIR_ERR_NO_SUPPORT) {
        virt_error_set(error, "cannot read the domain's statistics");
        return NULL;
    }
    virResetLastError();
    json_t *object = n > 0 ? pack(part, domain, records[0]->params, records[0]->nparams)
                           : pack(part, domain, NULL, 0);
    if (n >= 0) {
        virDomainStatsRecordListFree(records);
    }
    return virt_answer(object);
}
