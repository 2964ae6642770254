/* Inside of qtensor_*.c: a chunk of rows on its way through one of the two passes. */
#ifndef HT_TENSOR_QTENSOR_IMPL_H
#define HT_TENSOR_QTENSOR_IMPL_H

#include "base/mem.h"
#include "format/levels.h"
#include "tensor/qtensor.h"

/* Rows of one task. Fixed, so that sums of counts do not depend on the number of threads. */
#define HT_TASK_ROWS 16

struct table;

struct chunk {
    struct ht_qtensor *q;
    const struct ht_qtensor_options *o;
    const float *x;
    uint64_t row0, n_rows;
    size_t n_tasks;
    float *clean;                     /* [threads, cols]: a row without NaN and Inf */
    int32_t *codes;                   /* [threads, cols] */
    struct ht_qtensor_counts *counts; /* [n_tasks] */
    ht_err *errs;                     /* [n_tasks] */
    float *ends;                      /* [n_tasks, 2]: smallest and largest x, tensor granularity */
    const struct table *table;        /* second pass: finite levels in order, none for integers */
};

extern const struct ht_qtensor_options ht_qtensor_defaults;

ht_status ht_qtensor_chunk_init(struct chunk *c, struct ht_qtensor *q, const struct ht_qtensor_options *o,
                                uint64_t row0, uint64_t n_rows, const float *x, ht_err *err);
void ht_qtensor_chunk_deinit(struct chunk *c);
/* Runs fn on every task; adds up the tasks' counts in order (counts may be NULL), gives the first task's error. */
ht_status ht_qtensor_chunk_run(struct chunk *c, ht_task_fn *fn, struct ht_qtensor_counts *counts, ht_err *err);
/* The row as it is encoded: NaN becomes 0, Inf the largest finite |x| of its group. x itself, or copy [cols]. */
const float *ht_qtensor_clean_row(const struct ht_qtensor *q, const float *x, float *copy,
                                  struct ht_qtensor_counts *counts);
/* x [n]: values of codes of one group. */
void ht_qtensor_group_values(const struct ht_qtensor *q, const struct ht_affine *a, const int32_t *codes, size_t n,
                             float *x);

#endif
