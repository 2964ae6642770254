/* Inside of a run: shared by session.c (memory, batches) and steps.c (what each step does). */
#ifndef HT_MODEL_RUN_H
#define HT_MODEL_RUN_H

#include "model/session.h"

/* One layer's cache: keys and values, each [Hkv, ctx, D] in f16 or f32, so that the keys of one head lie in
 * one piece. */
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

    float *acts[HT_ACTS]; /* [batch, width of the activation]; LOGITS is the caller's or logits_piece */
    float *angles;        /* [batch, rope_dim / 2, 2] cos and sin of the batch's positions */
    void *scratch;        /* of one matrix product */
    unsigned char *attn_scratch; /* [threads, attn_scratch_bytes] */
    uint64_t attn_scratch_bytes;
    float *logits_piece; /* [HT_LOGITS_ROWS, V], made when first needed */
    void *block;         /* all of the above but the cache and logits_piece */

    /* The batch in work. */
    const int32_t *ids; /* [n_tokens] */
    size_t n_tokens;
    size_t row0, n_rows; /* rows that the step works on: all, or those whose logits are wanted */
};

#define HT_LOGITS_ROWS 64u

/* Runs one step on rows [row0, row0 + n_rows) of its buffers. */
void ht_run_step(struct ht_run *run, const struct ht_step *step);

#endif
