/* Integer matrix product for many tokens with smmla, which multiplies 2 rows x 8 columns with 2 tokens x 8
 * columns. The panel holds, per 8 columns, 8 codes of each of the 32 rows side by side.
 *
 * Tile: 8 rows x 4 tokens, as 4 pairs x 2 pairs. A vector of sums is, for rows r and r + 1 and tokens t and t
 * + 1,
 *
 *     r,t   r,t+1   r+1,t   r+1,t+1 */
#include "kernel/arm/panel_arm.h"

#define PIECE 8

HT_INLINE void put4(const struct ht_form *f, size_t k, size_t r, uint8_t *codes) {
    codes += k / 8 * 256 + PIECE * r;
    for (size_t i = 0; i < 4; i += 2) {
        uint64x2_t a = vreinterpretq_u64_s8(vld1q_s8(f[i].codes + k));
        uint64x2_t b = vreinterpretq_u64_s8(vld1q_s8(f[i + 1].codes + k));
        vst1q_u8(codes + 8 * i, vreinterpretq_u8_u64(vzip1q_u64(a, b)));
        vst1q_u8(codes + 256 + 8 * i, vreinterpretq_u8_u64(vzip2q_u64(a, b)));
    }
}

HT_FORM_LIST(HT_PANEL_FORM)
HT_PANEL_ANY(16)
HT_PANEL_ANY(32)

static const struct ht_panel_form_row list[] = {HT_FORM_LIST(HT_PANEL_FORM_ROW)};

struct tile {
    const int8_t *codes; /* of the tile's first row */
    const float *scale, *min;
    size_t n_groups; /* of 32 columns */
    /* Per token; a token past the end stands for the last one. */
    const int8_t *q[4];
    const float *d[4];
    const int32_t *corr[4];
};

HT_INLINE float32x4_t token_pair(float a, float b) {
    float32x2_t v = vset_lane_f32(b, vdup_n_f32(a), 1);
    return vcombine_f32(v, v);
}

/* Values of two rows, in the order of a vector of sums. */
HT_INLINE float32x4_t row_pair(const float *p) {
    float32x2_t v = vld1_f32(p);
    return vcombine_f32(vdup_lane_f32(v, 0), vdup_lane_f32(v, 1));
}

HT_INLINE float corr_f32(const int32_t *corr) {
    float v;
    memcpy(&v, corr, sizeof v);
    return v;
}

/* Integer sums over 8 columns. */
HT_INLINE void dot8(const int8_t *codes, const struct tile *p, size_t at, int32x4_t sum[4][2]) {
    int8x16_t a0 = vcombine_s8(vld1_s8(p->q[0] + at), vld1_s8(p->q[1] + at));
    int8x16_t a1 = vcombine_s8(vld1_s8(p->q[2] + at), vld1_s8(p->q[3] + at));
    for (int r = 0; r < 4; r++) {
        int8x16_t w = vld1q_s8(codes + 16 * r);
        sum[r][0] = vmmlaq_s32(sum[r][0], w, a0);
        sum[r][1] = vmmlaq_s32(sum[r][1], w, a1);
    }
}

/* out[token][row] */
HT_INLINE void tile(int group, bool mins, const struct tile *p, float out[4][8]) {
    float32x4_t acc[4][2];
    for (int r = 0; r < 4; r++) {
        acc[r][0] = acc[r][1] = vdupq_n_f32(0);
    }
    size_t parts = 32 / (size_t)group;
    for (size_t c = 0; c < p->n_groups * parts; c++) { /* groups of `group` columns */
        int32x4_t sum[4][2];
        for (int r = 0; r < 4; r++) {
            sum[r][0] = sum[r][1] = vdupq_n_s32(0);
        }
        for (size_t k = 0; k < (size_t)group; k += 8) {
            size_t at = c * (size_t)group + k;
            dot8(p->codes + at * HT_PANEL_ROWS, p, at, sum);
        }
        const float *scale = p->scale + c * HT_PANEL_ROWS, *min = p->min + c * HT_PANEL_ROWS;
        size_t g = c / parts;
        float32x4_t d0 = token_pair(p->d[0][g], p->d[1][g]), d1 = token_pair(p->d[2][g], p->d[3][g]);
        for (size_t r = 0; r < 4; r++) {
            float32x4_t s = row_pair(scale + 2 * r);
            acc[r][0] = vfmaq_f32(acc[r][0], vmulq_f32(vcvtq_f32_s32(sum[r][0]), s), d0);
            acc[r][1] = vfmaq_f32(acc[r][1], vmulq_f32(vcvtq_f32_s32(sum[r][1]), s), d1);
        }
        if (mins) {
            float32x4_t s0 = token_pair(corr_f32(p->corr[0] + c), corr_f32(p->corr[1] + c));
            float32x4_t s1 = token_pair(corr_f32(p->corr[2] + c), corr_f32(p->corr[3] + c));
            for (size_t r = 0; r < 4; r++) {
                float32x4_t m = row_pair(min + 2 * r);
                acc[r][0] = vfmsq_f32(acc[r][0], m, s0);
                acc[r][1] = vfmsq_f32(acc[r][1], m, s1);
            }
        }
    }
    for (size_t r = 0; r < 4; r++) {
        for (size_t t = 0; t < 2; t++) {
            /* tokens apart: row, row + 1 of the first, then of the second */
            float32x4_t v = vuzp1q_f32(acc[r][t], acc[r][t]), w = vuzp2q_f32(acc[r][t], acc[r][t]);
            vst1_f32(out[2 * t] + 2 * r, vget_low_f32(v));
            vst1_f32(out[2 * t + 1] + 2 * r, vget_low_f32(w));
        }
    }
}

typedef void tile_fn(const struct tile *p, float out[4][8]);

#define TILE(name, group, mins)                                                                              \
    static HT_NOINLINE void name(const struct tile *p, float out[4][8]) {                                    \
        tile(group, mins, p, out);                                                                           \
    }
TILE(tile_32, 32, false)
TILE(tile_32m, 32, true)
TILE(tile_16, 16, false)
TILE(tile_16m, 16, true)

static void gemm_q8(const struct ht_panel_q8 *panel, const struct ht_chunk_shape *shape, size_t n_rows,
                    const struct ht_acts *acts, size_t col0, size_t cols, float *y, size_t y_stride,
                    bool add) {
    /* [group 32, 16][without, with mins] */
    static tile_fn *const tiles[2][2] = {{tile_32, tile_32m}, {tile_16, tile_16m}};
    tile_fn *fn = tiles[shape->group == 16][shape->offset == 0];
    size_t kp = acts->cols_padded, group = (size_t)shape->group;
    struct tile p = {.n_groups = cols / 32};
    for (size_t r = 0; r < n_rows; r += 8) {
        size_t rows = n_rows - r < 8 ? n_rows - r : 8;
        p.codes = (const int8_t *)panel->codes + PIECE * r;
        p.scale = panel->scale + r;
        p.min = panel->min + r;
        for (size_t t = 0; t < acts->n_tokens; t += 4) {
            float out[4][8];
            size_t tokens = acts->n_tokens - t < 4 ? acts->n_tokens - t : 4;
            for (size_t i = 0; i < 4; i++) {
                size_t token = t + (i < tokens ? i : tokens - 1);
                p.q[i] = acts->q + token * kp + col0;
                p.d[i] = acts->d + (token * kp + col0) / 32;
                p.corr[i] = acts->corrections + (token * kp + col0) / group;
            }
            fn(&p, out);
            for (size_t i = 0; i < tokens; i++) {
                float *to = y + (t + i) * y_stride + r;
                for (size_t j = 0; j < rows; j++) {
                    to[j] = add ? to[j] + out[i][j] : out[i][j];
                }
            }
        }
    }
}

void ht_gemm_q8_init_i8mm(struct ht_kernel_table *t) {
    ht_panel_form_set(t, list, sizeof list / sizeof list[0], panel_any_16, panel_any_32);
    t->gemm_q8 = gemm_q8;
}
