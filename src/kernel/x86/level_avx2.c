#include "kernel/x86/chunk/lattice_x86.h"
#include "kernel/x86/levels.h"

void ht_kernels_init_avx2(struct ht_kernel_table *t) {
    ht_lattice_x86_init();
    ht_vector_init_avx2(t);
    ht_gemm_f32_init_avx2(t);
    ht_decode_init_avx2(t);
    ht_rows_f32_init_avx2(t);
    ht_syrk_init_avx2(t);
    ht_rows_q8_init_avx2(t);
    ht_gemm_q8_init_avx2(t);
}
