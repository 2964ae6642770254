/* Running a model: KV cache, scratch, position. One thread at a time. Each batch of tokens is taken through
 * the model's plan (plan.h) by one loop; calibration hooks the linears.
 *
 * Results do not depend on the number of threads. Splitting the same tokens into other batches may change the
 * last bits, because sums are ordered differently. */
#ifndef HT_MODEL_SESSION_H
#define HT_MODEL_SESSION_H

#include "base/context.h"
#include "model/model.h"

/* Called before each linear with its input x [T, K] (rows contiguous). Linears that share an input are
 * reported one by one. The output matrix is called only for rows whose logits were asked for. */
typedef void ht_linear_hook(void *user, const struct ht_linear *linear, const float *x, size_t n_tokens);

struct ht_run_options {
    uint32_t ctx;   /* positions of the KV cache */
    uint32_t batch; /* most tokens computed at once; 0: 512; never more than ctx */
    enum ht_math math;
    bool f32_cache; /* keep K and V in f32 (exact evaluation) instead of f16 */
    const struct ht_kv *kv; /* keep them as codes; NULL: as the model's file says, else as floats */
    ht_linear_hook *hook;
    void *hook_user;
    double *step_seconds; /* [HT_STEPS] wall time per kind of step is added here; NULL: not measured */
};

struct ht_run; /* ht_session of the API wraps this */

/* Called between the steps of a batch: a batch of a large model takes minutes. pos: tokens in the cache. What is not
 * HT_OK ends the feed with that status. */
typedef ht_status ht_watch_fn(void *user, uint32_t pos, ht_err *err);

/* pool and model must outlive the run. HT_INVAL for ctx 0, HT_LIMIT when the cache is beyond any address
 * space, HT_NOMEM. */
ht_status ht_run_new(struct ht_pool *pool, const struct ht_model *model, const struct ht_run_options *options,
                     struct ht_run **run, ht_err *err);
void ht_run_free(struct ht_run *run); /* NULL is fine */
uint32_t ht_run_pos(const struct ht_run *run);
uint32_t ht_run_ctx(const struct ht_run *run);
const struct ht_kv *ht_run_cache(const struct ht_run *run); /* what the cache keeps; format NULL: floats */
void ht_run_watch(struct ht_run *run, ht_watch_fn *fn, void *user); /* NULL: nobody, as at the start */
ht_status ht_run_watch_meter(void *meter, uint32_t pos, ht_err *err); /* a watch: user is a struct ht_meter */
void ht_run_rewind(struct ht_run *run,
                   uint32_t pos); /* forgets positions from pos on; later ones: no change */
/* Bytes that ht_run_new allocates with these options: activations and scratch; *kv (may be NULL): the cache,
 * whose pages become resident as positions are used. UINT64_MAX when beyond any address space. */
uint64_t ht_run_bytes(uint64_t *kv, const struct ht_model *model, const struct ht_run_options *options,
                      int threads);

/* Appends n tokens. logits: [n_out, V] of the last n_out of them (n_out <= n, 0: none).
 * HT_LIMIT when the cache has no room for n more, HT_INVAL for an id outside the vocabulary, the watch's status;
 * nothing is appended then. */
ht_status ht_run_feed(struct ht_run *run, const int32_t *ids, size_t n, size_t n_out, float *logits,
                      ht_err *err);

/* Like feed, but hands logits over in pieces of at most 64 rows, so that memory stays small: called with rows
 * [first, first + count) of the last n_out. Nonzero return stops with HT_CANCELLED; the position then is as
 * before the call. */
typedef int ht_logits_fn(void *user, size_t first, size_t count, const float *logits);
ht_status ht_run_feed_each(struct ht_run *run, const int32_t *ids, size_t n, size_t n_out, ht_logits_fn *fn,
                           void *user, ht_err *err);

/* Runs the steps of one layer alone on n tokens at positions 0 .. n - 1 (n <= ctx and batch): hidden [n, C] is the
 * residual before it and becomes that behind it. Layer -1 is the embedding of ids. The cache of other layers and
 * the position stay as they are. Calibration takes all of its text through one layer before it turns to the next. */
void ht_run_layer(struct ht_run *run, int32_t layer, const int32_t *ids, size_t n, float *hidden);
/* The same as far as the input of the layer's last linear, which the hook still gets: what lies behind it, and that
 * linear itself, is not computed. */
void ht_run_layer_inputs(struct ht_run *run, int32_t layer, const int32_t *ids, size_t n, const float *hidden);

#endif
