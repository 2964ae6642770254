#include "kernel/x86/levels.h"

void ht_kernels_init_avx512(struct ht_kernel_table *t) {
    ht_vector_init_avx512(t);
    ht_decode_init_avx512(t);
    ht_qtensor_decode_init_avx512(t);
    ht_gemm_f32_init_avx512(t);
    ht_rows_f32_init_avx512(t);
    ht_syrk_init_avx512(t);
    ht_attention_init_avx512(t);
}
