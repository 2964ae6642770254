#include "kernel/x86/levels.h"

void ht_kernels_init_avx512vnni(struct ht_kernel_table *t) {
    ht_rows_q8_init_avx512vnni(t);
    ht_rows_k23_init_avx512vnni(t);
    ht_panel_q8_init_avx512vnni(t);
    ht_gemm_q8_init_avx512vnni(t);
    ht_qtensor_q8_init_avx512vnni(t);
    ht_intmul_init_avx512vnni(t);
}
