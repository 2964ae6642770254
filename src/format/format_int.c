/* Plain integers: types that files hold (token ids, position tables, masks), not grids for weights. decode
 * gives the nearest float; encode rounds half to even and clamps to the type's range, NaN to 0. */
#include "format/format_impl.h"

#include <math.h>

/* lo, hi: the range as doubles; hi is one above the largest value, which may not be a double itself. */
static int64_t to_signed(float x, double lo, double hi, int64_t max) {
    double v = nearbyint((double)x);
    if (!(v > lo)) {
        return v == v ? (int64_t)lo : 0;
    }
    return v < hi ? (int64_t)v : max;
}

static uint64_t to_unsigned(float x, double hi, uint64_t max) {
    double v = nearbyint((double)x);
    if (!(v > 0.0)) {
        return 0;
    }
    return v < hi ? (uint64_t)v : max;
}

static uint64_t get_le(const uint8_t *p, unsigned bytes) {
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << 8 * i;
    }
    return v;
}

static void put_le(uint8_t *p, unsigned bytes, uint64_t v) {
    for (unsigned i = 0; i < bytes; i++) {
        p[i] = (uint8_t)(v >> 8 * i);
    }
}

static void signed_decode(const uint8_t *p, unsigned bytes, float *x, size_t n) {
    uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
    for (size_t i = 0; i < n; i++) {
        uint64_t u = (get_le(p + bytes * i, bytes) ^ sign) - sign; /* sign extension */
        int64_t v;
        memcpy(&v, &u, sizeof v);
        x[i] = (float)v;
    }
}

static void signed_encode(const float *x, uint8_t *p, unsigned bytes, size_t n) {
    int64_t max = INT64_MAX >> (64 - 8 * bytes);
    double hi = ldexp(1.0, (int)(8 * bytes) - 1);
    for (size_t i = 0; i < n; i++) {
        put_le(p + bytes * i, bytes, (uint64_t)to_signed(x[i], -hi, hi, max));
    }
}

static void unsigned_decode(const uint8_t *p, unsigned bytes, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)get_le(p + bytes * i, bytes);
    }
}

static void unsigned_encode(const float *x, uint8_t *p, unsigned bytes, size_t n) {
    uint64_t max = UINT64_MAX >> (64 - 8 * bytes);
    for (size_t i = 0; i < n; i++) {
        put_le(p + bytes * i, bytes, to_unsigned(x[i], ldexp(1.0, (int)(8 * bytes)), max));
    }
}

static void i8_decode(const void *src, float *x, size_t n) {
    signed_decode(src, 1, x, n);
}

static void i8_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    signed_encode(x, dst, 1, n);
}

static void i16_decode(const void *src, float *x, size_t n) {
    signed_decode(src, 2, x, n);
}

static void i16_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    signed_encode(x, dst, 2, n);
}

static void i32_decode(const void *src, float *x, size_t n) {
    signed_decode(src, 4, x, n);
}

static void i32_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    signed_encode(x, dst, 4, n);
}

static void i64_decode(const void *src, float *x, size_t n) {
    signed_decode(src, 8, x, n);
}

static void i64_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    signed_encode(x, dst, 8, n);
}

static void u8_decode(const void *src, float *x, size_t n) {
    unsigned_decode(src, 1, x, n);
}

static void u8_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    unsigned_encode(x, dst, 1, n);
}

static void u16_decode(const void *src, float *x, size_t n) {
    unsigned_decode(src, 2, x, n);
}

static void u16_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    unsigned_encode(x, dst, 2, n);
}

static void u32_decode(const void *src, float *x, size_t n) {
    unsigned_decode(src, 4, x, n);
}

static void u32_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    unsigned_encode(x, dst, 4, n);
}

static void u64_decode(const void *src, float *x, size_t n) {
    unsigned_decode(src, 8, x, n);
}

static void u64_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    unsigned_encode(x, dst, 8, n);
}

static void bool_decode(const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i++) {
        x[i] = p[i] ? 1.0f : 0.0f;
    }
}

static void bool_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) {
        p[i] = x[i] > 0.0f || x[i] < 0.0f;
    }
}

#define PLAIN "two's complement, little-endian"

const struct ht_format ht_format_i8 = {
    .name = "i8", .summary = "8-bit signed integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = 24,
    .st_dtype = "I8", .block_elems = 1, .block_bytes = 1, .decode = i8_decode, .encode = i8_encode,
};

const struct ht_format ht_format_i16 = {
    .name = "i16", .summary = "16-bit signed integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = 25,
    .st_dtype = "I16", .block_elems = 1, .block_bytes = 2, .decode = i16_decode, .encode = i16_encode,
};

const struct ht_format ht_format_i32 = {
    .name = "i32", .summary = "32-bit signed integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = 26,
    .st_dtype = "I32", .block_elems = 1, .block_bytes = 4, .decode = i32_decode, .encode = i32_encode,
};

const struct ht_format ht_format_i64 = {
    .name = "i64", .summary = "64-bit signed integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = 27,
    .st_dtype = "I64", .block_elems = 1, .block_bytes = 8, .decode = i64_decode, .encode = i64_encode,
};

const struct ht_format ht_format_u8 = {
    .name = "u8", .summary = "8-bit unsigned integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = -1,
    .st_dtype = "U8", .block_elems = 1, .block_bytes = 1, .decode = u8_decode, .encode = u8_encode,
};

const struct ht_format ht_format_u16 = {
    .name = "u16", .summary = "16-bit unsigned integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = -1,
    .st_dtype = "U16", .block_elems = 1, .block_bytes = 2, .decode = u16_decode, .encode = u16_encode,
};

const struct ht_format ht_format_u32 = {
    .name = "u32", .summary = "32-bit unsigned integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = -1,
    .st_dtype = "U32", .block_elems = 1, .block_bytes = 4, .decode = u32_decode, .encode = u32_encode,
};

const struct ht_format ht_format_u64 = {
    .name = "u64", .summary = "64-bit unsigned integer", .source = PLAIN, .kind = HT_KIND_INT, .gguf_type = -1,
    .st_dtype = "U64", .block_elems = 1, .block_bytes = 8, .decode = u64_decode, .encode = u64_encode,
};

const struct ht_format ht_format_bool = {
    .name = "bool", .summary = "one byte, 0 or not", .source = "safetensors", .kind = HT_KIND_INT,
    .gguf_type = -1, .st_dtype = "BOOL", .block_elems = 1, .block_bytes = 1, .decode = bool_decode,
    .encode = bool_encode,
};
