#include "schemas/value.h"

#include <string.h>
#include "schemas/spec.h"

typedef struct {
    const char *name;
    uint64_t factor;
} Unit;

/* Largest first, so that the first one that divides a value gives its shortest form. The last name
 * of a factor is the one that is written. */
static const Unit size_units[] = {
    {"E", UINT64_C(1) << 60},
    {"EiB", UINT64_C(1) << 60},
    {"P", UINT64_C(1) << 50},
    {"PiB", UINT64_C(1) << 50},
    {"T", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
    {"G", UINT64_C(1) << 30},
    {"GiB", UINT64_C(1) << 30},
    {"M", UINT64_C(1) << 20},
    {"MiB", UINT64_C(1) << 20},
    {"K", UINT64_C(1) << 10},
    {"KiB", UINT64_C(1) << 10},
    {"B", 1},
};

static const Unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

/* Powers of 1000, as links are sold and tc(8) counts. */
static const Unit rate_units[] = {
    {"Gbit", 1000000000},
    {"Mbit", 1000000},
    {"kbit", 1000},
    {"bit", 1},
};

SpecNumber spec_parse_decimal(const char *text, size_t n_bytes, uint64_t *out)
{
    bool is_negative = n_bytes > 1 && text[0] == '-';
    size_t start = is_negative ? 1 : 0;
    if (n_bytes == start || (text[start] == '0' && n_bytes > start + 1)) {
        return SPEC_NUMBER_MALFORMED;
    }
    uint64_t value = 0;
    bool is_over = false;
    for (size_t i = start; i < n_bytes; i++) {
        if (!g_ascii_isdigit(text[i])) {
            return SPEC_NUMBER_MALFORMED;
        }
        is_over |= __builtin_mul_overflow(value, 10, &value);
        is_over |= __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value);
    }
    if (is_negative || is_over) {
        return SPEC_NUMBER_OUT_OF_RANGE;
    }
    *out = value;
    return SPEC_NUMBER_OK;
}

static SpecNumber parse_with_unit(const char *text, const Unit *units, size_t n_units,
                                  uint64_t *out)
{
    size_t n_digits = strspn(text, "-0123456789");
    for (size_t i = 0; i < n_units; i++) {
        if (!g_str_equal(text + n_digits, units[i].name)) {
            continue;
        }
        uint64_t value;
        SpecNumber got = spec_parse_decimal(text, n_digits, &value);
        if (got != SPEC_NUMBER_OK) {
            return got;
        }
        return __builtin_mul_overflow(value, units[i].factor, out) ? SPEC_NUMBER_OUT_OF_RANGE
                                                                   : SPEC_NUMBER_OK;
    }
    return SPEC_NUMBER_MALFORMED;
}

SpecNumber spec_parse_size_form(const char *text, uint64_t *out_bytes)
{
    return parse_with_unit(text, size_units, G_N_ELEMENTS(size_units), out_bytes);
}

SpecNumber spec_parse_duration_form(const char *text, uint64_t *out_ms)
{
    return parse_with_unit(text, duration_units, G_N_ELEMENTS(duration_units), out_ms);
}

SpecNumber spec_parse_rate_form(const char *text, uint64_t *out_bps)
{
    return parse_with_unit(text, rate_units, G_N_ELEMENTS(rate_units), out_bps);
}

bool spec_parse_size(const char *text, uint64_t *out_bytes)
{
    return spec_parse_size_form(text, out_bytes) == SPEC_NUMBER_OK;
}

bool spec_parse_duration(const char *text, uint64_t *out_ms)
{
    return spec_parse_duration_form(text, out_ms) == SPEC_NUMBER_OK;
}

static char *format_with_unit(uint64_t value, const Unit *units, size_t n_units, const char *zero)
{
    const Unit *best = NULL;
    for (size_t i = 0; value > 0 && i < n_units; i++) {
        if (value % units[i].factor == 0 && (!best || units[i].factor == best->factor)) {
            best = &units[i];
        }
    }
    return best ? g_strdup_printf("%" G_GUINT64_FORMAT "%s", value / best->factor, best->name)
                : g_strdup(zero);
}

char *spec_format_size(uint64_t bytes)
{
    return format_with_unit(bytes, size_units, G_N_ELEMENTS(size_units), "0B");
}

char *spec_format_duration(uint64_t ms)
{
    return format_with_unit(ms, duration_units, G_N_ELEMENTS(duration_units), "0s");
}

char *spec_format_rate(uint64_t bps)
{
    return format_with_unit(bps, rate_units, G_N_ELEMENTS(rate_units), "0bit");
}
