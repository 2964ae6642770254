/* Growing byte buffer with a cap. Writes after a failure are ignored, so a caller checks once at the end:
 * ht_buf_ok. The data is always NUL terminated once something was written. */
#ifndef HT_BASE_BUF_H
#define HT_BASE_BUF_H

#include <stdbool.h>

#include "base/mem.h"

struct ht_buf {
    char *data; /* NULL while empty */
    size_t len, cap;
    size_t max_bytes; /* cap; 0: none */
    bool failed;      /* out of memory or beyond max_bytes */
};

void ht_buf_init(struct ht_buf *buf, size_t max_bytes);
void ht_buf_deinit(struct ht_buf *buf);
void ht_buf_clear(struct ht_buf *buf); /* keeps the memory */
bool ht_buf_ok(const struct ht_buf *buf);
bool ht_buf_reserve(struct ht_buf *buf, size_t more_bytes);
void ht_buf_append(struct ht_buf *buf, const void *data, size_t len);
void ht_buf_puts(struct ht_buf *buf, const char *s);
void ht_buf_putc(struct ht_buf *buf, char c);
void ht_buf_printf(struct ht_buf *buf, const char *fmt, ...) HT_PRINTF(2, 3);
/* Hands the string over (caller frees with ht_mem_free) and empties the buffer; NULL on failure. */
char *ht_buf_take(struct ht_buf *buf);

#endif
