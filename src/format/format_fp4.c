/* GGUF's formats of 4-bit floats (E2M1: 0 0.5 1 1.5 2 3 4 6 and their negatives) with floats as scales:
 *
 *     mxfp4  e | qs[16]       blocks of 32, y = 2^(e - 128) * level[q]           OCP microscaling, E8M0 scale
 *     nvfp4  d[4] | qs[32]    4 sub-blocks of 16, y = d[s] / 2 * level[q]        E4M3 scales without sign
 *
 * Levels are twice the floats, so that they are integers; a code here is its position in the table, the file has
 * sign and magnitude. Bit layouts are drawn in docs/formats.md. The scales have few values, so all that can be
 * the best are tried: exponents for mxfp4, windows of 16 codes for nvfp4, until the best lies inside
 * (ScaleSweep, arXiv 2606.07618, does the same by bounds). The scale in the file stands in grid.d (mxfp4) and
 * grid.q_scale (nvfp4). */
#include "format/fit.h"

#include <math.h>

static const float fp4_levels[16] = {-12, -8, -6, -4, -3, -2, -1, 0, 0, 1, 2, 3, 4, 6, 8, 12};

static const struct ht_grid_spec mxfp4_spec = {.n_sub = 1, .sub_len = 32, .lo = 0, .hi = 15, .levels = fp4_levels,
    .plain_error = 1};
static const struct ht_grid_spec nvfp4_spec = {.n_sub = 4, .sub_len = 16, .lo = 0, .hi = 15, .levels = fp4_levels,
    .plain_error = 1};

/* ---- shared ---- */

/* Table position to the file's code and back: 0..7 are -12 .. -0, 8..15 are 0 .. 12. */
HT_INLINE uint8_t file_code(int8_t c) {
    return (uint8_t)(c < 8 ? 15 - c : c - 8);
}

HT_INLINE int8_t table_code(unsigned q) {
    return (int8_t)(q < 8 ? q + 8 : 15 - q);
}

/* The level nearest to a >= 0: steps of 1 below 4, of 2 below 8, of 4 above. */
HT_INLINE float nearest_fp4(float a) {
    float magic = a < 4.0f ? HT_ROUND_MAGIC : a < 8.0f ? 2.0f * HT_ROUND_MAGIC : 4.0f * HT_ROUND_MAGIC;
    a = a < 16.0f ? a : 16.0f;
    float q = (a + magic) - magic;
    return q < 12.0f ? q : 12.0f;
}

HT_INLINE float magnitude(float x) {
    return ht_f32_from_bits(ht_f32_bits(x) & 0x7fffffffu);
}

/* ---- mxfp4 ---- */

#define MX_TOP 252 /* the largest exponent code whose 12 is finite */
#define MX_FAR 12

static float mx_scale(unsigned e) {
    return ht_f32_from_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23);
}

/* Error with scale 2^-k of a normalized block. */
HT_INLINE float mx_error(const struct ht_work *work, int k) {
    float sum[HT_LANES] = {0}, inv = ht_f32_from_bits((uint32_t)(127 + k) << 23), scale = 1.0f / inv;
    for (int i = 0; i < 32; i += HT_LANES) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float a = magnitude(work->x[i + l]), r = a - scale * nearest_fp4(a * inv);
            sum[l] += work->w[i + l] * r * r;
        }
    }
    for (int half = HT_LANES / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) {
            sum[l] += sum[l + half];
        }
    }
    return sum[0];
}

/* The k of the least error. The largest element lies in [1, 2): with scales 1/4, 1/8 and 1/16 it comes to 4 to 8, 8 to
 * 16 and beyond, where it is cut off. Only when importance makes an end the best of these are more tried there. */
HT_CLONES
static int mx_search(const struct ht_work *work, int low, int high) {
    int from = low > 2 ? low : 2, to = high < 4 ? high : 4, k = from;
    float best = INFINITY;
    for (int i = from; i <= to; i++) {
        float err = mx_error(work, i);
        k = err < best ? i : k;
        best = err < best ? err : best;
    }
    int way = k == from && from > low ? -1 : k == to && to < high ? 1 : 0;
    for (int i = k + way; way != 0 && i >= low && i <= high; i += way) {
        float err = mx_error(work, i);
        if (!(err < best)) {
            break;
        }
        best = err;
        k = i;
    }
    return k;
}

static void mxfp4_fit(const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    ht_grid_shape(&mxfp4_spec, grid);
    ht_search_load(&work, x, weight, 32, &mxfp4_spec, 12.0f * mx_scale(MX_TOP));
    grid->d = grid->dmin = 0;
    grid->min[0] = 0.0f;
    if (work.amax > 0.0f) {
        int top = (int)(ht_f32_bits(work.up) >> 23) + 1; /* the code of scale 1; up is a normal power of two */
        int low = top > MX_TOP ? top - MX_TOP : 0;
        grid->d = (uint16_t)(top - mx_search(&work, low, top < MX_FAR ? top : MX_FAR));
    }
    grid->scale[0] = mx_scale(grid->d);
}

static void mxfp4_snap(struct ht_grid *grid) {
    float s = magnitude(grid->scale[0]);
    unsigned e = 0;
    while (e < MX_TOP && s > 0.5f * (mx_scale(e) + mx_scale(e + 1))) {
        e++;
    }
    grid->d = (uint16_t)(s == mx_scale(grid->d & 255u) ? grid->d & 255u : e);
    grid->dmin = 0;
    grid->scale[0] = mx_scale(grid->d);
    grid->min[0] = 0.0f;
}

static void mxfp4_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst, q[32];
    for (int j = 0; j < 32; j++) {
        q[j] = file_code(codes[j]);
    }
    p[0] = (uint8_t)grid->d;
    ht_put_nibbles(q, p + 1);
}

static void mxfp4_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&mxfp4_spec, grid);
    grid->d = p[0];
    grid->dmin = 0;
    grid->scale[0] = mx_scale(p[0]);
    grid->min[0] = 0.0f;
    ht_get_nibbles(p + 1, codes);
    for (int j = 0; j < 32; j++) {
        codes[j] = table_code((unsigned)codes[j]);
    }
}

static void mxfp4_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_mxfp4, src, x, n);
}

static void mxfp4_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_mxfp4, x, weight, dst, n);
}

const struct ht_format ht_format_mxfp4 = {
    .name = "mxfp4", .summary = "4-bit floats, blocks of 32, power of two as scale",
    .source = "OCP Microscaling Formats 1.0; GGUF: ggml", .kind = HT_KIND_LUT, .gguf_type = 39, .block_elems = 32,
    .block_bytes = 17, .decode = mxfp4_decode, .encode = mxfp4_encode, .fit = mxfp4_fit, .snap = mxfp4_snap,
    .round = ht_grid_round, .pack = mxfp4_pack, .unpack = mxfp4_unpack,
};

/* ---- nvfp4 ---- */

#define NV_TOP 126        /* code of the largest scale, 448; 127 would be NaN and counts as 0 */
#define NV_LIMIT 4096.0f  /* beyond 12 * 224, the largest value */

/* Half of the E4M3 float of a code 0..126. The file's byte has 8 bits: 127 is 0, and above 127 the top bit goes
 * into the exponent's sign, which is not looked at, so 128..255 repeat 0..127 but for 255, which is 240. */
HT_INLINE float nv_scale(int32_t c) {
    float normal = ht_f32_from_bits((uint32_t)((c >> 3) + 119) << 23 | (uint32_t)(c & 7) << 20);
    return c < 8 ? (float)c * 0x1p-10f : normal;
}

static float nv_byte_scale(uint8_t b) {
    return b == 0x7f ? 0.0f : nv_scale(b & 0x7f);
}

/* Errors of the 16 scales from code `from` on; returns the best lane. */
HT_CLONES
static int nv_try(const float *x, const float *w, int32_t from, float *least) {
    float scale[HT_LANES], inv[HT_LANES], err[HT_LANES] = {0};
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        scale[l] = nv_scale(from + l);
        inv[l] = 1.0f / (scale[l] > 0x1p-10f ? scale[l] : 0x1p-10f);
    }
    for (int i = 0; i < 16; i++) {
        float a = magnitude(x[i]), wi = w[i];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float r = a - scale[l] * nearest_fp4(a * inv[l]);
            err[l] += wi * r * r;
        }
    }
    int best = ht_lane_lowest(err);
    *least = err[best];
    return best;
}

/* The code of the largest scale that is not above s. */
static int32_t nv_floor(float s) {
    if (s < 0x1p-7f) {
        return (int32_t)(s * 0x1p10f);
    }
    return s < 224.0f ? (int32_t)(ht_f32_bits(s) >> 20) - (119 << 3) : NV_TOP;
}

/* The scale that brings the largest element to level 15 is the first that is tried: with 16 codes, two octaves, the
 * last brings it below level 4. Where importance has it that the best lies at an end, the search goes on there. */
static int nv_search(const float *x, const float *w) {
    float best = INFINITY, err;
    int32_t last = NV_TOP - (HT_LANES - 1), from = nv_floor(magnitude(ht_search_extreme(x, 16)) * (1.0f / 15.0f));
    int code = 0, way = 0;
    for (;;) {
        from = from > 0 ? from : 0;
        from = from < last ? from : last;
        int l = nv_try(x, w, from, &err);
        if (!(err < best)) {
            return code;
        }
        best = err;
        code = from + l;
        if (l == 0 && from > 0 && way <= 0) {
            way = -1;
        } else if (l == HT_LANES - 1 && from < last && way >= 0) {
            way = 1;
        } else {
            return code;
        }
        from += way * (HT_LANES - 1);
    }
}

/* Values without NaN and within NV_LIMIT, weights of which the largest is about 1. */
static void nv_load(const float *x, const float *weight, float *v, float *w) {
    int32_t w_max = weight ? ht_lane_largest_bits(weight, 64) : 0;
    int use = w_max > 0 && w_max < HT_F32_INF_BITS;
    float factor = ht_lane_normalizer(w_max);
    for (int i = 0; i < 64; i++) {
        float a = x[i] > -NV_LIMIT ? x[i] : -NV_LIMIT;
        v[i] = a < NV_LIMIT ? a : NV_LIMIT;
        w[i] = use ? weight[i] * factor : 1.0f;
    }
}

static void nv_restore(struct ht_grid *grid) {
    for (int s = 0; s < 4; s++) {
        grid->scale[s] = nv_byte_scale((uint8_t)grid->q_scale[s]);
        grid->min[s] = 0.0f;
        grid->q_min[s] = 0;
    }
    grid->d = grid->dmin = 0;
}

static void nvfp4_fit(const float *x, const float *weight, struct ht_grid *grid) {
    float v[64], w[64];
    nv_load(x, weight, v, w);
    ht_grid_shape(&nvfp4_spec, grid);
    for (int s = 0; s < 4; s++) {
        grid->q_scale[s] = (int8_t)nv_search(v + 16 * s, w + 16 * s);
    }
    nv_restore(grid);
}

static void nvfp4_snap(struct ht_grid *grid) {
    for (int s = 0; s < 4; s++) {
        float wanted = magnitude(grid->scale[s]);
        if (wanted != nv_byte_scale((uint8_t)grid->q_scale[s])) {
            int c = nv_floor(wanted);
            c += c < NV_TOP && wanted > 0.5f * (nv_scale(c) + nv_scale(c + 1));
            grid->q_scale[s] = (int8_t)c;
        }
    }
    nv_restore(grid);
}

/* Bytes of 8: element j of a sub-block low, element j + 8 high. */
static void nvfp4_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    memcpy(p, grid->q_scale, 4);
    for (int j = 0; j < 32; j++) {
        const int8_t *c = codes + 16 * (j / 8) + j % 8;
        p[4 + j] = (uint8_t)(file_code(c[0]) | file_code(c[8]) << 4);
    }
}

static void nvfp4_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&nvfp4_spec, grid);
    memcpy(grid->q_scale, p, 4);
    nv_restore(grid);
    for (int j = 0; j < 32; j++) {
        int8_t *c = codes + 16 * (j / 8) + j % 8;
        c[0] = table_code(p[4 + j] & 15);
        c[8] = table_code(p[4 + j] >> 4);
    }
}

static void nvfp4_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_nvfp4, src, x, n);
}

static void nvfp4_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_nvfp4, x, weight, dst, n);
}

const struct ht_format ht_format_nvfp4 = {
    .name = "nvfp4", .summary = "4-bit floats, 4 sub-blocks of 16 with 8-bit floats as scales",
    .source = "NVIDIA NVFP4; GGUF: ggml", .kind = HT_KIND_LUT, .gguf_type = 40, .block_elems = 64,
    .block_bytes = 36, .decode = nvfp4_decode, .encode = nvfp4_encode, .fit = nvfp4_fit, .snap = nvfp4_snap,
    .round = ht_grid_round, .pack = nvfp4_pack, .unpack = nvfp4_unpack,
};
