/* Frames of a limited tap pass the filter as those of any other do (net/shape, net/filter). */
#include "net/shape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "tests/unit/net/helper_ip.h"
#include "tests/unit/net/helper_lan.h"

#define TAG  "vm-run:teststor:a:0"
#define RATE 20000000

static const char *const honest[] = {
    "mN mA 0806 00010800060400 01 mA aA x6 aB x18",
    "mB mA 0800 ip4:A,B,17 udp:9,9 x20",
    "mB mA 0800 ip4:A,B,6 tcp:9,9,02",
};
static const char *const forged[] = {
    "mB mR 0800 ip4:A,B,17 udp:9,9 x20",
    "mB mA 0800 ip4:R,B,17 udp:9,9 x20",
    "mN mA 0806 00010800060400 01 mA aB x6 aB x18",
};
static const char *const to_guest[] = {
    "mA mB 0800 ip4:B,A,17 udp:9,9 x20",
    "mN mB 0806 00010800060400 01 mB aB x6 aA x18",
};

static void assert_passes(char from, const char *const *lines, gsize n, char to, bool passes)
{
    for (gsize i = 0; i < n; i++) {
        if (lan_passes(from, lines[i], to) != passes) {
            fail_msg("%s: %s", lines[i], passes ? "lost" : "delivered");
        }
    }
}

static void test_limited_tap_then_honest_frames_pass_and_forged_ones_don_t(void **state)
{
    (void)state;
    for (int is_limited = 1; is_limited >= 0; is_limited--) {
        uint64_t rate = is_limited ? RATE : 0;
        assert_true(net_shape_apply("vmta", TAG, rate, rate, NULL));
        assert_passes('A', honest, G_N_ELEMENTS(honest), 'B', true);
        assert_passes('A', honest, 1, 'G', true);
        assert_passes('A', forged, G_N_ELEMENTS(forged), 'B', false);
        assert_passes('A', forged, G_N_ELEMENTS(forged), 'G', false);
        assert_passes('B', to_guest, G_N_ELEMENTS(to_guest), 'A', true);
    }
}

int main(void)
{
    if (!lan_make()) {
        return 77;
    }
    lan_install();
    lan_register_all();
    test_ip_run("link property add dev vmta altname " TAG);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limited_tap_then_honest_frames_pass_and_forged_ones_don_t),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
