#include "base/buf.h"

#include <stdio.h>

void ht_buf_init(struct ht_buf *buf, size_t max_bytes) {
    memset(buf, 0, sizeof *buf);
    buf->max_bytes = max_bytes;
}

void ht_buf_deinit(struct ht_buf *buf) {
    ht_mem_free(buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
}

void ht_buf_clear(struct ht_buf *buf) {
    buf->len = 0;
    buf->failed = false;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

bool ht_buf_ok(const struct ht_buf *buf) {
    return !buf->failed;
}

bool ht_buf_reserve(struct ht_buf *buf, size_t more_bytes) {
    if (buf->failed || more_bytes > SIZE_MAX / 2 - buf->len) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->len + more_bytes + 1;
    if (buf->max_bytes != 0 && need - 1 > buf->max_bytes) {
        buf->failed = true;
        return false;
    }
    if (need > buf->cap) {
        size_t cap = buf->cap + buf->cap / 2;
        cap = cap < need ? need : cap;
        cap = cap < 64 ? 64 : cap;
        char *data = ht_mem_realloc_array(buf->data, cap, 1);
        if (data == NULL) {
            buf->failed = true;
            return false;
        }
        buf->data = data;
        buf->cap = cap;
    }
    return true;
}

void ht_buf_append(struct ht_buf *buf, const void *data, size_t len) {
    if (ht_buf_reserve(buf, len)) {
        if (len != 0) {
            memcpy(buf->data + buf->len, data, len);
        }
        buf->len += len;
        buf->data[buf->len] = '\0';
    }
}

void ht_buf_puts(struct ht_buf *buf, const char *s) {
    ht_buf_append(buf, s, strlen(s));
}

void ht_buf_putc(struct ht_buf *buf, char c) {
    ht_buf_append(buf, &c, 1);
}

void ht_buf_printf(struct ht_buf *buf, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) {
        buf->failed = true;
    } else if (ht_buf_reserve(buf, (size_t)n)) {
        vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
}

char *ht_buf_take(struct ht_buf *buf) {
    char *data = NULL;
    if (ht_buf_ok(buf) && ht_buf_reserve(buf, 0)) {
        buf->data[buf->len] = '\0';
        data = buf->data;
        buf->data = NULL;
    }
    ht_buf_deinit(buf);
    return data;
}
