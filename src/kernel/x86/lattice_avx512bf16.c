/* The lattice formats with VBMI: rows, panels, decoding. */
#include "kernel/x86/chunk/chunk_lattice_avx512bf16.h"
#include "kernel/x86/decode_avx512.h"
#include "kernel/x86/panel_q8_avx512.h"
#include "kernel/x86/rows_q8_avx512.h"

/* Format, group, bytes of 256 weights. */
#define LATTICE_LIST(X)                                                                                      \
    X(iq1_m, 16, 56)                                                                                         \
    X(iq2_xxs, 32, 66)                                                                                       \
    X(iq2_xs, 16, 74)                                                                                        \
    X(iq2_s, 16, 82)                                                                                         \
    X(iq3_xxs, 32, 98)                                                                                       \
    X(iq3_s, 32, 110)

#define KERNELS(name, group, bytes)                                                                          \
    HT_INLINE void pieces_##name(const uint8_t *p, struct ht_chunk *out) {                                   \
        ht_lanes_##name(p, out);                                                                             \
        ht_pieces_of_lanes(group, out);                                                                      \
    }                                                                                                        \
    HT_ROWS_AVX512(lanes_##name, ht_lanes_##name, {0}, 16, 64, false, bytes, HT_ORDER_LANES)                 \
    HT_PANEL_AVX512(name, pieces_##name, HT_PIECES_QUADS, group, 64, true, bytes, HT_ORDER_PIECES)           \
    HT_DECODE_AVX512(name, pieces_##name, HT_PIECES_QUADS, group, 64, true, bytes, HT_ORDER_PIECES)
LATTICE_LIST(KERNELS)
HT_ROWS_AVX512(eights_iq1_s, ht_eights_iq1_s, {0}, 32, 0, false, 50, HT_ORDER_EIGHTS)
HT_ROWS_AVX512(eights_iq1_m, ht_eights_iq1_m, {0}, 16, 64, true, 56, HT_ORDER_EIGHTS)

void ht_lattice_init_avx512bf16(struct ht_kernel_table *t) {
#define ROW(name, group, bytes)                                                                              \
    {.format = #name,                                                                                        \
     .decode = decode_##name,                                                                                \
     .rows_q8 = rows_lanes_##name,                                                                           \
     .shape = &shape_lanes_##name,                                                                           \
     .panel_q8 = panel_##name,                                                                               \
     .panel_shape = &shape_##name},
    static const struct ht_slot_row rows[] = {
        LATTICE_LIST(ROW) /* but: */
        {.format = "iq1_s", .rows_q8 = rows_eights_iq1_s, .shape = &shape_eights_iq1_s},
        {.format = "iq1_m", .rows_q8 = rows_eights_iq1_m, .shape = &shape_eights_iq1_m},
    };
    ht_slots_set(t, rows, sizeof rows / sizeof rows[0]);
}
