#include "flow/flow_codes.h"

#include "base/mem.h"
#include "base/sys.h"
#include "flow/flow_finite.h"
#include "model/rope.h"

#define CHUNK_BYTES (8u << 20) /* of f32 rows at once */

uint64_t ht_plan_source_row(const struct ht_plan_tensor *t, uint64_t r, uint64_t rows) {
    if (t->heads == 0) {
        return r;
    }
    return ht_rope_row(t->to_pairs ? HT_ROPE_PAIRS : HT_ROPE_HALVES, r, rows / t->heads);
}

/* ---- making codes ------------------------------------------------------------------------------------------ */

struct read {
    const struct ht_plan_tensor *t;
    uint64_t row0, rows, cols;
    float *x;       /* [n, cols] */
    float *scratch; /* [threads, cols] */
    uint64_t *bad;  /* [threads] NaN and Inf that became 0, or NULL: not counted */
};

static void read_task(void *ctx, size_t i, int thread) {
    const struct read *r = ctx;
    const struct ht_plan_tensor *t = r->t;
    float *x = r->x + i * r->cols;
    if (t->in == NULL) {
        memcpy(x, t->literal + (r->row0 + i) * r->cols, r->cols * sizeof *x);
        return;
    }
    float *scratch = r->scratch + (uint64_t)thread * r->cols;
    ht_packed_rows(t->in, t->packed, ht_plan_source_row(t, r->row0 + i, r->rows), 1, x, scratch);
    uint64_t bad = ht_finite_zero(x, r->cols);
    if (r->bad != NULL) {
        r->bad[thread] += bad;
    }
    ht_flow_turn_rows(t, x, 1, scratch);
}

static uint64_t chunk_rows(const struct ht_plan_tensor *t) {
    uint64_t rows = CHUNK_BYTES / (t->out.ne[0] * sizeof(float)), all = t->out.ne[1];
    bool whole = t->scheme->format->code->fitted != HT_FITTED_NOT;
    rows = rows < 16 ? 16 : rows / 16 * 16; /* tasks of whole chunks: see tensor/qtensor_impl.h */
    return whole || rows > all ? all : rows;
}

uint64_t ht_codes_memory(const struct ht_plan_tensor *t) {
    return t->q != NULL ? 0 : t->out.bytes + chunk_rows(t) * t->out.ne[0] * sizeof(float);
}

static void note(struct ht_plan_tensor *t, const struct ht_qtensor_counts *c) {
    t->sum_sq += c->power;
    t->err_sq += c->error;
}

/* Rows row0 .. row0 + n - 1, without NaN and Inf: these are refused, or 0 and counted. */
static ht_status read_rows(struct ht_context *ctx, const struct ht_stream_options *o, struct read *r, uint64_t n,
                           ht_err *err) {
    uint64_t bad = 0;
    ht_pool_run(ctx->pool, (size_t)n, read_task, r);
    for (int i = 0; i < ht_pool_threads(ctx->pool); i++) {
        bad += r->bad[i];
    }
    return bad == 0 || o->allow_nonfinite ? HT_OK : ht_finite_refuse(r->t, bad, err);
}

static ht_status encode(struct ht_context *ctx, struct ht_plan_tensor *t, const struct ht_stream_options *o,
                        struct ht_qtensor *q, struct read *r, ht_err *err) {
    const struct ht_qtensor_options options = {.name = t->out.name, .weight = t->importance, .range = t->range,
                                               .range_ctx = t->range_ctx, .pool = ctx->pool};
    struct ht_qtensor_counts counts = {0}, fit = {0};
    uint64_t step = chunk_rows(t);
    if (step == q->rows) {
        HT_TRY(read_rows(ctx, o, r, q->rows, err));
        HT_TRY(ht_qtensor_encode(q, r->x, &options, &counts, err));
        note(t, &counts);
        return HT_OK;
    }
    for (int pass = 0; pass < 2; pass++) {
        for (r->row0 = 0; r->row0 < q->rows; r->row0 += step) {
            uint64_t n = q->rows - r->row0 < step ? q->rows - r->row0 : step;
            HT_TRY(read_rows(ctx, o, r, n, err));
            HT_TRY(pass == 0 ? ht_qtensor_fit_rows(q, r->row0, n, r->x, &options, &fit, err)
                             : ht_qtensor_round_rows(q, r->row0, n, r->x, &options, &counts, err));
        }
        if (pass == 0) {
            HT_TRY(ht_qtensor_fit_end(q, &options, &fit, err));
            memset(r->bad, 0, (size_t)ht_pool_threads(ctx->pool) * sizeof *r->bad); /* the second pass counts */
        }
    }
    note(t, &counts);
    return HT_OK;
}

static ht_status make(struct ht_context *ctx, struct ht_plan_tensor *t, const struct ht_stream_options *o,
                      struct ht_qtensor *q, ht_err *err) {
    struct read r = {.t = t, .rows = t->out.ne[1], .cols = t->out.ne[0]};
    ht_status status;
    HT_TRY(ht_qtensor_init(q, t->scheme, t->out.ne[1], t->out.ne[0], t->out.name, err));
    r.x = ht_mem_alloc_aligned((size_t)chunk_rows(t), (size_t)r.cols * sizeof *r.x);
    int threads = ht_pool_threads(ctx->pool);
    r.scratch = ht_mem_alloc_array((size_t)threads, (size_t)r.cols * sizeof *r.scratch);
    r.bad = ht_mem_calloc((size_t)threads, sizeof *r.bad);
    status = r.x != NULL && r.scratch != NULL && r.bad != NULL
                 ? encode(ctx, t, o, q, &r, err)
                 : ht_fail_nomem(err, chunk_rows(t) * r.cols * sizeof *r.x);
    t->n_nonfinite = 0;
    for (int i = 0; r.bad != NULL && i < threads; i++) {
        t->n_nonfinite += r.bad[i];
    }
    ht_mem_free_aligned(r.x);
    ht_mem_free(r.scratch);
    ht_mem_free(r.bad);
    return status;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

static ht_status put(struct ht_plan_tensor *t, struct ht_sink *sink, const void *data, uint64_t len, ht_err *err) {
    return sink != NULL ? ht_sink_write(sink, t, data, len, false, err) : HT_OK;
}

ht_status ht_codes_write_side(struct ht_plan_tensor *t, struct ht_sink *sink, ht_err *err) {
    struct ht_qpart part;
    for (size_t i = 0; t->side != NULL && ht_sidecar_part(t->side, i, &part); i++) {
        HT_TRY(put(t, sink, *part.slot, part.bytes, err));
    }
    return HT_OK;
}

static ht_status write_codes(struct ht_plan_tensor *t, struct ht_qtensor *q, struct ht_sink *sink, ht_err *err) {
    struct ht_qpart part;
    for (size_t i = 0; ht_qtensor_part(q, i, &part); i++) {
        HT_TRY(put(t, sink, *part.slot, part.bytes, err));
    }
    return HT_OK;
}

ht_status ht_codes_run(struct ht_context *ctx, struct ht_plan_tensor *t, struct ht_sink *sink,
                       const struct ht_stream_options *options, ht_err *err) {
    struct ht_qtensor made = {0};
    ht_status status = HT_OK;
    if (t->q == NULL) {
        status = make(ctx, t, options, &made, err);
    }
    if (status == HT_OK) {
        status = write_codes(t, t->q != NULL ? t->q : &made, sink, err);
    }
    if (status == HT_OK) {
        status = ht_codes_write_side(t, sink, err);
    }
    ht_qtensor_deinit(&made);
    return status;
}

ht_status ht_codes_sample(struct ht_plan_tensor *t, uint64_t row, uint64_t rows, double *seconds, ht_err *err) {
    const struct ht_qtensor_options options = {.name = t->out.name, .weight = t->importance, .range = t->range,
                                               .range_ctx = t->range_ctx};
    struct ht_qtensor q;
    uint64_t cols = t->out.ne[0];
    double start = ht_sys_now();
    HT_TRY(ht_qtensor_init(&q, t->scheme, rows, cols, t->out.name, err));
    struct read r = {.t = t, .row0 = row, .rows = t->out.ne[1], .cols = cols};
    r.x = ht_mem_alloc_aligned((size_t)rows, (size_t)cols * sizeof *r.x);
    r.scratch = ht_mem_alloc_array((size_t)cols, sizeof *r.scratch);
    ht_status status = r.x != NULL && r.scratch != NULL ? HT_OK : ht_fail_nomem(err, rows * cols * sizeof(float));
    if (status == HT_OK) {
        ht_pool_run(NULL, (size_t)rows, read_task, &r);
        status = ht_qtensor_encode(&q, r.x, &options, NULL, err);
        *seconds = ht_sys_now() - start;
    }
    ht_mem_free_aligned(r.x);
    ht_mem_free(r.scratch);
    ht_qtensor_deinit(&q);
    return status;
}
