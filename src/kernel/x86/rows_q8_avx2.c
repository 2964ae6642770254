/* 8-bit activations without VNNI: a chunk of 256 weights is brought to signed codes in L1 (kernel/form.h) and
 * multiplied with every token.
 *
 * maddubs wants one unsigned side and saturates at 16 bits: |code| <= 128 and |q| <= 127 keep its pair sums
 * below 32,768, so the product is |code| * (q with the sign of code), which is exact. */
#include "kernel/form.h"
#include "kernel/x86/levels.h"
#include "kernel/x86/simd_avx2.h"

/* 32 codes of one row times 32 activations: 8 sums of 4. */
HT_INLINE __m256i dot32(__m256i codes, __m256i magnitude, const int8_t *q) {
    __m256i a = _mm256_sign_epi8(_mm256_loadu_si256((const void *)q), codes);
    return _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), _mm256_set1_epi16(1));
}

/* Mins of one chunk times the scaled sums of one token. */
HT_INLINE __m256 min_part(int group, const struct ht_form *f, const int32_t *sum16, const float *d,
                          __m256 acc) {
    __m256 d8 = _mm256_loadu_ps(d);
    __m256i a = _mm256_loadu_si256((const void *)sum16), b = _mm256_loadu_si256((const void *)(sum16 + 8));
    if (group == 32) {
        __m256i s = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8);
        return _mm256_fnmadd_ps(_mm256_loadu_ps(f->min), _mm256_mul_ps(d8, _mm256_cvtepi32_ps(s)), acc);
    }
    __m256 lo = _mm256_permutevar8x32_ps(d8, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    __m256 hi = _mm256_permutevar8x32_ps(d8, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
    acc = _mm256_fnmadd_ps(_mm256_loadu_ps(f->min), _mm256_mul_ps(lo, _mm256_cvtepi32_ps(a)), acc);
    return _mm256_fnmadd_ps(_mm256_loadu_ps(f->min + 8), _mm256_mul_ps(hi, _mm256_cvtepi32_ps(b)), acc);
}

/* Nonlinear 4-bit codes to their levels. */
HT_INLINE __m256i levels_of(__m256i codes) {
    const __m128i table =
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes);
}

/* One chunk in the form the multiplication wants. */
struct ready {
    __m256i codes[8], magnitude[8];
    __m256 scale[8]; /* per 32 codes, the scale of each sum of 4 */
};

HT_INLINE void make_ready(int group, bool table, const struct ht_form *f, struct ready *r) {
    for (int g = 0; g < 8; g++) {
        __m256i c = _mm256_loadu_si256((const void *)(f->codes + 32 * g));
        r->codes[g] = table ? levels_of(c) : c;
        r->magnitude[g] = _mm256_abs_epi8(r->codes[g]);
        if (group == 32) {
            r->scale[g] = _mm256_set1_ps(f->scale[g]);
        } else {
            r->scale[g] = _mm256_setr_m128(_mm_set1_ps(f->scale[2 * g]), _mm_set1_ps(f->scale[2 * g + 1]));
        }
    }
}

HT_INLINE void rows(ht_form_fn *form, size_t chunk_bytes, int group, bool mins, bool table,
                    const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts, float *y,
                    size_t y_stride) {
    size_t kp = acts->cols_padded;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *p = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t k = 0; k < w->cols; k += 256, p += chunk_bytes) {
            struct ht_form f;
            struct ready ready;
            size_t groups = w->cols - k < 256 ? (w->cols - k) / 32 : 8;
            if (groups < 8) {
                memset(&f, 0, sizeof f);
            }
            form(p, groups, &f);
            make_ready(group, table, &f, &ready);
            for (size_t t = 0; t < acts->n_tokens; t++) {
                const int8_t *q = acts->q + t * kp + k;
                const float *d = acts->d + (t * kp + k) / 32;
                __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
                if (mins) {
                    acc[1] = min_part(group, &f, acts->sum16 + (t * kp + k) / 16, d, acc[1]);
                }
                for (int g = 0; g < 8; g++) {
                    __m256 s = _mm256_mul_ps(ready.scale[g], _mm256_set1_ps(d[g]));
                    __m256i x = dot32(ready.codes[g], ready.magnitude[g], q + 32 * g);
                    acc[g & 1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), s, acc[g & 1]);
                }
                float sum = ht_sum8(_mm256_add_ps(acc[0], acc[1]));
                y[t * y_stride + r] = k == 0 ? sum : y[t * y_stride + r] + sum;
            }
        }
    }
}

/* format, bytes of 256 weights, group, has mins, codes index a table */
#define FORM_LIST(X)                                                                                         \
    X(q4_0, 8 * 18, 32, false, false)                                                                        \
    X(q4_1, 8 * 20, 32, true, false)                                                                         \
    X(q5_0, 8 * 22, 32, false, false)                                                                        \
    X(q5_1, 8 * 24, 32, true, false)                                                                         \
    X(q8_0, 8 * 34, 32, false, false)                                                                        \
    X(iq4_nl, 8 * 18, 32, false, true)                                                                       \
    X(iq4_xs, 136, 32, false, true)                                                                          \
    X(q2_k, 84, 16, true, false)                                                                             \
    X(q3_k, 110, 16, false, false)                                                                           \
    X(q4_k, 144, 32, true, false)                                                                            \
    X(q5_k, 176, 32, true, false)                                                                            \
    X(q6_k, 210, 16, false, false)

#define ROWS(name, bytes, group, mins, table)                                                                \
    static void rows_##name(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts,  \
                            float *y, size_t y_stride, void *scratch) {                                      \
        (void)scratch;                                                                                       \
        rows(ht_form_##name, bytes, group, mins, table, w, row0, n_rows, acts, y, y_stride);                 \
    }
FORM_LIST(ROWS)

static const struct {
    const char *format;
    ht_rows_q8_fn *rows;
} list[] = {
#define ROW(name, bytes, group, mins, table) {#name, rows_##name},
    FORM_LIST(ROW)};

void ht_rows_q8_init_avx2(struct ht_kernel_table *t) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        for (size_t j = 0; j < sizeof list / sizeof list[0]; j++) {
            if (strcmp(ht_format_at(i)->name, list[j].format) == 0) {
                t->rows_q8[i] = list[j].rows;
            }
        }
    }
}
