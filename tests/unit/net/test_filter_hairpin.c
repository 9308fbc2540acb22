/* A tap in hairpin mode, as one with port maps of its own is: what goes to all must not come back
 * to who sent it (net/filter). */
#include "net/filter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_lan.h"

static const char *const to_all[] = {
    "mN mA 0806 00010800060400 01 mA aA x6 aB x18",  /* who has B? */
    "mN mA 0806 00010800060400 01 mA x4 x6 aA x18",  /* a probe of its own address */
    "mN mA 0800 ip4:A,N,17 udp:9,9 x20",             /* broadcast */
    "mM mA 0800 ip4:A,M,17 udp:9,9 x20",             /* multicast */
    "3333ff000002 mA 86dd ip6:lA,lN,17 udp:9,9 x20", /* IPv6 multicast */
};

static void test_frame_to_all_then_heard_by_others_and_not_by_itself(void **state)
{
    (void)state;
    for (int is_hairpin = 0; is_hairpin < 2; is_hairpin++) {
        test_ip_run("link set vmta type bridge_slave hairpin %s", is_hairpin ? "on" : "off");
        for (gsize i = 0; i < G_N_ELEMENTS(to_all); i++) {
            bool is_heard = lan_passes('A', to_all[i], 'B');
            bool is_back = lan_passes('A', to_all[i], 'A');
            if (!is_heard || is_back) {
                fail_msg("hairpin %d, frame %u: %s", is_hairpin, (unsigned)i,
                         is_back ? "it came back" : "the neighbour did not hear it");
            }
        }
    }
}

/* What a port map turns round goes from the guest's MAC to the guest's MAC. */
static void test_frame_to_itself_then_comes_back(void **state)
{
    (void)state;
    test_ip_run("link set vmta type bridge_slave hairpin on");
    assert_true(lan_passes('A', "mA mA 0800 ip4:A,A,17 udp:9,9 x20", 'A'));
}

int main(void)
{
    if (!lan_make()) {
        return 77;
    }
    lan_install();
    lan_register_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame_to_all_then_heard_by_others_and_not_by_itself),
        cmocka_unit_test(test_frame_to_itself_then_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
