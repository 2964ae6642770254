#include "model/session.h"

#include <string.h>

#include "base/ckd.h"
#include "base/mem.h"
#include "model/rope.h"
#include "model/run.h"
#include "tensor/hadamard.h"

#define DEFAULT_BATCH 512u

/* Where everything lies in the run's one block; every part is 64-byte aligned.
 *     | acts[...] | angles | scratch | attn_scratch x threads |                                            */
struct layout {
    uint32_t batch;
    uint64_t acts[HT_ACTS], angles, scratch, attn, attn_bytes, attn_plain, total;
    uint64_t cache_head, cache;
    bool overflow;
};

static uint64_t place(struct layout *l, uint64_t count, uint64_t size) {
    uint64_t start = l->total, bytes = 0;
    l->overflow |= ht_ckd_mul(&bytes, count, size) || ht_ckd_add(&l->total, l->total, bytes) ||
                   ht_ckd_align(&l->total, l->total, HT_CACHE_LINE);
    return start;
}

static uint64_t product(struct layout *l, uint64_t a, uint64_t b) {
    uint64_t c = 0;
    l->overflow |= ht_ckd_mul(&c, a, b);
    return c;
}

/* One scratch serves every linear: the largest need. */
static uint64_t matmul_scratch(const struct ht_model *m, uint32_t batch, int threads) {
    uint64_t most = 0;
    for (size_t i = 0; i < m->plan.n; i++) {
        const struct ht_linear *linear = m->plan.steps[i].linear;
        if (linear != NULL) {
            uint64_t need = ht_linear_scratch_bytes(linear, batch, threads);
            most = need > most ? need : most;
        }
    }
    return most;
}

static const struct ht_kv *kv_of(const struct ht_model *m, const struct ht_run_options *o) {
    return o->kv != NULL ? o->kv : &m->kv;
}

static struct layout layout_of(const struct ht_model *m, const struct ht_run_options *o, int threads) {
    struct layout l = {.batch = o->batch != 0 ? o->batch : DEFAULT_BATCH};
    l.batch = l.batch < o->ctx ? l.batch : o->ctx;
    for (int act = 0; act < HT_ACTS; act++) {
        if (act != HT_ACT_NONE && act != HT_ACT_LOGITS) {
            l.acts[act] = place(&l, l.batch, product(&l, ht_act_width(m, (enum ht_act)act), sizeof(float)));
        }
    }
    l.angles = place(&l, l.batch, m->hp.rope_dim * sizeof(float));
    l.scratch = place(&l, matmul_scratch(m, l.batch, threads), 1);
    l.attn_bytes = (ht_attention_scratch_bytes(o->ctx, m->hp.head_dim) + HT_CACHE_LINE - 1) &
                   ~(uint64_t)(HT_CACHE_LINE - 1);
    l.cache_head =
        product(&l, o->ctx, (uint64_t)m->hp.head_dim * (o->f32_cache ? sizeof(float) : sizeof(uint16_t)));
    struct ht_qtensor codes;
    if (kv_of(m, o)->scheme.format != NULL &&
        ht_qtensor_shape(&codes, &kv_of(m, o)->scheme, o->ctx, m->hp.head_dim, NULL, NULL) == HT_OK) {
        uint64_t plain = product(&l, o->ctx, 2ull * m->hp.head_dim * sizeof(float)); /* a head's keys and values */
        l.attn_plain = l.attn_bytes;
        l.overflow |= ht_ckd_add(&l.attn_bytes, l.attn_bytes, plain);
        l.overflow |= ht_ckd_align(&l.attn_bytes, l.attn_bytes, HT_CACHE_LINE);
        l.cache_head = ht_run_kv_bytes(&codes);
    }
    l.attn = place(&l, l.attn_bytes, (uint64_t)threads);
    l.cache = product(&l, product(&l, l.cache_head, m->hp.n_kv_heads), 2ull * m->hp.n_layers);
    return l;
}

static uint64_t aligned(uint64_t bytes) {
    return (bytes + HT_CACHE_LINE - 1) & ~(uint64_t)(HT_CACHE_LINE - 1);
}

uint64_t ht_run_kv_bytes(const struct ht_qtensor *shape) {
    struct ht_qtensor q = *shape;
    struct ht_qpart part;
    uint64_t bytes = 0;
    for (size_t i = 0; ht_qtensor_part(&q, i, &part); i++) {
        bytes += aligned(part.bytes);
    }
    return bytes;
}

struct ht_qtensor ht_run_kv(const struct ht_run *run, int32_t layer, int value, size_t head) {
    struct ht_qtensor q = run->kv_row;
    struct ht_qpart part;
    uint64_t index = ((uint64_t)layer * 2 + (uint64_t)value) * run->model->hp.n_kv_heads + head;
    unsigned char *at = run->cache + index * run->cache_head_bytes;
    for (size_t i = 0; ht_qtensor_part(&q, i, &part); i++) {
        *part.slot = at;
        at += aligned(part.bytes);
    }
    return q;
}

uint64_t ht_run_bytes(uint64_t *kv, const struct ht_model *model, const struct ht_run_options *options,
                      int threads) {
    struct layout l = layout_of(model, options, threads);
    if (kv != NULL) {
        *kv = l.overflow ? UINT64_MAX : l.cache;
    }
    return l.overflow ? UINT64_MAX : l.total;
}

static ht_status allocate(struct ht_run *run, const struct layout *l, ht_err *err) {
    size_t total, cache;
    if (l->overflow || ht_ckd_size(&total, l->total) || ht_ckd_size(&cache, l->cache) ||
        cache > SIZE_MAX / 2) {
        return ht_fail(err, HT_LIMIT, "ctx", HT_NO_POS, "a cache of %u positions does not fit into memory",
                       run->options.ctx);
    }
    run->block = ht_mem_alloc_aligned(total, 1);
    if (run->block == NULL) {
        return ht_fail_nomem(err, total);
    }
    /* calloc gives untouched zero pages: only positions in use become resident. */
    run->cache_block = ht_mem_calloc(cache + HT_CACHE_LINE, 1);
    if (run->cache_block == NULL) {
        return ht_fail_nomem(err, cache);
    }
    run->cache = (unsigned char *)(((uintptr_t)run->cache_block + HT_CACHE_LINE - 1) &
                                   ~(uintptr_t)(HT_CACHE_LINE - 1));
    run->cache_head_bytes = l->cache_head;
    unsigned char *base = run->block;
    for (int act = 0; act < HT_ACTS; act++) {
        run->acts[act] = act == HT_ACT_LOGITS ? NULL : (float *)(void *)(base + l->acts[act]);
    }
    run->angles = (float *)(void *)(base + l->angles);
    run->scratch = base + l->scratch;
    run->attn_scratch = base + l->attn;
    run->attn_scratch_bytes = l->attn_bytes;
    run->attn_plain = l->attn_plain;
    return HT_OK;
}

ht_status ht_run_new(struct ht_pool *pool, const struct ht_model *model, const struct ht_run_options *options,
                     struct ht_run **out, ht_err *err) {
    *out = NULL;
    if (options->ctx == 0 || options->ctx > HT_MAX_CONTEXT) {
        return ht_fail(err, HT_INVAL, "ctx", HT_NO_POS, "expected 1 to %u positions, found %u",
                       HT_MAX_CONTEXT, options->ctx);
    }
    struct ht_run *run = ht_mem_calloc(1, sizeof *run);
    if (run == NULL) {
        return ht_fail_nomem(err, sizeof *run);
    }
    run->pool = pool;
    run->model = model;
    run->options = *options;
    run->threads = ht_pool_threads(pool);
    run->kv = *kv_of(model, options);
    run->options.kv = NULL; /* not kept beyond this call */
    if (run->kv.scheme.format != NULL) {
        ht_status fits = ht_qtensor_shape(&run->kv_row, &run->kv.scheme, options->ctx, model->hp.head_dim, "kv", err);
        run->kv_turn = run->kv.hadamard ? (size_t)ht_hadamard_block(model->hp.head_dim) : 0;
        if (fits == HT_OK && run->kv_turn == 1) {
            fits = ht_fail(err, HT_UNSUPPORTED, "kv", HT_NO_POS, "heads of %u values, an odd number, cannot be turned",
                           model->hp.head_dim);
        }
        if (fits != HT_OK) {
            ht_run_free(run);
            return fits;
        }
    }
    struct layout l = layout_of(model, options, run->threads);
    run->batch = l.batch;
    ht_status status = allocate(run, &l, err);
    if (status != HT_OK) {
        ht_run_free(run);
        return status;
    }
    *out = run;
    return HT_OK;
}

void ht_run_free(struct ht_run *run) {
    if (run != NULL) {
        ht_mem_free_aligned(run->block);
        ht_mem_free_aligned(run->logits_piece);
        ht_mem_free(run->cache_block);
        ht_mem_free(run);
    }
}

uint32_t ht_run_pos(const struct ht_run *run) {
    return run->pos;
}

uint32_t ht_run_ctx(const struct ht_run *run) {
    return run->options.ctx;
}

const struct ht_kv *ht_run_cache(const struct ht_run *run) {
    return &run->kv;
}

void ht_run_watch(struct ht_run *run, ht_watch_fn *fn, void *user) {
    run->watch = fn;
    run->watch_user = user;
}

ht_status ht_run_watch_meter(void *meter, uint32_t pos, ht_err *err) {
    (void)pos;
    return ht_meter_again(meter, err);
}

void ht_run_rewind(struct ht_run *run, uint32_t pos) {
    run->pos = pos < run->pos ? pos : run->pos;
}

/* Where logits go: straight into the caller's memory, or piece by piece to a callback. */
struct sink {
    size_t n, n_out; /* tokens of the call; the last n_out have logits */
    float *logits;
    ht_logits_fn *fn;
    void *user;
};

static ht_status run_steps(struct ht_run *run, size_t from, size_t to, ht_err *err) {
    for (size_t i = from; i < to; i++) {
        if (run->watch != NULL) {
            HT_TRY(run->watch(run->watch_user, run->pos, err));
        }
        ht_run_step(run, &run->model->plan.steps[i]);
    }
    return HT_OK;
}

/* Rows [row, row + n_rows) of the batch, which are [first, ...) of those wanted. */
static ht_status run_head(struct ht_run *run, const struct sink *sink, size_t row, size_t n_rows,
                          size_t first, ht_err *err) {
    const struct ht_plan *plan = &run->model->plan;
    while (n_rows > 0) {
        size_t n = sink->fn != NULL && n_rows > HT_LOGITS_ROWS ? HT_LOGITS_ROWS : n_rows;
        float *logits = sink->fn != NULL ? run->logits_piece : sink->logits + first * run->model->hp.vocab;
        run->acts[HT_ACT_LOGITS] = logits;
        run->row0 = row;
        run->n_rows = n;
        HT_TRY(run_steps(run, plan->n_body, plan->n, err));
        if (sink->fn != NULL && sink->fn(sink->user, first, n, logits) != 0) {
            return ht_fail(err, HT_CANCELLED, NULL, HT_NO_POS, "cancelled by the receiver of the logits");
        }
        row += n;
        first += n;
        n_rows -= n;
    }
    return HT_OK;
}

/* Tokens [at, at + n) of the call. */
static ht_status run_batch(struct ht_run *run, const int32_t *ids, const struct sink *sink, size_t at,
                           size_t n, ht_err *err) {
    const struct ht_plan *plan = &run->model->plan;
    run->ids = ids + at;
    run->n_tokens = n;
    run->row0 = 0;
    run->n_rows = n;
    ht_rope_angles(run->model->rope_inv_freq, run->model->hp.rope_dim / 2, run->pos, n, run->angles);
    HT_TRY(run_steps(run, 0, plan->n_body, err));
    size_t wanted_from = sink->n - sink->n_out; /* first token of the call with logits */
    if (at + n > wanted_from) {
        size_t row = wanted_from > at ? wanted_from - at : 0;
        HT_TRY(run_head(run, sink, row, n - row, at + row - wanted_from, err));
    }
    run->pos += (uint32_t)n;
    return HT_OK;
}

static ht_status check_feed(const struct ht_run *run, const int32_t *ids, size_t n, size_t n_out,
                            ht_err *err) {
    if (n > run->options.ctx - run->pos) {
        return ht_fail(
            err, HT_LIMIT, "ctx", HT_NO_POS,
            "%zu tokens do not fit: %u of the cache's %u positions are taken; use a larger context (the model was "
            "trained on %u)",
            n, run->pos, run->options.ctx, run->model->hp.context);
    }
    if (n_out > n) {
        return ht_fail(err, HT_INVAL, "n_out", HT_NO_POS, "logits of %zu tokens wanted, but only %zu are fed",
                       n_out, n);
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] >= run->model->hp.vocab) {
            return ht_fail(err, HT_INVAL, "ids", HT_NO_POS, "token %zu is %d, expected 0 to %u", i, ids[i],
                           run->model->hp.vocab - 1);
        }
    }
    return HT_OK;
}

static ht_status feed(struct ht_run *run, const int32_t *ids, const struct sink *sink, ht_err *err) {
    HT_TRY(check_feed(run, ids, sink->n, sink->n_out, err));
    uint32_t before = run->pos;
    for (size_t at = 0; at < sink->n; at += run->batch) {
        size_t n = sink->n - at < run->batch ? sink->n - at : run->batch;
        ht_status status = run_batch(run, ids, sink, at, n, err);
        if (status != HT_OK) {
            run->pos = before;
            return status;
        }
    }
    return HT_OK;
}

ht_status ht_run_feed(struct ht_run *run, const int32_t *ids, size_t n, size_t n_out, float *logits,
                      ht_err *err) {
    struct sink sink = {n, logits != NULL ? n_out : 0, logits, NULL, NULL};
    return feed(run, ids, &sink, err);
}

ht_status ht_run_feed_each(struct ht_run *run, const int32_t *ids, size_t n, size_t n_out, ht_logits_fn *fn,
                           void *user, ht_err *err) {
    if (run->logits_piece == NULL && n_out > 0) {
        run->logits_piece = ht_mem_alloc_aligned(HT_LOGITS_ROWS, run->model->hp.vocab * sizeof(float));
        if (run->logits_piece == NULL) {
            return ht_fail_nomem(err, (uint64_t)HT_LOGITS_ROWS * run->model->hp.vocab * sizeof(float));
        }
    }
    struct sink sink = {n, n_out, NULL, fn, user};
    return feed(run, ids, &sink, err);
}

/* The steps of one layer before step `end`; only the input of that one, when it is a linear of the layer. */
static void layer_steps(struct ht_run *run, int32_t layer, const int32_t *ids, size_t n, const float *hidden,
                        size_t end) {
    const struct ht_plan *plan = &run->model->plan;
    uint32_t pos = run->pos;
    run->ids = ids;
    run->n_tokens = n;
    run->row0 = 0;
    run->n_rows = n;
    run->pos = 0;
    ht_rope_angles(run->model->rope_inv_freq, run->model->hp.rope_dim / 2, 0, n, run->angles);
    memcpy(run->acts[HT_ACT_RESIDUAL], hidden, n * ht_act_width(run->model, HT_ACT_RESIDUAL) * sizeof *hidden);
    for (size_t i = 0; i < end; i++) {
        if (plan->steps[i].layer == layer) {
            ht_run_step(run, &plan->steps[i]);
        }
    }
    if (end < plan->n_body) {
        ht_run_step_input(run, &plan->steps[end]);
    }
    run->pos = pos;
}

void ht_run_layer(struct ht_run *run, int32_t layer, const int32_t *ids, size_t n, float *hidden) {
    layer_steps(run, layer, ids, n, hidden, run->model->plan.n_body);
    memcpy(hidden, run->acts[HT_ACT_RESIDUAL], n * ht_act_width(run->model, HT_ACT_RESIDUAL) * sizeof *hidden);
}

void ht_run_layer_inputs(struct ht_run *run, int32_t layer, const int32_t *ids, size_t n, const float *hidden) {
    const struct ht_plan *plan = &run->model->plan;
    size_t last = plan->n_body;
    for (size_t i = 0; i < plan->n_body; i++) {
        last = plan->steps[i].layer == layer && plan->steps[i].linear != NULL ? i : last;
    }
    layer_steps(run, layer, ids, n, hidden, last);
}
