#include "kernel/arm/levels.h"

void ht_kernels_init_neon(struct ht_kernel_table *t) {
    ht_vector_init_neon(t);
    ht_attention_init_neon(t);
    ht_rows_f32_init_neon(t);
    ht_gemm_f32_init_neon(t);
    ht_rows_q8_init_neon(t);
}
