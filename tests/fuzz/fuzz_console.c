#include <stdint.h>
#include <string.h>

#include "driver/console_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says how large the pieces are that the rest is fed in. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ConsoleScan scan;
    size_t n_piece = size > 0 && data[0] > 0 ? data[0] : 1;
    console_scan_init(&scan);
    for (size_t at = 1; at < size;) {
        ConsoleSign sign;
        const char *text;
        size_t n = size - at < n_piece ? size - at : n_piece;
        size_t n_taken = console_scan_feed(&scan, (const char *)data + at, n, &sign, &text);
        if (n_taken == 0 || n_taken > n || (sign != CONSOLE_NOTHING) != (strlen(text) > 0)) {
            __builtin_trap();
        }
        at += n_taken;
    }
    for (unsigned i = 0; console_scan_kept(&scan, i); i++) {
        if (i > CONSOLE_KEEP_LINES || strlen(console_scan_kept(&scan, i)) >= CONSOLE_LINE_MAX) {
            __builtin_trap();
        }
    }
    return 0;
}
