/* GGUF's formats of one and two bits with nothing but a scale (drawn in docs/formats.md):
 *
 *     q1_0  d | qs[16]    blocks of 128, y = d or -d
 *     q2_0  d | qs[16]    blocks of 64,  y = d * (q - 1), q = 0..3: -d, 0, d, 2 d
 *
 * q1_0 has a closed form: the best scale is the weighted mean of abs(x). In q2_0 the sign of d decides on which
 * side the fourth level lies; candidates of both signs are searched. */
#include "format/fit.h"

#define SOURCE "GGUF: ggml quantization formats"

static const float signs[2] = {-1.0f, 1.0f};
static const struct ht_grid_spec q1_0_spec = {.n_sub = 1, .sub_len = 128, .lo = 0, .hi = 1, .levels = signs,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .plain_error = 1};

/* 1 / position of the largest element: near 2 and -1 where it stands alone, beyond where it is cut off. */
static const float q2_0_first[48] = {
    1 / 1.50f, 1 / 1.61f, 1 / 1.73f, 1 / 1.85f, 1 / 1.98f, 1 / 2.13f, 1 / 2.28f, 1 / 2.45f,
    1 / 2.63f, 1 / 2.82f, 1 / 3.02f, 1 / 3.24f, 1 / 3.47f, 1 / 3.73f, 1 / 4.00f, 1 / 4.28f,
    1 / 4.60f, 1 / 4.93f, 1 / 5.29f, 1 / 5.67f, 1 / 6.08f, 1 / 6.52f, 1 / 6.99f, 1 / 7.50f,
    1 / -0.80f, 1 / -0.87f, 1 / -0.95f, 1 / -1.03f, 1 / -1.12f, 1 / -1.22f, 1 / -1.32f, 1 / -1.44f,
    1 / -1.56f, 1 / -1.70f, 1 / -1.85f, 1 / -2.01f, 1 / -2.19f, 1 / -2.38f, 1 / -2.59f, 1 / -2.81f,
    1 / -3.06f, 1 / -3.33f, 1 / -3.62f, 1 / -3.93f, 1 / -4.28f, 1 / -4.65f, 1 / -5.06f, 1 / -5.50f,
};
static const struct ht_grid_spec q2_0_spec = {.n_sub = 1, .sub_len = 64, .lo = -1, .hi = 2,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .first = q2_0_first, .n_first = 48, .plain_error = 1};

static void get_scale(const struct ht_grid_spec *spec, const uint8_t *p, struct ht_grid *grid) {
    ht_grid_shape(spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    ht_grid_restore(grid);
}

/* ---- q1_0 ---- */

static void q1_0_fit(const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    float a = 0.0f, b = 0.0f, err = 0.0f;
    ht_grid_shape(&q1_0_spec, grid);
    ht_search_load(&work, x, weight, 128, &q1_0_spec, ht_fit_limit(&q1_0_spec));
    grid->d = grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    if (work.amax > 0.0f) {
        for (int i = 0; i < 128; i++) {
            a += work.w[i] * (work.x[i] < 0.0f ? -work.x[i] : work.x[i]);
            b += work.w[i];
        }
        float d = ht_fit_storable(&work, a / b, &grid->d);
        for (int i = 0; i < 128; i++) {
            float r = (work.x[i] < 0.0f ? -work.x[i] : work.x[i]) - d;
            err += work.w[i] * r * r;
        }
        ht_fit_or_zero(&work, 128, err, grid);
    }
    ht_grid_restore(grid);
}

static void q1_0_snap(struct ht_grid *grid) {
    ht_fit_snap(&q1_0_spec, grid);
}

static void q1_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    for (int j = 0; j < 16; j++) {
        unsigned bits = 0;
        for (int k = 0; k < 8; k++) {
            bits |= (unsigned)codes[8 * j + k] << k;
        }
        p[2 + j] = (uint8_t)bits;
    }
}

static void q1_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    get_scale(&q1_0_spec, p, grid);
    for (int j = 0; j < 128; j++) {
        codes[j] = (int8_t)(p[2 + j / 8] >> j % 8 & 1);
    }
}

static void q1_0_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q1_0, src, x, n);
}

static void q1_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q1_0, x, weight, dst, n);
}

const struct ht_format ht_format_q1_0 = {
    .name = "q1_0", .summary = "1-bit, the sign, blocks of 128, scale; for models trained so", .source = SOURCE,
    .kind = HT_KIND_BLOCK, .gguf_type = 41, .block_elems = 128, .block_bytes = 18, .decode = q1_0_decode,
    .encode = q1_0_encode, .fit = q1_0_fit, .snap = q1_0_snap, .round = ht_grid_round, .pack = q1_0_pack,
    .unpack = q1_0_unpack,
};

/* ---- q2_0 ---- */

static void q2_0_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&q2_0_spec, x, weight, grid);
}

static void q2_0_snap(struct ht_grid *grid) {
    ht_fit_snap(&q2_0_spec, grid);
}

static void q2_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    for (int j = 0; j < 16; j++) {
        unsigned bits = 0;
        for (int k = 0; k < 4; k++) {
            bits |= (unsigned)(codes[4 * j + k] + 1) << 2 * k;
        }
        p[2 + j] = (uint8_t)bits;
    }
}

static void q2_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    get_scale(&q2_0_spec, p, grid);
    for (int j = 0; j < 64; j++) {
        codes[j] = (int8_t)((p[2 + j / 4] >> 2 * (j % 4) & 3) - 1);
    }
}

static void q2_0_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q2_0, src, x, n);
}

static void q2_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q2_0, x, weight, dst, n);
}

const struct ht_format ht_format_q2_0 = {
    .name = "q2_0", .summary = "2-bit, blocks of 64, scale", .source = SOURCE, .kind = HT_KIND_BLOCK,
    .gguf_type = 42, .block_elems = 64, .block_bytes = 18, .decode = q2_0_decode, .encode = q2_0_encode,
    .fit = q2_0_fit, .snap = q2_0_snap, .round = ht_grid_round, .pack = q2_0_pack, .unpack = q2_0_unpack,
};
