/* Rows of any block format to the panel of the integer matrix product (slots.h, struct ht_panel_q8), 256-bit vectors:
 * the same 32 codes of 8 rows are put side by side by an 8 x 8 transpose. BIASED: formats with signed codes are stored
 * 128 higher; otherwise as they are (HT_CODES_SIGNED). */
#ifndef HT_KERNEL_X86_PANEL_Q8_AVX2_H
#define HT_KERNEL_X86_PANEL_Q8_AVX2_H

#include "kernel/x86/chunk/chunk_avx2.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/chunk/shapes.h"
#include "kernel/x86/simd_avx2.h"

/* 8 vectors of 8 groups -> 8 rows of the panel's scales or mins. */
HT_INLINE void ht_put_groups8(__m256 v[8], float *out) {
    ht_transpose8_avx2(v);
    for (size_t g = 0; g < 8; g++) {
        _mm256_store_ps(out + g * HT_PANEL_ROWS, v[g]);
    }
}

/* One chunk of rows r0 .. r0 + count - 1 of the panel, count <= 8; w: its blocks in the first of them. */
HT_INLINE void ht_panel_chunk_avx2(ht_codes_fn *codes, ht_scales_fn *scales, const struct ht_chunk_shape *s,
                                   const uint8_t *w, size_t row_bytes, size_t count, size_t n_groups, size_t chunk,
                                   size_t r0, struct ht_panel_q8 *out) {
    const __m256i flip = _mm256_set1_epi8((char)(s->offset == 128 ? 0x80 : 0));
    struct ht_scales sc[8];
    memset(sc, 0, sizeof sc);
    for (size_t r = 0; r < count; r++) {
        scales(w + r * row_bytes, n_groups, &sc[r]);
    }
    for (size_t h = 0; h < (s->group == 16 ? 2 : 1); h++) {
        size_t at = (chunk * (size_t)(256 / s->group) + 8 * h) * HT_PANEL_ROWS + r0;
        __m256 v[8];
        for (size_t r = 0; r < 8; r++) {
            v[r] = sc[r].s[h];
        }
        ht_put_groups8(v, out->scale + at);
        for (size_t r = 0; r < 8 && s->offset == 0; r++) {
            v[r] = sc[r].m[h];
        }
        if (s->offset == 0) {
            ht_put_groups8(v, out->min + at);
        }
    }
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        __m256 v[8];
        if (g >= (int)n_groups) {
            break;
        }
        for (size_t r = 0; r < 8; r++) {
            v[r] = _mm256_setzero_ps();
            if (r < count) {
                v[r] = _mm256_castsi256_ps(_mm256_xor_si256(codes(w + r * row_bytes, g), flip));
            }
        }
        ht_transpose8_avx2(v);
        for (size_t i = 0; i < 8; i++) {
            size_t k4 = chunk * 64 + 8 * (size_t)g + i;
            _mm256_store_ps((float *)(void *)(out->codes + (k4 * HT_PANEL_ROWS + r0) * 4), v[i]);
        }
    }
}

HT_INLINE void ht_panel_avx2(ht_codes_fn *codes, ht_scales_fn *scales, const struct ht_chunk_shape *s,
                             const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0, size_t cols,
                             struct ht_panel_q8 *out) {
    for (size_t r = 0; r < HT_PANEL_ROWS; r += 8) {
        size_t count = n_rows > r ? n_rows - r : 0;
        count = count < 8 ? count : 8;
        const uint8_t *rows = (const uint8_t *)w->data + (row0 + r) * w->row_bytes + col0 / 256 * s->bytes;
        for (size_t chunk = 0; chunk < (cols + 255) / 256; chunk++) {
            size_t groups = cols - chunk * 256 < 256 ? (cols - chunk * 256) / 32 : 8;
            ht_panel_chunk_avx2(codes, scales, s, rows + chunk * s->bytes, w->row_bytes, count, groups, chunk, r, out);
        }
    }
}

#define HT_PANEL_AVX2(BIASED, name, group, offset, bytes)                                                    \
    HT_SHAPE(name, HT_PIECES_NATURAL, group, !(BIASED) && (offset) == 128 ? HT_CODES_SIGNED : (offset), false,\
             bytes, HT_ORDER_PIECES);                                                                        \
    static void panel_##name(const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0, size_t cols,   \
                             struct ht_panel_q8 *out) {                                                      \
        ht_panel_avx2(ht_codes_##name, ht_scales_##name, &shape_##name, w, row0, n_rows, col0, cols, out);   \
    }

#endif
