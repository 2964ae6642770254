/* rows_q8 of every format at level avx512vnni. */
#include "kernel/x86/chunk/chunk_lattice_avx512.h"
#include "kernel/x86/rows_q8_avx512.h"

#define ROWS(name, pieces, group, offset, chained, bytes)                                                    \
    HT_ROWS_AVX512(name, ht_chunk_##name, pieces, group, offset, chained, bytes, HT_ORDER_PIECES)
HT_CHUNK_LIST(ROWS)
HT_ROWS_AVX512(lanes_q2_k, ht_lanes_q2_k, {0}, 16, 0, false, 84, HT_ORDER_LANES4)
HT_ROWS_AVX512(lanes_q3_k, ht_lanes_q3_k, {0}, 16, 4, false, 110, HT_ORDER_LANES4)

void ht_rows_q8_init_avx512vnni(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .rows_q8 = rows_##name, .shape = &shape_##name},
    static const struct ht_slot_row rows[] = {
        HT_CHUNK_LIST(ROW) /* but: */
        {.format = "q2_k", .rows_q8 = rows_lanes_q2_k, .shape = &shape_lanes_q2_k},
        {.format = "q3_k", .rows_q8 = rows_lanes_q3_k, .shape = &shape_lanes_q3_k},
    };
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
