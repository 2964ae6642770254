/* GGUF's K formats with scale and minimum per sub-block: 256 elements, y = d * s[b] * q - dmin * m[b].
 *
 *     q2_k  scales[16] | qs[64] | d | dmin             16 sub-blocks of 16, s and m 4-bit in one byte
 *     q4_k  d | dmin | scales[12] | qs[128]             8 sub-blocks of 32, s and m 6-bit packed in 12 bytes
 *     q5_k  d | dmin | scales[12] | qh[32] | qs[128]    the same with a fifth bit plane
 *
 * Bit layouts are drawn in docs/formats.md. */
#include "format/format_impl.h"

#define SOURCE "GGUF: ggml k-quants"

static const struct ht_grid_spec q2_k_spec = {.n_sub = 16, .sub_len = 16, .lo = 0, .hi = 3,
    .q_scale_lo = 0, .q_scale_hi = 15, .q_min_hi = 15};
static const struct ht_grid_spec q4_k_spec = {.n_sub = 8, .sub_len = 32, .lo = 0, .hi = 15,
    .q_scale_lo = 0, .q_scale_hi = 63, .q_min_hi = 63};
static const struct ht_grid_spec q5_k_spec = {.n_sub = 8, .sub_len = 32, .lo = 0, .hi = 31,
    .q_scale_lo = 0, .q_scale_hi = 63, .q_min_hi = 63};

/* ---- q2_k ---- */

static void q2_k_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_affine(&q2_k_spec, x, weight, grid);
}

static void q2_k_snap(struct ht_grid *grid) {
    ht_fit_snap(&q2_k_spec, grid);
}

static void q2_k_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *scales = dst, *qs = scales + 16;
    for (int b = 0; b < 16; b++) {
        scales[b] = (uint8_t)((grid->q_scale[b] & 15) | grid->q_min[b] << 4);
    }
    for (int half = 0; half < 2; half++) {
        const int8_t *c = codes + 128 * half;
        for (int l = 0; l < 32; l++) {
            qs[32 * half + l] = (uint8_t)(c[l] | c[l + 32] << 2 | c[l + 64] << 4 | c[l + 96] << 6);
        }
    }
    ht_put_u16(qs + 64, grid->d);
    ht_put_u16(qs + 66, grid->dmin);
}

static void q2_k_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *scales = src, *qs = scales + 16;
    ht_grid_shape(&q2_k_spec, grid);
    for (int b = 0; b < 16; b++) {
        grid->q_scale[b] = (int8_t)(scales[b] & 15);
        grid->q_min[b] = scales[b] >> 4;
    }
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k < 4; k++) {
            for (int l = 0; l < 32; l++) {
                codes[128 * half + 32 * k + l] = (int8_t)(qs[32 * half + l] >> 2 * k & 3);
            }
        }
    }
    grid->d = ht_get_u16(qs + 64);
    grid->dmin = ht_get_u16(qs + 66);
    ht_grid_restore(grid);
}

static void q2_k_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q2_k, src, x, n);
}

static void q2_k_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q2_k, x, weight, dst, n);
}

const struct ht_format ht_format_q2_k = {
    .name = "q2_k", .summary = "2-bit, 16 sub-blocks of 16 with 4-bit scales and minima", .source = SOURCE,
    .kind = HT_KIND_KBLOCK, .gguf_type = 10, .block_elems = 256, .block_bytes = 84, .decode = q2_k_decode,
    .encode = q2_k_encode, .fit = q2_k_fit, .snap = q2_k_snap, .round = ht_grid_round, .pack = q2_k_pack,
    .unpack = q2_k_unpack,
};

/* ---- what q4_k and q5_k share: 8 scales and 8 minima of 6 bits in 12 bytes ----
 * bytes 0..3:  s[0..3] low 6 bits, top 2 bits of s[4..7] above them
 * bytes 4..7:  m[0..3] low 6 bits, top 2 bits of m[4..7] above them
 * bytes 8..11: low nibbles: s[4..7] low 4 bits; high nibbles: m[4..7] low 4 bits */

static void put_scales(const struct ht_grid *grid, uint8_t *p) {
    for (int b = 0; b < 4; b++) {
        unsigned s_low = (uint8_t)grid->q_scale[b], s_high = (uint8_t)grid->q_scale[b + 4];
        unsigned m_low = grid->q_min[b], m_high = grid->q_min[b + 4];
        p[b] = (uint8_t)(s_low | (s_high >> 4) << 6);
        p[b + 4] = (uint8_t)(m_low | (m_high >> 4) << 6);
        p[b + 8] = (uint8_t)((s_high & 15) | (m_high & 15) << 4);
    }
}

static void get_scales(const uint8_t *p, struct ht_grid *grid) {
    for (int b = 0; b < 4; b++) {
        grid->q_scale[b] = (int8_t)(p[b] & 63);
        grid->q_min[b] = p[b + 4] & 63;
        grid->q_scale[b + 4] = (int8_t)((p[b + 8] & 15) | (p[b] >> 6) << 4);
        grid->q_min[b + 4] = (uint8_t)(p[b + 8] >> 4 | (p[b + 4] >> 6) << 4);
    }
}

/* Per 64 codes 32 bytes: code l low, code l + 32 high. */
static void put_k_nibbles(const int8_t *codes, uint8_t *qs) {
    for (int c = 0; c < 4; c++) {
        for (int l = 0; l < 32; l++) {
            qs[32 * c + l] = (uint8_t)((codes[64 * c + l] & 15) | (codes[64 * c + 32 + l] & 15) << 4);
        }
    }
}

static void get_k_nibbles(const uint8_t *qs, int8_t *codes) {
    for (int c = 0; c < 4; c++) {
        for (int l = 0; l < 32; l++) {
            codes[64 * c + l] = (int8_t)(qs[32 * c + l] & 15);
            codes[64 * c + 32 + l] = (int8_t)(qs[32 * c + l] >> 4);
        }
    }
}

/* ---- q4_k ---- */

static void q4_k_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_affine(&q4_k_spec, x, weight, grid);
}

static void q4_k_snap(struct ht_grid *grid) {
    ht_fit_snap(&q4_k_spec, grid);
}

static void q4_k_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    ht_put_u16(p + 2, grid->dmin);
    put_scales(grid, p + 4);
    put_k_nibbles(codes, p + 16);
}

static void q4_k_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&q4_k_spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = ht_get_u16(p + 2);
    get_scales(p + 4, grid);
    get_k_nibbles(p + 16, codes);
    ht_grid_restore(grid);
}

static void q4_k_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q4_k, src, x, n);
}

static void q4_k_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q4_k, x, weight, dst, n);
}

const struct ht_format ht_format_q4_k = {
    .name = "q4_k", .summary = "4-bit, 8 sub-blocks of 32 with 6-bit scales and minima", .source = SOURCE,
    .kind = HT_KIND_KBLOCK, .gguf_type = 12, .block_elems = 256, .block_bytes = 144, .decode = q4_k_decode,
    .encode = q4_k_encode, .fit = q4_k_fit, .snap = q4_k_snap, .round = ht_grid_round, .pack = q4_k_pack,
    .unpack = q4_k_unpack,
};

/* ---- q5_k: the fifth bit of element j is bit j / 32 of qh[j % 32] ---- */

static void q5_k_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_affine(&q5_k_spec, x, weight, grid);
}

static void q5_k_snap(struct ht_grid *grid) {
    ht_fit_snap(&q5_k_spec, grid);
}

static void q5_k_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    ht_put_u16(p, grid->d);
    ht_put_u16(p + 2, grid->dmin);
    put_scales(grid, p + 4);
    for (int l = 0; l < 32; l++) {
        unsigned bits = 0;
        for (int b = 0; b < 8; b++) {
            bits |= (unsigned)(codes[32 * b + l] >> 4 & 1) << b;
        }
        p[16 + l] = (uint8_t)bits;
    }
    put_k_nibbles(codes, p + 48);
}

static void q5_k_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&q5_k_spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = ht_get_u16(p + 2);
    get_scales(p + 4, grid);
    get_k_nibbles(p + 48, codes);
    for (int b = 0; b < 8; b++) {
        for (int l = 0; l < 32; l++) {
            codes[32 * b + l] = (int8_t)(codes[32 * b + l] | (p[16 + l] >> b & 1) << 4);
        }
    }
    ht_grid_restore(grid);
}

static void q5_k_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q5_k, src, x, n);
}

static void q5_k_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q5_k, x, weight, dst, n);
}

const struct ht_format ht_format_q5_k = {
    .name = "q5_k", .summary = "5-bit, 8 sub-blocks of 32 with 6-bit scales and minima", .source = SOURCE,
    .kind = HT_KIND_KBLOCK, .gguf_type = 13, .block_elems = 256, .block_bytes = 176, .decode = q5_k_decode,
    .encode = q5_k_encode, .fit = q5_k_fit, .snap = q5_k_snap, .round = ht_grid_round, .pack = q5_k_pack,
    .unpack = q5_k_unpack,
};
