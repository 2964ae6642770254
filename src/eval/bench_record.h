/* The record of a bench, schema "halftone.bench/1": docs/benchmarks.md lists its fields. */
#ifndef HT_EVAL_BENCH_RECORD_H
#define HT_EVAL_BENCH_RECORD_H

#include <jansson.h>

#include "base/context.h"
#include "base/sys.h"
#include "eval/spread.h"
#include "model/model.h"

/* X(NAME, key): what is measured in every round. */
#define HT_BENCH_FIGURE_LIST(X)                                                               \
    X(READ, "read_bytes_per_s")            /* memory, all threads together */                 \
    X(F32, "gemm_f32_flops")               /* our own product, operands in the cache */       \
    X(INT8, "gemm_int8_flops")             /* likewise with 8-bit activations and weights */  \
    X(TTFT, "ttft_s")                      /* prompt in, first token picked */                \
    X(PREFILL, "prefill_tokens_per_s")                                                        \
    X(PREFILL_FLOPS, "prefill_flops")      /* of the linears only, attention not counted */   \
    X(PREFILL_SHARE, "prefill_gemm_share") /* time the ceilings would take / time taken */    \
    X(DECODE, "decode_tokens_per_s")                                                          \
    X(DECODE_BYTES, "decode_bytes_per_s")  /* weights */                                      \
    X(DECODE_SHARE, "decode_read_share")   /* of the bytes per second read in this round */   \
    X(PREFILL_CPU, "prefill_tokens_per_cpu_s")                                                \
    X(DECODE_CPU, "decode_tokens_per_cpu_s")                                                  \
    X(DECODE_CPU_SHARE, "decode_read_share_cpu") /* both per second of CPU time */            \
    X(CPU_SHARE, "cpu_share")              /* CPU time / (wall time * threads), decoding */

enum ht_bench_figure {
#define HT_BENCH_ENUM(name, key) HT_BENCH_##name,
    HT_BENCH_FIGURE_LIST(HT_BENCH_ENUM)
#undef HT_BENCH_ENUM
    HT_BENCH_FIGURES
};

struct ht_bench_threads { /* one model at one thread count */
    int threads;
    double *rounds[HT_BENCH_FIGURES]; /* [n_rounds]; sorted by the record */
    size_t n_rounds;
};

struct ht_bench_model {
    const char *path;
    struct ht_model *model;
    double load_s, first_ttft_s; /* opening; the first prompt, pages of the file still to be mapped */
    uint64_t weight_bytes;       /* read by one decode step: weights, biases, norms, one row of the embedding */
    uint64_t cache_bytes;        /* keys and values read by the middle decode step, on average */
    double body_ops[2], head_ops[2]; /* by ceiling: operations per token of the linears; of the output, per row */
    struct ht_sys_memory before, after; /* after: with one run alive, that of the first thread count */
    uint64_t run_bytes, kv_bytes;       /* that this run allocated: activations and scratch; cache */
    bool peak_is_own;            /* the peak was reset before the model was loaded */
    struct ht_bench_threads *threads;
};

struct ht_bench_report {
    const ht_bench_options *options;
    const int *threads;
    size_t n_threads;
    struct ht_bench_model *models; /* [options->n_models] */
    uint64_t read_bytes;           /* of one pass over the memory */
    double load_before, load_after, seconds;
};

/* The part of one model, taken while it is loaded. NULL when memory is out. */
json_t *ht_bench_model_record(const struct ht_bench_report *report, struct ht_bench_model *model);
/* models: array of the above, taken over. NULL when memory is out. */
json_t *ht_bench_record(const struct ht_bench_report *report, json_t *models);

#endif
