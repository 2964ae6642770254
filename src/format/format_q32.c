/* GGUF's formats with blocks of 32 and one f16 scale, some with one f16 minimum (drawn in docs/formats.md):
 *
 *     q4_0  d | qs[16]            y = d * (q - 8)         q4_1  d | m | qs[16]           y = d * q + m
 *     q5_0  d | qh[4] | qs[16]    y = d * (q - 16)        q5_1  d | m | qh[4] | qs[16]   y = d * q + m
 *
 * Codes here are q - 8, q - 16 and q, as the grid has them. min of the grid is -m, so dmin holds the bits of -m. */
#include "format/format_impl.h"

#define SOURCE "GGUF: ggml quantization formats"
#define F16_SIGN 0x8000u

static const float q4_0_first[32] = {
    1 / -7.0f, 1 / -7.125f, 1 / -7.25f, 1 / -7.375f, 1 / -7.5f, 1 / -7.625f, 1 / -7.75f, 1 / -7.875f,
    1 / -8.0f, 1 / -8.125f, 1 / -8.25f, 1 / -8.375f, 1 / -8.5f, 1 / -8.625f, 1 / -8.75f, 1 / -8.875f,
    1 / 6.0f, 1 / 6.125f, 1 / 6.25f, 1 / 6.375f, 1 / 6.5f, 1 / 6.625f, 1 / 6.75f, 1 / 6.875f,
    1 / 7.0f, 1 / 7.125f, 1 / 7.25f, 1 / 7.375f, 1 / 7.5f, 1 / 7.625f, 1 / 7.75f, 1 / 7.875f,
};
static const float q5_0_first[32] = {
    1 / -15.0f, 1 / -15.125f, 1 / -15.25f, 1 / -15.375f, 1 / -15.5f, 1 / -15.625f, 1 / -15.75f, 1 / -15.875f,
    1 / -16.0f, 1 / -16.125f, 1 / -16.25f, 1 / -16.375f, 1 / -16.5f, 1 / -16.625f, 1 / -16.75f, 1 / -16.875f,
    1 / 14.0f, 1 / 14.125f, 1 / 14.25f, 1 / 14.375f, 1 / 14.5f, 1 / 14.625f, 1 / 14.75f, 1 / 14.875f,
    1 / 15.0f, 1 / 15.125f, 1 / 15.25f, 1 / 15.375f, 1 / 15.5f, 1 / 15.625f, 1 / 15.75f, 1 / 15.875f,
};
static const struct ht_grid_spec q4_0_spec = {.n_sub = 1, .sub_len = 32, .lo = -8, .hi = 7,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .first = q4_0_first, .n_first = 32};
static const struct ht_grid_spec q4_1_spec = {.n_sub = 1, .sub_len = 32, .lo = 0, .hi = 15,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 1};
static const struct ht_grid_spec q5_0_spec = {.n_sub = 1, .sub_len = 32, .lo = -16, .hi = 15,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .first = q5_0_first, .n_first = 32};
static const struct ht_grid_spec q5_1_spec = {.n_sub = 1, .sub_len = 32, .lo = 0, .hi = 31,
    .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 1};

/* ---- bytes ---- */

static uint8_t *put_head(const struct ht_grid *grid, int with_min, uint8_t *p) {
    ht_put_u16(p, grid->d);
    p += 2;
    if (with_min) {
        ht_put_u16(p, (uint16_t)(grid->dmin ^ F16_SIGN));
        p += 2;
    }
    return p;
}

static const uint8_t *get_head(const struct ht_grid_spec *spec, const uint8_t *p, struct ht_grid *grid) {
    ht_grid_shape(spec, grid);
    grid->d = ht_get_u16(p);
    p += 2;
    grid->dmin = 0;
    if (spec->q_min_hi) {
        grid->dmin = (uint16_t)(ht_get_u16(p) ^ F16_SIGN);
        p += 2;
    }
    grid->q_scale[0] = 1;
    grid->q_min[0] = (uint8_t)spec->q_min_hi;
    ht_grid_restore(grid);
    return p;
}

static void put_4bit(const struct ht_grid *grid, int with_min, const int8_t *codes, uint8_t *p) {
    uint8_t q[32];
    for (int j = 0; j < 32; j++) {
        q[j] = (uint8_t)(codes[j] - grid->lo);
    }
    ht_put_nibbles(q, put_head(grid, with_min, p));
}

static void get_4bit(const struct ht_grid_spec *spec, const uint8_t *p, struct ht_grid *grid, int8_t *codes) {
    ht_get_nibbles(get_head(spec, p, grid), codes);
    for (int j = 0; j < 32; j++) {
        codes[j] = (int8_t)(codes[j] + spec->lo);
    }
}

static void put_5bit(const struct ht_grid *grid, int with_min, const int8_t *codes, uint8_t *p) {
    uint8_t q[32];
    uint32_t high = 0;
    for (int j = 0; j < 32; j++) {
        q[j] = (uint8_t)(codes[j] - grid->lo);
        high |= (uint32_t)(q[j] >> 4 & 1) << j;
    }
    p = put_head(grid, with_min, p);
    for (int k = 0; k < 4; k++) {
        p[k] = (uint8_t)(high >> 8 * k);
    }
    ht_put_nibbles(q, p + 4);
}

static void get_5bit(const struct ht_grid_spec *spec, const uint8_t *p, struct ht_grid *grid, int8_t *codes) {
    p = get_head(spec, p, grid);
    ht_get_nibbles(p + 4, codes);
    for (int j = 0; j < 32; j++) {
        int bit = p[j / 8] >> j % 8 & 1;
        codes[j] = (int8_t)((codes[j] | bit << 4) + spec->lo);
    }
}

/* ---- q4_0 ---- */

static void q4_0_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&q4_0_spec, x, weight, grid);
}

static void q4_0_snap(struct ht_grid *grid) {
    ht_fit_snap(&q4_0_spec, grid);
}

static void q4_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    put_4bit(grid, 0, codes, dst);
}

static void q4_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    get_4bit(&q4_0_spec, src, grid, codes);
}

static void q4_0_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q4_0, src, x, n);
}

static void q4_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q4_0, x, weight, dst, n);
}

const struct ht_format ht_format_q4_0 = {
    .name = "q4_0", .summary = "4-bit, blocks of 32, scale", .source = SOURCE, .kind = HT_KIND_BLOCK,
    .gguf_type = 2, .block_elems = 32, .block_bytes = 18, .decode = q4_0_decode, .encode = q4_0_encode,
    .fit = q4_0_fit, .snap = q4_0_snap, .round = ht_grid_round, .pack = q4_0_pack, .unpack = q4_0_unpack,
};

/* ---- q4_1 ---- */

static void q4_1_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_affine(&q4_1_spec, x, weight, grid);
}

static void q4_1_snap(struct ht_grid *grid) {
    ht_fit_snap(&q4_1_spec, grid);
}

static void q4_1_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    put_4bit(grid, 1, codes, dst);
}

static void q4_1_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    get_4bit(&q4_1_spec, src, grid, codes);
}

static void q4_1_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q4_1, src, x, n);
}

static void q4_1_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q4_1, x, weight, dst, n);
}

const struct ht_format ht_format_q4_1 = {
    .name = "q4_1", .summary = "4-bit, blocks of 32, scale and minimum", .source = SOURCE,
    .kind = HT_KIND_BLOCK, .gguf_type = 3, .block_elems = 32, .block_bytes = 20, .decode = q4_1_decode,
    .encode = q4_1_encode, .fit = q4_1_fit, .snap = q4_1_snap, .round = ht_grid_round, .pack = q4_1_pack,
    .unpack = q4_1_unpack,
};

/* ---- q5_0 ---- */

static void q5_0_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&q5_0_spec, x, weight, grid);
}

static void q5_0_snap(struct ht_grid *grid) {
    ht_fit_snap(&q5_0_spec, grid);
}

static void q5_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    put_5bit(grid, 0, codes, dst);
}

static void q5_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    get_5bit(&q5_0_spec, src, grid, codes);
}

static void q5_0_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q5_0, src, x, n);
}

static void q5_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q5_0, x, weight, dst, n);
}

const struct ht_format ht_format_q5_0 = {
    .name = "q5_0", .summary = "5-bit, blocks of 32, scale", .source = SOURCE, .kind = HT_KIND_BLOCK,
    .gguf_type = 6, .block_elems = 32, .block_bytes = 22, .decode = q5_0_decode, .encode = q5_0_encode,
    .fit = q5_0_fit, .snap = q5_0_snap, .round = ht_grid_round, .pack = q5_0_pack, .unpack = q5_0_unpack,
};

/* ---- q5_1 ---- */

static void q5_1_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_affine(&q5_1_spec, x, weight, grid);
}

static void q5_1_snap(struct ht_grid *grid) {
    ht_fit_snap(&q5_1_spec, grid);
}

static void q5_1_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    put_5bit(grid, 1, codes, dst);
}

static void q5_1_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    get_5bit(&q5_1_spec, src, grid, codes);
}

static void q5_1_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q5_1, src, x, n);
}

static void q5_1_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q5_1, x, weight, dst, n);
}

const struct ht_format ht_format_q5_1 = {
    .name = "q5_1", .summary = "5-bit, blocks of 32, scale and minimum", .source = SOURCE,
    .kind = HT_KIND_BLOCK, .gguf_type = 7, .block_elems = 32, .block_bytes = 24, .decode = q5_1_decode,
    .encode = q5_1_encode, .fit = q5_1_fit, .snap = q5_1_snap, .round = ht_grid_round, .pack = q5_1_pack,
    .unpack = q5_1_unpack,
};
