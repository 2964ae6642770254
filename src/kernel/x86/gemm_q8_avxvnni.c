/* Panels and their product for many tokens at level avxvnni. */
#include "kernel/x86/gemm_q8_avx2.h"

#include "kernel/x86/chunk/chunk_lattice_avx2.h"
#include "kernel/x86/panel_q8_avx2.h"

#define PANEL(name, pieces, group, offset, chained, bytes) HT_PANEL_AVX2(true, name, group, offset, bytes)
HT_CHUNK_LIST(PANEL)

HT_INLINE __m256i add_dot(bool is_signed, __m256i sum, __m256i codes, __m256i magnitude, __m256i q) {
    (void)is_signed;
    (void)magnitude;
    return _mm256_dpbusd_avx_epi32(sum, codes, q);
}

HT_GEMM_AVX2(add_dot)

void ht_gemm_q8_init_avxvnni(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .panel_q8 = panel_##name, .panel_shape = &shape_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
    t->gemm_q8 = gemm_q8;
}
