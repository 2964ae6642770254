/* Qtensors with 8-bit activations, fields unpacked with VBMI. */
#include "kernel/x86/fields/qtensor_q8_avx512.h"

void ht_qtensor_q8_init_avx512bf16(struct ht_kernel_table *t) {
    t->q_rows_q8 = q_rows_q8;
    t->q_panel_q8 = q_panel_q8;
}
