/* What each step of a plan does. Work is split over the pool by tokens or heads in fixed pieces, so results do
 * not depend on the number of threads. */
#include <math.h>

#include "base/sys.h"
#include "model/rope.h"
#include "model/run.h"
#include "tensor/hadamard.h"

#define TOKENS_PER_TASK 8u  /* of element-wise steps */
#define QUERIES_PER_TASK 64u /* of attention: what shares one conversion of the keys in the fastest kernel */

struct job {
    struct ht_run *run;
    const struct ht_step *step;
    float *in, *in2, *out; /* first row in work */
    size_t in_width, in2_width, out_width;
};

static float *rows_of(const struct ht_run *run, enum ht_act act, size_t width) {
    /* Logits are handed in for the rows in work only. */
    return act == HT_ACT_NONE ? NULL : run->acts[act] + (act == HT_ACT_LOGITS ? 0 : run->row0 * width);
}

/* ---- steps that treat tokens one by one ------------------------------------------------------------------ */

typedef void token_fn(const struct job *j, size_t t);

struct token_job {
    struct job job;
    token_fn *fn;
};

static void tokens_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct token_job *tj = ctx;
    size_t from = task * TOKENS_PER_TASK, to = from + TOKENS_PER_TASK;
    to = to < tj->job.run->n_rows ? to : tj->job.run->n_rows;
    for (size_t t = from; t < to; t++) {
        tj->fn(&tj->job, t);
    }
}

static void per_token(const struct job *j, token_fn *fn) {
    struct token_job tj = {*j, fn};
    ht_pool_run(j->run->pool, (j->run->n_rows + TOKENS_PER_TASK - 1) / TOKENS_PER_TASK, tokens_task, &tj);
}

static void embed_token(const struct job *j, size_t t) {
    ht_linear_row(j->run->model->token_embd, (uint64_t)j->run->ids[j->run->row0 + t], j->out + t * j->out_width, NULL);
}

static void norm_token(const struct job *j, size_t t) {
    ht_kernels()->rms_norm(j->in + t * j->in_width, j->step->weight, j->run->model->hp.rms_eps,
                           j->out + t * j->out_width, j->in_width);
}

static void head_norm_token(const struct job *j, size_t t) {
    const struct ht_hparams *hp = &j->run->model->hp;
    for (size_t at = 0; at < j->in_width; at += hp->head_dim) {
        ht_kernels()->rms_norm(j->in + t * j->in_width + at, j->step->weight, hp->rms_eps,
                               j->out + t * j->out_width + at, hp->head_dim);
    }
}

static void rope_token(const struct job *j, size_t t) {
    const struct ht_hparams *hp = &j->run->model->hp;
    ht_rope_turn(j->run->model->rope, j->run->angles + (j->run->row0 + t) * hp->rope_dim, hp->rope_dim,
                 hp->head_dim, j->in_width / hp->head_dim, j->in + t * j->in_width);
}

static void gate_token(const struct job *j, size_t t) {
    ht_kernels()->silu_mul(j->in + t * j->in_width, j->in2 + t * j->in_width, j->out + t * j->out_width,
                           j->in_width);
}

static void add_token(const struct job *j, size_t t) {
    float *out = j->out + t * j->out_width;
    const float *a = j->in + t * j->in_width, *b = j->in2 + t * j->in_width;
    for (size_t i = 0; i < j->out_width; i++) {
        out[i] = a[i] + b[i];
    }
}

static unsigned char *cache_at(const struct ht_run *run, int32_t layer, int value, size_t head,
                               uint64_t pos) {
    const struct ht_hparams *hp = &run->model->hp;
    uint64_t index = ((uint64_t)layer * 2 + (uint64_t)value) * hp->n_kv_heads + head;
    return run->cache + index * run->cache_head_bytes + pos * hp->head_dim * (run->options.f32_cache ? 4 : 2);
}

/* The token's row of one head as codes. The row in hand is turned in place: nobody reads keys and values but the
 * cache. */
static void cache_codes(const struct job *j, size_t t, size_t head, int value) {
    const struct ht_run *run = j->run;
    size_t D = run->model->hp.head_dim;
    float *x = (value ? j->in2 : j->in) + t * j->in_width + head * D;
    struct ht_qtensor q = ht_run_kv(run, j->step->layer, value, head);
    if (run->kv_turn != 0) {
        ht_hadamard(x, D, run->kv_turn);
    }
    ht_kv_put(&q, run->pos + t, x);
}

static void cache_token(const struct job *j, size_t t) {
    const struct ht_run *run = j->run;
    size_t D = run->model->hp.head_dim;
    for (size_t i = 0; run->kv.scheme.format != NULL && i < 2 * (size_t)run->model->hp.n_kv_heads; i++) {
        cache_codes(j, t, i / 2, (int)(i % 2));
    }
    if (run->kv.scheme.format != NULL) {
        return;
    }
    for (size_t h = 0; h < run->model->hp.n_kv_heads; h++) {
        for (int value = 0; value < 2; value++) {
            const float *x = (value ? j->in2 : j->in) + t * j->in_width + h * D;
            void *to = cache_at(run, j->step->layer, value, h, run->pos + t);
            if (run->options.f32_cache) {
                memcpy(to, x, D * sizeof *x);
            } else {
                ht_kernels()->f16_from_f32(x, to, D);
            }
        }
    }
}

static void run_embed(const struct job *j) {
    per_token(j, embed_token);
}

static void run_norm(const struct job *j) {
    per_token(j, norm_token);
}

static void run_head_norm(const struct job *j) {
    per_token(j, head_norm_token);
}

static void run_rope(const struct job *j) {
    per_token(j, rope_token);
}

static void run_cache(const struct job *j) {
    per_token(j, cache_token);
}

static void run_gate(const struct job *j) {
    per_token(j, gate_token);
}

static void run_add(const struct job *j) {
    per_token(j, add_token);
}

/* ---- linears and attention ------------------------------------------------------------------------------- */

static void run_linear(const struct job *j) {
    const struct ht_run *run = j->run;
    const struct ht_linear *l = j->step->linear;
    if (run->options.hook != NULL) {
        run->options.hook(run->options.hook_user, l, j->in, run->n_rows);
    }
    ht_linear_apply(run->pool, l, j->in, run->n_rows, j->out, j->out_width, run->options.math, run->scratch);
}

struct attend_job {
    struct job job;
    size_t n_blocks;
};

/* Keys and values become floats first, behind the scratch of attention itself. Queries are turned in place: each is
 * read by one task only. */
static void attend_codes(const struct job *j, struct ht_attention *a, size_t kv_head, unsigned char *scratch) {
    const struct ht_run *run = j->run;
    size_t D = a->head_dim, n = a->first_keys + (a->n_q - 1) * a->keys_step;
    float *k = (float *)(void *)(scratch + run->attn_plain), *v = k + (size_t)run->options.ctx * D;
    struct ht_qtensor keys = ht_run_kv(run, j->step->layer, 0, kv_head);
    struct ht_qtensor values = ht_run_kv(run, j->step->layer, 1, kv_head);
    ht_qtensor_decode(&keys, 0, n, k);
    ht_qtensor_decode(&values, 0, n, v);
    a->k = k;
    a->v = v;
    a->f16 = false;
    for (size_t i = 0; run->kv_turn != 0 && i < a->n_q; i++) {
        ht_hadamard((float *)(uintptr_t)a->q + i * a->q_stride, D, run->kv_turn);
    }
    ht_kernels()->attention(a, scratch);
    for (size_t i = 0; run->kv_turn != 0 && i < a->n_q; i++) {
        ht_hadamard(a->out + i * a->out_stride, D, run->kv_turn);
    }
}

/* One task per head and QUERIES_PER_TASK consecutive tokens. Late tokens see most keys, so the longest tasks are
 * handed out first. */
static void attend_task(void *ctx, size_t task, int thread) {
    const struct attend_job *aj = ctx;
    const struct job *j = &aj->job;
    const struct ht_run *run = j->run;
    const struct ht_hparams *hp = &run->model->hp;
    size_t D = hp->head_dim, head = task % hp->n_heads, kv_head = head / (hp->n_heads / hp->n_kv_heads);
    size_t from = (aj->n_blocks - 1 - task / hp->n_heads) * QUERIES_PER_TASK, left = run->n_rows - from;
    struct ht_attention a = {
        .q = j->in + from * j->in_width + head * D,
        .k = cache_at(run, j->step->layer, 0, kv_head, 0),
        .v = cache_at(run, j->step->layer, 1, kv_head, 0),
        .out = j->out + from * j->out_width + head * D,
        .n_q = left < QUERIES_PER_TASK ? left : QUERIES_PER_TASK,
        .head_dim = D,
        .q_stride = j->in_width,
        .k_stride = D,
        .v_stride = D,
        .out_stride = j->out_width,
        .first_keys = run->pos + from + 1,
        .keys_step = 1,
        .f16 = !run->options.f32_cache,
        .scale = 1.0f / sqrtf((float)D),
    };
    unsigned char *scratch = run->attn_scratch + (uint64_t)thread * run->attn_scratch_bytes;
    if (run->kv.scheme.format != NULL) {
        attend_codes(j, &a, kv_head, scratch);
        return;
    }
    ht_kernels()->attention(&a, scratch);
}

static void run_attend(const struct job *j) {
    struct attend_job aj = {*j, (j->run->n_rows + QUERIES_PER_TASK - 1) / QUERIES_PER_TASK};
    ht_pool_run(j->run->pool, aj.n_blocks * j->run->model->hp.n_heads, attend_task, &aj);
}

/* ---- the table ------------------------------------------------------------------------------------------- */

static void (*const step_fns[HT_STEPS])(const struct job *j) = {
    [HT_STEP_EMBED] = run_embed,   [HT_STEP_NORM] = run_norm,     [HT_STEP_HEAD_NORM] = run_head_norm,
    [HT_STEP_LINEAR] = run_linear, [HT_STEP_ROPE] = run_rope,     [HT_STEP_CACHE] = run_cache,
    [HT_STEP_ATTEND] = run_attend, [HT_STEP_GATE] = run_gate,     [HT_STEP_ADD] = run_add,
};

void ht_run_step_input(struct ht_run *run, const struct ht_step *step) {
    if (run->options.hook != NULL) {
        run->options.hook(run->options.hook_user, step->linear,
                          rows_of(run, step->in, ht_act_width(run->model, step->in)), run->n_rows);
    }
}

void ht_run_step(struct ht_run *run, const struct ht_step *step) {
    struct job j = {.run = run, .step = step};
    j.in_width = ht_act_width(run->model, step->in);
    j.in2_width = ht_act_width(run->model, step->in2);
    j.out_width = ht_act_width(run->model, step->out);
    j.in = rows_of(run, step->in, j.in_width);
    j.in2 = rows_of(run, step->in2, j.in2_width);
    j.out = rows_of(run, step->out, j.out_width);
    if (run->options.step_seconds == NULL) {
        step_fns[step->kind](&j);
        return;
    }
    double start = ht_sys_now();
    step_fns[step->kind](&j);
    run->options.step_seconds[step->kind] += ht_sys_now() - start;
}
