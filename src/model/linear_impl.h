/* Inside of linear.c: one call on its way. */
#ifndef HT_MODEL_LINEAR_IMPL_H
#define HT_MODEL_LINEAR_IMPL_H

#include "kernel/intmul.h"
#include "kernel/qmatmul.h"
#include "model/linear.h"
#include "tensor/act.h"

#define HT_LINEAR_ROWS 16u /* of a task */
#define HT_LINEAR_TOKENS 8u

struct ht_linear_job {
    const struct ht_linear *l;
    const float *x; /* [T, K] */
    size_t T, K;
    float *y;
    size_t y_stride;
    enum ht_math math;

    float *u, *m;            /* [T, K] inputs behind perm; what the codes see of them */
    float *kept, *low;       /* [T, n_out], [T, rank] */
    float *packed;           /* linear_terms.c: inputs of the terms, tokens side by side */
    uint32_t *large;         /* [n_large of K] columns beyond the threshold in some token */
    size_t n_large;
    struct ht_affine *grids; /* [T, n_segments] */
    size_t n_segments;
    bool integer;            /* codes times codes: ints; else values in m */
    struct ht_int_job ints;
    unsigned char *shared;   /* [threads, thread_bytes], or a product's scratch */
    size_t thread_bytes, thread_codes;
};

/* linear_terms.c: bytes of `packed` and of each thread; what is large in some token; y += the terms. */
bool ht_linear_has_terms(const struct ht_linear *l);
size_t ht_linear_terms_bytes(const struct ht_linear *l, size_t n_tokens);
size_t ht_linear_terms_thread_bytes(const struct ht_linear *l);
void ht_linear_find_large(struct ht_linear_job *j);
void ht_linear_add_terms(struct ht_linear_job *j, struct ht_pool *pool);

/* Row of the weight alone, without sidecar. */
void ht_linear_codes_row(const struct ht_linear *l, uint64_t row, float *w);

#endif
