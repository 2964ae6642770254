#include "kernel/arm/levels.h"

void ht_kernels_init_dotprod(struct ht_kernel_table *t) {
    ht_rows_q8_init_dotprod(t);
    ht_gemm_q8_init_dotprod(t);
}
