#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "imaging/header.h"

/* Any bytes as an image file: read, judged and freed, whatever they are. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("image", MFD_CLOEXEC);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, n, 0) != (ssize_t)n) {
        return 0;
    }
    for (int expected = -1; expected < IMG_FORMAT_N; expected++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(ImgHeader) header = img_header_read(fd, expected, &error);
        bool is_fine = header && img_header_vet(header, &error);
        g_assert(is_fine == (error == NULL));
    }
    return 0;
}
