/* Few tokens in f32: float formats straight from memory, any other format decoded piece by piece into L1. And
 * rows of the formats of form_neon.h to f32. */
#include "kernel/arm/form_neon.h"
#include "kernel/arm/levels.h"

#define MAX_TOKENS 4 /* tokens per pass over a row */

typedef float32x4_t load_fn(const void *src, size_t i, size_t n);

HT_INLINE float32x4_t load_f32(const void *src, size_t i, size_t n) {
    return ht_load4((const float *)src + i, n);
}

HT_INLINE float32x4_t load_f16(const void *src, size_t i, size_t n) {
    return ht_load4_f16((const uint16_t *)src + i, n);
}

HT_INLINE float32x4_t load_bf16(const void *src, size_t i, size_t n) {
    uint16_t v[4] = {0};
    memcpy(v, (const uint16_t *)src + i, (n < 4 ? n : 4) * sizeof *v);
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(v), 16));
}

/* One row, NT tokens, 16 columns a step. */
HT_INLINE void dot_row(load_fn *load, int NT, const void *row, size_t n, const float *x, size_t x_stride,
                       float *out) {
    float32x4_t acc[MAX_TOKENS][4];
    for (int t = 0; t < NT; t++) {
        acc[t][0] = acc[t][1] = acc[t][2] = acc[t][3] = vdupq_n_f32(0);
    }
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (size_t j = 0; j < 4; j++) {
            float32x4_t w = load(row, i + 4 * j, 4);
            for (size_t t = 0; t < (size_t)NT; t++) {
                acc[t][j] = vfmaq_f32(acc[t][j], w, vld1q_f32(x + t * x_stride + i + 4 * j));
            }
        }
    }
    for (; i < n; i += 4) {
        float32x4_t w = load(row, i, n - i);
        for (size_t t = 0; t < (size_t)NT; t++) {
            acc[t][0] = vfmaq_f32(acc[t][0], w, ht_load4(x + t * x_stride + i, n - i));
        }
    }
    for (int t = 0; t < NT; t++) {
        out[t] = vaddvq_f32(vaddq_f32(vaddq_f32(acc[t][0], acc[t][1]), vaddq_f32(acc[t][2], acc[t][3])));
    }
}

/* Any number of tokens times n columns of a row; add: y is kept. */
HT_INLINE void dot_tokens(load_fn *load, const void *row, size_t n, const float *x, size_t x_stride,
                          size_t n_tokens, float *y, size_t y_stride, bool add) {
    for (size_t t = 0; t < n_tokens;) {
        float out[MAX_TOKENS];
        size_t count = n_tokens - t >= MAX_TOKENS ? MAX_TOKENS : 1;
        if (count == MAX_TOKENS) {
            dot_row(load, MAX_TOKENS, row, n, x + t * x_stride, x_stride, out);
        } else {
            dot_row(load, 1, row, n, x + t * x_stride, x_stride, out);
        }
        for (size_t i = 0; i < count; i++, t++) {
            y[t * y_stride] = add ? y[t * y_stride] + out[i] : out[i];
        }
    }
}

#define ROWS_DIRECT(name)                                                                                    \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const float *x,              \
                            size_t n_tokens, float *y, size_t y_stride, ht_decode_fn *decode,                \
                            void *scratch) {                                                                 \
        (void)decode;                                                                                        \
        (void)scratch;                                                                                       \
        for (size_t r = 0; r < n_rows; r++) {                                                                \
            const uint8_t *row = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;                       \
            dot_tokens(load_##name, row, w->cols, x, w->cols, n_tokens, y + r, y_stride, false);             \
        }                                                                                                    \
    }
ROWS_DIRECT(f32)
ROWS_DIRECT(f16)
ROWS_DIRECT(bf16)

static void rows_decoded(const struct ht_mat *w, size_t row0, size_t n_rows, const float *x, size_t n_tokens,
                         float *y, size_t y_stride, ht_decode_fn *decode, void *scratch) {
    float *piece = scratch;
    size_t K = w->cols;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *src = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t k = 0; k < K; k += HT_DECODE_ELEMS) {
            size_t n = K - k < HT_DECODE_ELEMS ? K - k : HT_DECODE_ELEMS;
            decode(src + ht_format_row_bytes(w->format, k), piece, n);
            dot_tokens(load_f32, piece, n, x + k, K, n_tokens, y + r, y_stride, k > 0);
        }
    }
}

#define DECODE_FLOAT(name)                                                                                   \
    static void decode_##name(const void *src, float *x, size_t n) {                                         \
        for (size_t i = 0; i < n; i += 4) {                                                                  \
            ht_store4(x + i, load_##name(src, i, n - i), n - i);                                             \
        }                                                                                                    \
    }
DECODE_FLOAT(f16)
DECODE_FLOAT(bf16)

/* (scale * code) - min in that order, as every format's own decode. */
HT_INLINE void decode_form(ht_form_fn *form, size_t chunk_bytes, int group, bool mins, const uint8_t *p,
                           float *x, size_t n) {
    for (; n > 0; p += chunk_bytes) {
        struct ht_form f;
        size_t count = n < 256 ? n : 256;
        form(p, count / 32, &f);
        for (size_t i = 0; i < count; i += 16) {
            size_t g = i / (size_t)group;
            int8x16_t c = vld1q_s8(f.codes + i);
            int16x8_t half[2] = {vmovl_s8(vget_low_s8(c)), vmovl_high_s8(c)};
            for (size_t j = 0; j < 4; j++) {
                int16x4_t part = j % 2 ? vget_high_s16(half[j / 2]) : vget_low_s16(half[j / 2]);
                float32x4_t v = vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(part)), f.scale[g]);
                vst1q_f32(x + i + 4 * j, mins ? vsubq_f32(v, vdupq_n_f32(f.min[g])) : v);
            }
        }
        n -= count;
        x += count;
    }
}

#define DECODE_FORM(name, bytes, group, mins)                                                                \
    static void decode_##name(const void *src, float *x, size_t n) {                                         \
        decode_form(ht_form_##name, bytes, group, mins, src, x, n);                                          \
    }
HT_FORM_LIST(DECODE_FORM)

static const struct {
    const char *format;
    ht_rows_f32_fn *rows; /* NULL: rows_decoded */
    ht_decode_fn *decode; /* NULL: the format's own */
} served[] = {{"f32", rows_f32, NULL},
              {"f16", rows_f16, decode_f16},
              {"bf16", rows_bf16, decode_bf16},
#define FORM_ROW(name, bytes, group, mins) {#name, NULL, decode_##name},
              HT_FORM_LIST(FORM_ROW)};

void ht_rows_f32_init_neon(struct ht_kernel_table *t) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        t->rows_f32[i] = rows_decoded;
        for (size_t j = 0; j < sizeof served / sizeof served[0]; j++) {
            if (strcmp(ht_format_at(i)->name, served[j].format) == 0) {
                t->rows_f32[i] = served[j].rows != NULL ? served[j].rows : rows_decoded;
                t->decode[i] = served[j].decode != NULL ? served[j].decode : t->decode[i];
            }
        }
    }
}
