/* Rows of any block format to the panel of the integer matrix product (slots.h, struct ht_panel_q8).
 *
 * 16 rows at a time: each row's chunk is unpacked in registers, then the 4-byte groups of 16 rows are put
 * side by side by a 16 x 16 transpose; the pieces go to their natural place on the way. */
#ifndef HT_KERNEL_X86_PANEL_Q8_AVX512_H
#define HT_KERNEL_X86_PANEL_Q8_AVX512_H

#include "kernel/x86/chunk/chunk_avx512.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/chunk/shapes.h"
#include "kernel/x86/simd_avx512.h"

struct ht_unpacked { /* one chunk of 16 rows */
    __m512i c[4][16];
    __m512i s[16], m[16];
};

/* 16 vectors of one chunk's groups -> scale or min rows of the panel. */
HT_INLINE void ht_store_groups(__m512i v[16], size_t first, size_t count, float *out) {
    ht_transpose16_avx512(v);
    for (size_t g = 0; g < count; g++) {
        _mm512_store_si512(out + g * HT_PANEL_ROWS, v[first + g]);
    }
}

HT_INLINE void ht_store_chunk(const struct ht_chunk_shape *s, struct ht_unpacked *u, size_t chunk, size_t half,
                        struct ht_panel_q8 *panel) {
    for (size_t v = 0; v < 4; v++) {
        ht_transpose16_avx512(u->c[v]);
        for (size_t i = 0; i < 16; i++) {
            size_t k4 = chunk * 64 + (size_t)s->piece[4 * v + i / 4] * 4 + i % 4;
            _mm512_store_si512(panel->codes + (k4 * 2 + half) * 64, u->c[v][i]);
        }
    }
    size_t groups = 256 / (size_t)s->group, at = chunk * groups * HT_PANEL_ROWS + 16 * half;
    ht_store_groups(u->s, 0, groups, panel->scale + at);
    if (s->offset == 0 && s->group == 16) {
        ht_store_groups(u->m, 0, groups, panel->min + at);
    } else if (s->offset == 0) { /* the transpose is done: mins are vectors 8 .. 15 */
        for (size_t g = 0; g < groups; g++) {
            _mm512_store_si512(panel->min + at + g * HT_PANEL_ROWS, u->s[8 + g]);
        }
    }
}

/* Row i of the 16; groups < 8: the end of a row that 256 does not divide. */
HT_INLINE void ht_unpack_row(ht_chunk_fn *unpack, const struct ht_chunk_shape *s, const uint8_t *p,
                          const uint8_t *end, size_t groups, struct ht_unpacked *u, size_t i) {
    struct ht_chunk c;
    if (groups == 8) {
        unpack(p, &c);
    } else {
        ht_chunk_tail(unpack, s, p, end, groups, &c);
    }
    for (int v = 0; v < 4; v++) {
        u->c[v][i] = c.c[v];
    }
    u->s[i] = _mm512_castps_si512(c.s);
    if (s->offset == 0 && s->group == 16) {
        u->m[i] = _mm512_castps_si512(c.m);
    }
}

/* Asks for the bytes of 16 rows before they are unpacked side by side, which by itself reads memory at a tenth of its
 * speed (docs/measurements/kernels.md). */
HT_INLINE void ht_panel_prefetch(const uint8_t *rows, size_t count, size_t row_bytes, size_t bytes) {
    for (size_t i = 0; i < count; i++) {
        for (size_t line = 0; line < bytes; line += 64) {
            _mm_prefetch((const char *)rows + i * row_bytes + line, _MM_HINT_T0);
        }
    }
}

HT_INLINE void ht_panel_avx512(ht_chunk_fn *unpack, const struct ht_chunk_shape *s, const struct ht_mat *w, size_t row0,
                     size_t n_rows, size_t col0, size_t cols, struct ht_panel_q8 *out) {
    const uint8_t *end = (const uint8_t *)w->data + w->rows * w->row_bytes;
    struct ht_unpacked u;
    for (size_t half = 0; half < 2; half++) {
        size_t count = n_rows > 16 * half ? n_rows - 16 * half : 0;
        count = count < 16 ? count : 16;
        const uint8_t *rows =
            (const uint8_t *)w->data + (row0 + 16 * half) * w->row_bytes + col0 / 256 * s->bytes;
        ht_panel_prefetch(rows, count, w->row_bytes, (cols + 255) / 256 * s->bytes);
        for (size_t chunk = 0; chunk < (cols + 255) / 256; chunk++) {
            size_t groups = cols - chunk * 256 < 256 ? (cols - chunk * 256) / 32 : 8;
            if (count < 16) {
                memset(&u, 0, sizeof u);
            }
            for (size_t i = 0; i < count; i++) {
                ht_unpack_row(unpack, s, rows + i * w->row_bytes + chunk * s->bytes, end, groups, &u, i);
            }
            ht_store_chunk(s, &u, chunk, half, out);
        }
    }
}

/* panel_<name>; after unpack comes its shape. */
#define HT_PANEL_AVX512(name, unpack, ...)                                                                   \
    HT_SHAPE(name, __VA_ARGS__);                                                                             \
    static void panel_##name(const struct ht_mat *w, size_t row0, size_t n_rows, size_t col0, size_t cols,   \
                             struct ht_panel_q8 *out) {                                                      \
        ht_panel_avx512(unpack, &shape_##name, w, row0, n_rows, col0, cols, out);                            \
    }

#endif
