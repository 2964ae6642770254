#include "eval/lockstep.h"

#include "base/mem.h"
#include "base/sys.h"

#define LOGITS_BYTES (64u << 20) /* both models' pieces together */
#define PIECE_MAX 128u           /* more tokens at once make the products no faster */
#define POSITIONS 4              /* of one scoring task */

static ht_status check_pair(const struct ht_model *a, const struct ht_model *b, const ht_eval_options *o,
                            ht_err *err) {
    if (a->hp.vocab != b->hp.vocab) {
        return ht_fail(err, HT_INVAL, o->model, HT_NO_POS,
                       "the model has %u tokens, the reference %s has %u: their distributions cannot be "
                       "compared; use the model that this one was made from as reference",
                       a->hp.vocab, o->reference, b->hp.vocab);
    }
    return HT_OK;
}

/* kv: text, or NULL: as the model's file says. */
static ht_status open_side(struct ht_eval_side *side, struct ht_lockstep *ls, const ht_eval_options *o,
                           const char *kv, ht_err *err) {
    struct ht_kv codes;
    struct ht_run_options run = {.ctx = ls->window,
                                 .math = o->exact ? HT_MATH_EXACT : HT_MATH_FAST,
                                 .f32_cache = o->exact,
                                 .kv = kv != NULL ? &codes : NULL};
    if (kv != NULL) {
        HT_TRY(ht_kv_parse(kv, &codes, err));
    }
    HT_TRY(ht_run_new(ls->ctx->pool, side->model, &run, &side->run, err));
    side->logits = ht_mem_alloc_aligned((size_t)ls->piece * side->model->hp.vocab, sizeof(float));
    if (side->logits == NULL) {
        return ht_fail_nomem(err, (uint64_t)ls->piece * side->model->hp.vocab * sizeof(float));
    }
    return HT_OK;
}

static void close_side(struct ht_eval_side *side) {
    ht_mem_free_aligned(side->logits);
    ht_run_free(side->run);
    ht_model_unload(side->model);
}

/* The largest power of two whose logits of both models stay below LOGITS_BYTES. */
static uint32_t piece_of(uint32_t vocab) {
    uint32_t piece = PIECE_MAX;
    while (piece > 1 && 2ull * piece * vocab * sizeof(float) > LOGITS_BYTES) {
        piece /= 2;
    }
    return piece;
}

ht_status ht_lockstep_init(struct ht_lockstep *ls, struct ht_context *ctx, const ht_eval_options *options,
                           ht_err *err) {
    *ls = (struct ht_lockstep){.ctx = ctx, .window = options->ctx};
    ls->first = options->windows_all ? 0 : options->ctx / 2;
    ls->per_window = ls->window - ls->first - 1;
    ht_status status = HT_OK;
    HT_TRY_DONE(ht_model_load(options->model, &ls->model.model, err));
    ls->piece = piece_of(ls->model.model->hp.vocab);
    if (options->reference != NULL) {
        HT_TRY_DONE(ht_model_load(options->reference, &ls->reference.model, err));
        HT_TRY_DONE(check_pair(ls->model.model, ls->reference.model, options, err));
        HT_TRY_DONE(open_side(&ls->reference, ls, options, NULL, err));
    }
    HT_TRY_DONE(open_side(&ls->model, ls, options, options->kv, err));
    ls->ids = ht_mem_alloc_array(ls->window, sizeof *ls->ids);
    ls->scores = ht_mem_alloc_array(ls->per_window, sizeof *ls->scores);
    ls->finite = ht_mem_alloc_array(ls->per_window, sizeof *ls->finite);
    if (ls->ids == NULL || ls->scores == NULL || ls->finite == NULL) {
        status = ht_fail_nomem(err, ls->window * sizeof *ls->scores);
    }
done:
    if (status != HT_OK) {
        ht_lockstep_deinit(ls);
    }
    return status;
}

void ht_lockstep_deinit(struct ht_lockstep *ls) {
    ht_mem_free(ls->finite);
    ht_mem_free(ls->scores);
    ht_mem_free(ls->ids);
    close_side(&ls->reference);
    close_side(&ls->model);
    *ls = (struct ht_lockstep){0};
}

void ht_lockstep_watch(struct ht_lockstep *ls, struct ht_meter *meter) {
    ht_watch_fn *fn = meter != NULL ? ht_run_watch_meter : NULL;
    ht_run_watch(ls->model.run, fn, meter);
    if (ls->reference.run != NULL) {
        ht_run_watch(ls->reference.run, fn, meter);
    }
}

static ht_status feed(struct ht_eval_side *side, const int32_t *ids, uint32_t n, bool logits, ht_err *err) {
    double start = ht_sys_now();
    ht_status status = ht_run_feed(side->run, ids, n, logits ? n : 0, logits ? side->logits : NULL, err);
    side->seconds += ht_sys_now() - start;
    side->tokens += n;
    return status;
}

static ht_status feed_both(struct ht_lockstep *ls, uint32_t at, uint32_t n, bool logits, ht_err *err) {
    HT_TRY(feed(&ls->model, ls->ids + at, n, logits, err));
    if (ls->reference.model != NULL) {
        HT_TRY(feed(&ls->reference, ls->ids + at, n, logits, err));
    }
    return HT_OK;
}

struct piece {
    struct ht_lockstep *ls;
    uint32_t at, n; /* positions of the window */
};

static void score_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct piece *p = ctx;
    struct ht_lockstep *ls = p->ls;
    size_t vocab = ls->model.model->hp.vocab;
    uint32_t end = (uint32_t)(task + 1) * POSITIONS;
    for (uint32_t i = (uint32_t)task * POSITIONS; i < end && i < p->n; i++) {
        const float *ref = ls->reference.model != NULL ? ls->reference.logits + i * vocab : NULL;
        uint32_t slot = p->at + i - ls->first;
        ls->finite[slot] = ht_score_position(ls->model.logits + i * vocab, ref, vocab, ls->ids[p->at + i + 1],
                                             &ls->scores[slot]);
    }
}

ht_status ht_lockstep_window(struct ht_lockstep *ls, const int32_t *ids, uint64_t number, const char *path,
                             ht_err *err) {
    ht_calib_window(ls->model.model, ids, ls->window, ls->ids);
    ht_run_rewind(ls->model.run, 0);
    if (ls->reference.model != NULL) {
        ht_run_rewind(ls->reference.run, 0);
    }
    if (ls->first > 0) {
        HT_TRY(feed_both(ls, 0, ls->first, false, err));
    }
    uint32_t end = ls->first + ls->per_window; /* the last position predicts nothing */
    for (uint32_t at = ls->first; at < end; at += ls->piece) {
        struct piece p = {.ls = ls, .at = at, .n = end - at < ls->piece ? end - at : ls->piece};
        HT_TRY(feed_both(ls, at, p.n, true, err));
        ht_pool_run(ls->ctx->pool, (p.n + POSITIONS - 1) / POSITIONS, score_task, &p);
    }
    for (uint32_t i = 0; i < ls->per_window; i++) {
        if (!ls->finite[i]) {
            return ht_fail(err, HT_NUMERIC, path, HT_NO_POS,
                           "window %llu, position %u: a logit is NaN or infinite; `verify` finds damaged weights",
                           (unsigned long long)number, ls->first + i);
        }
    }
    return HT_OK;
}
