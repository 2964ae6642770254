/* Few tokens with 8-bit activations, for levels that differ in the integer dot product: a chunk of 256
 * weights is brought to signed codes in L1 (form_neon.h) and multiplied with every token. */
#ifndef HT_KERNEL_ARM_ROWS_Q8_ARM_H
#define HT_KERNEL_ARM_ROWS_Q8_ARM_H

#include "kernel/arm/form_neon.h"
#include "kernel/arm/levels.h"

/* The sum of 16 (32) products, split over the lanes in any way. */
typedef int32x4_t ht_dot16_fn(int8x16_t codes, int8x16_t q);
typedef int32x4_t ht_dot32_fn(const int8_t *codes, const int8_t *q);

/* Four vectors to the sums of each. */
HT_INLINE float32x4_t ht_sums4(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
    return vcvtq_f32_s32(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
}

/* Groups of 32, four at a time: sums, scales and mins side by side. */
HT_INLINE float32x4_t ht_rows_chunk_32(ht_dot32_fn *dot32, bool mins, const struct ht_form *f,
                                       const int8_t *q, const float *d, const int32_t *sum16,
                                       float32x4_t acc) {
    for (size_t g = 0; g < 8; g += 4) {
        const int8_t *c = f->codes + 32 * g, *x = q + 32 * g;
        float32x4_t d4 = vld1q_f32(d + g);
        float32x4_t s =
            ht_sums4(dot32(c, x), dot32(c + 32, x + 32), dot32(c + 64, x + 64), dot32(c + 96, x + 96));
        acc = vfmaq_f32(acc, vmulq_f32(d4, vld1q_f32(f->scale + g)), s);
        if (mins) {
            int32x4_t sum = vpaddq_s32(vld1q_s32(sum16 + 2 * g), vld1q_s32(sum16 + 2 * g + 4));
            acc = vfmsq_f32(acc, vmulq_f32(d4, vld1q_f32(f->min + g)), vcvtq_f32_s32(sum));
        }
    }
    return acc;
}

/* Groups of 16, likewise; two of them share a scale of the activations. */
HT_INLINE float32x4_t ht_rows_chunk_16(ht_dot16_fn *dot16, bool mins, const struct ht_form *f,
                                       const int8_t *q, const float *d, const int32_t *sum16,
                                       float32x4_t acc) {
    for (size_t g = 0; g < 16; g += 4) {
        const int8_t *c = f->codes + 16 * g, *x = q + 16 * g;
        float32x2_t d2 = vld1_f32(d + g / 2);
        float32x4_t d4 = vcombine_f32(vdup_lane_f32(d2, 0), vdup_lane_f32(d2, 1));
        float32x4_t s =
            ht_sums4(dot16(vld1q_s8(c), vld1q_s8(x)), dot16(vld1q_s8(c + 16), vld1q_s8(x + 16)),
                     dot16(vld1q_s8(c + 32), vld1q_s8(x + 32)), dot16(vld1q_s8(c + 48), vld1q_s8(x + 48)));
        acc = vfmaq_f32(acc, vmulq_f32(d4, vld1q_f32(f->scale + g)), s);
        if (mins) {
            float32x4_t sum = vcvtq_f32_s32(vld1q_s32(sum16 + g));
            acc = vfmsq_f32(acc, vmulq_f32(d4, vld1q_f32(f->min + g)), sum);
        }
    }
    return acc;
}

HT_INLINE void ht_rows_form(ht_dot16_fn *dot16, ht_dot32_fn *dot32, ht_form_fn *form, size_t chunk_bytes,
                            int group, bool mins, const struct ht_mat *w, size_t row0, size_t n_rows,
                            const struct ht_acts *acts, float *y, size_t y_stride) {
    size_t kp = acts->cols_padded;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *p = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t k = 0; k < w->cols; k += 256, p += chunk_bytes) {
            struct ht_form f;
            size_t groups = w->cols - k < 256 ? (w->cols - k) / 32 : 8;
            if (groups < 8) {
                memset(&f, 0, sizeof f);
            }
            ht_form_get(form, w->format, p, groups, &f);
            for (size_t t = 0; t < acts->n_tokens; t++) {
                const int8_t *q = acts->q + t * kp + k;
                const float *d = acts->d + (t * kp + k) / 32;
                const int32_t *sum16 = acts->sum16 + (t * kp + k) / 16;
                float32x4_t acc = vdupq_n_f32(0);
                acc = group == 32 ? ht_rows_chunk_32(dot32, mins, &f, q, d, sum16, acc)
                                  : ht_rows_chunk_16(dot16, mins, &f, q, d, sum16, acc);
                float sum = vaddvq_f32(acc);
                y[t * y_stride + r] = k == 0 ? sum : y[t * y_stride + r] + sum;
            }
        }
    }
}

/* For HT_FORM_LIST, in a file that defines dot16 and dot32. */
#define HT_ROWS_FORM(name, bytes, group, mins)                                                               \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,  \
                            float *y, size_t y_stride, void *scratch) {                                      \
        (void)scratch;                                                                                       \
        ht_rows_form(dot16, dot32, ht_form_##name, bytes, group, mins, w, row0, n_rows, acts, y, y_stride);  \
    }

/* The formats without a function of their own, in groups of 16 and of 32. */
#define HT_ROWS_ANY(group)                                                                                   \
    static void rows_any_##group(const struct ht_mat *w, size_t row0, size_t n_rows,                         \
                                 const struct ht_acts *acts, float *y, size_t y_stride, void *scratch) {     \
        (void)scratch;                                                                                       \
        size_t chunk_bytes = 256 / w->format->block_elems * w->format->block_bytes;                          \
        ht_rows_form(dot16, dot32, NULL, chunk_bytes, group, true, w, row0, n_rows, acts, y, y_stride);      \
    }

#define HT_ROWS_FORM_ROW(name, bytes, group, mins) {#name, rows_##name},

struct ht_rows_form_row {
    const char *format;
    ht_rows_q8_fn *rows;
};

HT_INLINE void ht_rows_form_set(struct ht_kernel_table *t, const struct ht_rows_form_row *list, size_t n,
                                ht_rows_q8_fn *any_16, ht_rows_q8_fn *any_32) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        int group = ht_form_any_group(ht_format_at(i));
        if (group != 0) {
            t->rows_q8[i] = group == 16 ? any_16 : any_32;
        }
        for (size_t j = 0; j < n; j++) {
            if (strcmp(ht_format_at(i)->name, list[j].format) == 0) {
                t->rows_q8[i] = list[j].rows;
            }
        }
    }
}

#endif
