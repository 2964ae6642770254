/* rows_q8 of q2_k and q3_k: one token is bound by unpacking, so this driver counts instructions (docs/kernels.md).
 *
 *     bytes   dword 4 (2 h + b) + i of qs, under the mask 3 * 4^k: elements 4 i .. of group 8 h + 2 k + b
 *     lanes   HT_ORDER_LANES4: lane 4 (2 h + b) + k belongs to that group in all four vectors, so vector m is qs with
 *             its dwords turned by m within 128 bits, under one mask, and the four dot products chain
 *     scales  sub-scales come to their lanes by one byte shuffle
 */
#include "kernel/x86/levels.h"
#include "kernel/x86/rows_q8_avx512.h"

static const struct ht_chunk_shape shape_q2_k = {{0}, 16, 0, false, 84, HT_ORDER_LANES4};
static const struct ht_chunk_shape shape_q3_k = {{0}, 16, 4, false, 110, HT_ORDER_LANES4};

struct head {
    HT_ALIGNED(16) float d[4];
    uint64_t scales[2]; /* q3_k: bytes 4 (scale - 32) */
};


HT_INLINE void head_q2_k(const uint8_t *p, struct head *h) {
    _mm_store_ps(h->d, _mm_cvtph_ps(_mm_cvtsi32_si128((int)ht_u32(p + 80))));
}

/* Low nibbles of the 16 scales in 8 bytes, high pairs in 4; every byte's top bit turned over makes it signed. The float
 * scale has 2^-26, for bytes that stand at the top of dwords. */
HT_INLINE void head_q3_k(const uint8_t *p, struct head *h) {
    const uint64_t nibbles = 0x3c3c3c3c3c3c3c3cu, pairs = 0xc0c0c0c0c0c0c0c0u, top = 0x8080808080808080u;
    uint64_t low = ht_u64(p + 96), high = ht_u32(p + 104);
    high |= high << 30;
    h->scales[0] = ((low << 2 & nibbles) | (high << 6 & pairs)) ^ top;
    h->scales[1] = ((low >> 2 & nibbles) | (high << 2 & pairs)) ^ top;
    uint16_t d;
    memcpy(&d, p + 108, 2);
    _mm_store_ss(h->d, _mm_mul_ss(_mm_cvtph_ps(_mm_cvtsi32_si128(d)), _mm_set_ss(0x1p-26f)));
}

/* Byte 8 h + 2 k + b to byte `at` of dword 4 (2 h + b) + k, 0 elsewhere; bytes: 8 h .. in qword h of its half. */
HT_INLINE __m512i group_bytes(__m512i bytes, int at, bool half) {
    const __m512i whole = _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    __m512i group = half ? _mm512_and_si512(whole, _mm512_set1_epi32(7)) : whole;
    const int none = at == 0 ? (int)0x80808000 : 0x00808080;
    return _mm512_shuffle_epi8(bytes, _mm512_or_si512(_mm512_slli_epi32(group, 8 * at), _mm512_set1_epi32(none)));
}

/* The four vectors of lanes under one mask. */
HT_INLINE void turned(__m512i v, __m512i mask, __m512i out[4]) {
    out[0] = _mm512_and_si512(v, mask);
    out[1] = _mm512_and_si512(_mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0x39), mask);
    out[2] = _mm512_and_si512(_mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0x4e), mask);
    out[3] = _mm512_and_si512(_mm512_shuffle_epi32(v, (_MM_PERM_ENUM)0x93), mask);
}

HT_INLINE __m512i dot_chain(__m512i x, const __m512i c[4], const int8_t *q) {
    for (int m = 0; m < 4; m++) {
        x = ht_dot4(x, c[m], q + 64 * m);
    }
    return x;
}

HT_INLINE __m512i codes_mask(void) {
    return _mm512_set4_epi32((int)0xc0c0c0c0, 0x30303030, 0x0c0c0c0c, 0x03030303);
}

HT_INLINE void block_q2_k(int NT, const uint8_t *p, const struct ht_chunk_acts *a,
                          size_t stride, __m512 acc[HT_ROWS_Q8_TOKENS][2]) {
    const __m512 number = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i c[4];
    turned(_mm512_loadu_si512(p + 16), codes_mask(), c);
    struct head h;
    head_q2_k(p, &h);
    /* Lookups see the low 4 bits of a lane. */
    __m512i pair = group_bytes(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)p)), 0, false);
    __m512 s = _mm512_mul_ps(_mm512_permutexvar_ps(pair, number), _mm512_set1_ps(h.d[0]));
    __m512 min = _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(pair, 4), number), _mm512_set1_ps(h.d[1]));
    for (int t = 0; t < NT; t++, a += stride) {
        __m512 sum = _mm512_cvtepi32_ps(dot_chain(_mm512_setzero_si512(), c, a->q));
        acc[t][0] = _mm512_fmadd_ps(sum, _mm512_mul_ps(s, _mm512_loadu_ps(a->d)), acc[t][0]);
        acc[t][1] = _mm512_fmadd_ps(min, _mm512_loadu_ps(a->ns), acc[t][1]);
    }
}

/* The third bit of group 8 h + 2 k + b is bit 4 h + k of the bytes of hmask and worth 4 * 4^k: a chain of its own. */
HT_INLINE void block_q3_k(int NT, const uint8_t *p, const struct ht_chunk_acts *a,
                          size_t stride, __m512 acc[HT_ROWS_Q8_TOKENS][2]) {
    const __m512 worth = _mm512_setr_ps(4, 8, 16, 32, 4, 8, 16, 32, 0.25f, 0.5f, 1, 2, 0.25f, 0.5f, 1, 2);
    const __m512i bit = _mm512_setr_epi32(0x01010101, 0x02020202, 0x04040404, 0x08080808, 0x01010101, 0x02020202,
                                          0x04040404, 0x08080808, 0x10101010, 0x20202020, 0x40404040,
                                          (int)0x80808080, 0x10101010, 0x20202020, 0x40404040, (int)0x80808080);
    __m512i c[4], third[4];
    turned(_mm512_loadu_si512(p + 32), codes_mask(), c);
    turned(ht_twice(p), bit, third);
    struct head h;
    head_q3_k(p, &h);
    __m512i scales = _mm512_set1_epi64((int64_t)h.scales[0]);
    scales = _mm512_mask_broadcastq_epi64(scales, 0xf0, _mm_loadl_epi64((const void *)&h.scales[1]));
    __m512 s = _mm512_cvtepi32_ps(group_bytes(scales, 3, true));
    s = _mm512_mul_ps(s, _mm512_set1_ps(h.d[0]));
    for (int t = 0; t < NT; t++, a += stride) {
        __m512 sum = _mm512_cvtepi32_ps(dot_chain(_mm512_loadu_si512(a->ns), c, a->q));
        __m512 high = _mm512_cvtepi32_ps(dot_chain(_mm512_setzero_si512(), third, a->q));
        sum = _mm512_fmadd_ps(high, worth, sum);
        acc[t][0] = _mm512_fmadd_ps(sum, _mm512_mul_ps(s, _mm512_loadu_ps(a->d)), acc[t][0]);
    }
}

/* Rows r .. r + R - 1 of 16, which share what they read of the activations. */
HT_INLINE void some_rows(bool q3, int NT, int R, const uint8_t *p, size_t row_bytes, size_t n_blocks,
                         const struct ht_chunk_acts *a, size_t stride, size_t r,
                         __m512 sums[HT_ROWS_Q8_TOKENS][16]) {
    const size_t bytes = q3 ? 110 : 84;
    __m512 acc[2][HT_ROWS_Q8_TOKENS][2];
    for (int k = 0; k < R; k++) {
        for (int t = 0; t < NT; t++) {
            acc[k][t][0] = acc[k][t][1] = _mm512_setzero_ps();
        }
    }
    for (size_t i = 0; i < n_blocks; i++, p += bytes, a++) {
        for (int k = 0; k < R; k++) {
            const uint8_t *b = p + (size_t)k * row_bytes;
            _mm_prefetch((const char *)b + HT_ROWS_PREFETCH, _MM_HINT_T0);
            _mm_prefetch((const char *)b + HT_ROWS_PREFETCH + 64, _MM_HINT_T0);
            q3 ? block_q3_k(NT, b, a, stride, acc[k]) : block_q2_k(NT, b, a, stride, acc[k]);
        }
    }
    for (int k = 0; k < R; k++) {
        for (int t = 0; t < NT; t++) {
            sums[t][r + (size_t)k] = _mm512_add_ps(acc[k][t][0], acc[k][t][1]);
        }
    }
}

HT_INLINE void rows(bool q3, int NT, const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,
                    float *y, size_t y_stride) {
    const size_t n_blocks = w->cols / 256, stride = acts->cols_padded / 256, step = NT == 1 ? 2 : 1;
    for (size_t r0 = 0; r0 < n_rows; r0 += 16) {
        size_t count = n_rows - r0 < 16 ? n_rows - r0 : 16, r = 0;
        const uint8_t *p = (const uint8_t *)w->data + (row0 + r0) * w->row_bytes;
        __m512 sums[HT_ROWS_Q8_TOKENS][16];
        for (; r + step <= count; r += step) {
            some_rows(q3, NT, (int)step, p + r * w->row_bytes, w->row_bytes, n_blocks, acts->chunks, stride, r, sums);
        }
        for (; r < count; r++) {
            some_rows(q3, NT, 1, p + r * w->row_bytes, w->row_bytes, n_blocks, acts->chunks, stride, r, sums);
        }
        for (int t = 0; t < NT; t++) {
            for (r = count; r < 16; r++) {
                sums[t][r] = _mm512_setzero_ps();
            }
            _mm512_mask_storeu_ps(y + (size_t)t * y_stride + r0, ht_mask16(count), ht_sum16_avx512(sums[t]));
        }
    }
}

#define ROWS(name, q3)                                                                                       \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,  \
                            float *y, size_t y_stride, void *scratch) {                                      \
        (void)scratch;                                                                                       \
        switch (acts->n_tokens) {                                                                            \
        case 1: rows(q3, 1, w, row0, n_rows, acts, y, y_stride); break;                                      \
        case 2: rows(q3, 2, w, row0, n_rows, acts, y, y_stride); break;                                      \
        case 3: rows(q3, 3, w, row0, n_rows, acts, y, y_stride); break;                                      \
        default: rows(q3, 4, w, row0, n_rows, acts, y, y_stride); break;                                     \
        }                                                                                                    \
    }
ROWS(q2_k, false)
ROWS(q3_k, true)

void ht_rows_k23_init_avx512vnni(struct ht_kernel_table *t) {
    static const struct ht_slot_row slots[] = {
        {.format = "q2_k", .rows_q8 = rows_q2_k, .shape = &shape_q2_k},
        {.format = "q3_k", .rows_q8 = rows_q3_k, .shape = &shape_q3_k},
    };
    ht_slots_set(t, slots, sizeof slots / sizeof slots[0]);
}
