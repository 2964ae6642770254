/* Float formats: F64 F32 TF32 F16 BF16. Little-endian on disk; the build refuses other machines in base/. */
#include "format/code.h"
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

static void tf32_encode(const float *x, const float *weight, void *dst, size_t n) {
    (void)weight;
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i++) {
        float v = ht_tf32_round(x[i]);
        memcpy(p + 4 * i, &v, sizeof v);
    }
}

/* A word may hold more bits than the format has: they do not count. */
static void tf32_decode(const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, p + 4 * i, sizeof u);
        x[i] = ht_f32_from_bits((u & 0x7fffffffu) > 0x7f800000u ? u | 0x00400000u : u & 0xffffe000u);
    }
}

#define IEEE "IEEE 754-2019"

const struct ht_format ht_format_f64 = {
    .name = "f64", .summary = "64-bit float", .source = IEEE, .kind = HT_KIND_FLOAT, .gguf_type = 28,
    .st_dtype = "F64", .block_elems = 1, .block_bytes = 8, .decode = f64_decode, .encode = f64_encode,
    .real = &ht_real_f64,
};

const struct ht_format ht_format_f32 = {
    .name = "f32", .summary = "32-bit float", .source = IEEE, .kind = HT_KIND_FLOAT, .gguf_type = 0,
    .st_dtype = "F32", .block_elems = 1, .block_bytes = 4, .decode = f32_decode, .encode = f32_encode,
    .real = &ht_real_f32,
};

const struct ht_format ht_format_tf32 = {
    .name = "tf32", .summary = "f32 with 10 mantissa bits, in a 32-bit word: what tensor cores multiply",
    .source = "NVIDIA A100 whitepaper, 2020: TensorFloat-32", .kind = HT_KIND_FLOAT, .gguf_type = -1,
    .block_elems = 1, .block_bytes = 4, .decode = tf32_decode, .encode = tf32_encode, .real = &ht_real_tf32,
};

const struct ht_format ht_format_f16 = {
    .name = "f16", .summary = "16-bit float, 5 exponent bits: up to 65,504", .source = IEEE,
    .kind = HT_KIND_FLOAT, .gguf_type = 1, .st_dtype = "F16", .block_elems = 1, .block_bytes = 2,
    .decode = f16_decode, .encode = f16_encode,
    .real = &ht_real_f16,
};

const struct ht_format ht_format_bf16 = {
    .name = "bf16", .summary = "16-bit float, 8 exponent bits: range of f32, 8 bits of precision",
    .source = "bfloat16: the upper half of binary32", .kind = HT_KIND_FLOAT, .gguf_type = 30,
    .st_dtype = "BF16", .block_elems = 1, .block_bytes = 2, .decode = bf16_decode, .encode = bf16_encode,
    .real = &ht_real_bf16,
};
