/* Codes times codes at level avx512vnni. */
#include "kernel/x86/fields/intmul_avx512.h"

void ht_intmul_init_avx512vnni(struct ht_kernel_table *t) {
    t->int_rows = int_rows;
    t->int_tile = int_tile;
}
