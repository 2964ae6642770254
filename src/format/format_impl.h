/* Inside format/ only: the rows, what a family of grid formats shares, and bit helpers.
 *
 * A grid format is described by a struct ht_grid_spec. Its stored scales are
 *     scale[s] = f16(d) * q_scale[s],      min[s] = f16(dmin) * q_min[s]
 * also for formats without sub-scales, whose q_scale[0] (and q_min[0]) is always 1. */
#ifndef HT_FORMAT_FORMAT_IMPL_H
#define HT_FORMAT_FORMAT_IMPL_H

#include "base/compiler.h"
#include "format/format.h"
#include "format/half.h"

struct ht_grid_spec {
    int n_sub, sub_len;
    int lo, hi;
    const float *levels;            /* NULL: the integers */
    int q_scale_lo, q_scale_hi;     /* stored sub-scales; 1, 1: none */
    int q_min_hi;                   /* stored sub-mins 0..q_min_hi; 1: one min; 0: no min */
    const float *first;             /* [n_first] formats without min: the scales to try first, 1 / the position */
    int n_first;                    /* that the largest element shall have; a multiple of 16 */
    int plain_error;                /* 1: error is weighted by importance alone, see search.c */
    int lattice;                    /* only some vectors of levels exist */
};

/* ---- grid.c ---- */
/* Sets n_sub, sub_len, lo, hi, levels. */
void ht_grid_shape(const struct ht_grid_spec *spec, struct ht_grid *grid);
/* scale[] and min[] from d, dmin, q_scale, q_min: the arithmetic of decoding. */
void ht_grid_restore(struct ht_grid *grid);
/* True when scale[] and min[] are exactly what d, dmin, q_scale and q_min give. */
int ht_grid_is_stored(const struct ht_grid *grid);
/* `round` of every grid format: the nearest code of each element. */
void ht_grid_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes);
/* decode and encode of every grid format, block by block. */
void ht_grid_decode(const struct ht_format *format, const void *src, float *x, size_t n);
void ht_grid_encode(const struct ht_format *format, const float *x, const float *weight, void *dst, size_t n);

/* 1 / scale, and 0 for a scale too small to divide by, so that its codes are those of 0. */
HT_INLINE float ht_grid_inverse(float scale) {
    return scale > 1e-36f || scale < -1e-36f ? 1.0f / scale : 0.0f;
}

/* ---- fit.c: the searches. x, weight: [n_sub * sub_len]; weight may be NULL. The grid that comes back is
 * storable: snap leaves it as it is. ---- */
void ht_fit_scale(const struct ht_grid_spec *spec, const float *x, const float *weight, struct ht_grid *grid);
void ht_fit_affine(const struct ht_grid_spec *spec, const float *x, const float *weight, struct ht_grid *grid);
/* `snap` of every grid format. */
void ht_fit_snap(const struct ht_grid_spec *spec, struct ht_grid *grid);

/* ---- bits ---- */
HT_INLINE uint16_t ht_get_u16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

HT_INLINE void ht_put_u16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* 32 codes as the 4-bit formats store them: byte j holds code j low and code j + 16 high. */
HT_INLINE void ht_put_nibbles(const uint8_t *q, uint8_t *qs) {
    for (int j = 0; j < 16; j++) {
        qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
    }
}

HT_INLINE void ht_get_nibbles(const uint8_t *qs, int8_t *q) {
    for (int j = 0; j < 16; j++) {
        q[j] = (int8_t)(qs[j] & 15);
        q[j + 16] = (int8_t)(qs[j] >> 4);
    }
}

/* ---- rows ---- */
extern const struct ht_format ht_format_f64, ht_format_f32, ht_format_tf32, ht_format_f16, ht_format_bf16;
extern const struct ht_format ht_format_i8, ht_format_i16, ht_format_i32, ht_format_i64;
extern const struct ht_format ht_format_u8, ht_format_u16, ht_format_u32, ht_format_u64, ht_format_bool;
extern const struct ht_format ht_format_q4_0, ht_format_q4_1, ht_format_q5_0, ht_format_q5_1, ht_format_q8_0;
extern const struct ht_format ht_format_q2_k, ht_format_q3_k, ht_format_q4_k, ht_format_q5_k, ht_format_q6_k;
extern const struct ht_format ht_format_iq4_nl, ht_format_iq4_xs;
extern const struct ht_format ht_format_tq1_0, ht_format_tq2_0, ht_format_q1_0, ht_format_q2_0;
extern const struct ht_format ht_format_mxfp4, ht_format_nvfp4;
extern const struct ht_format ht_format_iq1_s, ht_format_iq1_m, ht_format_iq2_xxs, ht_format_iq2_xs, ht_format_iq2_s;
extern const struct ht_format ht_format_iq3_xxs, ht_format_iq3_s;
extern const struct ht_format ht_format_tr2, ht_format_tr3, ht_format_tr4, ht_format_ovp4;

#endif
