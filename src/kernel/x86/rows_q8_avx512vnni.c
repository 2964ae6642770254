/* Few tokens, 8-bit activations: dot products straight from the packed blocks.
 *
 * A chunk of 256 weights is unpacked once (chunk_avx512.h) and multiplied with 1 to 4 tokens:
 *
 *     lanes of 4 codes: dpbusd -> 16 integer sums -> f32 * (weight scale * activation scale) -> accumulator
 *     mins: one product of 8 or 16 mins with the scaled sums of the activations
 *
 * Rows are handled 16 at a time so that the sums across lanes are shared. */
#include "kernel/x86/chunk_low_avx512.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/shapes.h"
#include "kernel/x86/simd_avx512.h"

#define MAX_TOKENS HT_ROWS_Q8_TOKENS

/* Weights are asked for this far ahead, over the ends of rows: one core reads 40 instead of 31 GB/s (Zen 5,
 * docs/measurements/kernels.md). */
#define PREFETCH_BYTES 8192

/* For each code vector, the group of every 32-bit lane. */
struct lanes {
    __m512i of[4];
};

HT_INLINE struct lanes lanes_of(const struct ht_chunk_shape *s) {
    struct lanes l;
    HT_ALIGNED(64) int32_t g[16];
    for (int v = 0; v < 4; v++) {
        for (int i = 0; i < 16; i++) {
            int piece = s->piece[4 * v + i / 4];
            g[i] = s->group == 16 ? piece : piece / 2;
        }
        l.of[v] = _mm512_load_si512(g);
    }
    return l;
}

HT_INLINE __m512i dot4(__m512i acc, __m512i codes, const int8_t *q) {
    return _mm512_dpbusd_epi32(acc, codes, _mm512_loadu_si512(q));
}

/* acc[0], acc[1]: two sums so that the additions of one chunk overlap. */
HT_INLINE void dot_chunk(const struct ht_chunk_shape *s, const struct lanes *l, const struct ht_chunk *w,
                         const struct ht_chunk_acts *a, __m512 acc[2]) {
    const __m512i zero = _mm512_setzero_si512();
    __m512 p = _mm512_mul_ps(w->s, _mm512_loadu_ps(a->d));
    if (s->group == 32) {
        acc[1] = _mm512_mask_add_ps(acc[1], 0xff00, acc[1], p);
    } else {
        acc[1] = _mm512_fmadd_ps(s->offset != 0 ? w->s : w->m, _mm512_loadu_ps(a->ns), acc[1]);
    }
    if (s->order == HT_ORDER_LANES) {
        __m512i x = zero, h = zero;
        for (int v = 0; v < 4; v++) {
            x = dot4(x, w->c[v], a->q + 64 * v);
            h = s->offset != 0 ? dot4(h, w->h[v], a->q + 64 * v) : h;
        }
        __m512 sum = _mm512_cvtepi32_ps(x);
        sum = s->offset != 0 ? _mm512_fmadd_ps(_mm512_cvtepi32_ps(h), ht_high_weight(), sum) : sum;
        acc[0] = _mm512_fmadd_ps(sum, p, acc[0]);
        return;
    }
    if (s->chained) {
        __m512i x = dot4(dot4(zero, w->c[0], a->q), w->c[1], a->q + 64);
        __m512i y = dot4(dot4(zero, w->c[2], a->q + 128), w->c[3], a->q + 192);
        acc[0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), _mm512_permutexvar_ps(l->of[0], p), acc[0]);
        acc[1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(y), _mm512_permutexvar_ps(l->of[2], p), acc[1]);
        return;
    }
    for (int v = 0; v < 4; v++) {
        __m512 x = _mm512_cvtepi32_ps(dot4(zero, w->c[v], a->q + 64 * v));
        acc[v & 1] = _mm512_fmadd_ps(x, _mm512_permutexvar_ps(l->of[v], p), acc[v & 1]);
    }
}

HT_INLINE void rows(ht_chunk_fn *unpack, const struct ht_chunk_shape *s, int NT, const struct ht_mat *w,
                    size_t row0, size_t n_rows, const struct ht_chunk_acts *acts, size_t n_chunks, float *y,
                    size_t y_stride) {
    const struct lanes l = lanes_of(s);
    const uint8_t *end = (const uint8_t *)w->data + w->rows * w->row_bytes;
    size_t full = w->cols / 256, tail = w->cols % 256 / 32;
    for (size_t r0 = 0; r0 < n_rows; r0 += 16) {
        size_t count = n_rows - r0 < 16 ? n_rows - r0 : 16;
        __m512 sums[MAX_TOKENS][16];
        for (size_t r = 0; r < count; r++) {
            const uint8_t *p = (const uint8_t *)w->data + (row0 + r0 + r) * w->row_bytes;
            struct ht_chunk c;
            __m512 acc[MAX_TOKENS][2];
            for (int t = 0; t < NT; t++) {
                acc[t][0] = acc[t][1] = _mm512_setzero_ps();
            }
            for (size_t i = 0; i < full; i++, p += s->bytes) {
                for (uint32_t line = 0; line < s->bytes; line += 64) {
                    _mm_prefetch((const char *)p + PREFETCH_BYTES + line, _MM_HINT_T0);
                }
                unpack(p, &c);
                for (int t = 0; t < NT; t++) {
                    dot_chunk(s, &l, &c, acts + (size_t)t * n_chunks + i, acc[t]);
                }
            }
            if (tail != 0) {
                ht_chunk_tail(unpack, s, p, end, tail, &c);
                for (int t = 0; t < NT; t++) {
                    dot_chunk(s, &l, &c, acts + (size_t)t * n_chunks + full, acc[t]);
                }
            }
            for (int t = 0; t < NT; t++) {
                sums[t][r] = _mm512_add_ps(acc[t][0], acc[t][1]);
            }
        }
        for (int t = 0; t < NT; t++) {
            for (size_t r = count; r < 16; r++) {
                sums[t][r] = _mm512_setzero_ps();
            }
            _mm512_mask_storeu_ps(y + (size_t)t * y_stride + r0, ht_mask16(count), ht_sum16_avx512(sums[t]));
        }
    }
}

/* The rest: the shape. */
#define ROWS_OF(name, unpack, ...)                                                                           \
    HT_SHAPE(name, __VA_ARGS__);                                                                             \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,  \
                            float *y, size_t y_stride, void *scratch) {                                      \
        (void)scratch;                                                                                       \
        const struct ht_chunk_acts *a = acts->chunks;                                                        \
        size_t n = acts->cols_padded / 256;                                                                  \
        switch (acts->n_tokens) {                                                                            \
        case 1: rows(unpack, &shape_##name, 1, w, row0, n_rows, a, n, y, y_stride); break;                   \
        case 2: rows(unpack, &shape_##name, 2, w, row0, n_rows, a, n, y, y_stride); break;                   \
        case 3: rows(unpack, &shape_##name, 3, w, row0, n_rows, a, n, y, y_stride); break;                   \
        default: rows(unpack, &shape_##name, 4, w, row0, n_rows, a, n, y, y_stride); break;                  \
        }                                                                                                    \
    }
#define ROWS(name, pieces, group, offset, chained, bytes)                                                    \
    ROWS_OF(name, ht_chunk_##name, pieces, group, offset, chained, bytes, HT_ORDER_PIECES)
HT_CHUNK_LIST(ROWS)
ROWS_OF(lanes_q2_k, ht_lanes_q2_k, {0}, 16, 0, false, 84, HT_ORDER_LANES)
ROWS_OF(lanes_q3_k, ht_lanes_q3_k, {0}, 16, 4, false, 110, HT_ORDER_LANES)

/* Later rows replace earlier ones of the same format. */
static const struct {
    const char *format;
    ht_rows_q8_fn *rows;
    const struct ht_chunk_shape *shape;
} list[] = {
#define ROW(name, pieces, group, offset, chained, bytes) {#name, rows_##name, &shape_##name},
    HT_CHUNK_LIST(ROW){"q2_k", rows_lanes_q2_k, &shape_lanes_q2_k},
    {"q3_k", rows_lanes_q3_k, &shape_lanes_q3_k},
};

void ht_rows_q8_init_avx512vnni(struct ht_kernel_table *t) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        for (size_t j = 0; j < sizeof list / sizeof list[0]; j++) {
            if (strcmp(ht_format_at(i)->name, list[j].format) == 0) {
                t->rows_q8[i] = list[j].rows;
                t->shape[i] = list[j].shape;
            }
        }
    }
}
