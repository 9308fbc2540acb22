#include "imaging/meter.h"

#define BETWEEN_US 100000

bool img_meter_tell(ImgMeter *meter, uint64_t done_bytes, uint64_t total_bytes, bool is_last)
{
    if (!meter->progress) {
        return true;
    }
    gint64 now_us = g_get_monotonic_time();
    if (!is_last && now_us - meter->last_us < BETWEEN_US) {
        return true;
    }
    meter->last_us = now_us;
    return meter->progress(done_bytes, total_bytes, meter->data);
}
