/* rows_q8 at level avx512vnni of every format but q2_k and q3_k (rows_k23_avx512vnni.c). */
#include "kernel/x86/chunk/chunk_lattice_avx512.h"
#include "kernel/x86/rows_q8_avx512.h"

#define ROWS(name, pieces, group, offset, chained, bytes)                                                    \
    HT_ROWS_AVX512(name, ht_chunk_##name, pieces, group, offset, chained, bytes, HT_ORDER_PIECES)
HT_CHUNK_LIST(ROWS)

void ht_rows_q8_init_avx512vnni(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .rows_q8 = rows_##name, .shape = &shape_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
