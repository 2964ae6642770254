/* Rows to the panel of the integer matrix product (slots.h, struct ht_panel_q8), signed codes, for levels
 * that differ in how many neighbouring columns of a row lie together. */
#ifndef HT_KERNEL_ARM_PANEL_ARM_H
#define HT_KERNEL_ARM_PANEL_ARM_H

#include "kernel/arm/form_neon.h"
#include "kernel/arm/levels.h"
#include "kernel/chunk.h"

#define HT_NATURAL                                                                                           \
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }

/* [groups of 16][with mins] */
static const struct ht_chunk_shape ht_natural_shapes[2][2] = {
    {{HT_NATURAL, 32, HT_CODES_SIGNED, false, 0, HT_ORDER_PIECES}, {HT_NATURAL, 32, 0, false, 0, HT_ORDER_PIECES}},
    {{HT_NATURAL, 16, HT_CODES_SIGNED, false, 0, HT_ORDER_PIECES}, {HT_NATURAL, 16, 0, false, 0, HT_ORDER_PIECES}},
};

/* Stores columns k .. k + 15 of rows r .. r + 3 at their place; codes is that of the chunk of 256 columns. */
typedef void ht_put4_fn(const struct ht_form *f, size_t k, size_t r, uint8_t *codes);

/* Scales or mins of 4 rows, one group after the other. */
HT_INLINE void ht_put_groups(const float *a, const float *b, const float *c, const float *d, size_t n,
                             float *out) {
    for (size_t g = 0; g < n; g += 4) {
        float32x4_t va = vld1q_f32(a + g), vb = vld1q_f32(b + g), vc = vld1q_f32(c + g),
                    vd = vld1q_f32(d + g);
        float64x2_t ab0 = vreinterpretq_f64_f32(vtrn1q_f32(va, vb)),
                    ab1 = vreinterpretq_f64_f32(vtrn2q_f32(va, vb));
        float64x2_t cd0 = vreinterpretq_f64_f32(vtrn1q_f32(vc, vd)),
                    cd1 = vreinterpretq_f64_f32(vtrn2q_f32(vc, vd));
        vst1q_f32(out + g * HT_PANEL_ROWS, vreinterpretq_f32_f64(vtrn1q_f64(ab0, cd0)));
        vst1q_f32(out + (g + 1) * HT_PANEL_ROWS, vreinterpretq_f32_f64(vtrn1q_f64(ab1, cd1)));
        vst1q_f32(out + (g + 2) * HT_PANEL_ROWS, vreinterpretq_f32_f64(vtrn2q_f64(ab0, cd0)));
        vst1q_f32(out + (g + 3) * HT_PANEL_ROWS, vreinterpretq_f32_f64(vtrn2q_f64(ab1, cd1)));
    }
}

/* One chunk of rows r .. r + 3 of the panel, of which n exist. */
HT_INLINE void ht_panel_chunk(ht_put4_fn *put4, ht_form_fn *form, int group, bool mins,
                              const struct ht_mat *w, const uint8_t *p, size_t n, size_t n_groups,
                              size_t chunk, size_t r, struct ht_panel_q8 *out) {
    struct ht_form f[4];
    if (n < 4 || n_groups < 8) {
        memset(f, 0, sizeof f);
    }
    for (size_t i = 0; i < n; i++) {
        ht_form_get(form, w->format, p + i * w->row_bytes, n_groups, &f[i]);
    }
    for (size_t k = 0; k < 256; k += 16) {
        put4(f, k, r, out->codes + 256 * HT_PANEL_ROWS * chunk);
    }
    size_t count = 256 / (size_t)group, at = chunk * count * HT_PANEL_ROWS + r;
    ht_put_groups(f[0].scale, f[1].scale, f[2].scale, f[3].scale, count, out->scale + at);
    if (mins) {
        ht_put_groups(f[0].min, f[1].min, f[2].min, f[3].min, count, out->min + at);
    }
}

HT_INLINE void ht_panel_form(ht_put4_fn *put4, ht_form_fn *form, size_t chunk_bytes, int group, bool mins,
                             const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0, size_t cols,
                             struct ht_panel_q8 *out) {
    for (size_t r = 0; r < HT_PANEL_ROWS; r += 4) {
        size_t n = n_rows > r ? n_rows - r : 0;
        const uint8_t *p = (const uint8_t *)w->data + (row0 + r) * w->row_bytes + col0 / 256 * chunk_bytes;
        for (size_t chunk = 0; chunk < (cols + 255) / 256; chunk++, p += chunk_bytes) {
            size_t n_groups = cols - chunk * 256 < 256 ? (cols - chunk * 256) / 32 : 8;
            ht_panel_chunk(put4, form, group, mins, w, p, n < 4 ? n : 4, n_groups, chunk, r, out);
        }
    }
}

/* For HT_FORM_LIST, in a file that defines put4. */
#define HT_PANEL_FORM(name, bytes, group, mins)                                                              \
    static void panel_##name(const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0, size_t cols,   \
                             struct ht_panel_q8 *out) {                                                      \
        ht_panel_form(put4, ht_form_##name, bytes, group, mins, w, row0, n_rows, col0, cols, out);           \
    }

/* The formats without a function of their own, in groups of 16 and of 32. */
#define HT_PANEL_ANY(group)                                                                                  \
    static void panel_any_##group(const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0,           \
                                  size_t cols, struct ht_panel_q8 *out) {                                    \
        size_t chunk_bytes = 256 / w->format->block_elems * w->format->block_bytes;                          \
        ht_panel_form(put4, NULL, chunk_bytes, group, true, w, row0, n_rows, col0, cols, out);               \
    }

#define HT_PANEL_FORM_ROW(name, bytes, group, mins)                                                          \
    {#name, panel_##name, &ht_natural_shapes[(group) == 16][mins]},

struct ht_panel_form_row {
    const char *format;
    ht_panel_q8_fn *panel;
    const struct ht_chunk_shape *shape;
};

HT_INLINE void ht_panel_form_set(struct ht_kernel_table *t, const struct ht_panel_form_row *list, size_t n,
                                 ht_panel_q8_fn *any_16, ht_panel_q8_fn *any_32) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        int group = ht_form_any_group(ht_format_at(i));
        if (group != 0) {
            t->panel_q8[i] = group == 16 ? any_16 : any_32;
            t->shape[i] = &ht_natural_shapes[group == 16][true];
        }
        for (size_t j = 0; j < n; j++) {
            if (strcmp(ht_format_at(i)->name, list[j].format) == 0) {
                t->panel_q8[i] = list[j].panel;
                t->shape[i] = list[j].shape;
            }
        }
    }
}

#endif
