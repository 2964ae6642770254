/* ovp4: outlier-victim pairs (OliVe, arXiv 2304.07493), 4 bits per weight, blocks of 64, one f16 scale; for this
 * program's own runtime only.
 *
 *     d : f16 | qs[32]        byte j: element 2 j low, 2 j + 1 high
 *
 * A nibble is an integer -7..7 but for 8, which says that its element is the victim: 0, and that the other nibble
 * is an outlier: a float of one sign bit, two bits of exponent and one of mantissa, (2 + m) * 2^(2 + e) = 8, 12, 16,
 * 24, 32, 48, 64, 96. So the scale suits the many and the few reach 14 times as far. Codes of the grid: -7..7 are the
 * integers, 8..15 and -8..-15 the outliers. -8 exists in the second place only: 8, 8 is 0 and -8.
 *
 * Scales are searched from where the integers suit normal values up to where they reach the largest element. */
#include "format/fit.h"

#include <math.h>

#define LEN 64
#define NUMBER 0x48540011 /* private, as those of the trellis formats */
#define VICTIM 8

static const float ovp4_levels[31] = {-96, -64, -48, -32, -24, -16, -12, -8, -7, -6, -5, -4, -3, -2, -1, 0,
    1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96};
static const struct ht_grid_spec ovp4_spec = {.n_sub = 1, .sub_len = LEN, .lo = -15, .hi = 15, .levels = ovp4_levels,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .plain_error = 1};

/* ---- one pair ---- */

HT_INLINE float magnitude(float v) {
    return v < 0.0f ? -v : v;
}

HT_INLINE float nearest_normal(float v) {
    v = v > -7.0f ? v : -7.0f;
    v = v < 7.0f ? v : 7.0f;
    return (v + HT_ROUND_MAGIC) - HT_ROUND_MAGIC;
}

/* The outlier nearest to v; first: -8 is not there. */
HT_INLINE float nearest_outlier(float v, int first) {
    float a = magnitude(v), least = first && v < 0.0f ? 12.0f : 8.0f, q = 8.0f;
    q += a > 10.0f ? 4.0f : 0.0f;
    q += a > 14.0f ? 4.0f : 0.0f;
    q += a > 20.0f ? 8.0f : 0.0f;
    q += a > 28.0f ? 8.0f : 0.0f;
    q += a > 40.0f ? 16.0f : 0.0f;
    q += a > 56.0f ? 16.0f : 0.0f;
    q += a > 80.0f ? 32.0f : 0.0f;
    q = q > least ? q : least;
    return v < 0.0f ? -q : q;
}

/* An element whose importance is less than this part of its neighbour's counts as much all the same: it is not given
 * up for nothing. */
#define LEAST_PART 1e-3f
HT_INLINE void pair_weights(float *w) {
    float least0 = LEAST_PART * w[1], least1 = LEAST_PART * w[0];
    w[0] = w[0] > least0 ? w[0] : least0;
    w[1] = w[1] > least1 ? w[1] : least1;
}

/* Errors, in squared units of the scale, of a pair as two integers, with the first and with the second as outlier. */
struct pair_errors {
    float normal, first, second;
};

HT_INLINE struct pair_errors pair_errors(float v0, float v1, float w0, float w1) {
    float n0 = v0 - nearest_normal(v0), n1 = v1 - nearest_normal(v1);
    float o0 = v0 - nearest_outlier(v0, 1), o1 = v1 - nearest_outlier(v1, 0);
    return (struct pair_errors){w0 * n0 * n0 + w1 * n1 * n1, w0 * o0 * o0 + w1 * v1 * v1, w0 * v0 * v0 + w1 * o1 * o1};
}

static int8_t level_code(float level) {
    int c = (int)level;
    if (magnitude(level) > 7.0f) {
        c = 8;
        while (ovp4_levels[15 + c] < magnitude(level)) {
            c++;
        }
        c = level < 0.0f ? -c : c;
    }
    return (int8_t)c;
}

static void round_pair(float v0, float v1, float w0, float w1, int8_t *codes) {
    struct pair_errors e = pair_errors(v0, v1, w0, w1);
    codes[0] = codes[1] = 0;
    if (!(e.first < e.normal) && !(e.second < e.normal)) {
        codes[0] = (int8_t)nearest_normal(v0);
        codes[1] = (int8_t)nearest_normal(v1);
    } else if (e.first < e.second) {
        codes[0] = level_code(nearest_outlier(v0, 1));
    } else {
        codes[1] = level_code(nearest_outlier(v1, 0));
    }
}

/* ---- the scale ---- */

/* Error at 16 scales that f16 holds; returns the best lane. */
HT_CLONES
static int try_scales(const struct ht_work *work, const float *wanted, float *scale, float *err) {
    float inv[HT_LANES];
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        scale[l] = ht_lane_to_f16(wanted[l] * work->up) * work->down;
        inv[l] = scale[l] > 1e-30f ? 1.0f / scale[l] : 0.0f;
        err[l] = 0.0f;
    }
    for (int i = 0; i < LEN; i += 2) {
        float x0 = work->x[i], x1 = work->x[i + 1], w0 = work->w[i], w1 = work->w[i + 1];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            struct pair_errors e = pair_errors(x0 * inv[l], x1 * inv[l], w0, w1);
            float least = e.first < e.second ? e.first : e.second;
            err[l] += e.normal < least ? e.normal : least;
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        err[l] *= scale[l] * scale[l];
    }
    return ht_lane_lowest(err);
}

static void search_scale(const struct ht_work *work, struct ht_grid *grid) {
    float sum = 0.0f, wanted[HT_LANES], scale[HT_LANES], err[HT_LANES];
    for (int i = 0; i < LEN; i++) {
        sum += work->x[i] * work->x[i];
    }
    float high = 1.05f * work->amax / 7.0f, low = 0.2f * sqrtf(sum / LEN);
    low = low > work->amax / 110.0f ? low : work->amax / 110.0f;
    low = low < 0.5f * high ? low : 0.5f * high;
    float step = (high - low) / (float)(HT_LANES - 1);
    for (int l = 0; l < HT_LANES; l++) {
        wanted[l] = low + step * (float)l;
    }
    float middle = wanted[try_scales(work, wanted, scale, err)];
    for (int l = 0; l < HT_LANES; l++) {
        wanted[l] = middle + step * (0.125f * (float)(l - HT_LANES / 2));
    }
    int best = try_scales(work, wanted, scale, err);
    grid->d = ht_fit_f16(scale[best] * work->up);
    ht_fit_or_zero(work, LEN, err[best], grid);
}

static void ovp4_fit(const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    ht_grid_shape(&ovp4_spec, grid);
    ht_search_load(&work, x, weight, LEN, &ovp4_spec, ht_fit_limit(&ovp4_spec));
    grid->d = grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    for (int i = 0; i < LEN; i += 2) {
        pair_weights(work.w + i);
    }
    if (work.amax > 0.0f) {
        search_scale(&work, grid);
    }
    ht_grid_restore(grid);
}

static void ovp4_snap(struct ht_grid *grid) {
    ht_fit_snap(&ovp4_spec, grid);
}

static void ovp4_round_vector(const float *x, const float *weight, const struct ht_grid *grid, uint32_t at,
                              int8_t *codes) {
    float inv = ht_grid_inverse(grid->scale[0]), v[2], w[2] = {1.0f, 1.0f};
    for (uint32_t k = 0; k < 2; k++) { /* beyond the last level it does not matter how far */
        float a = x[at + k] * inv;
        a = a > -1e4f ? a : -1e4f;
        v[k] = a < 1e4f ? a : 1e4f;
    }
    if (weight && (weight[at] > 0.0f || weight[at + 1] > 0.0f)) {
        float most = weight[at] > weight[at + 1] ? weight[at] : weight[at + 1];
        w[0] = weight[at] / most;
        w[1] = weight[at + 1] / most;
        pair_weights(w);
    }
    round_pair(v[0], v[1], w[0], w[1], codes + at);
}

static void ovp4_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes) {
    for (uint32_t i = 0; i < LEN; i += 2) {
        ovp4_round_vector(x, weight, grid, i, codes);
    }
}

/* ---- bytes ---- */

/* Outlier code 8..15, -8..-15 to its nibble and back. */
static unsigned outlier_nibble(int c) {
    return c < 0 ? 8u | (unsigned)(-c - 8) : (unsigned)(c - 8);
}

static int8_t outlier_code(unsigned nibble) {
    int c = 8 + (int)(nibble & 7u);
    return (int8_t)(nibble & 8u ? -c : c);
}

static void ovp4_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    for (int j = 0; j < LEN / 2; j++) {
        int8_t pair[2] = {codes[2 * j], codes[2 * j + 1]};
        int far0 = pair[0] > 7 || pair[0] < -7, far1 = pair[1] > 7 || pair[1] < -7;
        if ((far0 && pair[1] != 0) || (far1 && pair[0] != 0) || pair[0] == -8) { /* not storable: the nearest that is */
            round_pair(ovp4_levels[15 + pair[0]], ovp4_levels[15 + pair[1]], 1.0f, 1.0f, pair);
            far0 = pair[0] > 7 || pair[0] < -7;
            far1 = pair[1] > 7 || pair[1] < -7;
        }
        unsigned n0 = (unsigned)pair[0] & 15u, n1 = (unsigned)pair[1] & 15u;
        n0 = far0 ? outlier_nibble(pair[0]) : far1 ? VICTIM : n0;
        n1 = far1 ? outlier_nibble(pair[1]) : far0 ? VICTIM : n1;
        p[2 + j] = (uint8_t)(n0 | n1 << 4);
    }
}

static void ovp4_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&ovp4_spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    ht_grid_restore(grid);
    for (int j = 0; j < LEN / 2; j++) {
        unsigned n0 = p[2 + j] & 15u, n1 = p[2 + j] >> 4;
        int8_t c0 = (int8_t)((int)(n0 ^ 8u) - 8), c1 = (int8_t)((int)(n1 ^ 8u) - 8);
        codes[2 * j] = n0 == VICTIM ? 0 : n1 == VICTIM ? outlier_code(n0) : c0;
        codes[2 * j + 1] = n0 == VICTIM ? outlier_code(n1) : n1 == VICTIM ? 0 : c1;
    }
}

static void ovp4_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_ovp4, src, x, n);
}

static void ovp4_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_ovp4, x, weight, dst, n);
}

const struct ht_format ht_format_ovp4 = {
    .name = "ovp4", .summary = "4-bit outlier-victim pairs, blocks of 64, scale; halftone runtime only",
    .source = "OliVe, arXiv 2304.07493; docs/formats.md", .kind = HT_KIND_LATTICE, .gguf_type = NUMBER,
    .block_elems = LEN, .block_bytes = 34, .vector = 2, .decode = ovp4_decode, .encode = ovp4_encode, .fit = ovp4_fit,
    .snap = ovp4_snap, .round = ovp4_round, .round_vector = ovp4_round_vector, .pack = ovp4_pack, .unpack = ovp4_unpack,
};
