/* Speed of models on this machine: what `halftone bench` prints. In every round, for every thread count: what
 * the memory gives, a prompt, a generation. Figures are medians over rounds; shares of a ceiling are formed
 * within a round, so that a machine whose speed varies disturbs them less. docs/benchmarks.md */
#ifndef HT_EVAL_BENCH_H
#define HT_EVAL_BENCH_H

#include "base/context.h"

#define HT_BENCH_MAX_ROUNDS 1000u
#define HT_BENCH_MAX_THREAD_COUNTS 16u

/* HT_INVAL for options out of range, HT_LIMIT when prompt, depth and gen do not fit a cache. */
ht_status ht_bench_run(struct ht_context *ctx, const ht_bench_options *options, char **json, ht_err *err);

#endif
