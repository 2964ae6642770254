#include "kernel/x86/levels.h"

void ht_kernels_init_avx512bf16(struct ht_kernel_table *t) {
    ht_lattice_init_avx512bf16(t);
    ht_qtensor_q8_init_avx512bf16(t);
    ht_intmul_init_avx512bf16(t);
}
