/* Golden data of the format tests: a safetensors file read with a few lines that share nothing with the
 * library's reader. Names here contain no characters that JSON escapes. */
#ifndef HT_TESTS_FORMAT_DATA_H
#define HT_TESTS_FORMAT_DATA_H

#include "test.h"

struct data_file {
    char *bytes; /* whole file, then a NUL */
    size_t len, start;
};

static inline int data_open(const char *path, struct data_file *f) {
    FILE *in = fopen(path, "rb");
    if (!in) {
        return 0;
    }
    assert_int_equal(fseek(in, 0, SEEK_END), 0);
    f->len = (size_t)ftell(in);
    rewind(in);
    f->bytes = malloc(f->len + 1);
    assert_non_null(f->bytes);
    assert_int_equal(fread(f->bytes, 1, f->len, in), f->len);
    f->bytes[f->len] = 0;
    fclose(in);
    uint64_t header;
    memcpy(&header, f->bytes, 8);
    f->start = 8 + (size_t)header;
    assert_true(f->start <= f->len);
    return 1;
}

static inline void data_close(struct data_file *f) {
    free(f->bytes);
    f->bytes = NULL;
}

/* Bytes of tensor name; NULL: absent. shape gets two dimensions, the first 1 for vectors. */
static inline const void *data_get(const struct data_file *f, const char *name, size_t shape[2], size_t *bytes) {
    char key[300];
    snprintf(key, sizeof key, "\"%s\":{", name);
    const char *at = strstr(f->bytes + 8, key);
    if (!at || at >= f->bytes + f->start) {
        return NULL;
    }
    const char *end = strchr(at, '}'), *dims = strstr(at, "\"shape\":["), *offsets = strstr(at, "\"data_offsets\":[");
    assert_true(end && dims && offsets && dims < end && offsets < end);
    unsigned long long a = 0, b = 0, from = 0, to = 0;
    int n = sscanf(dims, "\"shape\":[%llu,%llu]", &a, &b);
    assert_true(n == 1 || n == 2);
    assert_int_equal(sscanf(offsets, "\"data_offsets\":[%llu,%llu]", &from, &to), 2);
    assert_true(from <= to && to <= f->len - f->start);
    shape[0] = n == 2 ? (size_t)a : 1;
    shape[1] = n == 2 ? (size_t)b : (size_t)a;
    *bytes = (size_t)(to - from);
    return f->bytes + f->start + from;
}

#endif
