/* Products of codes with codes: the weights of a qtensor with activations that were rounded to integers of at most 8
 * bits. THE place where such activations are laid out for kernels.
 *
 * Columns fall into PIECES: runs that share a scale (and zero point) of the weight and one of the activations, cut
 * where an int32 could overflow (ht_int_run_limit). For each piece, in order of columns,
 *
 *     y = y + (scale_x * scale_w) * (float)sum,    sum = sum over the piece of (q_w - zero_w) (q_x - zero_x)
 *
 * with y = 0 before the first. The sum is exact, every product and addition is rounded once, none is fused: all levels
 * give the same bits, as do all numbers of tokens and threads. A scale of NaN makes the token's outputs NaN.
 *
 * How codes lie: q = code - shift fits an int8, pieces begin at multiples of 4 columns (`at`), zeros between them. The
 * kernels multiply q with the weight's stored fields (q_w - lo >= 0) in 32 bits, modulo 2^32, and make up for offsets
 * and zero points through sums of q and of fields, which is exact because the sum itself fits.
 *
 * In three steps: ht_int_begin, ht_int_token for every token (from any thread), ht_int_run. */
#ifndef HT_KERNEL_INTMUL_H
#define HT_KERNEL_INTMUL_H

#include "kernel/qform.h"

/* What the activations were rounded to. */
struct ht_int_x {
    const struct ht_scheme *scheme; /* integers of at most 8 bits, without offset */
    const uint32_t *first;          /* [n_segments] first column of each run with a scale of its own; NULL: one run */
    size_t n_segments;
};

/* Largest number of columns of a piece. */
uint64_t ht_int_run_limit(const struct ht_scheme *w, const struct ht_scheme *x);
/* Whether both are integers that ht_int_begin takes: weights of at most 16 bits (signed) without offset. */
bool ht_int_is_served(const struct ht_scheme *w, const struct ht_scheme *x);

struct ht_int_job {
    const struct ht_kernel_table *table;
    struct ht_qform form;
    struct ht_int_acts acts;
    char *threads;
    size_t thread_bytes;
};

/* scratch: 64-byte aligned, for at least these tokens and threads. */
size_t ht_int_scratch_bytes(const struct ht_qtensor *w, size_t n_segments, const struct ht_scheme *x, size_t max_tokens,
                            int threads);
void ht_int_begin(struct ht_int_job *j, const struct ht_qtensor *w, const struct ht_int_x *x, size_t n_tokens,
                  void *scratch);
/* Token t: codes [K], grids [n_segments]. */
void ht_int_token(const struct ht_int_job *j, size_t t, const int16_t *codes, const struct ht_affine *grids);
/* y [T, R] with row stride y_stride. */
void ht_int_run(struct ht_int_job *j, struct ht_pool *pool, float *y, size_t y_stride);

/* With the table of a level. */
void ht_int_begin_with(const struct ht_kernel_table *table, struct ht_int_job *j, const struct ht_qtensor *w,
                       const struct ht_int_x *x, size_t n_tokens, void *scratch);

/* ---- for kernels ---------------------------------------------------------------------------------------------- */

/* A thread's memory. */
struct ht_int_scratch {
    uint8_t *panel;        /* [width, HT_PANEL_ROWS] */
    uint8_t *rows;         /* [17, width + 64] */
    float *scale;          /* [n_pieces, stride] of the weight's rows, stride as the kernel likes */
    int32_t *zero, *sum;   /* likewise: zero points; sums of q_w - zero_w */
    struct ht_qgrids grids;
};
void ht_int_scratch_place(struct ht_int_scratch *s, const struct ht_qform *f, const struct ht_int_acts *a,
                          void *memory);
/* Scales (and zero points, if a->zeros) of n <= HT_PANEL_ROWS rows: entry [piece * stride + row]. */
void ht_int_grids(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n, size_t stride,
                  struct ht_int_scratch *s);

#endif
