/* q8_0: blocks of 32, one f16 scale, y = d * q.
 *
 *     | d : f16 | qs[32] : i8 |
 *
 * With 8 bits the codes follow the scale so closely that refitting moves nothing, but which scale is tried decides
 * how the 32 rounding errors fall: the best of 16 scales that put the largest element at -128, -127.5 ... -120.5
 * has about a fifth less error than the usual one (docs/measurements/encoders.md). The steps are one function each
 * for fit and for encode, which makes whole rows in one go: the format is the fastest, so overhead counts. */
#include "format/fit.h"

#define LEN 32
#define BYTES 34

#define AT(position) (-1.0f / (position))
static const float q8_0_first[HT_LANES] = {
    AT(128.0f), AT(127.5f), AT(127.0f), AT(126.5f), AT(126.0f), AT(125.5f), AT(125.0f), AT(124.5f),
    AT(124.0f), AT(123.5f), AT(123.0f), AT(122.5f), AT(122.0f), AT(121.5f), AT(121.0f), AT(120.5f)};

static const struct ht_grid_spec q8_0_spec = {.n_sub = 1, .sub_len = LEN, .lo = -128, .hi = 127,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .first = q8_0_first, .n_first = HT_LANES};

/* The metric of search.c for fine grids: importance as it is. Returns the best scale, which f16 holds
 * exactly, or 0 when it may lie outside f16's normal numbers. Sums need no normalized x: errors are in units
 * of a code, 1/2 at most. */
HT_INLINE float choose(const float *x, const float *weight) {
    float extreme = ht_lane_extreme(x, LEN), size = extreme < 0.0f ? -extreme : extreme;
    if (!(size >= 0x1.1p-7f && size <= 7e6f)) {
        return 0.0f;
    }
    float w[LEN], scale[HT_LANES], inv[HT_LANES], err[HT_LANES];
    int32_t w_max = weight ? ht_lane_largest_bits(weight, LEN) : 0;
    if (w_max > 0 && w_max < HT_F32_INF_BITS) {
        float factor = ht_lane_normalizer(w_max);
        for (int i = 0; i < LEN; i++) {
            w[i] = weight[i] * factor;
        }
    } else {
        for (int i = 0; i < LEN; i++) {
            w[i] = 1.0f;
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        float s = extreme * q8_0_first[l], c = s * 8193.0f;
        scale[l] = c - (c - s); /* as ht_lane_to_f16 for normal numbers */
        inv[l] = 1.0f / scale[l];
        err[l] = 0.0f;
    }
    for (int i = 0; i < LEN; i++) {
        float xi = x[i], wi = w[i];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float v = xi * inv[l], f = v - ((v + HT_ROUND_MAGIC) - HT_ROUND_MAGIC);
            err[l] += wi * f * f;
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        err[l] = err[l] * (scale[l] * scale[l]);
    }
    return scale[ht_lane_lowest(err)];
}

HT_CLONES
static float choose_scale(const float *x, const float *weight) {
    return choose(x, weight);
}

static void q8_0_fit(const float *x, const float *weight, struct ht_grid *grid) {
    float d = choose_scale(x, weight);
    if (!(d > 0.0f || d < 0.0f)) {
        ht_fit_scale(&q8_0_spec, x, weight, grid);
        return;
    }
    ht_grid_shape(&q8_0_spec, grid);
    grid->d = ht_f16_from_f32(d);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    ht_grid_restore(grid);
}

static void q8_0_snap(struct ht_grid *grid) {
    ht_fit_snap(&q8_0_spec, grid);
}

static void q8_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    memcpy(p + 2, codes, LEN);
}

static void q8_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&q8_0_spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    memcpy(codes, p + 2, LEN);
    ht_grid_restore(grid);
}

HT_CLONES
static void q8_0_decode(const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    for (size_t i = 0; i < n; i += LEN, p += BYTES) {
        float d = ht_f16_to_f32(ht_get_u16(p));
        int8_t q[LEN];
        memcpy(q, p + 2, LEN);
        for (int j = 0; j < LEN; j++) {
            x[i + (size_t)j] = d * (float)q[j];
        }
    }
}

/* A block whose scale is in the normal range, all steps at once; 0: not this one. */
HT_INLINE int encode_block(const float *x, const float *weight, uint8_t *dst) {
    float d = choose(x, weight);
    if (!(d > 0.0f || d < 0.0f)) {
        return 0;
    }
    int8_t q[LEN];
    float inv = 1.0f / d;
    for (int j = 0; j < LEN; j++) { /* as ht_grid_round */
        float v = x[j] * inv;
        v = v > -128.0f ? v : -128.0f;
        v = v < 127.0f ? v : 127.0f;
        q[j] = (int8_t)(int)((v + HT_ROUND_MAGIC) - HT_ROUND_MAGIC);
    }
    ht_put_u16(dst, ht_f16_from_f32(d));
    memcpy(dst + 2, q, LEN);
    return 1;
}

HT_CLONES
static void q8_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    uint8_t *p = dst;
    for (size_t i = 0; i < n; i += LEN, p += BYTES) {
        const float *w = weight ? weight + i : NULL;
        if (!encode_block(x + i, w, p)) {
            ht_grid_encode(&ht_format_q8_0, x + i, w, p, LEN);
        }
    }
}

const struct ht_format ht_format_q8_0 = {
    .name = "q8_0", .summary = "8-bit, blocks of 32, scale", .source = "GGUF: ggml quantization formats",
    .kind = HT_KIND_BLOCK, .gguf_type = 8, .block_elems = LEN, .block_bytes = BYTES, .decode = q8_0_decode,
    .encode = q8_0_encode, .fit = q8_0_fit, .snap = q8_0_snap, .round = ht_grid_round, .pack = q8_0_pack,
    .unpack = q8_0_unpack,
};
