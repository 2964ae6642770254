/* 256 weights of each block format to signed 8-bit codes in natural order, with the scales and mins of their
 * groups of 16 or 32:
 *
 *     element k = scale[k / group] * code[k] - min[k / group]
 *
 * Each function takes the blocks of one chunk and the number of groups of 32 that exist (8 but for the end of
 * a row that 256 does not divide) and reads nothing behind them. Layouts of the blocks: docs/formats.md.
 *
 * Formats without a function of their own come through their unpack (ht_form_any). */
#ifndef HT_KERNEL_ARM_FORM_NEON_H
#define HT_KERNEL_ARM_FORM_NEON_H

#include <math.h>

#include "format/format.h"
#include "kernel/arm/simd_neon.h"

struct ht_form {
    int8_t codes[256];
    float scale[16], min[16];
};

typedef void ht_form_fn(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f);

/* X(format, bytes of 256 weights, group, has mins) */
#define HT_FORM_LIST(X)                                                                                      \
    X(q4_0, 8 * 18, 32, false)                                                                               \
    X(q4_1, 8 * 20, 32, true)                                                                                \
    X(q5_0, 8 * 22, 32, false)                                                                               \
    X(q5_1, 8 * 24, 32, true)                                                                                \
    X(q8_0, 8 * 34, 32, false)                                                                               \
    X(iq4_nl, 8 * 18, 32, false)                                                                             \
    X(iq4_xs, 136, 32, false)                                                                                \
    X(q2_k, 84, 16, true)                                                                                    \
    X(q3_k, 110, 16, false)                                                                                  \
    X(q4_k, 144, 32, true)                                                                                   \
    X(q5_k, 176, 32, true)                                                                                   \
    X(q6_k, 210, 16, false)

/* The group of a format for ht_form_any, or 0: its sub-blocks are too short, or its levels are no 8-bit
 * integers. */
static inline int ht_form_any_group(const struct ht_format *format) {
    static const uint8_t zeros[1024];
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    if (format->unpack == NULL || format->block_bytes > sizeof zeros || 256 % format->block_elems != 0) {
        return 0;
    }
    format->unpack(zeros, &grid, codes);
    for (int c = grid.lo; grid.levels != NULL && c <= grid.hi; c++) {
        float level = grid.levels[c - grid.lo];
        if (level != rintf(level) || fabsf(level) > 127) {
            return 0;
        }
    }
    return grid.sub_len == 16 ? 16 : grid.sub_len % 32 == 0 ? 32 : 0;
}

/* Codes to the levels of their table. */
HT_INLINE void ht_form_lookup(const struct ht_grid *grid, int8_t *codes, size_t n) {
    if (grid->hi - grid->lo < 16) {
        int8_t levels[16] = {0};
        for (int c = 0; c <= grid->hi - grid->lo; c++) {
            levels[c] = (int8_t)grid->levels[c];
        }
        int8x16_t table = vld1q_s8(levels);
        for (size_t i = 0; i < n; i += 16) {
            uint8x16_t at = vreinterpretq_u8_s8(vsubq_s8(vld1q_s8(codes + i), vdupq_n_s8((int8_t)grid->lo)));
            vst1q_s8(codes + i, vqtbl1q_s8(table, at));
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        codes[i] = (int8_t)grid->levels[codes[i] - grid->lo];
    }
}

/* Any format with sub-blocks of 16 or a multiple of 32, in groups of that; mins are set (0 without). */
static inline void ht_form_any(const struct ht_format *format, const uint8_t *p, size_t n_groups,
                               struct ht_form *f) {
    size_t block = format->block_elems;
    for (size_t at = 0; at < 32 * n_groups; at += block, p += format->block_bytes) {
        struct ht_grid grid;
        format->unpack(p, &grid, f->codes + at);
        if (grid.levels != NULL) {
            ht_form_lookup(&grid, f->codes + at, block);
        }
        size_t sub = (size_t)grid.sub_len, group = sub == 16 ? 16 : 32;
        for (size_t g = 0; g < block / group; g++) {
            f->scale[at / group + g] = grid.scale[g * group / sub];
            f->min[at / group + g] = grid.min[g * group / sub];
        }
    }
}

/* form, or ht_form_any where it is NULL. */
HT_INLINE void ht_form_get(ht_form_fn *form, const struct ht_format *format, const uint8_t *p,
                           size_t n_groups, struct ht_form *f) {
    if (form != NULL) {
        form(p, n_groups, f);
    } else {
        ht_form_any(format, p, n_groups, f);
    }
}

HT_INLINE void ht_form_store(int8_t *codes, uint8x16_t v) {
    vst1q_s8(codes, vreinterpretq_s8_u8(v));
}

/* 16 in each byte whose bit of `bits` is set. */
HT_INLINE uint8x16_t ht_form_fifth(uint32_t bits) {
    static const uint8_t each[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t b = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));
    return vandq_u8(vtstq_u8(b, vld1q_u8(each)), vdupq_n_u8(16));
}

/* 16 bytes of two nibbles: elements 0 .. 15 low, 16 .. 31 high; bit j of qh is worth 16 in element j. Minus
 * offset. */
HT_INLINE void ht_form_nibbles(const uint8_t *qs, uint32_t qh, uint8_t offset, int8_t *codes) {
    uint8x16_t v = vld1q_u8(qs), low = vandq_u8(v, vdupq_n_u8(15)), high = vshrq_n_u8(v, 4);
    low = vorrq_u8(low, ht_form_fifth(qh));
    high = vorrq_u8(high, ht_form_fifth(qh >> 16));
    ht_form_store(codes, vsubq_u8(low, vdupq_n_u8(offset)));
    ht_form_store(codes + 16, vsubq_u8(high, vdupq_n_u8(offset)));
}

HT_INLINE uint32_t ht_form_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

HT_INLINE void ht_form_q4_0(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 18) {
        f->scale[g] = ht_f16_at(p);
        ht_form_nibbles(p + 2, 0, 8, f->codes + 32 * g);
    }
}

HT_INLINE void ht_form_q4_1(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 20) {
        f->scale[g] = ht_f16_at(p);
        f->min[g] = -ht_f16_at(p + 2);
        ht_form_nibbles(p + 4, 0, 0, f->codes + 32 * g);
    }
}

HT_INLINE void ht_form_q5_0(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 22) {
        f->scale[g] = ht_f16_at(p);
        ht_form_nibbles(p + 6, ht_form_u32(p + 2), 16, f->codes + 32 * g);
    }
}

HT_INLINE void ht_form_q5_1(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 24) {
        f->scale[g] = ht_f16_at(p);
        f->min[g] = -ht_f16_at(p + 2);
        ht_form_nibbles(p + 8, ht_form_u32(p + 4), 0, f->codes + 32 * g);
    }
}

HT_INLINE void ht_form_q8_0(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 34) {
        f->scale[g] = ht_f16_at(p);
        memcpy(f->codes + 32 * g, p + 2, 32);
    }
}

/* Nibbles that index the 16 levels of the nonlinear formats. */
HT_INLINE void ht_form_levels(const uint8_t *qs, int8_t *codes) {
    static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    int8x16_t table = vld1q_s8(levels);
    uint8x16_t v = vld1q_u8(qs);
    vst1q_s8(codes, vqtbl1q_s8(table, vandq_u8(v, vdupq_n_u8(15))));
    vst1q_s8(codes + 16, vqtbl1q_s8(table, vshrq_n_u8(v, 4)));
}

HT_INLINE void ht_form_iq4_nl(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 18) {
        f->scale[g] = ht_f16_at(p);
        ht_form_levels(p + 2, f->codes + 32 * g);
    }
}

HT_INLINE void ht_form_iq4_xs(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    float d = ht_f16_at(p);
    uint32_t high = p[2] | (uint32_t)p[3] << 8;
    for (size_t g = 0; g < n_groups; g++) {
        int low = p[4 + g / 2] >> (4 * (g % 2)) & 15;
        f->scale[g] = d * (float)((low | (int)(high >> (2 * g) & 3u) << 4) - 32);
        ht_form_levels(p + 8 + 16 * g, f->codes + 32 * g);
    }
}

/* 6-bit scales and mins of Q4_K and Q5_K. */
HT_INLINE void ht_form_scales_k4(const uint8_t *restrict p, struct ht_form *restrict f) {
    float d = ht_f16_at(p), dmin = ht_f16_at(p + 2);
    p += 4;
    for (int b = 0; b < 4; b++) {
        f->scale[b] = d * (float)(p[b] & 63);
        f->min[b] = dmin * (float)(p[4 + b] & 63);
        f->scale[4 + b] = d * (float)((p[8 + b] & 15) | p[b] >> 6 << 4);
        f->min[4 + b] = dmin * (float)(p[8 + b] >> 4 | p[4 + b] >> 6 << 4);
    }
}

HT_INLINE void ht_form_q4_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    ht_form_scales_k4(p, f);
    for (size_t i = 0; i < 8; i++) { /* 32 bytes serve 64 elements */
        uint8x16_t v = vld1q_u8(p + 16 + 16 * i);
        int8_t *c = f->codes + 64 * (i / 2) + 16 * (i % 2);
        ht_form_store(c, vandq_u8(v, vdupq_n_u8(15)));
        ht_form_store(c + 32, vshrq_n_u8(v, 4));
    }
}

HT_INLINE void ht_form_q5_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    ht_form_scales_k4(p, f);
    for (size_t i = 0; i < 8; i++) {
        uint8x16_t v = vld1q_u8(p + 48 + 16 * i), h = vld1q_u8(p + 16 + 16 * (i % 2));
        int8_t *c = f->codes + 64 * (i / 2) + 16 * (i % 2);
        uint8x16_t bit = vdupq_n_u8((uint8_t)(1u << (i / 2 * 2))), next = vshlq_n_u8(bit, 1);
        uint8x16_t low = vandq_u8(vtstq_u8(h, bit), vdupq_n_u8(16));
        uint8x16_t high = vandq_u8(vtstq_u8(h, next), vdupq_n_u8(16));
        ht_form_store(c, vorrq_u8(vandq_u8(v, vdupq_n_u8(15)), low));
        ht_form_store(c + 32, vorrq_u8(vshrq_n_u8(v, 4), high));
    }
}

/* Bits 2 k and 2 k + 1 of each byte. */
HT_INLINE uint8x16_t ht_form_pair(uint8x16_t v, int k) {
    return vandq_u8(vshlq_u8(v, vdupq_n_s8((int8_t)(-2 * k))), vdupq_n_u8(3));
}

HT_INLINE void ht_form_q6_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    float d = ht_f16_at(p + 208);
    const uint8x16_t offset = vdupq_n_u8(32);
    for (size_t i = 0; i < 4; i++) { /* 128 elements, 16 of 32 bytes of high bits */
        size_t half = i / 2, at = 16 * (i % 2);
        const uint8_t *ql = p + 64 * half + at;
        uint8x16_t a = vld1q_u8(ql), b = vld1q_u8(ql + 32), h = vld1q_u8(p + 128 + 32 * half + at);
        uint8x16_t four[4] = {vandq_u8(a, vdupq_n_u8(15)), vandq_u8(b, vdupq_n_u8(15)), vshrq_n_u8(a, 4),
                              vshrq_n_u8(b, 4)};
        for (int k = 0; k < 4; k++) {
            uint8x16_t v = vorrq_u8(four[k], vshlq_n_u8(ht_form_pair(h, k), 4));
            ht_form_store(f->codes + 128 * half + 32 * (size_t)k + at, vsubq_u8(v, offset));
        }
    }
    for (int b = 0; b < 16; b++) {
        f->scale[b] = d * (float)(int8_t)p[192 + b];
    }
}

HT_INLINE void ht_form_q2_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    float d = ht_f16_at(p + 80), dmin = ht_f16_at(p + 82);
    for (size_t i = 0; i < 4; i++) {
        uint8x16_t v = vld1q_u8(p + 16 + 16 * i);
        for (int k = 0; k < 4; k++) {
            ht_form_store(f->codes + 128 * (i / 2) + 32 * (size_t)k + 16 * (i % 2), ht_form_pair(v, k));
        }
    }
    for (int b = 0; b < 16; b++) {
        f->scale[b] = d * (float)(p[b] & 15);
        f->min[b] = dmin * (float)(p[b] >> 4);
    }
}

HT_INLINE void ht_form_q3_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    float d = ht_f16_at(p + 108);
    for (size_t i = 0; i < 4; i++) {
        uint8x16_t v = vld1q_u8(p + 32 + 16 * i), h = vld1q_u8(p + 16 * (i % 2));
        for (int k = 0; k < 4; k++) {
            uint8x16_t bit = vdupq_n_u8((uint8_t)(1u << (4 * (i / 2) + (size_t)k)));
            uint8x16_t high = vandq_u8(vtstq_u8(h, bit), vdupq_n_u8(4));
            ht_form_store(f->codes + 128 * (i / 2) + 32 * (size_t)k + 16 * (i % 2),
                          vsubq_u8(vorrq_u8(ht_form_pair(v, k), high), vdupq_n_u8(4)));
        }
    }
    const uint8_t *s = p + 96;
    for (int b = 0; b < 16; b++) {
        int low = b < 8 ? s[b] & 15 : s[b - 8] >> 4, high = s[8 + b % 4] >> (2 * (b / 4)) & 3;
        f->scale[b] = d * (float)((low | high << 4) - 32);
    }
}

#endif
