/* Float formats: F64 F32 F16 BF16. Little-endian on disk; the build refuses other machines in base/. */
#include "format/format_impl.h"

static void f64_decode(const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, p + 8 * i, sizeof v);
        x[i] = (float)v;
    }
}

static void f64_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) {
        double v = x[i];
        memcpy(p + 8 * i, &v, sizeof v);
    }
}

static void f32_decode(const void *src, float *x, size_t n) {
    memcpy(x, src, n * sizeof *x);
}

static void f32_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    memcpy(dst, x, n * sizeof *x);
}

HT_CLONES
static void f16_decode(const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i++) {
        x[i] = ht_f16_to_f32(ht_get_u16(p + 2 * i));
    }
}

HT_CLONES
static void f16_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) {
        ht_put_u16(p + 2 * i, ht_f16_from_f32(x[i]));
    }
}

HT_CLONES
static void bf16_decode(const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i++) {
        x[i] = ht_bf16_to_f32(ht_get_u16(p + 2 * i));
    }
}

HT_CLONES
static void bf16_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) {
        ht_put_u16(p + 2 * i, ht_bf16_from_f32(x[i]));
    }
}

#define IEEE "IEEE 754-2019"

const struct ht_format ht_format_f64 = {
    .name = "f64", .summary = "64-bit float", .source = IEEE, .kind = HT_KIND_FLOAT, .gguf_type = 28,
    .st_dtype = "F64", .block_elems = 1, .block_bytes = 8, .decode = f64_decode, .encode = f64_encode,
};

const struct ht_format ht_format_f32 = {
    .name = "f32", .summary = "32-bit float", .source = IEEE, .kind = HT_KIND_FLOAT, .gguf_type = 0,
    .st_dtype = "F32", .block_elems = 1, .block_bytes = 4, .decode = f32_decode, .encode = f32_encode,
};

const struct ht_format ht_format_f16 = {
    .name = "f16", .summary = "16-bit float, 5 exponent bits: up to 65,504", .source = IEEE,
    .kind = HT_KIND_FLOAT, .gguf_type = 1, .st_dtype = "F16", .block_elems = 1, .block_bytes = 2,
    .decode = f16_decode, .encode = f16_encode,
};

const struct ht_format ht_format_bf16 = {
    .name = "bf16", .summary = "16-bit float, 8 exponent bits: range of f32, 8 bits of precision",
    .source = "bfloat16: the upper half of binary32", .kind = HT_KIND_FLOAT, .gguf_type = 30,
    .st_dtype = "BF16", .block_elems = 1, .block_bytes = 2, .decode = bf16_decode, .encode = bf16_encode,
};
