/* Few tokens, 8-bit activations, without VNNI. maddubs wants one unsigned side and saturates at 16 bits: codes of
 * 0 .. 127 and |q| <= 127 keep its pair sums below 32,768. Signed codes go in as |code| * (q with the sign of code),
 * which is the same product and just as exact. */
#include "kernel/x86/rows_q8_avx2.h"

HT_INLINE __m256i dot32(bool is_signed, __m256i codes, __m256i q) {
    __m256i u = is_signed ? _mm256_abs_epi8(codes) : codes;
    __m256i v = is_signed ? _mm256_sign_epi8(q, codes) : q;
    return _mm256_madd_epi16(_mm256_maddubs_epi16(u, v), _mm256_set1_epi16(1));
}

#define ROWS(name, pieces, group, offset, chained, bytes) HT_ROWS_AVX2(dot32, false, name, group, offset, bytes)
HT_CHUNK_LIST(ROWS)

void ht_rows_q8_init_avx2(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .rows_q8 = rows_##name, .shape = &shape_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
