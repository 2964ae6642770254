#include "kernel/x86/levels.h"

void ht_kernels_init_avxvnni(struct ht_kernel_table *t) {
    ht_rows_q8_init_avxvnni(t);
    ht_gemm_q8_init_avxvnni(t);
}
