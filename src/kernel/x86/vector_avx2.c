#include <math.h>

#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx2.h"

static float dot_f32(const float *a, const float *b, size_t n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        for (size_t j = 0; j < 4; j++) {
            s[j] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * j), _mm256_loadu_ps(b + i + 8 * j), s[j]);
        }
    }
    for (size_t j = 0; i < n; i += 8, j++) {
        s[j] = _mm256_fmadd_ps(ht_load8(a + i, n - i), ht_load8(b + i, n - i), s[j]);
    }
    return ht_sum8(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static float dot_f32_f16(const float *a, const uint16_t *b, size_t n) {
    __m256 s[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        for (size_t j = 0; j < 4; j++) {
            s[j] = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8 * j), ht_load8_f16(b + i + 8 * j, 8), s[j]);
        }
    }
    for (size_t j = 0; i < n; i += 8, j++) {
        s[j] = _mm256_fmadd_ps(ht_load8(a + i, n - i), ht_load8_f16(b + i, n - i), s[j]);
    }
    return ht_sum8(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static void axpy_f32(float s, const float *x, float *y, size_t n) {
    __m256 vs = _mm256_set1_ps(s);
    for (size_t i = 0; i < n; i += 8) {
        ht_store8(y + i, _mm256_fmadd_ps(vs, ht_load8(x + i, n - i), ht_load8(y + i, n - i)), n - i);
    }
}

static void axpy_f16(float s, const uint16_t *x, float *y, size_t n) {
    __m256 vs = _mm256_set1_ps(s);
    for (size_t i = 0; i < n; i += 8) {
        ht_store8(y + i, _mm256_fmadd_ps(vs, ht_load8_f16(x + i, n - i), ht_load8(y + i, n - i)), n - i);
    }
}

static void f16_from_f32(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        uint16_t v[8];
        __m128i h = _mm256_cvtps_ph(ht_load8(x + i, n - i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_storeu_si128((void *)v, h);
        memcpy(y + i, v, (n - i < 8 ? n - i : 8) * sizeof *v);
    }
}

static void f32_from_f16(const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 8) {
        ht_store8(y + i, ht_load8_f16(x + i, n - i), n - i);
    }
}

static double sum_pd(__m256d v) {
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

static void rms_norm(const float *x, const float *w, float eps, float *y, size_t n) {
    __m256d s0 = _mm256_setzero_pd(), s1 = _mm256_setzero_pd();
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = ht_load8(x + i, n - i);
        __m256d lo = _mm256_cvtps_pd(_mm256_castps256_ps128(v)),
                hi = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
        s0 = _mm256_fmadd_pd(lo, lo, s0);
        s1 = _mm256_fmadd_pd(hi, hi, s1);
    }
    __m256 r = _mm256_set1_ps((float)(1.0 / sqrt(sum_pd(_mm256_add_pd(s0, s1)) / (double)n + eps)));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(ht_load8(x + i, n - i), r);
        if (w != NULL) {
            v = _mm256_mul_ps(v, ht_load8(w + i, n - i));
        }
        ht_store8(y + i, v, n - i);
    }
}

static float max_of(const float *x, size_t n) {
    float m = x[0];
    size_t i = 0;
    if (n >= 8) {
        __m256 v = _mm256_loadu_ps(x);
        for (i = 8; i + 8 <= n; i += 8) {
            v = _mm256_max_ps(v, _mm256_loadu_ps(x + i));
        }
        float lanes[8];
        _mm256_storeu_ps(lanes, v);
        for (int j = 0; j < 8; j++) {
            m = lanes[j] > m ? lanes[j] : m;
        }
    }
    for (; i < n; i++) {
        m = x[i] > m ? x[i] : m;
    }
    return m;
}

static void softmax(float *x, size_t n) {
    __m256 max = _mm256_set1_ps(max_of(x, n));
    double sum = 0;
    size_t i = 0;
    __m256d s0 = _mm256_setzero_pd(), s1 = _mm256_setzero_pd();
    for (; i + 8 <= n; i += 8) {
        __m256 e = ht_exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(x + i), max));
        _mm256_storeu_ps(x + i, e);
        s0 = _mm256_add_pd(s0, _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
        s1 = _mm256_add_pd(s1, _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
    }
    for (; i < n; i++) {
        x[i] = ht_exp_f32(x[i] - _mm256_cvtss_f32(max));
        sum += x[i];
    }
    __m256 r = _mm256_set1_ps((float)(1.0 / (sum + sum_pd(_mm256_add_pd(s0, s1)))));
    for (i = 0; i < n; i += 8) {
        ht_store8(x + i, _mm256_mul_ps(ht_load8(x + i, n - i), r), n - i);
    }
}

static void silu_mul(const float *gate, const float *up, float *y, size_t n) {
    const __m256 one = _mm256_set1_ps(1.0f);
    for (size_t i = 0; i < n; i += 8) {
        __m256 g = ht_load8(gate + i, n - i), u = ht_load8(up + i, n - i);
        __m256 e = ht_exp_avx2(_mm256_sub_ps(_mm256_setzero_ps(), g));
        ht_store8(y + i, _mm256_mul_ps(_mm256_div_ps(g, _mm256_add_ps(one, e)), u), n - i);
    }
}

/* exp of x <= 0 in double: Taylor to degree 13 on |r| <= 0.347, relative error below 1e-16. */
static __m256d exp_pd(__m256d x) {
    static const double inv_factorial[] = {1.0 / 6227020800,
                                           1.0 / 479001600,
                                           1.0 / 39916800,
                                           1.0 / 3628800,
                                           1.0 / 362880,
                                           1.0 / 40320,
                                           1.0 / 5040,
                                           1.0 / 720,
                                           1.0 / 120,
                                           1.0 / 24,
                                           1.0 / 6,
                                           1.0 / 2,
                                           1.0,
                                           1.0};
    __m256d zero = _mm256_cmp_pd(x, _mm256_set1_pd(-708.0), _CMP_LT_OQ);
    __m256d n = _mm256_round_pd(_mm256_mul_pd(x, _mm256_set1_pd(1.4426950408889634)),
                                _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256d r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.62e42fefa3800p-1), x);
    r = _mm256_fnmadd_pd(n, _mm256_set1_pd(0x1.ef35793c76730p-45), r);
    __m256d p = _mm256_set1_pd(inv_factorial[0]);
    for (size_t i = 1; i < sizeof inv_factorial / sizeof inv_factorial[0]; i++) {
        p = _mm256_fmadd_pd(p, r, _mm256_set1_pd(inv_factorial[i]));
    }
    __m256i e = _mm256_cvtepi32_epi64(_mm_add_epi32(_mm256_cvtpd_epi32(n), _mm_set1_epi32(1023)));
    return _mm256_andnot_pd(zero, _mm256_mul_pd(p, _mm256_castsi256_pd(_mm256_slli_epi64(e, 52))));
}

static double log_sum_exp(const float *x, size_t n, float *max) {
    float m0 = max_of(x, n);
    __m256d m = _mm256_set1_pd(m0), sum = _mm256_setzero_pd();
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        sum = _mm256_add_pd(sum, exp_pd(_mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i)), m)));
    }
    if (i < n) {
        float tail[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        memcpy(tail, x + i, (n - i) * sizeof *tail);
        sum = _mm256_add_pd(sum, exp_pd(_mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(tail)), m)));
    }
    if (max != NULL) {
        *max = m0;
    }
    return (double)m0 + log(sum_pd(sum));
}

/* Same numbers as ht_quantize_q8_ref: the absolute bits order like the values, and put Inf and NaN on top. */
static void quantize_q8(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16) {
    const __m256i abs_mask = _mm256_set1_epi32(0x7fffffff);
    for (size_t g = 0; g < n / 32; g++) {
        __m256 v[4];
        __m256i top = _mm256_setzero_si256();
        for (int j = 0; j < 4; j++) {
            v[j] = _mm256_loadu_ps(x + 32 * g + 8 * j);
            top = _mm256_max_epi32(top, _mm256_and_si256(_mm256_castps_si256(v[j]), abs_mask));
        }
        __m128i m = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
        uint32_t bits = (uint32_t)_mm_cvtsi128_si32(m);
        float max = ht_f32_from_bits(bits);
        __m256i c[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                        _mm256_setzero_si256()};
        if (bits >= 0x7f800000u || max < 1e-36f) {
            d[g] = bits >= 0x7f800000u ? NAN : 0;
        } else {
            __m256 r = _mm256_set1_ps(127.0f / max);
            for (int j = 0; j < 4; j++) {
                c[j] = _mm256_cvtps_epi32(_mm256_mul_ps(v[j], r));
            }
            d[g] = max / 127.0f;
        }
        for (int h = 0; h < 2; h++) {
            __m256i s = _mm256_add_epi32(c[2 * h], c[2 * h + 1]);
            __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
            t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
            t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1));
            sum16[2 * g + (size_t)h] = _mm_cvtsi128_si32(t);
        }
        /* The packs work within 128-bit halves; the permutation puts the 4-byte pieces back in order. */
        __m256i w = _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]), _mm256_packs_epi32(c[2], c[3]));
        w = _mm256_permutevar8x32_epi32(w, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        _mm256_storeu_si256((void *)(q + 32 * g), w);
    }
}

/* Two passes per query, as the reference. */
static void attention(const struct ht_attention *a, void *scratch) {
    float *p = scratch;
    for (size_t i = 0; i < a->n_q; i++) {
        const float *q = a->q + i * a->q_stride;
        float *out = a->out + i * a->out_stride;
        size_t n = a->first_keys + i * a->keys_step;
        for (size_t j = 0; j < n; j++) {
            float s = a->f16 ? dot_f32_f16(q, (const uint16_t *)a->k + j * a->k_stride, a->head_dim)
                             : dot_f32(q, (const float *)a->k + j * a->k_stride, a->head_dim);
            p[j] = s * a->scale;
        }
        softmax(p, n);
        memset(out, 0, a->head_dim * sizeof *out);
        for (size_t j = 0; j < n; j++) {
            if (a->f16) {
                axpy_f16(p[j], (const uint16_t *)a->v + j * a->v_stride, out, a->head_dim);
            } else {
                axpy_f32(p[j], (const float *)a->v + j * a->v_stride, out, a->head_dim);
            }
        }
    }
}

void ht_vector_init_avx2(struct ht_kernel_table *t) {
    t->ops.dot_f32 = dot_f32;
    t->ops.dot_f32_f16 = dot_f32_f16;
    t->ops.axpy_f32 = axpy_f32;
    t->ops.axpy_f16 = axpy_f16;
    t->ops.f16_from_f32 = f16_from_f32;
    t->ops.f32_from_f16 = f32_from_f16;
    t->ops.rms_norm = rms_norm;
    t->ops.softmax = softmax;
    t->ops.silu_mul = silu_mul;
    t->ops.log_sum_exp = log_sum_exp;
    t->ops.attention = attention;
    t->quantize_q8 = quantize_q8;
}
