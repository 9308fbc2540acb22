#include "driver/line_buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool line_buffer_init(LineBuffer *lines, size_t size)
{
    *lines = (LineBuffer){.bytes = malloc(size), .size = size};
    return lines->bytes != NULL;
}

void line_buffer_clear(LineBuffer *lines)
{
    free(lines->bytes);
    *lines = (LineBuffer){0};
}

void line_buffer_reset(LineBuffer *lines)
{
    lines->n_bytes = lines->n_taken = 0;
    lines->is_skipping = false;
}

long line_buffer_fill(LineBuffer *lines, int fd)
{
    memmove(lines->bytes, lines->bytes + lines->n_taken, lines->n_bytes - lines->n_taken);
    lines->n_bytes -= lines->n_taken;
    lines->n_taken = 0;
    ssize_t n;
    do {
        n = read(fd, lines->bytes + lines->n_bytes, lines->size - lines->n_bytes);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        lines->n_bytes += (size_t)n;
    }
    return n;
}

static char *give(LineBuffer *lines, size_t n, size_t n_consumed, size_t *out_n)
{
    char *line = lines->bytes + lines->n_taken;
    lines->n_taken += n_consumed;
    if (n > 0 && line[n - 1] == '\r') {
        n--;
    }
    line[n] = '\0';
    *out_n = n;
    return line;
}

char *line_buffer_next(LineBuffer *lines, size_t *out_n)
{
    for (;;) {
        size_t n_left = lines->n_bytes - lines->n_taken;
        char *line = lines->bytes + lines->n_taken;
        char *end = memchr(line, '\n', n_left);
        if (!end && lines->is_skipping) {
            lines->n_bytes = lines->n_taken = 0;
            return NULL;
        }
        if (!end) {
            if (n_left < lines->size) {
                return NULL;
            }
            lines->is_skipping = true;
            return give(lines, n_left - 1, n_left, out_n);
        }
        if (!lines->is_skipping) {
            return give(lines, (size_t)(end - line), (size_t)(end - line) + 1, out_n);
        }
        lines->is_skipping = false;
        lines->n_taken += (size_t)(end - line) + 1;
    }
}
