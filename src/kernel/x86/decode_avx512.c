/* decode of every block format at level avx512. */
#include "kernel/x86/chunk/chunk_lattice_avx512.h"
#include "kernel/x86/decode_avx512.h"

#define DECODE(name, pieces, group, offset, chained, bytes)                                                  \
    HT_DECODE_AVX512(name, ht_chunk_##name, pieces, group, offset, chained, bytes, HT_ORDER_PIECES)
HT_CHUNK_LIST(DECODE)

void ht_decode_init_avx512(struct ht_kernel_table *t) {
#define ROW(name, pieces, group, offset, chained, bytes) {.format = #name, .decode = decode_##name},
    static const struct ht_slot_row rows[] = {HT_CHUNK_LIST(ROW)};
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
