#pragma once
#include <stdbool.h>
#include <stddef.h>

/*
 * Lines out of a stream of bytes that nobody vouches for: bounded, plain C. A line longer than the
 * buffer is cut: its first part is given, the rest up to its end is dropped.
 */
typedef struct {
    char *bytes;      /* owned, `size` of them */
    size_t size;      /* the longest line, its end included */
    size_t n_bytes;   /* filled */
    size_t n_taken;   /* of these, given out already */
    bool is_skipping; /* inside the rest of a cut line */
} LineBuffer;

/* size: in bytes, at least 2. false without memory. */
bool line_buffer_init(LineBuffer *lines, size_t size);
void line_buffer_clear(LineBuffer *lines); /* frees; an all-zero one is fine */
void line_buffer_reset(LineBuffer *lines); /* forgets what it holds: a new stream begins */

/*
 * One read(2) from fd after the last line was taken. > 0: bytes read; 0: end of the stream; -1:
 * errno (EAGAIN: nothing now).
 */
long line_buffer_fill(LineBuffer *lines, int fd);

/*
 * The next whole line without "\n" or "\r\n", NUL-terminated (it may hold NULs itself), borrowed
 * until the next call; NULL: fill again.
 */
char *line_buffer_next(LineBuffer *lines, size_t *out_n);
