/* Carries a plan out: reads rows, decodes, reorders, encodes and writes, tensor after tensor, with memory that
 * does not grow with the model.
 *
 * Work is cut into tasks of whole rows, about HT_TASK_ELEMS elements each, whose borders depend on shapes only.
 * A batch of tasks fills a buffer on the pool; while the next batch is computed, one more task writes this one:
 *
 *     pool run k:    task 0         write buffer of batch k-1, drop its pages
 *                    tasks 1..n     decode -> f32 -> encode into the buffer of batch k
 *
 * Sums are added in task order, so that figures and bytes are the same for any number of threads. */
#ifndef HT_FLOW_FLOW_STREAM_H
#define HT_FLOW_FLOW_STREAM_H

#include "base/context.h"
#include "flow/flow_sink.h"

#define HT_TASK_ELEMS 32768u /* 128 KiB of f32: in and back fit a core's second-level cache */

struct ht_stream_options {
    const char *stage;    /* for progress */
    bool measure;         /* decode what was encoded and sum the errors */
    bool allow_nonfinite; /* NaN and Inf become 0, counted; else HT_NUMERIC names the tensor */
};

/* sink may be NULL: everything is computed and nothing written (tests, measurements). */
ht_status ht_stream_run(struct ht_context *ctx, struct ht_flow_plan *plan, struct ht_sink *sink,
                        const struct ht_stream_options *options, ht_err *err);

/* How many of x[n] are NaN or Inf. */
uint64_t ht_count_nonfinite(const float *x, uint64_t n);

/* Bytes of buffers and scratch that ht_stream_run takes. */
uint64_t ht_stream_memory(const struct ht_flow_plan *plan, int threads);

/* Seconds of one thread for one pass over rows [row, row + rows) of tensor t: the estimate of a dry run. */
ht_status ht_stream_sample(struct ht_plan_tensor *t, uint64_t row, uint64_t rows,
                           const struct ht_stream_options *options, double *seconds, ht_err *err);

#endif
