/* GGUF's K formats with a signed scale per sub-block: 256 elements, 16 sub-blocks of 16, y = d * s[b] * q.
 *
 *     q3_k  hmask[32] | qs[64] | scales[12] | d     q -4..3, s -32..31 (6 bits, stored + 32)
 *     q6_k  ql[128] | qh[64] | scales[16] | d       q -32..31, s -128..127
 *
 * Bit layouts are drawn in docs/formats.md. */
#include "format/format_impl.h"

#define SOURCE "GGUF: ggml k-quants"

static const float q3_k_first[32] = {
    1 / -3.0f, 1 / -3.125f, 1 / -3.25f, 1 / -3.375f, 1 / -3.5f, 1 / -3.625f, 1 / -3.75f, 1 / -3.875f,
    1 / -4.0f, 1 / -4.125f, 1 / -4.25f, 1 / -4.375f, 1 / -4.5f, 1 / -4.625f, 1 / -4.75f, 1 / -4.875f,
    1 / 2.0f, 1 / 2.125f, 1 / 2.25f, 1 / 2.375f, 1 / 2.5f, 1 / 2.625f, 1 / 2.75f, 1 / 2.875f,
    1 / 3.0f, 1 / 3.125f, 1 / 3.25f, 1 / 3.375f, 1 / 3.5f, 1 / 3.625f, 1 / 3.75f, 1 / 3.875f,
};
static const float q6_k_first[32] = {
    1 / -31.0f, 1 / -31.125f, 1 / -31.25f, 1 / -31.375f, 1 / -31.5f, 1 / -31.625f, 1 / -31.75f, 1 / -31.875f,
    1 / -32.0f, 1 / -32.125f, 1 / -32.25f, 1 / -32.375f, 1 / -32.5f, 1 / -32.625f, 1 / -32.75f, 1 / -32.875f,
    1 / 30.0f, 1 / 30.125f, 1 / 30.25f, 1 / 30.375f, 1 / 30.5f, 1 / 30.625f, 1 / 30.75f, 1 / 30.875f,
    1 / 31.0f, 1 / 31.125f, 1 / 31.25f, 1 / 31.375f, 1 / 31.5f, 1 / 31.625f, 1 / 31.75f, 1 / 31.875f,
};

static const struct ht_grid_spec q3_k_spec = {.n_sub = 16, .sub_len = 16, .lo = -4, .hi = 3,
    .q_scale_lo = -32, .q_scale_hi = 31, .q_min_hi = 0, .first = q3_k_first, .n_first = 32};
static const struct ht_grid_spec q6_k_spec = {.n_sub = 16, .sub_len = 16, .lo = -32, .hi = 31,
    .q_scale_lo = -128, .q_scale_hi = 127, .q_min_hi = 0, .first = q6_k_first, .n_first = 32};

/* ---- q3_k ----
 * qs and the order of elements as in q2_k; bit j / 32 of hmask[j % 32] set: q is the two bits, clear: minus 4.
 * scales: bytes 0..7 hold the low 4 bits of s[b] (low nibble) and s[b + 8] (high nibble); bytes 8..11 hold
 * the high 2 bits: bit pair k of byte 8 + b belongs to s[4 * k + b]. */

static void q3_k_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&q3_k_spec, x, weight, grid);
}

static void q3_k_snap(struct ht_grid *grid) {
    ht_fit_snap(&q3_k_spec, grid);
}

static void q3_k_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *hmask = dst, *qs = hmask + 32, *scales = qs + 64;
    for (int l = 0; l < 32; l++) {
        unsigned bits = 0;
        for (int k = 0; k < 8; k++) {
            bits |= (unsigned)(codes[32 * k + l] >= 0) << k;
        }
        hmask[l] = (uint8_t)bits;
    }
    for (int half = 0; half < 2; half++) {
        const int8_t *c = codes + 128 * half;
        for (int l = 0; l < 32; l++) {
            unsigned q = 0;
            for (int k = 0; k < 4; k++) {
                q |= ((unsigned)c[32 * k + l] & 3u) << 2 * k; /* q mod 4 is q or q + 4 */
            }
            qs[32 * half + l] = (uint8_t)q;
        }
    }
    memset(scales, 0, 12);
    for (int b = 0; b < 16; b++) {
        unsigned s = (unsigned)(grid->q_scale[b] + 32);
        scales[b % 8] = (uint8_t)(scales[b % 8] | (s & 15) << (b < 8 ? 0 : 4));
        scales[8 + b % 4] = (uint8_t)(scales[8 + b % 4] | (s >> 4) << 2 * (b / 4));
    }
    ht_put_u16(scales + 12, grid->d);
}

static void q3_k_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *hmask = src, *qs = hmask + 32, *scales = qs + 64;
    ht_grid_shape(&q3_k_spec, grid);
    for (int b = 0; b < 16; b++) {
        int low = b < 8 ? scales[b] & 15 : scales[b - 8] >> 4;
        int high = scales[8 + b % 4] >> 2 * (b / 4) & 3;
        grid->q_scale[b] = (int8_t)((low | high << 4) - 32);
        grid->q_min[b] = 0;
    }
    for (int k = 0; k < 8; k++) {
        for (int l = 0; l < 32; l++) {
            int q = qs[32 * (k / 4) + l] >> 2 * (k % 4) & 3;
            codes[32 * k + l] = (int8_t)(q - (hmask[l] >> k & 1 ? 0 : 4));
        }
    }
    grid->d = ht_get_u16(scales + 12);
    grid->dmin = 0;
    ht_grid_restore(grid);
}

static void q3_k_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q3_k, src, x, n);
}

static void q3_k_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q3_k, x, weight, dst, n);
}

const struct ht_format ht_format_q3_k = {
    .name = "q3_k", .summary = "3-bit, 16 sub-blocks of 16 with 6-bit scales", .source = SOURCE,
    .kind = HT_KIND_KBLOCK, .gguf_type = 11, .block_elems = 256, .block_bytes = 110, .decode = q3_k_decode,
    .encode = q3_k_encode, .fit = q3_k_fit, .snap = q3_k_snap, .round = ht_grid_round, .pack = q3_k_pack,
    .unpack = q3_k_unpack,
};

/* ---- q6_k ----
 * Per half of 128: quarter k, position l (element 32 * k + l): low 4 bits in ql[l + 32 * (k & 1)], low nibble
 * for k < 2 and high nibble for k >= 2; high 2 bits in bit pair k of qh[l]. */

static void q6_k_fit(const float *x, const float *weight, struct ht_grid *grid) {
    ht_fit_scale(&q6_k_spec, x, weight, grid);
}

static void q6_k_snap(struct ht_grid *grid) {
    ht_fit_snap(&q6_k_spec, grid);
}

static void q6_k_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    for (int half = 0; half < 2; half++) {
        uint8_t *ql = p + 64 * half, *qh = p + 128 + 32 * half;
        const int8_t *c = codes + 128 * half;
        for (int l = 0; l < 32; l++) {
            unsigned q0 = (unsigned)(c[l] + 32), q1 = (unsigned)(c[l + 32] + 32);
            unsigned q2 = (unsigned)(c[l + 64] + 32), q3 = (unsigned)(c[l + 96] + 32);
            ql[l] = (uint8_t)((q0 & 15) | (q2 & 15) << 4);
            ql[l + 32] = (uint8_t)((q1 & 15) | (q3 & 15) << 4);
            qh[l] = (uint8_t)(q0 >> 4 | q1 >> 4 << 2 | q2 >> 4 << 4 | q3 >> 4 << 6);
        }
    }
    memcpy(p + 192, grid->q_scale, 16);
    ht_put_u16(p + 208, grid->d);
}

static void q6_k_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    ht_grid_shape(&q6_k_spec, grid);
    for (int half = 0; half < 2; half++) {
        const uint8_t *ql = p + 64 * half, *qh = p + 128 + 32 * half;
        int8_t *c = codes + 128 * half;
        for (int l = 0; l < 32; l++) {
            c[l] = (int8_t)(((ql[l] & 15) | (qh[l] & 3) << 4) - 32);
            c[l + 32] = (int8_t)(((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4) - 32);
            c[l + 64] = (int8_t)((ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) - 32);
            c[l + 96] = (int8_t)((ql[l + 32] >> 4 | (qh[l] >> 6) << 4) - 32);
        }
    }
    memcpy(grid->q_scale, p + 192, 16);
    memset(grid->q_min, 0, sizeof grid->q_min);
    grid->d = ht_get_u16(p + 208);
    grid->dmin = 0;
    ht_grid_restore(grid);
}

static void q6_k_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_q6_k, src, x, n);
}

static void q6_k_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_q6_k, x, weight, dst, n);
}

const struct ht_format ht_format_q6_k = {
    .name = "q6_k", .summary = "6-bit, 16 sub-blocks of 16 with 8-bit scales", .source = SOURCE,
    .kind = HT_KIND_KBLOCK, .gguf_type = 14, .block_elems = 256, .block_bytes = 210, .decode = q6_k_decode,
    .encode = q6_k_encode, .fit = q6_k_fit, .snap = q6_k_snap, .round = ht_grid_round, .pack = q6_k_pack,
    .unpack = q6_k_unpack,
};
