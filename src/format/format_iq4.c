/* GGUF's 4-bit formats whose 16 levels are not evenly spaced.
 *
 *     iq4_nl  d | qs[16]                                  blocks of 32, y = d * level[q]
 *     iq4_xs  d | scales_h (u16) | scales_l[4] | qs[128]  8 sub-blocks of 32, y = d * (s[b] - 32) * level[q]
 *
 * Bit layouts are drawn in docs/formats.md. */
#include "format/format_impl.h"

#define SOURCE "GGUF: ggml i-quants"

static const float iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static const float iq4_nl_first[32] = {
    1 / -105.0f, 1 / -107.75f, 1 / -110.5f, 1 / -113.25f, 1 / -116.0f, 1 / -118.75f, 1 / -121.5f, 1 / -124.25f,
    1 / -127.0f, 1 / -129.75f, 1 / -132.5f, 1 / -135.25f, 1 / -138.0f, 1 / -140.75f, 1 / -143.5f, 1 / -146.25f,
    1 / 91.0f, 1 / 93.75f, 1 / 96.5f, 1 / 99.25f, 1 / 102.0f, 1 / 104.75f, 1 / 107.5f, 1 / 110.25f,
    1 / 113.0f, 1 / 115.75f, 1 / 118.5f, 1 / 121.25f, 1 / 124.0f, 1 / 126.75f, 1 / 129.5f, 1 / 132.25f,
};

static const struct ht_grid_spec iq4_nl_spec = {.n_sub = 1, .sub_len = 32, .lo = 0, .hi = 15,
    .levels = iq4_levels, .q_scale_lo = 1, .q_scale_hi = 1, .q_min_hi = 0, .first = iq4_nl_first, .n_first = 32};
static const struct ht_grid_spec iq4_xs_spec = {.n_sub = 8, .sub_len = 32, .lo = 0, .hi = 15,
    .levels = iq4_levels, .q_scale_lo = -32, .q_scale_hi = 31, .q_min_hi = 0, .first = iq4_nl_first, .n_first = 32};

/* ---- iq4_nl ---- */

static void iq4_nl_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&iq4_nl_spec, x, weight, grid);
}

static void iq4_nl_snap(struct ht_grid *grid) {
    ht_fit_snap(&iq4_nl_spec, grid);
}

static void iq4_nl_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    ht_put_nibbles((const uint8_t *)codes, p + 2);
}

static void iq4_nl_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&iq4_nl_spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    ht_get_nibbles(p + 2, codes);
    ht_grid_restore(grid);
}

static void iq4_nl_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_iq4_nl, src, x, n);
}

static void iq4_nl_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_iq4_nl, x, weight, dst, n);
}

const struct ht_format ht_format_iq4_nl = {
    .name = "iq4_nl", .summary = "4-bit uneven levels, blocks of 32, scale", .source = SOURCE,
    .kind = HT_KIND_LUT, .gguf_type = 20, .block_elems = 32, .block_bytes = 18, .decode = iq4_nl_decode,
    .encode = iq4_nl_encode, .fit = iq4_nl_fit, .snap = iq4_nl_snap, .round = ht_grid_round,
    .pack = iq4_nl_pack, .unpack = iq4_nl_unpack,
};

/* ---- iq4_xs: s[b] is 6 bits: low 4 in nibble b of scales_l, high 2 in bit pair b of scales_h ---- */

static void iq4_xs_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&iq4_xs_spec, x, weight, grid);
}

static void iq4_xs_snap(struct ht_grid *grid) {
    ht_fit_snap(&iq4_xs_spec, grid);
}

static void iq4_xs_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    unsigned high = 0;
    ht_put_u16(p, grid->d);
    for (int b = 0; b < 8; b += 2) {
        unsigned s0 = (unsigned)(grid->q_scale[b] + 32), s1 = (unsigned)(grid->q_scale[b + 1] + 32);
        p[4 + b / 2] = (uint8_t)((s0 & 15) | (s1 & 15) << 4);
        high |= s0 >> 4 << 2 * b | s1 >> 4 << (2 * b + 2);
    }
    ht_put_u16(p + 2, (uint16_t)high);
    for (int b = 0; b < 8; b++) {
        ht_put_nibbles((const uint8_t *)codes + 32 * b, p + 8 + 16 * b);
    }
}

static void iq4_xs_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    unsigned high = ht_get_u16(p + 2);
    ht_grid_shape(&iq4_xs_spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    for (int b = 0; b < 8; b++) {
        unsigned low = p[4 + b / 2] >> 4 * (b % 2) & 15;
        grid->q_scale[b] = (int8_t)((int)(low | (high >> 2 * b & 3) << 4) - 32);
        grid->q_min[b] = 0;
        ht_get_nibbles(p + 8 + 16 * b, codes + 32 * b);
    }
    ht_grid_restore(grid);
}

static void iq4_xs_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_iq4_xs, src, x, n);
}

static void iq4_xs_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_iq4_xs, x, weight, dst, n);
}

const struct ht_format ht_format_iq4_xs = {
    .name = "iq4_xs", .summary = "4-bit uneven levels, 8 sub-blocks of 32 with 6-bit scales", .source = SOURCE,
    .kind = HT_KIND_LUT, .gguf_type = 23, .block_elems = 256, .block_bytes = 136, .decode = iq4_xs_decode,
    .encode = iq4_xs_encode, .fit = iq4_xs_fit, .snap = iq4_xs_snap, .round = ht_grid_round,
    .pack = iq4_xs_pack, .unpack = iq4_xs_unpack,
};
