/* The checks of user-data and vendor-data take any bytes: no crash, and every finding is one line.
 */
#include "cloudinit/check.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    g_autofree char *text = g_malloc(n_bytes + 1);
    memcpy(text, data, n_bytes);
    text[n_bytes] = '\0';
    SpecText source = {.text = text, .n_bytes = n_bytes, .pos = {.line = 1, .col = 1}};
    g_autoptr(GHashTable) origins = g_hash_table_new(g_str_hash, g_str_equal);
    MachineSpec spec = {.name = (char *)"web",
                        .timezone = (char *)"UTC",
                        .origins = origins,
                        .cloud_init = {.user_data = source,
                                       .vendor_data = source,
                                       .meta_data = source,
                                       .network_config = source}};
    g_autoptr(BaseReport) report = base_report_new();
    seed_check_user_data(&spec, report);
    seed_check_spec(&spec, report);
    for (unsigned i = 0; i < base_report_n_items(report); i++) {
        g_autofree char *line = base_report_item_text(base_report_item(report, i));
        if (strchr(line, '\n')) {
            abort();
        }
    }
    return 0;
}
