/* Few tokens in f32: float formats straight from memory, any other format decoded piece by piece into L1. */
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx512.h"

#define MAX_TOKENS 4        /* tokens per pass over a row */
#define PREFETCH_BYTES 8192 /* as in rows_q8_avx512vnni.c */

typedef __m512 load_fn(const void *src, size_t i, __mmask16 m);

HT_INLINE __m512 load_f32(const void *src, size_t i, __mmask16 m) {
    return _mm512_maskz_loadu_ps(m, (const float *)src + i);
}

HT_INLINE __m512 load_f16(const void *src, size_t i, __mmask16 m) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)src + i));
}

HT_INLINE __m512 load_bf16(const void *src, size_t i, __mmask16 m) {
    __m512i v = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, (const uint16_t *)src + i));
    return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}

/* One row, NT tokens, four sums per token. elem_bytes 0: the row is in L1, no prefetch. */
HT_INLINE void dot_row(load_fn *load, size_t elem_bytes, int NT, const void *row, size_t n, const float *x,
                       size_t x_stride, float *out) {
    __m512 acc[MAX_TOKENS][4];
    for (int t = 0; t < NT; t++) {
        acc[t][0] = acc[t][1] = acc[t][2] = acc[t][3] = _mm512_setzero_ps();
    }
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (size_t line = 0; line < elem_bytes;
             line++) { /* 64 elements are as many lines as one has bytes */
            _mm_prefetch((const char *)row + i * elem_bytes + PREFETCH_BYTES + 64 * line, _MM_HINT_T0);
        }
        for (size_t j = 0; j < 4; j++) {
            __m512 w = load(row, i + 16 * j, 0xffff);
            for (int t = 0; t < NT; t++) {
                acc[t][j] =
                    _mm512_fmadd_ps(w, _mm512_loadu_ps(x + (size_t)t * x_stride + i + 16 * j), acc[t][j]);
            }
        }
    }
    for (size_t j = 0; i < n; i += 16, j++) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m512 w = load(row, i, m);
        for (int t = 0; t < NT; t++) {
            acc[t][j] = _mm512_fmadd_ps(w, _mm512_maskz_loadu_ps(m, x + (size_t)t * x_stride + i), acc[t][j]);
        }
    }
    for (int t = 0; t < NT; t++) {
        out[t] = _mm512_reduce_add_ps(
            _mm512_add_ps(_mm512_add_ps(acc[t][0], acc[t][1]), _mm512_add_ps(acc[t][2], acc[t][3])));
    }
}

HT_INLINE void rows_direct(load_fn *load, size_t elem_bytes, const struct ht_mat *w, size_t row0,
                           size_t n_rows, const float *x, size_t n_tokens, float *y, size_t y_stride) {
    size_t K = w->cols;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *row = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t t = 0; t < n_tokens; t += MAX_TOKENS) {
            float out[MAX_TOKENS];
            size_t n = n_tokens - t < MAX_TOKENS ? n_tokens - t : MAX_TOKENS;
            const float *xt = x + t * K;
            switch (n) {
            case 1: dot_row(load, elem_bytes, 1, row, K, xt, K, out); break;
            case 2: dot_row(load, elem_bytes, 2, row, K, xt, K, out); break;
            case 3: dot_row(load, elem_bytes, 3, row, K, xt, K, out); break;
            default: dot_row(load, elem_bytes, 4, row, K, xt, K, out); break;
            }
            for (size_t i = 0; i < n; i++) {
                y[(t + i) * y_stride + r] = out[i];
            }
        }
    }
}

#define ROWS_DIRECT(name, elem_bytes)                                                                        \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const float *x,              \
                            size_t n_tokens, float *y, size_t y_stride, ht_decode_fn *decode,                \
                            void *scratch) {                                                                 \
        (void)decode;                                                                                        \
        (void)scratch;                                                                                       \
        rows_direct(load_##name, elem_bytes, w, row0, n_rows, x, n_tokens, y, y_stride);                     \
    }
ROWS_DIRECT(f32, 4)
ROWS_DIRECT(f16, 2)
ROWS_DIRECT(bf16, 2)

/* NT tokens times one piece of a row, which is in L1. */
HT_INLINE void dot_piece(int NT, const float *piece, size_t n, const float *x, size_t x_stride, float *y,
                         size_t y_stride, bool add) {
    float out[MAX_TOKENS];
    dot_row(load_f32, 0, NT, piece, n, x, x_stride, out);
    for (int t = 0; t < NT; t++) {
        y[(size_t)t * y_stride] = add ? y[(size_t)t * y_stride] + out[t] : out[t];
    }
}

static void rows_decoded(const struct ht_mat *w, size_t row0, size_t n_rows, const float *x, size_t n_tokens,
                         float *y, size_t y_stride, ht_decode_fn *decode, void *scratch) {
    float *piece = scratch;
    size_t K = w->cols;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *src = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t k = 0; k < K; k += HT_DECODE_ELEMS) {
            size_t n = K - k < HT_DECODE_ELEMS ? K - k : HT_DECODE_ELEMS, t = 0;
            decode(src + ht_format_row_bytes(w->format, k), piece, n);
            for (; t + MAX_TOKENS <= n_tokens; t += MAX_TOKENS) {
                dot_piece(MAX_TOKENS, piece, n, x + t * K + k, K, y + t * y_stride + r, y_stride, k > 0);
            }
            for (; t < n_tokens; t++) {
                dot_piece(1, piece, n, x + t * K + k, K, y + t * y_stride + r, y_stride, k > 0);
            }
        }
    }
}

/* Whole vectors without masks: with fewer instructions per vector more of the weights are under way at a time. */
HT_INLINE void decode_row(load_fn *load, const void *src, float *x, size_t n) {
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        _mm512_storeu_ps(x + i, load(src, i, 0xffff));
    }
    if (i < n) {
        __mmask16 m = ht_mask16(n - i);
        _mm512_mask_storeu_ps(x + i, m, load(src, i, m));
    }
}

static void decode_f16(const void *src, float *x, size_t n) {
    decode_row(load_f16, src, x, n);
}

static void decode_bf16(const void *src, float *x, size_t n) {
    decode_row(load_bf16, src, x, n);
}

void ht_rows_f32_init_avx512(struct ht_kernel_table *t) {
    static const struct ht_slot_row direct[] = {
        {.format = "f32", .rows_f32 = rows_f32},
        {.format = "f16", .rows_f32 = rows_f16, .decode = decode_f16},
        {.format = "bf16", .rows_f32 = rows_bf16, .decode = decode_bf16},
    };
    for (size_t i = 0; i < ht_format_count(); i++) {
        t->rows_f32[i] = rows_decoded;
    }
    ht_slots_set(t, direct, sizeof direct / sizeof direct[0]);
}
