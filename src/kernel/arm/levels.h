/* One init function per family and level; level_<level>.c calls those of its level. */
#ifndef HT_KERNEL_ARM_LEVELS_H
#define HT_KERNEL_ARM_LEVELS_H

#include "kernel/slots.h"

void ht_vector_init_neon(struct ht_kernel_table *t);
void ht_attention_init_neon(struct ht_kernel_table *t);
void ht_rows_f32_init_neon(struct ht_kernel_table *t);
void ht_gemm_f32_init_neon(struct ht_kernel_table *t);
void ht_rows_q8_init_neon(struct ht_kernel_table *t);
void ht_rows_q8_init_dotprod(struct ht_kernel_table *t);
void ht_gemm_q8_init_dotprod(struct ht_kernel_table *t);
void ht_gemm_q8_init_i8mm(struct ht_kernel_table *t);

/* Shared by attention_neon.c. */
float ht_dot_f32_neon(const float *a, const float *b, size_t n);
float ht_dot_f32_f16_neon(const float *a, const uint16_t *b, size_t n);
void ht_softmax_neon(float *x, size_t n);

#endif
