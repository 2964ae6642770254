/* Products with a qtensor. ht_qmatmul is for users and takes the fastest kernels of this machine; ht_qmatmul_ref is the
 * specification, in plain C, that those are compared with.
 *
 * Letters as in kernel.h: T tokens, R rows (outputs), K columns (inputs). Nothing allocates or fails; callers have
 * checked shapes and give the scratch memory. */
#ifndef HT_KERNEL_QMATMUL_H
#define HT_KERNEL_QMATMUL_H

#include "kernel/kernel.h"
#include "tensor/qtensor.h"

/* Whether FAST has integer dot products for this tensor: its levels are integers (intN, uintN, pot, apot, binary,
 * ternary). For other tensors FAST is EXACT. */
bool ht_qmatmul_is_integer(const struct ht_qtensor *w);

/* y [T, n_rows] = x [T, K] * W[row0 .. row0 + n_rows)^T, y with row stride y_stride.
 *
 * EXACT: weights as ht_qtensor_decode gives them, f32 sums; levels agree to 1e-5 of sum |w x|.
 * FAST, integer levels: x is rounded to q * d over each 32 inputs as in ht_matmul (the last piece of a row may be
 *   shorter); over each run of inputs that share both scales
 *       y += d * (scale * (dot - zero * sum q) + min * sum q),   dot = sum level * q in int32
 *   A run has at most 32 inputs, so |dot| <= 32 * 65535 * 127 < 2^31 for every format. 1e-5 of the sum over runs of
 *   d * (scale * c + |min|) * sum |q|, c the largest |level - zero| that the format has.
 * BF16: each input rounded to bf16, then as EXACT.
 * scratch: ht_qmatmul_ref_scratch_bytes(w, T), 64-byte aligned. */
size_t ht_qmatmul_ref_scratch_bytes(const struct ht_qtensor *w, size_t n_tokens);
void ht_qmatmul_ref(const struct ht_qtensor *w, uint64_t row0, uint64_t n_rows, const float *x, size_t n_tokens,
                    float *y, size_t y_stride, enum ht_math math, void *scratch);

/* ---- what users call ------------------------------------------------------------------------------------------- */

/* y [T, R] = x [T, K] * W^T as ht_qmatmul_ref defines it, rows spread over the pool (NULL: the caller alone), any
 * T >= 1. The same bytes for any number of threads. scratch: 64-byte aligned, ht_qmatmul_scratch_bytes for at least T
 * tokens and the pool's threads; weights are never copied as a whole. */
size_t ht_qmatmul_scratch_bytes(const struct ht_qtensor *w, size_t max_tokens, int threads);
void ht_qmatmul(struct ht_pool *pool, const struct ht_qtensor *w, const float *x, size_t n_tokens, float *y,
                size_t y_stride, enum ht_math math, void *scratch);

/* ---- without any float (Jacob et al. 2018, arXiv 1712.05877, sec. 2.2 to 2.4) ----------------------------------- */

/* M = multiplier * 2^-shift, the multiplier in [2^30, 2^31): 31 bits of M > 0. */
struct ht_requant {
    int32_t multiplier;
    int shift; /* 1..62 */
};
/* HT_INVAL unless 2^-32 <= M < 2^30. */
ht_status ht_requant_from(double M, struct ht_requant *r, ht_err *err);
/* floor(acc * M + 1/2): the nearest integer, ties up, exactly, then + zero, within lo..hi. */
int32_t ht_requant_apply(struct ht_requant r, int32_t acc, int32_t zero, int32_t lo, int32_t hi);

/* An integer layer: y = requant(bias + sum (q_x - zero_x)(q_w - zero_w)), all codes as int8.
 *     x [T, K], w [R, K], bias [R] or NULL in units of scale_x * scale_w, y [T, R] codes of the output
 *     requant [R] with M = scale_x * scale_w / scale_y
 * K <= 32,768: then no int32 overflows, corrections included; with a bias the sum saturates. */
struct ht_int_layer {
    uint64_t rows, cols;
    const int8_t *w;
    const int32_t *bias;
    const struct ht_requant *requant;
    int32_t zero_x, zero_w, zero_y;
    int32_t lo, hi; /* of y: -128..127, or 0.. as in ReLU */
};
void ht_int_layer_ref(const struct ht_int_layer *l, const int8_t *x, size_t n_tokens, int8_t *y);

#endif
