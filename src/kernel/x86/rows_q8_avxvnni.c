/* Few tokens, 8-bit activations, 256-bit vectors with VNNI: dpbusd adds 4 products of an unsigned and a signed byte
 * without saturation. Signed codes go in as 128 more; what that adds is taken back through the sums of the activations,
 * so here their shape has an offset. */
#include "kernel/x86/chunk/chunk_lattice_avx2.h"
#include "kernel/x86/rows_q8_avx2.h"

HT_INLINE __m256i dot32(bool is_signed, __m256i codes, __m256i q) {
    __m256i u = is_signed ? _mm256_xor_si256(codes, _mm256_set1_epi8((char)0x80)) : codes;
    return _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), u, q);
}

#define ROWS(name, pieces, group, offset, chained, bytes) HT_ROWS_AVX2(dot32, true, name, group, offset, bytes)
HT_CHUNK_LIST(ROWS)

void ht_rows_q8_init_avxvnni(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .rows_q8 = rows_##name, .shape = &shape_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
