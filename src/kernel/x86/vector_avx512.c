#include <math.h>

#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx512.h"

static float dot_f32(const float *a, const float *b, size_t n) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (size_t j = 0; j < 4; j++) {
            s[j] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * j), _mm512_loadu_ps(b + i + 16 * j), s[j]);
        }
    }
    for (size_t j = 0; i < n; i += 16, j++) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        s[j] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s[j]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static __m512 load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

static __m512 load_f16_masked(__mmask16 m, const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, p));
}

static float dot_f32_f16(const float *a, const uint16_t *b, size_t n) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (size_t j = 0; j < 4; j++) {
            s[j] = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16 * j), load_f16(b + i + 16 * j), s[j]);
        }
    }
    for (size_t j = 0; i < n; i += 16, j++) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        s[j] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), load_f16_masked(m, b + i), s[j]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
}

static void axpy_f32(float s, const float *x, float *y, size_t n) {
    __m512 vs = _mm512_set1_ps(s);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m512 v = _mm512_maskz_loadu_ps(m, y + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(vs, _mm512_maskz_loadu_ps(m, x + i), v));
    }
}

static void axpy_f16(float s, const uint16_t *x, float *y, size_t n) {
    __m512 vs = _mm512_set1_ps(s);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m512 v = _mm512_maskz_loadu_ps(m, y + i);
        _mm512_mask_storeu_ps(y + i, m, _mm512_fmadd_ps(vs, load_f16_masked(m, x + i), v));
    }
}

static void f16_from_f32(const float *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m256i h =
            _mm512_cvtps_ph(_mm512_maskz_loadu_ps(m, x + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_mask_storeu_epi16(y + i, m, h);
    }
}

static void f32_from_f16(const uint16_t *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        _mm512_mask_storeu_ps(y + i, m, load_f16_masked(m, x + i));
    }
}

static void rms_norm(const float *x, const float *w, float eps, float *y, size_t n) {
    __m512d s0 = _mm512_setzero_pd(), s1 = _mm512_setzero_pd();
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(ht_mask16(n - i < 16 ? n - i : 16), x + i);
        __m512d lo = _mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                hi = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
        s0 = _mm512_fmadd_pd(lo, lo, s0);
        s1 = _mm512_fmadd_pd(hi, hi, s1);
    }
    double sum = _mm512_reduce_add_pd(_mm512_add_pd(s0, s1));
    __m512 r = _mm512_set1_ps((float)(1.0 / sqrt(sum / (double)n + eps)));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), r);
        if (w != NULL) {
            v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i));
        }
        _mm512_mask_storeu_ps(y + i, m, v);
    }
}

static float max_of(const float *x, size_t n) {
    __m512 m0 = _mm512_set1_ps(x[0]);
    for (size_t i = 0; i < n; i += 16) {
        m0 = _mm512_mask_max_ps(m0, ht_mask16(n - i < 16 ? n - i : 16), m0,
                                _mm512_maskz_loadu_ps(ht_mask16(n - i < 16 ? n - i : 16), x + i));
    }
    return _mm512_reduce_max_ps(m0);
}

void ht_softmax_avx512(float *x, size_t n) {
    __m512 max = _mm512_set1_ps(max_of(x, n));
    __m512d s0 = _mm512_setzero_pd(), s1 = _mm512_setzero_pd();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m512 e = _mm512_maskz_mov_ps(m, ht_exp_avx512(_mm512_sub_ps(_mm512_maskz_loadu_ps(m, x + i), max)));
        _mm512_mask_storeu_ps(x + i, m, e);
        s0 = _mm512_add_pd(s0, _mm512_cvtps_pd(_mm512_castps512_ps256(e)));
        s1 = _mm512_add_pd(s1, _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1)));
    }
    __m512 r = _mm512_set1_ps((float)(1.0 / _mm512_reduce_add_pd(_mm512_add_pd(s0, s1))));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        _mm512_mask_storeu_ps(x + i, m, _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), r));
    }
}

static void silu_mul(const float *gate, const float *up, float *y, size_t n) {
    const __m512 one = _mm512_set1_ps(1.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 m = ht_mask16(n - i < 16 ? n - i : 16);
        __m512 g = _mm512_maskz_loadu_ps(m, gate + i), u = _mm512_maskz_loadu_ps(m, up + i);
        __m512 e = ht_exp_avx512(_mm512_sub_ps(_mm512_setzero_ps(), g));
        _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(_mm512_div_ps(g, _mm512_add_ps(one, e)), u));
    }
}

/* exp of x <= 0 in double: Taylor to degree 13 on |r| <= 0.347, relative error below 1e-16. */
static __m512d exp_pd(__m512d x) {
    __mmask8 zero = _mm512_cmp_pd_mask(x, _mm512_set1_pd(-708.0), _CMP_LT_OQ);
    __m512d n = _mm512_roundscale_pd(_mm512_mul_pd(x, _mm512_set1_pd(1.4426950408889634)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512d r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.62e42fefa3800p-1), x);
    r = _mm512_fnmadd_pd(n, _mm512_set1_pd(0x1.ef35793c76730p-45), r);
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
    __m512d p = _mm512_set1_pd(inv_factorial[0]);
    for (size_t i = 1; i < sizeof inv_factorial / sizeof inv_factorial[0]; i++) {
        p = _mm512_fmadd_pd(p, r, _mm512_set1_pd(inv_factorial[i]));
    }
    return _mm512_mask_mov_pd(_mm512_scalef_pd(p, n), zero, _mm512_setzero_pd());
}

static double log_sum_exp(const float *x, size_t n, float *max) {
    float m0 = max_of(x, n);
    __m512d m = _mm512_set1_pd(m0), sum = _mm512_setzero_pd();
    for (size_t i = 0; i < n; i += 8) {
        __mmask8 k = (__mmask8)(n - i < 8 ? (1u << (n - i)) - 1u : 0xffu);
        __m512d e = exp_pd(_mm512_sub_pd(_mm512_cvtps_pd(_mm256_maskz_loadu_ps(k, x + i)), m));
        sum = _mm512_mask_add_pd(sum, k, sum, e);
    }
    if (max != NULL) {
        *max = m0;
    }
    return (double)m0 + log(_mm512_reduce_add_pd(sum));
}

/* Same numbers as ht_quantize_q8_ref: the absolute bits order like the values, and put Inf and NaN on top. */
static void quantize_q8(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16) {
    const __m512i abs_mask = _mm512_set1_epi32(0x7fffffff);
    for (size_t g = 0; g < n / 32; g++) {
        __m512 a = _mm512_loadu_ps(x + 32 * g), b = _mm512_loadu_ps(x + 32 * g + 16);
        uint32_t bits = (uint32_t)_mm512_reduce_max_epi32(
            _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), abs_mask),
                             _mm512_and_si512(_mm512_castps_si512(b), abs_mask)));
        float max = ht_f32_from_bits(bits);
        __m128i qa = _mm_setzero_si128(), qb = qa;
        if (bits >= 0x7f800000u || max < 1e-36f) {
            d[g] = bits >= 0x7f800000u ? NAN : 0;
            sum16[2 * g] = sum16[2 * g + 1] = 0;
        } else {
            __m512 r = _mm512_set1_ps(127.0f / max);
            __m512i ia = _mm512_cvtps_epi32(_mm512_mul_ps(a, r)),
                    ib = _mm512_cvtps_epi32(_mm512_mul_ps(b, r));
            qa = _mm512_cvtepi32_epi8(ia);
            qb = _mm512_cvtepi32_epi8(ib);
            sum16[2 * g] = _mm512_reduce_add_epi32(ia);
            sum16[2 * g + 1] = _mm512_reduce_add_epi32(ib);
            d[g] = max / 127.0f;
        }
        _mm_storeu_si128((void *)(q + 32 * g), qa);
        _mm_storeu_si128((void *)(q + 32 * g + 16), qb);
    }
}

void ht_vector_init_avx512(struct ht_kernel_table *t) {
    t->ops.dot_f32 = dot_f32;
    t->ops.dot_f32_f16 = dot_f32_f16;
    t->ops.axpy_f32 = axpy_f32;
    t->ops.axpy_f16 = axpy_f16;
    t->ops.f16_from_f32 = f16_from_f32;
    t->ops.f32_from_f16 = f32_from_f16;
    t->ops.rms_norm = rms_norm;
    t->ops.softmax = ht_softmax_avx512;
    t->ops.silu_mul = silu_mul;
    t->ops.log_sum_exp = log_sum_exp;
    t->quantize_q8 = quantize_q8;
}
