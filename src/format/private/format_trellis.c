/* tr2, tr3, tr4: 2, 3 and 4 bits per weight on a trellis, for this program's own runtime only.
 *
 *     d : f16 | digits[32 * bits]        y = d * level[window]                            (trellis.h)
 *
 * The numbers in GGUF files, 0x48540001 to 3, are private: other programs refuse them. The levels were trained on
 * normal values by tests/oracle/make_trellis.py. Their spread around zero fits values that are about normal, as the
 * 256 weights of a block mostly are; one scale serves them all. */
#include "format/fit.h"
#include "format/private/trellis.h"

#include <math.h>

#define LEN HT_TRELLIS_LEN
#define SOURCE "bit-shift trellis after QTIP, arXiv 2406.11235; docs/formats.md"

static const float levels_2[64] = {
    -127, -97, -88, -80, -73, -67, -64, -62, -57, -51, -48, -44, -42, -41, -38, -36,
    -34, -29, -28, -25, -24, -21, -19, -16, -14, -13, -13, -9, -7, -5, -4, -2,
    2, 4, 5, 7, 9, 13, 13, 14, 16, 19, 21, 24, 25, 28, 29, 34,
    36, 38, 41, 42, 44, 48, 51, 57, 62, 64, 67, 73, 80, 88, 97, 127,
};
static const float levels_3[128] = {
    -127, -103, -92, -85, -80, -76, -73, -72, -67, -64, -63, -59, -58, -56, -55, -51,
    -51, -49, -48, -46, -44, -43, -41, -40, -39, -37, -37, -36, -35, -33, -32, -30,
    -30, -28, -28, -27, -24, -24, -23, -23, -23, -21, -19, -19, -17, -16, -16, -14,
    -13, -12, -12, -12, -10, -9, -9, -7, -6, -5, -5, -4, -4, -2, -1, 0,
    0, 1, 2, 4, 4, 5, 5, 6, 7, 9, 9, 10, 12, 12, 12, 13,
    14, 16, 16, 17, 19, 19, 21, 23, 23, 23, 24, 24, 27, 28, 28, 30,
    30, 32, 33, 35, 36, 37, 37, 39, 40, 41, 43, 44, 46, 48, 49, 51,
    51, 55, 56, 58, 59, 63, 64, 67, 72, 73, 76, 80, 85, 92, 103, 127,
};
static const float levels_4[256] = {
    -127, -107, -95, -88, -85, -82, -79, -75, -75, -72, -69, -68, -67, -65, -64, -61,
    -61, -61, -58, -57, -56, -55, -55, -53, -52, -51, -51, -49, -49, -48, -48, -46,
    -46, -45, -44, -44, -43, -42, -42, -41, -41, -40, -39, -39, -38, -37, -37, -37,
    -35, -35, -34, -34, -33, -32, -32, -32, -31, -30, -30, -29, -29, -28, -28, -28,
    -27, -26, -26, -26, -25, -25, -24, -24, -24, -23, -22, -22, -22, -21, -20, -20,
    -19, -19, -19, -18, -18, -18, -17, -17, -16, -16, -15, -14, -14, -14, -13, -13,
    -12, -12, -12, -11, -11, -11, -11, -9, -9, -9, -9, -8, -8, -7, -7, -6,
    -6, -6, -5, -5, -4, -4, -4, -3, -3, -2, -2, -2, -1, -1, 0, 0,
    0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6,
    6, 7, 7, 8, 8, 9, 9, 9, 9, 11, 11, 11, 11, 12, 12, 12,
    13, 13, 14, 14, 14, 15, 16, 16, 17, 17, 18, 18, 18, 19, 19, 19,
    20, 20, 21, 22, 22, 22, 23, 24, 24, 24, 25, 25, 26, 26, 26, 27,
    28, 28, 28, 29, 29, 30, 30, 31, 32, 32, 32, 33, 34, 34, 35, 35,
    37, 37, 37, 38, 39, 39, 40, 41, 41, 42, 42, 43, 44, 44, 45, 46,
    46, 48, 48, 49, 49, 51, 51, 52, 53, 55, 55, 56, 57, 58, 61, 61,
    61, 64, 65, 67, 68, 69, 72, 75, 75, 79, 82, 85, 88, 95, 107, 127,
};

static const struct ht_trellis trellis_2 = {.bits = 2, .factor = 0xc27d, .levels = levels_2, .unit = 0.020426f,
    .floor = 60.0f, .slope = 0.04339f};
static const struct ht_trellis trellis_3 = {.bits = 3, .factor = 0xa051, .levels = levels_3, .unit = 0.022917f,
    .floor = 11.5f, .slope = 0.01155f};
static const struct ht_trellis trellis_4 = {.bits = 4, .factor = 0x105f, .levels = levels_4, .unit = 0.025044f,
    .floor = 2.3f, .slope = 0.00339f};

#define GRID_SPEC(b) {.n_sub = 1, .sub_len = LEN, .lo = -(8 << (b)), .hi = (8 << (b)) - 1, .levels = levels_##b, \
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .plain_error = 1}
static const struct ht_grid_spec tr2_spec = GRID_SPEC(2), tr3_spec = GRID_SPEC(3), tr4_spec = GRID_SPEC(4);

/* ---- all three ---- */

#define FAR 256.0f /* beyond the last level, 127: how far does not matter */

static void path_at(const struct ht_trellis *t, const float *x, const float *w, float d, int ring, uint8_t *numbers) {
    float v[LEN], inv = ht_grid_inverse(d);
    for (int i = 0; i < LEN; i++) {
        float a = x[i] * inv;
        a = a > -FAR ? a : -FAR;
        v[i] = a < FAR ? a : FAR;
    }
    ht_trellis_path(t, v, w, ring, numbers);
}

/* A scale to begin with, from a model of the error: inside the levels' range it is even, c0 + c1 * the mean square
 * of the values, both in units of levels; beyond, the distance to the last level. The constants were measured on
 * normal and heavy-tailed rows. 16 scales are compared, from one that suits normal values up to the one that reaches
 * the largest element. */
#define LAST 115.0f
HT_CLONES
static float first_scale(const struct ht_trellis *t, const struct ht_work *work) {
    float sum = 0.0f, sum_w = 0.0f, d[HT_LANES], inv[HT_LANES], in[HT_LANES] = {0}, out[HT_LANES] = {0};
    for (int i = 0; i < LEN; i++) {
        sum += work->x[i] * work->x[i];
        sum_w += work->w[i];
    }
    float low = 0.95f * sqrtf(sum / LEN) * t->unit, high = work->amax / 127.0f;
    high = high > 1.6f * low ? high : 1.6f * low;
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        d[l] = low + (high - low) * ((float)(l * l + 3 * l) / 270.0f);
        inv[l] = 1.0f / d[l];
    }
    for (int i = 0; i < LEN; i++) {
        float a = work->x[i] < 0.0f ? -work->x[i] : work->x[i], w = work->w[i];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float v = a * inv[l], far = v > LAST ? v - LAST : 0.0f;
            v = v - far;
            in[l] += v * v;
            out[l] += w * far * far;
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        float even = t->floor + t->slope * in[l] / LEN;
        out[l] = (out[l] + sum_w * even) * d[l] * d[l];
    }
    return d[ht_lane_lowest(out)];
}

/* The scale at which the best path of scale d is best itself, as f16 holds it. */
static void refit(const struct ht_trellis *t, const struct ht_work *work, float d, struct ht_grid *grid) {
    uint8_t numbers[LEN];
    float wxx = 0.0f, wxq = 0.0f, wqq = 0.0f;
    path_at(t, work->x, work->w, d, 0, numbers);
    for (int i = 0; i < LEN; i++) {
        float x = work->x[i], w = work->w[i], q = t->levels[numbers[i]];
        wxx += w * x * x;
        wxq += w * x * q;
        wqq += w * q * q;
    }
    d = ht_fit_storable(work, wqq > 0.0f ? wxq / wqq : 0.0f, &grid->d);
    ht_fit_or_zero(work, LEN, wxx - 2.0f * d * wxq + d * d * wqq, grid);
}

static int all_equal(const float *x) {
    int equal = 1;
    for (int i = 1; i < LEN; i++) {
        equal &= x[i] == x[0];
    }
    return equal;
}

static void fit(const struct ht_trellis *t, const struct ht_grid_spec *spec, const float *x, const float *weight,
                struct ht_grid *grid) {
    struct ht_work work;
    ht_grid_shape(spec, grid);
    ht_search_load(&work, x, weight, LEN, spec, ht_fit_limit(spec));
    grid->d = grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    if (work.amax > 0.0f && all_equal(work.x)) { /* window 0 follows itself; its level is the first */
        ht_fit_storable(&work, work.x[0] / t->levels[0], &grid->d);
    } else if (work.amax > 0.0f) {
        refit(t, &work, first_scale(t, &work), grid);
    }
    ht_grid_restore(grid);
}

static void round_block(const struct ht_trellis *t, const float *x, const float *weight, const struct ht_grid *grid,
                        int8_t *codes) {
    struct ht_work work;
    uint8_t numbers[LEN];
    static const struct ht_grid_spec plain = {.plain_error = 1};
    ht_search_load(&work, x, weight, LEN, &plain, INFINITY);
    path_at(t, x, work.w, grid->scale[0], 1, numbers);
    for (int i = 0; i < LEN; i++) {
        codes[i] = (int8_t)(numbers[i] + grid->lo);
    }
}

static void pack(const struct ht_trellis *t, const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst, numbers[LEN];
    ht_put_u16(p, grid->d);
    for (int i = 0; i < LEN; i++) {
        numbers[i] = (uint8_t)(codes[i] - grid->lo);
    }
    if (!ht_trellis_digits(t, numbers, p + 2)) { /* not a path: the nearest one */
        float x[LEN], w[LEN];
        for (int i = 0; i < LEN; i++) {
            x[i] = t->levels[numbers[i]];
            w[i] = 1.0f;
        }
        ht_trellis_path(t, x, w, 1, numbers);
        ht_trellis_digits(t, numbers, p + 2);
    }
}

static void unpack(const struct ht_trellis *t, const struct ht_grid_spec *spec, const void *src, struct ht_grid *grid,
                   int8_t *codes) {
    const uint8_t *p = src;
    uint8_t numbers[LEN];
    ht_grid_shape(spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    ht_grid_restore(grid);
    ht_trellis_numbers(t, p + 2, numbers);
    for (int i = 0; i < LEN; i++) {
        codes[i] = (int8_t)(numbers[i] + spec->lo);
    }
}

/* ---- tr2 ---- */

static void tr2_fit(const float *x, const float *weight, struct ht_grid *grid) {
    fit(&trellis_2, &tr2_spec, x, weight, grid);
}

static void tr2_snap(struct ht_grid *grid) {
    ht_fit_snap(&tr2_spec, grid);
}

static void tr2_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes) {
    round_block(&trellis_2, x, weight, grid, codes);
}

static void tr2_round_vector(const float *x, const float *weight, const struct ht_grid *grid, uint32_t at,
                              int8_t *codes) {
    (void)at; /* the vector is the block */
    round_block(&trellis_2, x, weight, grid, codes);
}

static void tr2_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    pack(&trellis_2, grid, codes, dst);
}

static void tr2_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    unpack(&trellis_2, &tr2_spec, src, grid, codes);
}

static void tr2_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_tr2, src, x, n);
}

static void tr2_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_tr2, x, weight, dst, n);
}

const struct ht_format ht_format_tr2 = {
    .name = "tr2", .summary = "2-bit trellis, blocks of 256, scale; halftone runtime only", .source = SOURCE,
    .kind = HT_KIND_LATTICE, .gguf_type = 0x48540001, .block_elems = LEN, .block_bytes = 66, .vector = LEN,
    .decode = tr2_decode, .encode = tr2_encode, .fit = tr2_fit, .snap = tr2_snap, .round = tr2_round,
    .round_vector = tr2_round_vector, .pack = tr2_pack, .unpack = tr2_unpack,
};

/* ---- tr3 ---- */

static void tr3_fit(const float *x, const float *weight, struct ht_grid *grid) {
    fit(&trellis_3, &tr3_spec, x, weight, grid);
}

static void tr3_snap(struct ht_grid *grid) {
    ht_fit_snap(&tr3_spec, grid);
}

static void tr3_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes) {
    round_block(&trellis_3, x, weight, grid, codes);
}

static void tr3_round_vector(const float *x, const float *weight, const struct ht_grid *grid, uint32_t at,
                              int8_t *codes) {
    (void)at; /* the vector is the block */
    round_block(&trellis_3, x, weight, grid, codes);
}

static void tr3_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    pack(&trellis_3, grid, codes, dst);
}

static void tr3_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    unpack(&trellis_3, &tr3_spec, src, grid, codes);
}

static void tr3_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_tr3, src, x, n);
}

static void tr3_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_tr3, x, weight, dst, n);
}

const struct ht_format ht_format_tr3 = {
    .name = "tr3", .summary = "3-bit trellis, blocks of 256, scale; halftone runtime only", .source = SOURCE,
    .kind = HT_KIND_LATTICE, .gguf_type = 0x48540002, .block_elems = LEN, .block_bytes = 98, .vector = LEN,
    .decode = tr3_decode, .encode = tr3_encode, .fit = tr3_fit, .snap = tr3_snap, .round = tr3_round,
    .round_vector = tr3_round_vector, .pack = tr3_pack, .unpack = tr3_unpack,
};

/* ---- tr4 ---- */

static void tr4_fit(const float *x, const float *weight, struct ht_grid *grid) {
    fit(&trellis_4, &tr4_spec, x, weight, grid);
}

static void tr4_snap(struct ht_grid *grid) {
    ht_fit_snap(&tr4_spec, grid);
}

static void tr4_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes) {
    round_block(&trellis_4, x, weight, grid, codes);
}

static void tr4_round_vector(const float *x, const float *weight, const struct ht_grid *grid, uint32_t at,
                              int8_t *codes) {
    (void)at; /* the vector is the block */
    round_block(&trellis_4, x, weight, grid, codes);
}

static void tr4_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    pack(&trellis_4, grid, codes, dst);
}

static void tr4_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    unpack(&trellis_4, &tr4_spec, src, grid, codes);
}

static void tr4_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_tr4, src, x, n);
}

static void tr4_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_tr4, x, weight, dst, n);
}

const struct ht_format ht_format_tr4 = {
    .name = "tr4", .summary = "4-bit trellis, blocks of 256, scale; halftone runtime only", .source = SOURCE,
    .kind = HT_KIND_LATTICE, .gguf_type = 0x48540003, .block_elems = LEN, .block_bytes = 130, .vector = LEN,
    .decode = tr4_decode, .encode = tr4_encode, .fit = tr4_fit, .snap = tr4_snap, .round = tr4_round,
    .round_vector = tr4_round_vector, .pack = tr4_pack, .unpack = tr4_unpack,
};
