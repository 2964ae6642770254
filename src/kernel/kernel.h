/* Kernels: ONE table of function pointers. ref/ fills every slot in plain C and IS the specification; each
 * CPU level (base/cpu.h) overwrites the slots it serves better. The kernel test walks the table.
 *
 * Letters: T tokens, R rows (outputs), K columns (inputs, contiguous). Float slots state their tolerance
 * against ref here; integer results are exact. Results never depend on the number of threads. */
#ifndef HT_KERNEL_KERNEL_H
#define HT_KERNEL_KERNEL_H

#include "base/cpu.h"
#include "base/pool.h"
#include "format/format.h"

/* A matrix of weights in any format: W [R, K], rows contiguous. */
struct ht_mat {
    const struct ht_format *format;
    const void *data;
    uint64_t rows, cols;
    uint64_t row_bytes;
};

enum ht_math {
    HT_MATH_EXACT, /* f32 activations, weights decoded exactly, f32 sums */
    HT_MATH_FAST   /* 8-bit activations (one f32 scale per 32 inputs), integer dot products where served */
};

/* y [T, R] = x [T, K] * W^T. x and y are f32, rows contiguous (y with row stride y_stride >= R elements).
 * scratch: ht_matmul_scratch_bytes(W, T, threads), 64-byte aligned. Any T >= 1; splits rows over the pool. */
size_t ht_matmul_scratch_bytes(const struct ht_mat *w, size_t max_tokens, int threads);
void ht_matmul(struct ht_pool *pool, const struct ht_mat *w, const float *x, size_t n_tokens, float *y,
               size_t y_stride, enum ht_math math, void *scratch);

/* Small float operations, one row each. */
struct ht_kernels {
    /* sum of a[i] * b[i]; relative tolerance 1e-5 of sum |a b| */
    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*dot_f32_f16)(const float *a, const uint16_t *b, size_t n);
    /* y[i] += s * x[i] */
    void (*axpy_f32)(float s, const float *x, float *y, size_t n);
    void (*axpy_f16)(float s, const uint16_t *x, float *y, size_t n);
    void (*f16_from_f32)(const float *x, uint16_t *y, size_t n); /* exact */
    void (*f32_from_f16)(const uint16_t *x, float *y, size_t n); /* exact */
    /* y = x / sqrt(mean(x^2) + eps) * w; w may be NULL (ones); 1e-6 relative */
    void (*rms_norm)(const float *x, const float *w, float eps, float *y, size_t n);
    /* in place; max subtracted; 2e-6 absolute */
    void (*softmax)(float *x, size_t n);
    /* y[i] = silu(gate[i]) * up[i]; 2e-6 relative to |silu||up| */
    void (*silu_mul)(const float *gate, const float *up, float *y, size_t n);
    /* log(sum(exp(x))) in double; max in *max */
    double (*log_sum_exp)(const float *x, size_t n, float *max);
};

/* The table of the best level this process may use; set up once, thread safe. */
const struct ht_kernels *ht_kernels(void);
/* Table of a level (NULL: not found on this machine), for tests and `halftone cpu`. */
const struct ht_kernels *ht_kernels_at(enum ht_cpu_level level);
/* Slot i: its name and the level that serves it; NULL name past the end. Also the matmul slots, per format. */
const char *ht_kernel_slot(size_t i, const char **level);

#endif
