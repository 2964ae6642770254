/* panel_q8 of every format at level avx512vnni. */
#include "kernel/x86/chunk/chunk_lattice_avx512.h"
#include "kernel/x86/panel_q8_avx512.h"

#define PANEL(name, pieces, group, offset, chained, bytes)                                                   \
    HT_PANEL_AVX512(name, ht_chunk_##name, pieces, group, offset, chained, bytes, HT_ORDER_PIECES)
HT_CHUNK_LIST(PANEL)

void ht_panel_q8_init_avx512vnni(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes)                                                     \
    {.format = #name, .panel_q8 = panel_##name, .panel_shape = &shape_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
