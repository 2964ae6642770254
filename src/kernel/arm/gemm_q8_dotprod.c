/* Integer matrix product for many tokens with sdot. The panel holds, per 4 columns, 4 codes of each of the 32
 * rows side by side: a vector is 4 rows x 4 columns, and one lane of 4 activations serves all of them.
 *
 * Tile: 8 rows x 4 tokens; integer sums of a group, then scale * d of the group onto the f32 sums. */
#include "kernel/arm/panel_arm.h"

#define PIECE 4

/* 4 x 4 transpose of 4-byte pieces. */
HT_INLINE void put4(const struct ht_form *f, size_t k, size_t r, uint8_t *codes) {
    uint32x4_t v[4];
    for (size_t i = 0; i < 4; i++) {
        v[i] = vreinterpretq_u32_s8(vld1q_s8(f[i].codes + k));
    }
    uint64x2_t ab0 = vreinterpretq_u64_u32(vtrn1q_u32(v[0], v[1]));
    uint64x2_t ab1 = vreinterpretq_u64_u32(vtrn2q_u32(v[0], v[1]));
    uint64x2_t cd0 = vreinterpretq_u64_u32(vtrn1q_u32(v[2], v[3]));
    uint64x2_t cd1 = vreinterpretq_u64_u32(vtrn2q_u32(v[2], v[3]));
    codes += k / 4 * 128 + PIECE * r;
    vst1q_u8(codes, vreinterpretq_u8_u64(vtrn1q_u64(ab0, cd0)));
    vst1q_u8(codes + 128, vreinterpretq_u8_u64(vtrn1q_u64(ab1, cd1)));
    vst1q_u8(codes + 256, vreinterpretq_u8_u64(vtrn2q_u64(ab0, cd0)));
    vst1q_u8(codes + 384, vreinterpretq_u8_u64(vtrn2q_u64(ab1, cd1)));
}

HT_FORM_LIST(HT_PANEL_FORM)
HT_PANEL_ANY(16)
HT_PANEL_ANY(32)

static const struct ht_panel_form_row list[] = {HT_FORM_LIST(HT_PANEL_FORM_ROW)};

#define TILE_TOKENS 4

struct tile {
    const int8_t *codes; /* of the tile's first row */
    const float *scale, *min;
    size_t n_groups; /* of 32 columns */
    const int8_t *q;
    const float *d;
    const int32_t *corr;
    size_t q_stride, d_stride, corr_stride; /* elements from token to token */
    float *y;
    size_t y_stride, n_rows;
    bool add;
};

/* Integer sums over 16 columns: 4 lanes of each token's vector against 4 pieces of the panel. */
HT_INLINE void dot16(int NT, const int8_t *codes, const int8_t *q, size_t q_stride,
                     int32x4_t sum[TILE_TOKENS][2]) {
    int8x16_t a[TILE_TOKENS];
    for (size_t t = 0; t < (size_t)NT; t++) {
        a[t] = vld1q_s8(q + t * q_stride);
    }
#define STEP(lane)                                                                                           \
    {                                                                                                        \
        int8x16_t w0 = vld1q_s8(codes + 128 * (lane)), w1 = vld1q_s8(codes + 128 * (lane) + 16);             \
        for (int t = 0; t < NT; t++) {                                                                       \
            sum[t][0] = vdotq_laneq_s32(sum[t][0], w0, a[t], lane);                                          \
            sum[t][1] = vdotq_laneq_s32(sum[t][1], w1, a[t], lane);                                          \
        }                                                                                                    \
    }
    STEP(0)
    STEP(1)
    STEP(2)
    STEP(3)
#undef STEP
}

HT_INLINE float corr_f32(const int32_t *corr) {
    float v;
    memcpy(&v, corr, sizeof v);
    return v;
}

static inline void store_rows(const struct tile *p, size_t t, float32x4_t a, float32x4_t b) {
    float *y = p->y + t * p->y_stride;
    size_t n = p->n_rows, more = n > 4 ? n - 4 : 0;
    ht_store4(y, p->add ? vaddq_f32(a, ht_load4(y, n)) : a, n);
    if (more > 0) {
        ht_store4(y + 4, p->add ? vaddq_f32(b, ht_load4(y + 4, more)) : b, more);
    }
}

/* NT tokens, groups of 16 or 32, with or without mins: constants where this is inlined. */
HT_INLINE void tile(int NT, int group, bool mins, const struct tile *p) {
    float32x4_t acc[TILE_TOKENS][2];
    for (int t = 0; t < NT; t++) {
        acc[t][0] = acc[t][1] = vdupq_n_f32(0);
    }
    size_t parts = 32 / (size_t)group;
    for (size_t c = 0; c < p->n_groups * parts; c++) { /* groups of `group` columns */
        int32x4_t sum[TILE_TOKENS][2];
        for (int t = 0; t < NT; t++) {
            sum[t][0] = sum[t][1] = vdupq_n_s32(0);
        }
        for (size_t k = 0; k < (size_t)group; k += 16) {
            size_t at = c * (size_t)group + k;
            dot16(NT, p->codes + at * HT_PANEL_ROWS, p->q + at, p->q_stride, sum);
        }
        float32x4_t s0 = vld1q_f32(p->scale + c * HT_PANEL_ROWS),
                    s1 = vld1q_f32(p->scale + c * HT_PANEL_ROWS + 4);
        for (size_t t = 0; t < (size_t)NT; t++) {
            float d = p->d[t * p->d_stride + c / parts];
            acc[t][0] = vfmaq_n_f32(acc[t][0], vmulq_f32(vcvtq_f32_s32(sum[t][0]), s0), d);
            acc[t][1] = vfmaq_n_f32(acc[t][1], vmulq_f32(vcvtq_f32_s32(sum[t][1]), s1), d);
        }
        if (mins) {
            const float *min = p->min + c * HT_PANEL_ROWS;
            float32x4_t m0 = vld1q_f32(min), m1 = vld1q_f32(min + 4);
            for (size_t t = 0; t < (size_t)NT; t++) {
                float s = corr_f32(p->corr + t * p->corr_stride + c);
                acc[t][0] = vfmsq_n_f32(acc[t][0], m0, s);
                acc[t][1] = vfmsq_n_f32(acc[t][1], m1, s);
            }
        }
    }
    for (size_t t = 0; t < (size_t)NT; t++) {
        store_rows(p, t, acc[t][0], acc[t][1]);
    }
}

typedef void tile_fn(const struct tile *p);

#define TILE(NT)                                                                                             \
    static HT_NOINLINE void tile_32_##NT(const struct tile *p) {                                             \
        tile(NT, 32, false, p);                                                                              \
    }                                                                                                        \
    static HT_NOINLINE void tile_32m_##NT(const struct tile *p) {                                            \
        tile(NT, 32, true, p);                                                                               \
    }                                                                                                        \
    static HT_NOINLINE void tile_16_##NT(const struct tile *p) {                                             \
        tile(NT, 16, false, p);                                                                              \
    }                                                                                                        \
    static HT_NOINLINE void tile_16m_##NT(const struct tile *p) {                                            \
        tile(NT, 16, true, p);                                                                               \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)

#define KIND(kind)                                                                                           \
    { kind##_1, kind##_2, kind##_3, kind##_4 }
/* [group 32, 16][without, with mins][tokens - 1] */
static tile_fn *const tiles[2][2][TILE_TOKENS] = {{KIND(tile_32), KIND(tile_32m)},
                                                  {KIND(tile_16), KIND(tile_16m)}};

static void gemm_q8(const struct ht_panel_q8 *panel, const struct ht_chunk_shape *shape, size_t n_rows,
                    const struct ht_acts *acts, size_t col0, size_t cols, float *y, size_t y_stride,
                    bool add) {
    struct tile p = {
        .n_groups = cols / 32,
        .q_stride = acts->cols_padded,
        .d_stride = acts->cols_padded / 32,
        .corr_stride = acts->cols_padded / (size_t)shape->group,
        .y_stride = y_stride,
        .add = add,
    };
    tile_fn *const *by_tokens = tiles[shape->group == 16][shape->offset == 0];
    for (size_t r = 0; r < n_rows; r += 8) {
        p.codes = (const int8_t *)panel->codes + PIECE * r;
        p.scale = panel->scale + r;
        p.min = panel->min + r;
        p.n_rows = n_rows - r < 8 ? n_rows - r : 8;
        for (size_t t = 0; t < acts->n_tokens; t += TILE_TOKENS) {
            size_t n = acts->n_tokens - t < TILE_TOKENS ? acts->n_tokens - t : TILE_TOKENS;
            p.q = acts->q + t * p.q_stride + col0;
            p.d = acts->d + t * p.d_stride + col0 / 32;
            p.corr = acts->corrections + t * p.corr_stride + col0 / (size_t)shape->group;
            p.y = y + t * y_stride + r;
            by_tokens[n - 1](&p);
        }
    }
}

void ht_gemm_q8_init_dotprod(struct ht_kernel_table *t) {
    ht_panel_form_set(t, list, sizeof list / sizeof list[0], panel_any_16, panel_any_32);
    t->gemm_q8 = gemm_q8;
}
