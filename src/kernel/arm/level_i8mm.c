#include "kernel/arm/levels.h"

void ht_kernels_init_i8mm(struct ht_kernel_table *t) {
    ht_gemm_q8_init_i8mm(t);
}
