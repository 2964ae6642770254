#include "flow/flow_finite.h"

#include <math.h>
#include <stdio.h>

#include "base/mem.h"
#include "flow/flow_stream.h"

uint64_t ht_finite_zero(float *x, uint64_t n) {
    uint64_t bad = ht_count_nonfinite(x, n);
    for (uint64_t i = 0; bad != 0 && i < n; i++) {
        x[i] = isfinite(x[i]) ? x[i] : 0.0f;
    }
    return bad;
}

ht_status ht_finite_refuse(const struct ht_plan_tensor *t, uint64_t bad, ht_err *err) {
    return ht_fail(err, HT_NUMERIC, t->in->name, HT_NO_POS,
                   "%llu of %llu values are NaN or Inf; the checkpoint is damaged (--allow-nonfinite of quantize and "
                   "of collecting makes them 0)",
                   (unsigned long long)bad, (unsigned long long)ht_tensor_elems(&t->out));
}

/* ---- finding them ---- */

struct scan {
    const struct ht_plan_tensor *t;
    uint64_t rows, cols, step; /* step rows in a task */
    float *x;                  /* [threads] task and one row */
    uint64_t room;             /* floats of one thread */
    uint64_t *found;           /* [threads] */
};

static void scan_task(void *ctx, size_t i, int thread) {
    const struct scan *s = ctx;
    uint64_t row = i * s->step, n = s->rows - row < s->step ? s->rows - row : s->step;
    float *x = s->x + (uint64_t)thread * s->room;
    ht_packed_rows(s->t->in, s->t->packed, row, n, x, x + s->step * s->cols);
    s->found[thread] += ht_count_nonfinite(x, n * s->cols);
}

static ht_status scan_one(struct ht_pool *pool, struct ht_plan_tensor *t, ht_err *err) {
    struct scan s = {.t = t, .cols = t->in->ne[0], .rows = ht_tensor_elems(t->in) / t->in->ne[0]};
    int threads = ht_pool_threads(pool);
    s.step = HT_TASK_ELEMS / s.cols > 0 ? HT_TASK_ELEMS / s.cols : 1;
    s.room = (s.step + 1) * s.cols;
    s.x = ht_mem_alloc_array((size_t)threads * s.room, sizeof *s.x);
    s.found = ht_mem_calloc((size_t)threads, sizeof *s.found);
    ht_status status = HT_OK;
    if (s.x == NULL || s.found == NULL) {
        status = ht_fail_nomem(err, (uint64_t)threads * s.room * sizeof *s.x);
    } else {
        ht_pool_run(pool, (size_t)((s.rows + s.step - 1) / s.step), scan_task, &s);
    }
    for (int i = 0; status == HT_OK && i < threads; i++) {
        t->n_nonfinite += s.found[i];
    }
    ht_mem_free(s.x);
    ht_mem_free(s.found);
    return status;
}

ht_status ht_finite_scan(struct ht_context *ctx, struct ht_flow_plan *p, bool allowed, ht_err *err) {
    struct ht_meter meter;
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        total += p->tensors[i].in != NULL ? p->tensors[i].in->bytes : 0;
    }
    ht_meter_init(&meter, ctx, "check", "bytes", total);
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct ht_plan_tensor *t = &p->tensors[i];
        t->n_nonfinite = 0;
        if (t->in == NULL || t->in->format->kind == HT_KIND_INT) {
            continue;
        }
        HT_TRY(scan_one(ctx->pool, t, err));
        if (t->n_nonfinite != 0 && !allowed) {
            return ht_finite_refuse(t, t->n_nonfinite, err);
        }
        done += t->in->bytes;
        HT_TRY(ht_meter_tell(&meter, done, 0, t->in->name, err));
        ht_source_drop(p->source, t->in);
    }
    return HT_OK;
}

/* ---- a model without them ---- */

static ht_status mend_linear(struct ht_finite *f, struct ht_linear *l, ht_err *err) {
    uint64_t rows = l->w.rows, cols = l->w.cols;
    float *w = ht_mem_alloc_aligned((size_t)rows, (size_t)cols * sizeof *w);
    float *scratch = ht_mem_alloc_array((size_t)cols, sizeof *scratch);
    if (w == NULL || scratch == NULL) {
        ht_mem_free_aligned(w);
        ht_mem_free(scratch);
        return ht_fail_nomem(err, rows * cols * sizeof *w);
    }
    for (uint64_t r = 0; r < rows; r++) {
        ht_linear_row(l, r, w + r * cols, scratch);
        ht_finite_zero(w + r * cols, cols);
    }
    ht_mem_free(scratch);
    f->copies[f->n++] = w;
    l->w.format = ht_format_find("f32");
    l->w.data = w;
    l->w.row_bytes = cols * sizeof *w;
    l->q = NULL;
    l->side = NULL;
    l->scale = NULL;
    return HT_OK;
}

ht_status ht_finite_mend(struct ht_finite *f, const struct ht_flow_plan *p, struct ht_model *m, ht_err *err) {
    f->copies = ht_mem_calloc(p->n_tensors + 1, sizeof *f->copies);
    if (f->copies == NULL) {
        return ht_fail_nomem(err, p->n_tensors * sizeof *f->copies);
    }
    for (size_t i = 0; i < p->n_tensors; i++) {
        const struct ht_plan_tensor *t = &p->tensors[i];
        struct ht_layer *layer = t->layer < 0 ? &m->globals : &m->layers[t->layer];
        if (t->n_nonfinite == 0) {
            continue;
        }
        if (layer->linears[t->role] != NULL) {
            HT_TRY(mend_linear(f, layer->linears[t->role], err));
        } else if (layer->vectors[t->role] != NULL) { /* the model's own copy: steps of its plan point to it */
            ht_finite_zero((float *)(uintptr_t)layer->vectors[t->role], t->in->ne[0]);
        }
    }
    struct ht_linear *embd = m->globals.linears[HT_ROLE_TOKEN_EMBD], *head = m->globals.linears[HT_ROLE_OUTPUT];
    if (m->hp.tied && head != NULL && embd != NULL) { /* a view of the embedding */
        head->w = embd->w;
    }
    return HT_OK;
}

void ht_finite_deinit(struct ht_finite *f) {
    for (size_t i = 0; i < f->n; i++) {
        ht_mem_free_aligned(f->copies[i]);
    }
    ht_mem_free(f->copies);
    *f = (struct ht_finite){0};
}

ht_status ht_finite_model(struct ht_context *ctx, struct ht_model *model, bool allowed, struct ht_finite *f,
                          uint64_t *zeroed, ht_err *err) {
    struct ht_source *s = model->source;
    struct ht_flow_plan p = {.source = s, .n_tensors = s->n_tensors};
    p.tensors = ht_mem_calloc(s->n_tensors, sizeof *p.tensors);
    if (p.tensors == NULL) {
        return ht_fail_nomem(err, s->n_tensors * sizeof *p.tensors);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        p.tensors[i] = (struct ht_plan_tensor){.out = s->tensors[i],
                                               .in = &s->tensors[i],
                                               .packed = ht_source_packed(s, &s->tensors[i]),
                                               .role = model->bindings[i].role,
                                               .layer = model->bindings[i].layer};
    }
    ht_status status = ht_finite_scan(ctx, &p, allowed, err);
    status = status == HT_OK ? ht_finite_mend(f, &p, model, err) : status;
    uint64_t n = 0;
    for (size_t i = 0; i < p.n_tensors; i++) {
        n += p.tensors[i].n_nonfinite;
    }
    if (zeroed != NULL) {
        *zeroed = n;
    }
    ht_mem_free(p.tensors);
    return status;
}

void ht_finite_words(uint64_t zeroed, char *words, size_t len) {
    snprintf(words, len, "%llu NaN or Inf weights became 0", (unsigned long long)zeroed);
}
