/* One init function per family and level; level_<level>.c calls those of its level. */
#ifndef HT_KERNEL_X86_LEVELS_H
#define HT_KERNEL_X86_LEVELS_H

#include "kernel/slots.h"

void ht_vector_init_avx2(struct ht_kernel_table *t);
void ht_gemm_f32_init_avx2(struct ht_kernel_table *t);
void ht_rows_f32_init_avx2(struct ht_kernel_table *t);
void ht_decode_init_avx2(struct ht_kernel_table *t);
void ht_rows_q8_init_avx2(struct ht_kernel_table *t);
void ht_gemm_q8_init_avx2(struct ht_kernel_table *t);
void ht_gemm_q8_init_avxvnni(struct ht_kernel_table *t);
void ht_rows_q8_init_avxvnni(struct ht_kernel_table *t);
void ht_syrk_init_avx2(struct ht_kernel_table *t);
void ht_syrk_init_avx512(struct ht_kernel_table *t);
void ht_vector_init_avx512(struct ht_kernel_table *t);
void ht_decode_init_avx512(struct ht_kernel_table *t);
void ht_gemm_f32_init_avx512(struct ht_kernel_table *t);
void ht_rows_f32_init_avx512(struct ht_kernel_table *t);
void ht_attention_init_avx512(struct ht_kernel_table *t);
void ht_rows_q8_init_avx512vnni(struct ht_kernel_table *t);
void ht_rows_k23_init_avx512vnni(struct ht_kernel_table *t);
void ht_panel_q8_init_avx512vnni(struct ht_kernel_table *t);
void ht_gemm_q8_init_avx512vnni(struct ht_kernel_table *t);
void ht_qtensor_decode_init_avx512(struct ht_kernel_table *t);
void ht_qtensor_q8_init_avx512vnni(struct ht_kernel_table *t);
void ht_qtensor_q8_init_avx512bf16(struct ht_kernel_table *t);
void ht_intmul_init_avx512vnni(struct ht_kernel_table *t);
void ht_intmul_init_avx512bf16(struct ht_kernel_table *t);
void ht_lattice_init_avx512bf16(struct ht_kernel_table *t);

void ht_softmax_avx512(float *x, size_t n);

#endif
