/* The importance matrix: for each linear, E[x_j^2] over calibration tokens. It is the diagonal of the Hessian
 * of the layer's output error, sum_t (sum_j (w_j - q_j) x_tj)^2, so weights that meet large inputs are rounded
 * with more care. The convention is llama-imatrix's: sums of squares, count of tokens, no output head. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "calib/calib.h"
#include "model/session.h"

#define COLUMNS 128 /* of one task */

/* Linears that read the same vectors: q, k and v; gate and up. */
enum input { INPUT_OWN, INPUT_ATTN, INPUT_FFN };

static const enum input INPUT_OF[HT_ROLES] = {
    [HT_ROLE_ATTN_Q] = INPUT_ATTN,   [HT_ROLE_ATTN_K] = INPUT_ATTN, [HT_ROLE_ATTN_V] = INPUT_ATTN,
    [HT_ROLE_FFN_GATE] = INPUT_FFN, [HT_ROLE_FFN_UP] = INPUT_FFN,
};

struct sums {
    const struct ht_linear *linear;
    double *sum2; /* [cols]; linears of one input share it */
    bool owner;   /* the first linear of its input: it adds, the others look on */
    uint64_t tokens;
};

struct collector {
    struct ht_pool *pool;
    struct ht_map index; /* linear's name -> slot */
    struct sums *slots;
    size_t n, cap;
    struct ht_arena arena;
    bool nomem;
};

struct add {
    const float *x;
    size_t n_tokens, cols;
    double *sum2;
};

HT_CLONES
static void add_columns(const float *x, size_t stride, size_t n_tokens, size_t n, double *sum2) {
    double acc[COLUMNS];
    memcpy(acc, sum2, n * sizeof *acc);
    for (size_t t = 0; t < n_tokens; t++) {
        const float *row = x + t * stride;
        for (size_t j = 0; j < n; j++) {
            double v = (double)row[j];
            acc[j] += v * v;
        }
    }
    memcpy(sum2, acc, n * sizeof *acc);
}

static void add_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct add *a = ctx;
    size_t from = task * COLUMNS, n = a->cols - from < COLUMNS ? a->cols - from : COLUMNS;
    add_columns(a->x + from, a->cols, a->n_tokens, n, a->sum2 + from);
}

/* The slot of a linear, made when it is met first. */
static struct sums *slot_of(struct collector *c, const struct ht_linear *linear) {
    uint64_t i;
    if (ht_map_get_str(&c->index, linear->name, &i)) {
        return &c->slots[i];
    }
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        struct sums *slots = ht_mem_realloc_array(c->slots, cap, sizeof *slots);
        if (slots == NULL) {
            return NULL;
        }
        c->slots = slots;
        c->cap = cap;
    }
    struct sums s = {.linear = linear, .owner = true};
    enum input input = INPUT_OF[linear->role];
    for (size_t k = c->n; input != INPUT_OWN && k > 0 && s.sum2 == NULL; k--) {
        const struct sums *o = &c->slots[k - 1];
        if (o->linear->layer == linear->layer && INPUT_OF[o->linear->role] == input &&
            o->linear->w.cols == linear->w.cols) {
            s.sum2 = o->sum2;
            s.owner = false;
        }
    }
    if (s.sum2 == NULL) {
        s.sum2 = ht_arena_calloc(&c->arena, (size_t)linear->w.cols, sizeof *s.sum2);
    }
    if (s.sum2 == NULL || !ht_map_put(&c->index, linear->name, strlen(linear->name), c->n, NULL)) {
        return NULL;
    }
    c->slots[c->n] = s;
    return &c->slots[c->n++];
}

static void on_linear(void *user, const struct ht_linear *linear, const float *x, size_t n_tokens) {
    struct collector *c = user;
    if (linear->role == HT_ROLE_OUTPUT || linear->role == HT_ROLE_TOKEN_EMBD || c->nomem) {
        return;
    }
    struct sums *s = slot_of(c, linear);
    if (s == NULL) {
        c->nomem = true;
        return;
    }
    s->tokens += n_tokens;
    if (s->owner) {
        size_t cols = (size_t)linear->w.cols;
        struct add a = {.x = x, .n_tokens = n_tokens, .cols = cols, .sum2 = s->sum2};
        ht_pool_run(c->pool, (cols + COLUMNS - 1) / COLUMNS, add_task, &a);
    }
}

static ht_status check_finite(const struct collector *c, uint64_t window, ht_err *err) {
    for (size_t i = 0; i < c->n; i++) {
        const struct sums *s = &c->slots[i];
        for (uint64_t j = 0; s->owner && j < s->linear->w.cols; j++) {
            if (!isfinite(s->sum2[j])) {
                return ht_fail(err, HT_NUMERIC, s->linear->name, HT_NO_POS,
                               "input %llu became NaN or infinite in window %llu: the model's weights or its "
                               "file are damaged; `verify` finds such weights",
                               (unsigned long long)j, (unsigned long long)window);
            }
        }
    }
    return HT_OK;
}

static ht_status run_windows(struct ht_run *run, const struct ht_calib_windows *windows, struct collector *c,
                             struct ht_meter *meter, ht_err *err) {
    for (uint64_t w = 0; w < windows->n; w++) {
        ht_run_rewind(run, 0);
        HT_TRY(ht_run_feed(run, windows->ids + w * windows->window, windows->window, 0, NULL, err));
        if (c->nomem) {
            return ht_fail_nomem(err, 0);
        }
        HT_TRY(check_finite(c, w, err));
        HT_TRY(ht_meter_tell(meter, (w + 1) * windows->window, 0, "text", err));
    }
    return HT_OK;
}

static ht_status to_imatrix(const struct collector *c, const char *const *texts, size_t n_texts,
                            uint32_t window, uint64_t windows, struct ht_imatrix **out, ht_err *err) {
    struct ht_imatrix *m;
    HT_TRY(ht_imatrix_new(&m, err));
    ht_status status = HT_OK;
    for (size_t i = 0; i < c->n; i++) {
        const struct sums *s = &c->slots[i];
        struct ht_imatrix_entry *e;
        HT_TRY_DONE(ht_imatrix_entry(m, s->linear->name, s->linear->w.cols, 1, &e, err));
        for (uint64_t j = 0; j < e->n; j++) {
            e->sum2[j] = (float)s->sum2[j];
        }
        e->count[0] = (float)s->tokens;
    }
    m->chunk_size = window;
    m->chunk_count = (uint32_t)windows;
    m->datasets = ht_arena_calloc(&m->arena, n_texts, sizeof *m->datasets);
    for (size_t i = 0; m->datasets != NULL && i < n_texts; i++) {
        m->datasets[i] = ht_arena_strdup(&m->arena, texts[i]);
        if (m->datasets[i] == NULL) {
            m->datasets = NULL;
        }
    }
    if (m->datasets == NULL) {
        status = ht_fail_nomem(err, n_texts * sizeof *m->datasets);
        goto done;
    }
    m->n_datasets = n_texts;
done:
    if (status != HT_OK) {
        ht_imatrix_free(m);
        m = NULL;
    }
    *out = m;
    return status;
}

ht_status ht_calib_imatrix_of(struct ht_context *ctx, const struct ht_model *model,
                              const struct ht_calib_windows *windows, const char *const *texts, size_t n_texts,
                              enum ht_math math, struct ht_imatrix **imatrix, ht_err *err) {
    uint32_t window = windows->window;
    *imatrix = NULL;
    struct collector c = {.pool = ctx->pool};
    ht_map_init(&c.index);
    ht_arena_init(&c.arena, 0);
    struct ht_run *run = NULL;
    ht_status status = HT_OK;
    struct ht_run_options options = {
        .ctx = window, .math = math, .f32_cache = math == HT_MATH_EXACT, .hook = on_linear, .hook_user = &c};
    HT_TRY_DONE(ht_run_new(ctx->pool, model, &options, &run, err));
    struct ht_meter meter;
    ht_meter_init(&meter, ctx, "calibrate", "tokens", windows->n * window);
    ht_run_watch(run, ht_run_watch_meter, &meter);
    HT_TRY_DONE(run_windows(run, windows, &c, &meter, err));
    HT_TRY_DONE(to_imatrix(&c, texts, n_texts, window, windows->n, imatrix, err));
done:
    ht_run_free(run);
    ht_mem_free(c.slots);
    ht_arena_deinit(&c.arena);
    ht_map_deinit(&c.index);
    return status;
}

ht_status ht_calib_imatrix(struct ht_context *ctx, const struct ht_model *model, const char *const *texts,
                           size_t n_texts, uint64_t tokens, uint32_t window, enum ht_math math,
                           struct ht_imatrix **imatrix, ht_err *err) {
    struct ht_calib_windows windows;
    *imatrix = NULL;
    HT_TRY(ht_calib_windows(model, texts, n_texts, tokens, window, &windows, err));
    ht_status status = ht_calib_imatrix_of(ctx, model, &windows, texts, n_texts, math, imatrix, err);
    ht_calib_windows_deinit(&windows);
    return status;
}
