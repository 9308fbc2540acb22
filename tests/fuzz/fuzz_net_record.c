#include <stdint.h>
#include <string.h>

#include "net/network_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Records of networks and members: what is taken is written, and read again, equal. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(NetMember) member = net_member_from_json(text, NULL);
    g_autoptr(NetRecord) record = net_record_from_json(text, "lab", NULL);
    if (member) {
        g_autofree char *first = net_member_to_json(member);
        g_autoptr(NetMember) copy = net_member_copy(member);
        g_autofree char *second = net_member_to_json(copy);
        g_assert_cmpstr(first, ==, second);
    }
    if (record) {
        g_autofree char *first = net_record_to_json(record);
        g_autoptr(NetRecord) copy = net_record_from_json(first, "lab", NULL);
        g_autofree char *second = copy ? net_record_to_json(copy) : NULL;
        g_assert_cmpstr(first, ==, second);
    }
    return 0;
}
