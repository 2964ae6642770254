/* 256 weights of each block format to the compute form in plain C, natural order, for levels without a chunk
 * kernel of their own. Each function takes the blocks of one chunk and the number of groups of 32 that exist
 * (8 but for the end of a row that 256 does not divide), and is written so that a compiler vectorizes it.
 *
 *     element k = scale[k / group] * code[k] - min[k / group]
 *
 * Formats whose codes index a table leave the indices in codes (form.table). Layouts: docs/kernels.md. */
#ifndef HT_KERNEL_FORM_H
#define HT_KERNEL_FORM_H

#include <stdbool.h>
#include <string.h>
#if defined(__F16C__)
#include <immintrin.h> /* _cvtsh_ss */
#endif

#include "format/half.h"

struct ht_form {
    int8_t codes[256];
    float scale[16], min[16];
};

typedef void ht_form_fn(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f);

static inline float ht_form_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    return ht_f16_to_f32(h);
#endif
}

static inline uint32_t ht_form_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* 16 in each byte of the result whose bit is set in bits: the byte times 0x0101... is that byte eight times,
 * the mask keeps bit i in byte i, and 0x7f carries any of them to the top. */
static inline uint64_t ht_form_fifth(uint32_t bits) {
    const uint64_t each = 0x0101010101010101u;
    return ((((bits & 255u) * each & 0x8040201008040201u) + 0x7f * each) >> 3) & 16 * each;
}

/* 16 bytes of two nibbles: elements 0 .. 15 low, 16 .. 31 high; bit j of qh is worth 16 in element j. Minus
 * offset. Eight bytes at a time in one little-endian word; with the top bit of each byte set nothing is
 * borrowed from the next byte. */
static inline void ht_form_nibbles(const uint8_t *restrict qs, uint32_t qh, int offset, int8_t *restrict c) {
    const uint64_t each = 0x0101010101010101u, top = 0x80 * each, off = (uint64_t)offset * each;
    for (int h = 0; h < 16; h += 8) {
        uint64_t v, low, high;
        memcpy(&v, qs + h, 8);
        low = (((v & 15 * each) | ht_form_fifth(qh >> h) | top) - off) ^ top;
        high = (((v >> 4 & 15 * each) | ht_form_fifth(qh >> (16 + h)) | top) - off) ^ top;
        memcpy(c + h, &low, 8);
        memcpy(c + 16 + h, &high, 8);
    }
}

static inline void ht_form_q4_0(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 18) {
        f->scale[g] = ht_form_f16(p);
        ht_form_nibbles(p + 2, 0, 8, f->codes + 32 * g);
    }
}

static inline void ht_form_q4_1(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 20) {
        f->scale[g] = ht_form_f16(p);
        f->min[g] = -ht_form_f16(p + 2);
        ht_form_nibbles(p + 4, 0, 0, f->codes + 32 * g);
    }
}

static inline void ht_form_q5_0(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 22) {
        f->scale[g] = ht_form_f16(p);
        ht_form_nibbles(p + 6, ht_form_u32(p + 2), 16, f->codes + 32 * g);
    }
}

static inline void ht_form_q5_1(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 24) {
        f->scale[g] = ht_form_f16(p);
        f->min[g] = -ht_form_f16(p + 2);
        ht_form_nibbles(p + 8, ht_form_u32(p + 4), 0, f->codes + 32 * g);
    }
}

static inline void ht_form_q8_0(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 34) {
        f->scale[g] = ht_form_f16(p);
        memcpy(f->codes + 32 * g, p + 2, 32);
    }
}

static inline void ht_form_iq4_nl(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    for (size_t g = 0; g < n_groups; g++, p += 18) {
        f->scale[g] = ht_form_f16(p);
        ht_form_nibbles(p + 2, 0, 0, f->codes + 32 * g);
    }
}

static inline void ht_form_iq4_xs(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    float d = ht_form_f16(p);
    uint32_t high = p[2] | (uint32_t)p[3] << 8;
    for (size_t g = 0; g < n_groups; g++) {
        int low = p[4 + g / 2] >> (4 * (g % 2)) & 15;
        f->scale[g] = d * (float)((low | (int)(high >> (2 * g) & 3u) << 4) - 32);
        ht_form_nibbles(p + 8 + 16 * g, 0, 0, f->codes + 32 * g);
    }
}

/* 6-bit scales and mins of Q4_K and Q5_K. */
static inline void ht_form_scales_k4(const uint8_t *restrict p, struct ht_form *restrict f) {
    float d = ht_form_f16(p), dmin = ht_form_f16(p + 2);
    p += 4;
    for (int b = 0; b < 4; b++) {
        f->scale[b] = d * (float)(p[b] & 63);
        f->min[b] = dmin * (float)(p[4 + b] & 63);
        f->scale[4 + b] = d * (float)((p[8 + b] & 15) | p[b] >> 6 << 4);
        f->min[4 + b] = dmin * (float)(p[8 + b] >> 4 | p[4 + b] >> 6 << 4);
    }
}

/* 128 bytes of nibbles, 32 bytes per 64 elements. */
static inline void ht_form_nibbles64(const uint8_t *restrict qs, int8_t *restrict c) {
    for (int h = 0; h < 4; h++) {
        for (int j = 0; j < 32; j++) {
            c[64 * h + j] = (int8_t)(qs[32 * h + j] & 15);
            c[64 * h + 32 + j] = (int8_t)(qs[32 * h + j] >> 4);
        }
    }
}

static inline void ht_form_q4_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    ht_form_scales_k4(p, f);
    ht_form_nibbles64(p + 16, f->codes);
}

static inline void ht_form_q5_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    ht_form_scales_k4(p, f);
    ht_form_nibbles64(p + 48, f->codes);
    for (int b = 0; b < 8; b++) {
        for (int j = 0; j < 32; j++) {
            f->codes[32 * b + j] = (int8_t)(f->codes[32 * b + j] + ((p[16 + j] >> b & 1) << 4));
        }
    }
}

static inline void ht_form_q6_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    float d = ht_form_f16(p + 208);
    for (int h = 0; h < 2; h++) {
        const uint8_t *ql = p + 64 * h, *qh = p + 128 + 32 * h;
        int8_t *c = f->codes + 128 * h;
        for (int j = 0; j < 32; j++) {
            c[j] = (int8_t)(((ql[j] & 15) | (qh[j] & 3) << 4) - 32);
            c[32 + j] = (int8_t)(((ql[32 + j] & 15) | (qh[j] >> 2 & 3) << 4) - 32);
            c[64 + j] = (int8_t)((ql[j] >> 4 | (qh[j] >> 4 & 3) << 4) - 32);
            c[96 + j] = (int8_t)((ql[32 + j] >> 4 | qh[j] >> 6 << 4) - 32);
        }
    }
    for (int b = 0; b < 16; b++) {
        f->scale[b] = d * (float)(int8_t)p[192 + b];
    }
}

static inline void ht_form_pairs(const uint8_t *restrict qs, int8_t *restrict c) {
    for (int h = 0; h < 2; h++) {
        for (int k = 0; k < 4; k++) {
            for (int j = 0; j < 32; j++) {
                c[128 * h + 32 * k + j] = (int8_t)(qs[32 * h + j] >> (2 * k) & 3);
            }
        }
    }
}

static inline void ht_form_q2_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    float d = ht_form_f16(p + 80), dmin = ht_form_f16(p + 82);
    ht_form_pairs(p + 16, f->codes);
    for (int b = 0; b < 16; b++) {
        f->scale[b] = d * (float)(p[b] & 15);
        f->min[b] = dmin * (float)(p[b] >> 4);
    }
}

static inline void ht_form_q3_k(const uint8_t *restrict p, size_t n_groups, struct ht_form *restrict f) {
    (void)n_groups;
    float d = ht_form_f16(p + 108);
    ht_form_pairs(p + 32, f->codes);
    for (int b = 0; b < 8; b++) {
        for (int j = 0; j < 32; j++) {
            f->codes[32 * b + j] = (int8_t)(f->codes[32 * b + j] + ((p[j] >> b & 1) << 2) - 4);
        }
    }
    const uint8_t *s = p + 96;
    for (int b = 0; b < 16; b++) {
        int low = b < 8 ? s[b] & 15 : s[b - 8] >> 4, high = s[8 + b % 4] >> (2 * (b / 4)) & 3;
        f->scale[b] = d * (float)((low | high << 4) - 32);
    }
}

#endif
