#include "model/sampler.h"

#include <math.h>

#include "base/error.h"
#include "base/mem.h"

static ht_status range(const char *name, float v, double max, ht_err *err) {
    if (!(v >= 0 && (double)v <= max)) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS, "expected 0 to %g, found %g", max, (double)v);
    }
    return HT_OK;
}

ht_status ht_sampler_init(struct ht_sampler *s, uint32_t vocab, const ht_generate_options *o, ht_err *err) {
    *s = (struct ht_sampler){o->temperature, o->top_p, o->min_p, o->top_k, {{0}}, NULL, vocab};
    HT_TRY(range("temperature", o->temperature, 1e6, err));
    HT_TRY(range("top_p", o->top_p, 1, err));
    HT_TRY(range("min_p", o->min_p, 1, err));
    ht_rng_init(&s->rng, o->seed);
    s->candidates = ht_mem_alloc_array(vocab, sizeof *s->candidates);
    if (s->candidates == NULL) {
        return ht_fail_nomem(err, vocab * sizeof *s->candidates);
    }
    return HT_OK;
}

void ht_sampler_deinit(struct ht_sampler *s) {
    ht_mem_free(s->candidates);
    s->candidates = NULL;
}

/* Index of the largest; the lowest id among equals. */
static ht_status arg_max(const float *logits, uint32_t n, uint32_t *best, ht_err *err) {
    *best = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(logits[i]) || logits[i] == INFINITY) {
            return ht_fail(err, HT_NUMERIC, "logits", HT_NO_POS,
                           "the model gave %g for token %u, expected a number; its weights may be damaged "
                           "(halftone verify)", (double)logits[i], i);
        }
        *best = logits[i] > logits[*best] ? i : *best;
    }
    if (n == 0 || logits[*best] == -INFINITY) {
        return ht_fail(err, HT_NUMERIC, "logits", HT_NO_POS, "the model excludes every token");
    }
    return HT_OK;
}

/* ---- candidates in falling order, as far as they are needed ------------------------------------------------
 *
 *     candidates:  | heap of the n_heap smaller ones | sorted: ..., 3rd, 2nd, largest |                        */

static bool above(const struct ht_candidate *a, const struct ht_candidate *b) {
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static void sift(struct ht_candidate *c, uint32_t n, uint32_t i) {
    struct ht_candidate x = c[i];
    for (uint64_t child; (child = 2ull * i + 1) < n; i = (uint32_t)child) {
        child += child + 1 < n && above(&c[child + 1], &c[child]);
        if (!above(&c[child], &x)) {
            break;
        }
        c[i] = c[child];
    }
    c[i] = x;
}

struct order {
    struct ht_candidate *c;
    uint32_t n, n_heap;
};

/* The i-th largest. */
static const struct ht_candidate *nth(struct order *o, uint32_t i) {
    while (o->n - o->n_heap <= i) {
        struct ht_candidate top = o->c[0];
        o->c[0] = o->c[--o->n_heap];
        o->c[o->n_heap] = top;
        sift(o->c, o->n_heap, 0);
    }
    return &o->c[o->n - 1 - i];
}

static struct order make_order(struct ht_sampler *s, const float *logits) {
    struct order o = {s->candidates, s->vocab, s->vocab};
    for (uint32_t i = 0; i < s->vocab; i++) {
        o.c[i] = (struct ht_candidate){logits[i], (int32_t)i};
    }
    for (uint32_t i = s->vocab / 2; i-- > 0;) {
        sift(o.c, o.n, i);
    }
    return o;
}

ht_status ht_sampler_next(struct ht_sampler *s, const float *logits, int32_t *id, ht_err *err) {
    uint32_t best;
    *id = -1;
    HT_TRY(arg_max(logits, s->vocab, &best, err));
    if (s->temperature == 0) {
        *id = (int32_t)best;
        return HT_OK;
    }
    double max = (double)logits[best], t = (double)s->temperature;
    struct order o = make_order(s, logits);
    uint32_t n = s->top_k != 0 && s->top_k < s->vocab ? s->top_k : s->vocab;
    /* Weights are exp((logit - max) / T): the largest is 1. Sums are in falling order, or by id when all
     * tokens count, so that no full sort is needed. */
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        double l = n < s->vocab ? (double)nth(&o, i)->logit : (double)logits[i];
        total += exp((l - max) / t);
    }
    double kept = total;
    if (s->top_p < 1 || s->min_p > 0) {
        double sum = 0;
        uint32_t i = 0;
        kept = 0;
        for (; i < n && (i == 0 || sum < (double)s->top_p * total); i++) {
            double w = exp(((double)nth(&o, i)->logit - max) / t);
            sum += w;
            if (w < (double)s->min_p) { /* relative to the largest, which is 1 */
                break;
            }
            kept += w;
        }
        n = i;
    }
    double u = ht_rng_uniform(&s->rng) * kept, sum = 0;
    uint32_t i = 0;
    for (; i + 1 < n; i++) {
        sum += exp(((double)nth(&o, i)->logit - max) / t);
        if (sum > u) {
            break;
        }
    }
    *id = nth(&o, i)->id;
    return HT_OK;
}
