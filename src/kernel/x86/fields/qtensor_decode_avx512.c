/* Rows of qtensors to f32, bit for bit as ht_qtensor_decode. */
#include "kernel/x86/fields/fields_avx512.h"
#include "kernel/x86/levels.h"

#define PREFETCH_BYTES 8192 /* as in rows_q8_avx512.h */

/* Levels of 16 fields. */
HT_INLINE __m512 levels16(enum ht_qkind kind, const struct ht_qform *f, __m512 table, __m512i field) {
    if (kind == HT_Q_INTEGER) {
        return _mm512_cvtepi32_ps(_mm512_add_epi32(field, _mm512_set1_epi32((int)f->lo)));
    }
    if (kind == HT_Q_TABLE16) {
        return _mm512_permutexvar_ps(field, table);
    }
    if (kind == HT_Q_TABLE) {
        return _mm512_i32gather_ps(field, f->level, 4);
    }
    __m512i magnitude = _mm512_and_si512(field, _mm512_set1_epi32((int)f->magnitude_mask));
    __m512i sign = _mm512_andnot_si512(_mm512_set1_epi32((int)f->magnitude_mask), field);
    __m512i half = _mm512_or_si512(_mm512_sll_epi32(magnitude, _mm_cvtsi32_si128(f->magnitude_shift)),
                                   _mm512_sll_epi32(sign, _mm_cvtsi32_si128(f->sign_shift)));
    __m512 v = _mm512_mul_ps(_mm512_cvtph_ps(_mm512_cvtepi32_epi16(half)), _mm512_set1_ps(f->factor));
    __mmask16 nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32((int)f->max_magnitude));
    return _mm512_mask_mov_ps(v, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7fc00000)));
}

HT_INLINE __m512 value16(enum ht_zero zero, __m512 level, float scale, float shift) {
    __m512 s = _mm512_set1_ps(scale), z = _mm512_set1_ps(shift);
    if (zero == HT_ZERO_CODE) {
        return _mm512_mul_ps(s, _mm512_sub_ps(level, z));
    }
    return zero == HT_ZERO_OFFSET ? _mm512_add_ps(_mm512_mul_ps(s, level), z) : _mm512_mul_ps(s, level);
}

/* 64 fields of one group. */
HT_INLINE void decode64(enum ht_qkind kind, enum ht_zero zero, const struct ht_qform *f, __m512 table, __m512i fields,
                        float scale, float shift, float *x) {
    for (int i = 0; i < 4; i++) {
        __m128i part = i == 0   ? _mm512_castsi512_si128(fields)
                       : i == 1 ? _mm512_extracti32x4_epi32(fields, 1)
                       : i == 2 ? _mm512_extracti32x4_epi32(fields, 2)
                                : _mm512_extracti32x4_epi32(fields, 3);
        __m512 level = levels16(kind, f, table, _mm512_cvtepu8_epi32(part));
        _mm512_storeu_ps(x + 16 * i, value16(zero, level, scale, shift));
    }
}

HT_INLINE void decode(enum ht_qkind kind, enum ht_zero zero, const struct ht_qform *f, const struct ht_qgrids *g,
                      uint64_t row, uint64_t col0, size_t n, float *x) {
    const struct ht_qtensor *w = f->w;
    const struct ht_fields fields = ht_fields_make(f);
    const uint8_t *p = w->codes + row * w->row_bytes + col0 / 8 * (uint64_t)f->bits;
    const __m512 table = _mm512_loadu_ps(f->level);
    const size_t run = w->groups == 1 ? SIZE_MAX : (size_t)w->run;
    size_t group = w->groups == 1 ? 0 : (size_t)(col0 / run - g->first);
    size_t left = w->groups == 1 ? SIZE_MAX : (size_t)(run - col0 % run); /* columns of the group */
    for (size_t k = 0; k < n; k += 64, p += 8 * f->bits) {
        size_t m = n - k < 64 ? n - k : 64;
        _mm_prefetch((const char *)p + PREFETCH_BYTES, _MM_HINT_T0);
        if (m == 64 && left >= 64) {
            decode64(kind, zero, f, table, ht_fields64(&fields, p, fields.there), g->scale[group],
                     zero == HT_ZERO_NONE ? 0.0f : g->shift[group], x + k);
            left -= 64;
            if (left == 0) {
                group++;
                left = run;
            }
            continue;
        }
        __mmask64 there = m == 64 ? fields.there : ht_mask64((m * (size_t)f->bits + 7) / 8);
        HT_ALIGNED(64) uint8_t bytes[64];
        _mm512_store_si512(bytes, ht_fields64(&fields, p, there));
        for (size_t i = 0; i < m; i += 16) {
            __m512i field = _mm512_cvtepu8_epi32(_mm_load_si128((const void *)(bytes + i)));
            __m512 v = value16(zero, levels16(kind, f, table, field), g->scale[group],
                               zero == HT_ZERO_NONE ? 0.0f : g->shift[group]);
            _mm512_mask_storeu_ps(x + k + i, ht_mask16(m - i < 16 ? m - i : 16), v);
            left -= 16;
            if (left == 0) {
                group++;
                left = run;
            }
        }
    }
}

#define DECODE(name, kind, zero)                                                                             \
    static HT_NOINLINE void name(const struct ht_qform *f, const struct ht_qgrids *g, uint64_t row,          \
                                 uint64_t col0, size_t n, float *x) {                                        \
        decode(kind, zero, f, g, row, col0, n, x);                                                           \
    }
DECODE(decode_integer, HT_Q_INTEGER, HT_ZERO_NONE)
DECODE(decode_asym, HT_Q_INTEGER, HT_ZERO_CODE)
DECODE(decode_offset, HT_Q_INTEGER, HT_ZERO_OFFSET)
DECODE(decode_table16, HT_Q_TABLE16, HT_ZERO_NONE)
DECODE(decode_real, HT_Q_REAL, HT_ZERO_NONE)
DECODE(decode_table, HT_Q_TABLE, HT_ZERO_NONE)

/* Groups that 16 does not divide, and other widths, are left to the specification. */
static void q_decode(const struct ht_qform *f, const struct ht_qgrids *g, uint64_t row, uint64_t col0, size_t n,
                     float *x) {
    static ht_q_decode_fn *const by_kind[] = {
        [HT_Q_OTHER] = ht_q_decode_ref,  [HT_Q_INTEGER] = decode_integer, [HT_Q_TABLE16] = decode_table16,
        [HT_Q_REAL] = decode_real,       [HT_Q_TABLE] = decode_table,
    };
    const struct ht_qtensor *w = f->w;
    ht_q_decode_fn *fn = by_kind[f->kind];
    if (col0 % 16 != 0 || (w->groups > 1 && w->run % 16 != 0)) {
        fn = ht_q_decode_ref;
    } else if (w->scheme.zero != HT_ZERO_NONE) { /* integers only */
        fn = f->kind != HT_Q_INTEGER ? ht_q_decode_ref : w->scheme.zero == HT_ZERO_CODE ? decode_asym : decode_offset;
    }
    fn(f, g, row, col0, n, x);
}

void ht_qtensor_decode_init_avx512(struct ht_kernel_table *t) {
    t->q_decode = q_decode;
}
