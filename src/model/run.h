/* Inside of a run: shared by session.c (memory, batches) and steps.c (what each step does). */
#ifndef HT_MODEL_RUN_H
#define HT_MODEL_RUN_H

#include "model/session.h"

/* One layer's cache: keys and values, each [Hkv, ctx, D] in f16 or f32, so that the keys of one head lie in
 * one piece; or each [Hkv] qtensors of [ctx, D]. */
struct ht_run {
    struct ht_pool *pool;
    const struct ht_model *model;
    struct ht_run_options options;
    uint32_t batch; /* most tokens at once */
    uint32_t pos;   /* tokens in the cache */
    int threads;
    ht_watch_fn *watch; /* or NULL */
    void *watch_user;

    unsigned char *cache; /* [n_layers, 2 (K, V), Hkv, ctx, D] */
    void *cache_block;    /* as allocated */
    uint64_t cache_head_bytes;
    struct ht_kv kv;          /* format NULL: floats */
    struct ht_qtensor kv_row; /* sizes of one head's codes, rows: ctx; no memory */
    size_t kv_turn;           /* block of the rotation, 0: none */

    float *acts[HT_ACTS]; /* [batch, width of the activation]; LOGITS is the caller's or logits_piece */
    float *angles;        /* [batch, rope_dim / 2, 2] cos and sin of the batch's positions */
    void *scratch;        /* of one matrix product */
    unsigned char *attn_scratch; /* [threads, attn_scratch_bytes] */
    uint64_t attn_scratch_bytes;
    uint64_t attn_plain; /* with a cache of codes: where a thread's keys and values in f32 begin, [2, ctx, D] */
    float *logits_piece; /* [HT_LOGITS_ROWS, V], made when first needed */
    void *block;         /* all of the above but the cache and logits_piece */

    /* The batch in work. */
    const int32_t *ids; /* [n_tokens] */
    size_t n_tokens;
    size_t row0, n_rows; /* rows that the step works on: all, or those whose logits are wanted */
};

#define HT_LOGITS_ROWS 64u

/* The codes of one head of a layer: views of the cache. value 0: keys, 1: values. */
struct ht_qtensor ht_run_kv(const struct ht_run *run, int32_t layer, int value, size_t head);
/* Bytes of one head's codes in the cache: every part begins at a multiple of 64. */
uint64_t ht_run_kv_bytes(const struct ht_qtensor *shape);

/* Runs one step on rows [row0, row0 + n_rows) of its buffers. */
void ht_run_step(struct ht_run *run, const struct ht_step *step);
/* Hands the step's input to the hook; the step is one of a linear. */
void ht_run_step_input(struct ht_run *run, const struct ht_step *step);

#endif
