/* Attention of one head, f32 arithmetic.
 *
 * One or two queries: two passes, all scores, softmax, weighted sum.
 * More: blocks of 64 keys are brought to f32 once (K turned to [D][64]) for up to 64 queries, with the
 * running maximum and sum of Milakov and Gimelshein ("Online normalizer calculation for softmax", arXiv
 * 1805.02867):
 *
 *     S [6 queries][64 keys] in 24 registers -> m, l, P -> out [6][64 columns] in 24 registers
 *
 * The key blocks start at key 0 whatever the queries are, so a query's result does not depend on its tile. */
#include <math.h>

#include "base/mem.h" /* HT_CACHE_LINE */
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx512.h"

#define KEYS 64    /* keys per block */
#define QUERIES 64 /* queries that share one conversion of a key block */
#define TILE 6     /* queries per register tile */

HT_INLINE __m512 load16(const void *base, bool f16, size_t at, __mmask16 m) {
    return f16 ? _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, (const uint16_t *)base + at))
               : _mm512_maskz_loadu_ps(m, (const float *)base + at);
}

/* ---- one query at a time ---------------------------------------------------------------------------------
 */

/* Rows [from, from + 16) of the n: the next keys, and the values of the second pass, come from memory while
 * the scores are computed. A decode step's cache lies far behind its weights in every cache level. */
HT_INLINE void prefetch_rows(const void *base, bool f16, size_t stride, size_t from, size_t n) {
    size_t to = from + 16 < n ? from + 16 : n, elem = f16 ? sizeof(uint16_t) : sizeof(float);
    for (size_t at = from * stride * elem; at < to * stride * elem; at += HT_CACHE_LINE) {
        _mm_prefetch((const char *)base + at, _MM_HINT_T0);
    }
}

HT_INLINE void scores(const struct ht_attention *a, bool f16, const float *q, size_t n, float *p) {
    for (size_t j = 0; j < n; j += 16) {
        size_t count = n - j < 16 ? n - j : 16;
        __m512 acc[16];
        prefetch_rows(a->k, f16, a->k_stride, j + 16, n);
        prefetch_rows(a->v, f16, a->v_stride, j, n);
        for (size_t i = 0; i < 16; i++) {
            acc[i] = _mm512_setzero_ps();
        }
        for (size_t c = 0; c < a->head_dim; c += 16) {
            __mmask16 m = ht_mask16(a->head_dim - c < 16 ? a->head_dim - c : 16);
            __m512 v = _mm512_maskz_loadu_ps(m, q + c);
#pragma GCC unroll 16
            for (size_t i = 0; i < 16; i++) {
                size_t key = i < count ? j + i : j;
                acc[i] = _mm512_fmadd_ps(v, load16(a->k, f16, key * a->k_stride + c, m), acc[i]);
            }
        }
        __m512 s = _mm512_mul_ps(ht_sum16_avx512(acc), _mm512_set1_ps(a->scale));
        _mm512_mask_storeu_ps(p + j, ht_mask16(count), s);
    }
}

/* out = sum of p[j] * V[j], 64 columns at a time, even and odd keys in their own sums. */
HT_INLINE void weighted_sum(const struct ht_attention *a, bool f16, const float *p, size_t n, float *out) {
    for (size_t c = 0; c < a->head_dim; c += 64) {
        __mmask16 m[4];
        __m512 acc[2][4];
        for (size_t i = 0; i < 4; i++) {
            size_t at = c + 16 * i, left = a->head_dim > at ? a->head_dim - at : 0;
            m[i] = ht_mask16(left < 16 ? left : 16);
            acc[0][i] = acc[1][i] = _mm512_setzero_ps();
        }
        for (size_t j = 0; j < n; j++) {
            __m512 w = _mm512_set1_ps(p[j]);
            for (size_t i = 0; i < 4; i++) {
                __m512 v = load16(a->v, f16, j * a->v_stride + c + 16 * i, m[i]);
                if (j % 2 == 0) {
                    acc[0][i] = _mm512_fmadd_ps(w, v, acc[0][i]);
                } else {
                    acc[1][i] = _mm512_fmadd_ps(w, v, acc[1][i]);
                }
            }
        }
        for (size_t i = 0; i < 4; i++) {
            _mm512_mask_storeu_ps(out + c + 16 * i, m[i], _mm512_add_ps(acc[0][i], acc[1][i]));
        }
    }
}

HT_INLINE void one_by_one(const struct ht_attention *a, bool f16, float *p) {
    for (size_t i = 0; i < a->n_q; i++) {
        size_t n = a->first_keys + i * a->keys_step;
        scores(a, f16, a->q + i * a->q_stride, n, p);
        ht_softmax_avx512(p, n);
        weighted_sum(a, f16, p, n, a->out + i * a->out_stride);
    }
}

/* ---- blocks ----------------------------------------------------------------------------------------------
 */

struct blocks {
    const struct ht_attention *a;
    float *kt;           /* [D, KEYS] */
    float *v;            /* [KEYS, D] */
    float *p;            /* [TILE, KEYS] */
    size_t key0, n_keys; /* this block */
    float max[QUERIES], sum[QUERIES];
};

static void convert_block(struct blocks *b) {
    const struct ht_attention *a = b->a;
    size_t D = a->head_dim;
    for (size_t c = 0; c < D; c += 16) {
        __mmask16 m = ht_mask16(D - c < 16 ? D - c : 16);
        for (size_t j = 0; j < KEYS; j += 16) {
            __m512i x[16];
            for (size_t i = 0; i < 16; i++) {
                size_t at = (b->key0 + j + i) * a->k_stride + c;
                x[i] = j + i < b->n_keys ? _mm512_castps_si512(load16(a->k, a->f16, at, m))
                                         : _mm512_setzero_si512();
            }
            ht_transpose16_avx512(x);
            for (size_t i = 0; i < 16 && c + i < D; i++) {
                _mm512_storeu_si512(b->kt + (c + i) * KEYS + j, x[i]);
            }
        }
        for (size_t j = 0; j < KEYS; j++) {
            __m512 x = j < b->n_keys ? load16(a->v, a->f16, (b->key0 + j) * a->v_stride + c, m)
                                     : _mm512_setzero_ps();
            _mm512_mask_storeu_ps(b->v + j * D + c, m, x);
        }
    }
}

/* Scores of one query, 4 x 16 keys -> P, and the factor that brings older sums to the new maximum. */
HT_INLINE float normalize(struct blocks *b, size_t i, size_t limit, const __m512 s[4], float *p) {
    size_t seen = limit > b->key0 ? limit - b->key0 : 0;
    __m512 x[4], top = _mm512_set1_ps(-INFINITY);
    for (size_t v = 0; v < 4; v++) {
        size_t left = seen > 16 * v ? seen - 16 * v : 0;
        x[v] = _mm512_mask_mul_ps(_mm512_set1_ps(-INFINITY), ht_mask16(left < 16 ? left : 16), s[v],
                                  _mm512_set1_ps(b->a->scale));
        top = _mm512_max_ps(top, x[v]);
    }
    float max = _mm512_reduce_max_ps(top), old = b->max[i];
    max = max > old ? max : old;
    __m512 sum = _mm512_setzero_ps(), m = _mm512_set1_ps(max);
    for (size_t v = 0; v < 4; v++) {
        __m512 e = ht_exp_avx512(_mm512_sub_ps(x[v], m));
        _mm512_storeu_ps(p + 16 * v, e);
        sum = _mm512_add_ps(sum, e);
    }
    float factor = ht_exp_f32(old - max);
    b->sum[i] = b->sum[i] * factor + _mm512_reduce_add_ps(sum);
    b->max[i] = max;
    return factor;
}

/* NT queries from query i (of this group) on, first is its number in the call. */
HT_INLINE void tile(int NT, struct blocks *b, size_t group, size_t i) {
    const struct ht_attention *a = b->a;
    size_t D = a->head_dim;
    const float *q = a->q + (group + i) * a->q_stride;
    __m512 acc[TILE][4];
    float factor[TILE];
    for (int t = 0; t < NT; t++) {
        for (int v = 0; v < 4; v++) {
            acc[t][v] = _mm512_setzero_ps();
        }
    }
    for (size_t c = 0; c < D; c++) {
        const float *k = b->kt + c * KEYS;
        __m512 k0 = _mm512_loadu_ps(k), k1 = _mm512_loadu_ps(k + 16), k2 = _mm512_loadu_ps(k + 32);
        __m512 k3 = _mm512_loadu_ps(k + 48);
#pragma GCC unroll 6
        for (int t = 0; t < NT; t++) {
            __m512 w = _mm512_set1_ps(q[(size_t)t * a->q_stride + c]);
            acc[t][0] = _mm512_fmadd_ps(w, k0, acc[t][0]);
            acc[t][1] = _mm512_fmadd_ps(w, k1, acc[t][1]);
            acc[t][2] = _mm512_fmadd_ps(w, k2, acc[t][2]);
            acc[t][3] = _mm512_fmadd_ps(w, k3, acc[t][3]);
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < NT; t++) {
        size_t n = i + (size_t)t;
        factor[t] =
            normalize(b, n, a->first_keys + (group + n) * a->keys_step, acc[t], b->p + (size_t)t * KEYS);
    }
    for (size_t c = 0; c < D; c += 64) {
        float *out = a->out + (group + i) * a->out_stride + c;
        __mmask16 m[4];
        for (size_t v = 0; v < 4; v++) {
            size_t left = D - c > 16 * v ? D - c - 16 * v : 0;
            m[v] = ht_mask16(left < 16 ? left : 16);
        }
        for (int t = 0; t < NT; t++) {
            for (size_t v = 0; v < 4; v++) {
                acc[t][v] =
                    _mm512_mul_ps(_mm512_maskz_loadu_ps(m[v], out + (size_t)t * a->out_stride + 16 * v),
                                  _mm512_set1_ps(factor[t]));
            }
        }
        for (size_t j = 0; j < b->n_keys; j++) {
            const float *x = b->v + j * D + c;
            __m512 v0 = _mm512_maskz_loadu_ps(m[0], x), v1 = _mm512_maskz_loadu_ps(m[1], x + 16);
            __m512 v2 = _mm512_maskz_loadu_ps(m[2], x + 32), v3 = _mm512_maskz_loadu_ps(m[3], x + 48);
#pragma GCC unroll 6
            for (int t = 0; t < NT; t++) {
                __m512 w = _mm512_set1_ps(b->p[(size_t)t * KEYS + j]);
                acc[t][0] = _mm512_fmadd_ps(w, v0, acc[t][0]);
                acc[t][1] = _mm512_fmadd_ps(w, v1, acc[t][1]);
                acc[t][2] = _mm512_fmadd_ps(w, v2, acc[t][2]);
                acc[t][3] = _mm512_fmadd_ps(w, v3, acc[t][3]);
            }
        }
        for (int t = 0; t < NT; t++) {
            for (size_t v = 0; v < 4; v++) {
                _mm512_mask_storeu_ps(out + (size_t)t * a->out_stride + 16 * v, m[v], acc[t][v]);
            }
        }
    }
}

#define TILE_FN(NT)                                                                                          \
    static HT_NOINLINE void tile_##NT(struct blocks *b, size_t group, size_t i) {                            \
        tile(NT, b, group, i);                                                                               \
    }
TILE_FN(1)
TILE_FN(2) TILE_FN(3) TILE_FN(4) TILE_FN(5) TILE_FN(6)

    typedef void tile_fn(struct blocks *b, size_t group, size_t i);
static tile_fn *const tiles[TILE] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* Queries group .. group + n - 1 of the call, n <= QUERIES. */
static void query_group(struct blocks *b, size_t group, size_t n) {
    const struct ht_attention *a = b->a;
    for (size_t i = 0; i < n; i++) {
        b->max[i] = -INFINITY;
        b->sum[i] = 0;
        memset(a->out + (group + i) * a->out_stride, 0, a->head_dim * sizeof(float));
    }
    size_t last = a->first_keys + (group + n - 1) * a->keys_step;
    for (b->key0 = 0; b->key0 < last; b->key0 += KEYS) {
        b->n_keys = last - b->key0 < KEYS ? last - b->key0 : KEYS;
        convert_block(b);
        for (size_t i = 0; i < n; i += TILE) {
            size_t count = n - i < TILE ? n - i : TILE;
            if (a->first_keys + (group + i + count - 1) * a->keys_step > b->key0) {
                tiles[count - 1](b, group, i);
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        float *out = a->out + (group + i) * a->out_stride;
        for (size_t c = 0; c < a->head_dim; c += 16) {
            __mmask16 m = ht_mask16(a->head_dim - c < 16 ? a->head_dim - c : 16);
            __m512 x = _mm512_maskz_loadu_ps(m, out + c);
            _mm512_mask_storeu_ps(out + c, m, _mm512_div_ps(x, _mm512_set1_ps(b->sum[i])));
        }
    }
}

static void attention(const struct ht_attention *a, void *scratch) {
    if (a->n_q <= 2) {
        if (a->f16) {
            one_by_one(a, true, scratch);
        } else {
            one_by_one(a, false, scratch);
        }
        return;
    }
    struct blocks b = {.a = a, .kt = scratch};
    b.v = b.kt + a->head_dim * KEYS;
    b.p = b.v + a->head_dim * KEYS;
    for (size_t i = 0; i < a->n_q; i += QUERIES) {
        query_group(&b, i, a->n_q - i < QUERIES ? a->n_q - i : QUERIES);
    }
}

void ht_attention_init_avx512(struct ht_kernel_table *t) {
    t->ops.attention = attention;
}
