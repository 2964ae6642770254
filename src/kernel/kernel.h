/* Kernels: ONE table of function pointers. ref/ fills every slot in plain C and IS the specification; each
 * CPU level (base/cpu.h) overwrites the slots it serves better. The kernel test walks the table.
 *
 * Letters: T tokens, R rows (outputs), K columns (inputs, contiguous), D head dimension. Float slots state
 * their tolerance against ref here; integer results are exact. Results never depend on the number of threads.
 * Nothing here allocates or fails; callers have checked shapes and give the scratch memory. */
#ifndef HT_KERNEL_KERNEL_H
#define HT_KERNEL_KERNEL_H

#include <stdbool.h>

#include "base/cpu.h"
#include "base/pool.h"
#include "format/format.h"

/* A matrix of weights in any format: W [R, K], rows contiguous. K is a multiple of format->block_elems. */
struct ht_mat {
    const struct ht_format *format;
    const void *data;
    uint64_t rows, cols;
    uint64_t row_bytes;
};

enum ht_math {
    HT_MATH_EXACT, /* f32 activations, weights decoded exactly, f32 sums */
    HT_MATH_FAST,  /* 8-bit activations (one f32 scale per 32 inputs), integer dot products where served */
    HT_MATH_BF16   /* activations rounded to bf16, else as EXACT */
};

/* y [T, R] = x [T, K] * W^T. x and y are f32, rows contiguous (y with row stride y_stride >= R elements).
 * scratch: ht_matmul_scratch_bytes(W, T, threads), 64-byte aligned. Any T >= 1; splits rows over the pool.
 *
 * EXACT: any two levels or batch sizes agree to 1e-5 of sum |w x|.
 *
 * FAST, grid formats (integer or table codes): x is rounded to q * d with d = max|x| / 127 over each 32
 *   inputs, and y = sum over groups of scale * d * (integer dot product) - min * d * (integer sum of q).
 *   Levels and batch sizes agree to 1e-5 of sum over groups of |scale| d c sum |q| with c the largest
 *   |code| distance from the stored zero (255 at most); the integer parts are the same numbers.
 *
 * FAST, float formats (f32 f16 bf16 f64): the same as EXACT.
 *
 * BF16: each input is rounded to bf16, to nearest even, before it is multiplied: what matrix units for bf16 take,
 *   and what llama.cpp does to inputs of BF16 weights. All else as EXACT.
 *
 * Both: plus K * 1e-40, since single products may fall below the smallest normal f32. */
size_t ht_matmul_scratch_bytes(const struct ht_mat *w, size_t max_tokens, int threads);
void ht_matmul(struct ht_pool *pool, const struct ht_mat *w, const float *x, size_t n_tokens, float *y,
               size_t y_stride, enum ht_math math, void *scratch);

/* h [K, K] += x^T x, the sum over T tokens of the products of all pairs of columns: the lower triangle (column <= row);
 * above it nothing is touched. x [T, K] with row stride x_stride, h with row stride h_stride, in elements. Sums of
 * blocks of 256 tokens in f32 are added to h in order; 1e-5 of the sum of |x_i x_j| of a block. scratch:
 * ht_syrk_scratch_bytes(T, K), 64-byte aligned. The Hessian of a layer's squared error (GPTQ, arXiv 2210.17323) is
 * twice this over its inputs. */
size_t ht_syrk_scratch_bytes(size_t n_tokens, size_t cols);
void ht_syrk(struct ht_pool *pool, const float *x, size_t x_stride, size_t n_tokens, size_t cols, float *h,
             size_t h_stride, void *scratch);

/* One side of an f32 product: element (i, k) lies at data[i * stride + k], transposed at data[k * stride + i]. */
struct ht_side {
    const float *data;
    size_t stride; /* elements */
    bool transposed;
};

/* y [M, N] = A [M, K] * B [N, K]^T, or y += when add; K >= 1; y with row stride y_stride. The products of training:
 *     y = x W^T         a = x [T, K], b = W [R, K]
 *     dx = dy W         a = dy [T, R], b = W transposed
 *     dW = dy^T x       a = dy transposed, b = x transposed
 * Sums of 512 products in f32 are added to y in order: 1e-5 of sum |a b| (and of y). scratch:
 * ht_product_scratch_bytes(M, K, threads), 64-byte aligned. */
size_t ht_product_scratch_bytes(size_t m, size_t k, int threads);
void ht_product(struct ht_pool *pool, struct ht_side a, struct ht_side b, size_t m, size_t n, size_t k, float *y,
                size_t y_stride, bool add, void *scratch);

/* Attention of one head: out[i] = softmax(scale * q[i] K^T) V over the keys that query i may see, which are
 * 0 .. first_keys + i * keys_step - 1. Consecutive tokens: keys_step 1. The heads of one group at one
 * position: keys_step 0 (q_stride then steps from head to head). first_keys >= 1. Strides in elements. */
struct ht_attention {
    const float *q; /* [n_q, D] */
    const void *k;  /* [n, D], f16 or f32 */
    const void *v;  /* [n, D], as k */
    float *out;     /* [n_q, D] */
    size_t n_q, head_dim;
    size_t q_stride, k_stride, v_stride, out_stride;
    size_t first_keys, keys_step;
    bool f16; /* K and V are f16 */
    float scale;
};

/* Bytes of scratch for one call with at most max_keys keys; one scratch per thread, 64-byte aligned. */
size_t ht_attention_scratch_bytes(size_t max_keys, size_t head_dim);

/* Small float operations, one row each. */
struct ht_kernels {
    /* sum of a[i] * b[i]; relative tolerance 1e-5 of sum |a b| */
    float (*dot_f32)(const float *a, const float *b, size_t n);
    float (*dot_f32_f16)(const float *a, const uint16_t *b, size_t n);
    /* y[i] += s * x[i]; 1e-6 relative to |y| + |s x| */
    void (*axpy_f32)(float s, const float *x, float *y, size_t n);
    void (*axpy_f16)(float s, const uint16_t *x, float *y, size_t n);
    void (*f16_from_f32)(const float *x, uint16_t *y, size_t n); /* exact */
    void (*f32_from_f16)(const uint16_t *x, float *y, size_t n); /* exact */
    /* y = x / sqrt(mean(x^2) + eps) * w; w may be NULL (ones); 1e-6 relative. y may be x. */
    void (*rms_norm)(const float *x, const float *w, float eps, float *y, size_t n);
    /* in place; max subtracted; 2e-6 absolute. -inf entries give 0; n >= 1 */
    void (*softmax)(float *x, size_t n);
    /* y[i] = silu(gate[i]) * up[i]; 2e-6 relative to |silu||up|; y may be gate or up */
    void (*silu_mul)(const float *gate, const float *up, float *y, size_t n);
    /* log(sum(exp(x))) in double, 1e-12 relative to its magnitude; max in *max (may be NULL); n >= 1 */
    double (*log_sum_exp)(const float *x, size_t n, float *max);
    /* 1e-5 of max |v|; the last bits of a row may depend on how many queries share a call */
    void (*attention)(const struct ht_attention *a, void *scratch);
};

/* The table of the best level this process may use; set up once, thread safe. */
const struct ht_kernels *ht_kernels(void);
/* Table of a level (NULL: not found on this machine), for tests and `halftone cpu`. */
const struct ht_kernels *ht_kernels_at(enum ht_cpu_level level);
/* Slot i: its name and the level that serves it; NULL name past the end. Also the matmul slots, per format.
 */
const char *ht_kernel_slot(size_t i, const char **level);

#endif
