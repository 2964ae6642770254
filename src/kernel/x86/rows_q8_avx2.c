/* Few tokens, 8-bit activations, without VNNI. maddubs wants one unsigned side and saturates at 16 bits: codes of
 * 0 .. 127 and |q| <= 127 keep its pair sums below 32,768. Signed codes go in as |code| * (q with the sign of code),
 * which is the same product and just as exact. */
#include "kernel/x86/rows_q8_avx2.h"

HT_INLINE __m256i dot32(bool is_signed, __m256i codes, __m256i q) {
    __m256i u = is_signed ? _mm256_abs_epi8(codes) : codes;
    __m256i v = is_signed ? _mm256_sign_epi8(q, codes) : q;
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, v), _mm256_set1_epi16(1));
}

#define ROWS(name, pieces, group, offset, chained, bytes) HT_ROWS_AVX2(dot32, name, group, offset, bytes)
HT_CHUNK_LIST(ROWS)

static const struct {
    const char *format;
    ht_rows_q8_fn *rows;
    const struct ht_chunk_shape *shape;
} list[] = {
#define ROW(name, pieces, group, offset, chained, bytes) {#name, rows_##name, &shape_##name},
    HT_CHUNK_LIST(ROW)
};

void ht_rows_q8_init_avx2(struct ht_kernel_table *t) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        for (size_t j = 0; j < sizeof list / sizeof list[0]; j++) {
            if (strcmp(ht_format_at(i)->name, list[j].format) == 0) {
                t->rows_q8[i] = list[j].rows;
                t->shape[i] = list[j].shape;
            }
        }
    }
}
