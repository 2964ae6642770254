#include "flow/flow_stream.h"

#include <math.h>

#include "base/mem.h"
#include "base/sys.h"
#include "flow/flow_codes.h"
#include "flow/flow_finite.h"

#define BATCH_BYTES (2u << 20) /* of output, at least; more when there are many threads */

struct task {
    struct ht_plan_tensor *t;
    uint64_t row, rows;
    uint64_t out_at, out_len; /* in the batch's buffer */
    double sum_sq, err_sq, weight_sum, weight_err;
    uint64_t n_nonfinite, n_overflow;
};

struct batch {
    struct task *tasks; /* [max_tasks] */
    size_t n;
    unsigned char *buf;
};

struct scratch { /* of one thread; each [max_elems] f32 */
    float *x, *y;
};

struct stream {
    struct ht_context *ctx;
    struct ht_flow_plan *plan;
    struct ht_sink *sink;
    const struct ht_stream_options *options;
    struct batch batches[2];
    size_t max_tasks;
    uint64_t buf_bytes, max_elems;
    struct scratch *scratch; /* [threads] */
    float *floats;           /* owns all scratch */
    size_t next;             /* tensor and row that the next batch starts with */
    uint64_t next_row;
    struct batch *now, *before; /* in work, and to be written */
    ht_status write_status;
    ht_err write_err;
};

/* ---- shapes: a tensor as rows of columns ------------------------------------------------------------- */

/* A reordered vector (the bias of Q or K) is a matrix of one column. */
static uint64_t cols_of(const struct ht_plan_tensor *t) {
    return t->heads != 0 && t->out.n_dims <= 1 ? 1 : t->out.ne[0];
}

static uint64_t rows_of(const struct ht_plan_tensor *t) {
    return ht_tensor_elems(&t->out) / cols_of(t);
}

static uint64_t task_rows(const struct ht_plan_tensor *t) {
    uint64_t rows = HT_TASK_ELEMS / cols_of(t);
    return rows > 0 ? rows : 1;
}

/* Row of the input that becomes row r of the output. */
static uint64_t source_row(const struct ht_plan_tensor *t, uint64_t r) {
    return ht_plan_source_row(t, r, rows_of(t));
}

/* ---- one task ---------------------------------------------------------------------------------------- */

static void read_rows(const struct ht_plan_tensor *t, uint64_t row, uint64_t rows, float *x, float *scratch) {
    uint64_t cols = cols_of(t);
    if (t->packed != NULL) {
        for (uint64_t r = 0; r < rows; r++) {
            ht_packed_rows(t->in, t->packed, source_row(t, row + r), 1, x + r * cols, scratch);
        }
        return;
    }
    if (t->in == NULL) {
        memcpy(x, t->literal + row * cols, rows * cols * sizeof *x);
        return;
    }
    const struct ht_format *f = t->in->format;
    const unsigned char *data = t->in->data;
    uint64_t row_bytes = ht_format_row_bytes(f, cols);
    if (t->heads == 0) {
        f->decode(data + row * row_bytes, x, rows * cols);
        return;
    }
    for (uint64_t r = 0; r < rows; r++) {
        f->decode(data + source_row(t, row + r) * row_bytes, x + r * cols, cols);
    }
}

/* Copies rows that are stored in the output's format already: the input's own, or finished ones. */
static void copy_rows(const struct ht_plan_tensor *t, const unsigned char *data, uint64_t row, uint64_t rows,
                      unsigned char *dst) {
    uint64_t row_bytes = ht_format_row_bytes(t->out.format, cols_of(t));
    if (t->heads == 0) {
        memcpy(dst, data + row * row_bytes, rows * row_bytes);
        return;
    }
    for (uint64_t r = 0; r < rows; r++) {
        memcpy(dst + r * row_bytes, data + source_row(t, row + r) * row_bytes, row_bytes);
    }
}

/* x - x is 0 for every finite x: one pass without branches decides the usual case. */
HT_CLONES uint64_t ht_count_nonfinite(const float *x, uint64_t n) {
    float bad[16] = {0};
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++) {
            bad[j] += x[i + j] - x[i + j];
        }
    }
    float sum = 0;
    for (int j = 0; j < 16; j++) {
        sum += bad[j];
    }
    for (; i < n; i++) {
        sum += x[i] - x[i];
    }
    if (sum == 0) {
        return 0;
    }
    uint64_t count = 0;
    for (i = 0; i < n; i++) {
        count += !isfinite(x[i]);
    }
    return count;
}

/* Sixteen running sums, so that the loop vectorizes and rounds the same on every machine. */
HT_CLONES static void row_errors(const float *x, const float *y, uint64_t n, double *sum_sq, double *err_sq) {
    float s[16] = {0}, e[16] = {0};
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++) {
            float d = x[i + j] - y[i + j];
            s[j] += x[i + j] * x[i + j];
            e[j] += d * d;
        }
    }
    double ss = 0, ee = 0;
    for (int j = 0; j < 16; j++) {
        ss += s[j];
        ee += e[j];
    }
    for (; i < n; i++) {
        float d = x[i] - y[i];
        ss += x[i] * x[i];
        ee += d * d;
    }
    *sum_sq += ss;
    *err_sq += ee;
}

HT_CLONES static double row_weighted(const float *x, const float *y, const float *w, uint64_t n) {
    float e[16] = {0};
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++) {
            float d = x[i + j] - y[i + j];
            e[j] += w[i + j] * (d * d);
        }
    }
    double ee = 0;
    for (int j = 0; j < 16; j++) {
        ee += e[j];
    }
    for (; i < n; i++) {
        float d = x[i] - y[i];
        ee += w[i] * (d * d);
    }
    return ee;
}

static void measure(struct task *k, const unsigned char *dst, const struct scratch *s) {
    const struct ht_plan_tensor *t = k->t;
    uint64_t cols = cols_of(t), n = k->rows * cols;
    t->out.format->decode(dst, s->y, n);
    double row_weight = 0;
    for (uint64_t i = 0; t->importance != NULL && i < cols; i++) {
        row_weight += t->importance[i];
    }
    for (uint64_t r = 0; r < k->rows; r++) {
        const float *x = s->x + r * cols, *y = s->y + r * cols;
        row_errors(x, y, cols, &k->sum_sq, &k->err_sq);
        if (t->importance != NULL) {
            k->weight_sum += row_weight;
            k->weight_err += row_weighted(x, y, t->importance, cols);
        }
    }
}

/* Values that did not survive: they read back as Inf or NaN, or so far off that the error overflows. */
static uint64_t count_lost(const struct scratch *s, uint64_t n) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < n; i++) {
        float d = s->x[i] - s->y[i];
        count += !isfinite(d * d);
    }
    return count;
}

/* What t->in->format decodes is not the whole of the input. */
static bool changed_by_parts(const struct ht_plan_tensor *t) {
    return t->packed != NULL && (t->packed->has_q || t->packed->has_side);
}

static void run_task(struct task *k, unsigned char *dst, const struct scratch *s,
                     const struct ht_stream_options *o) {
    const struct ht_plan_tensor *t = k->t;
    const struct ht_format *f = t->out.format;
    uint64_t cols = cols_of(t), n = k->rows * cols;
    bool integers = t->in != NULL && t->in->format->kind == HT_KIND_INT;
    if (integers) { /* carried over as they are */
        copy_rows(t, t->in->data, k->row, k->rows, dst);
        return;
    }
    read_rows(t, k->row, k->rows, s->x, s->y);
    k->n_nonfinite = ht_finite_zero(s->x, n);
    if (k->n_nonfinite == 0 && t->in != NULL && t->in->format == f && t->stored == NULL && t->turn == NULL &&
        !changed_by_parts(t)) {
        copy_rows(t, t->in->data, k->row, k->rows, dst);
        return;
    }
    ht_flow_turn_rows(t, s->x, k->rows, s->y);
    if (t->stored != NULL) {
        copy_rows(t, t->stored, k->row, k->rows, dst);
    } else if (f->kind == HT_KIND_FLOAT) {
        f->encode(s->x, NULL, dst, n);
    } else { /* row by row: encoders may look at the whole row that they are given */
        for (uint64_t r = 0; r < k->rows; r++) {
            f->encode(s->x + r * cols, t->importance, dst + r * ht_format_row_bytes(f, cols), cols);
        }
    }
    if (o->measure) {
        measure(k, dst, s);
        k->n_overflow = isfinite(k->err_sq) ? 0 : count_lost(s, n);
    } else {
        f->decode(dst, s->y, n);
        k->n_overflow = ht_count_nonfinite(s->y, n);
    }
}

/* ---- batches ----------------------------------------------------------------------------------------- */

/* Pages of the rows of one batch are not needed any more; task borders inside a page fault it in again. */
static void drop_pages(const struct stream *s, const struct task *first, const struct task *last) {
    const struct ht_tensor *in = first->t->in;
    const struct ht_source *source = s->plan->source;
    if (in == NULL) {
        return;
    }
    if (first->t->heads != 0 || last->row + last->rows == rows_of(last->t)) {
        if (last->row + last->rows == rows_of(last->t)) {
            ht_source_drop(source, in);
        }
        return;
    }
    const struct ht_mapping *map = &source->maps[source->tensor_map[in - source->tensors]];
    uint64_t row_bytes = ht_format_row_bytes(in->format, cols_of(first->t));
    uint64_t from = (uint64_t)((const unsigned char *)in->data - map->data) + first->row * row_bytes;
    ht_map_drop(map, from, (last->row + last->rows - first->row) * row_bytes);
}

static void drop_made(const struct ht_plan_tensor *t) {
    if (t->made != NULL) {
        ht_map_drop(t->made, t->made_at, t->made_bytes);
    }
}

static void write_batch(struct stream *s) {
    struct batch *b = s->before;
    for (size_t i = 0; i < b->n; i++) {
        struct task *k = &b->tasks[i];
        if (s->sink != NULL && s->write_status == HT_OK) {
            bool complete = k->row + k->rows == rows_of(k->t);
            s->write_status = ht_sink_write(s->sink, k->t, b->buf + k->out_at, k->out_len, complete, &s->write_err);
            if (complete && k->t->side != NULL && s->write_status == HT_OK) {
                s->write_status = ht_codes_write_side(k->t, s->sink, &s->write_err);
            }
            if (complete) {
                drop_made(k->t);
            }
        }
        if (i + 1 == b->n || b->tasks[i + 1].t != k->t) {
            size_t first = i;
            while (first > 0 && b->tasks[first - 1].t == k->t) {
                first--;
            }
            drop_pages(s, &b->tasks[first], k);
        }
    }
}

static void pool_task(void *ctx, size_t i, int thread) {
    struct stream *s = ctx;
    if (i == 0) {
        write_batch(s);
        return;
    }
    struct task *k = &s->now->tasks[i - 1];
    run_task(k, s->now->buf + k->out_at, &s->scratch[thread], s->options);
}

static void fill_batch(struct stream *s, struct batch *b) {
    uint64_t used = 0;
    b->n = 0;
    while (s->next < s->plan->n_tensors && b->n < s->max_tasks) {
        struct ht_plan_tensor *t = &s->plan->tensors[s->next];
        if (t->scheme != NULL) { /* a run of its own: codes_of */
            return;
        }
        uint64_t left = rows_of(t) - s->next_row, rows = task_rows(t);
        rows = rows < left ? rows : left;
        uint64_t len = rows * ht_format_row_bytes(t->out.format, cols_of(t));
        if (b->n > 0 && used + len > s->buf_bytes) {
            return;
        }
        b->tasks[b->n++] = (struct task){.t = t, .row = s->next_row, .rows = rows, .out_at = used, .out_len = len};
        used += len;
        s->next_row += rows;
        if (rows == left) {
            s->next++;
            s->next_row = 0;
        }
    }
}

static ht_status check_tensor(const struct ht_plan_tensor *t, const struct ht_stream_options *o, ht_err *err) {
    if (t->n_nonfinite != 0 && !o->allow_nonfinite) {
        return ht_finite_refuse(t, t->n_nonfinite, err);
    }
    if (t->n_overflow != 0) {
        return ht_fail(err, HT_NUMERIC, t->out.name, HT_NO_POS,
                       "%llu of %llu values are too large for %s and would become Inf; use bf16 or f32",
                       (unsigned long long)t->n_overflow, (unsigned long long)ht_tensor_elems(&t->out),
                       t->out.format->name);
    }
    return HT_OK;
}

/* Adds a batch's figures to its tensors, in order. */
static ht_status add_up(struct stream *s, const struct batch *b, uint64_t *bytes, ht_err *err) {
    for (size_t i = 0; i < b->n; i++) {
        const struct task *k = &b->tasks[i];
        struct ht_plan_tensor *t = k->t;
        t->sum_sq += k->sum_sq;
        t->err_sq += k->err_sq;
        t->weight_sum += k->weight_sum;
        t->weight_err += k->weight_err;
        t->n_nonfinite += k->n_nonfinite;
        t->n_overflow += k->n_overflow;
        *bytes += k->out_len;
        if (k->row + k->rows == rows_of(t)) {
            HT_TRY(check_tensor(t, s->options, err));
        }
    }
    return HT_OK;
}

/* ---- buffers ----------------------------------------------------------------------------------------- */

static void set_sizes(struct stream *s, int threads) {
    uint64_t out = 0;
    s->max_elems = 0;
    for (size_t i = 0; i < s->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &s->plan->tensors[i];
        if (t->scheme != NULL) {
            continue;
        }
        uint64_t rows = task_rows(t), all = rows_of(t);
        rows = rows < all ? rows : all;
        uint64_t elems = rows * cols_of(t), bytes = rows * ht_format_row_bytes(t->out.format, cols_of(t));
        s->max_elems = elems > s->max_elems ? elems : s->max_elems;
        out = bytes > out ? bytes : out;
    }
    s->max_elems = (s->max_elems + 15) & ~15ull; /* each part of the scratch stays aligned */
    s->max_tasks = (size_t)threads * 4 < 256 ? 256 : (size_t)threads * 4;
    s->buf_bytes = out * (uint64_t)threads * 2;
    if (s->buf_bytes < BATCH_BYTES) {
        s->buf_bytes = BATCH_BYTES;
    }
}

static ht_status get_buffers(struct stream *s, int threads, ht_err *err) {
    set_sizes(s, threads);
    s->scratch = ht_mem_calloc((size_t)threads, sizeof *s->scratch);
    s->floats = ht_mem_alloc_aligned((size_t)threads * 2, s->max_elems * sizeof(float));
    for (int i = 0; i < 2; i++) {
        s->batches[i].tasks = ht_mem_alloc_array(s->max_tasks, sizeof(struct task));
        s->batches[i].buf = ht_mem_alloc_aligned(1, s->buf_bytes);
        if (s->batches[i].tasks == NULL || s->batches[i].buf == NULL) {
            return ht_fail_nomem(err, s->buf_bytes);
        }
    }
    if (s->scratch == NULL || s->floats == NULL) {
        return ht_fail_nomem(err, (uint64_t)threads * 2 * s->max_elems * sizeof(float));
    }
    for (int i = 0; i < threads; i++) {
        s->scratch[i].x = s->floats + (uint64_t)i * 2 * s->max_elems;
        s->scratch[i].y = s->scratch[i].x + s->max_elems;
    }
    return HT_OK;
}

static void free_buffers(struct stream *s) {
    for (int i = 0; i < 2; i++) {
        ht_mem_free(s->batches[i].tasks);
        ht_mem_free_aligned(s->batches[i].buf);
    }
    ht_mem_free(s->scratch);
    ht_mem_free_aligned(s->floats);
}

uint64_t ht_stream_memory(const struct ht_flow_plan *plan, int threads) {
    struct stream s = {.plan = (struct ht_flow_plan *)plan};
    set_sizes(&s, threads);
    uint64_t codes = 0;
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &plan->tensors[i];
        uint64_t bytes = t->scheme != NULL ? ht_codes_memory(t) : 0;
        codes = bytes > codes ? bytes : codes;
    }
    return 2 * (s.buf_bytes + s.max_tasks * sizeof(struct task)) + codes +
           (uint64_t)threads * 2 * s.max_elems * sizeof(float);
}

/* The next tensor, one with a scheme. */
static ht_status codes_of(struct stream *s, struct ht_meter *meter, uint64_t *done, ht_err *err) {
    struct ht_plan_tensor *t = &s->plan->tensors[s->next++];
    HT_TRY(ht_codes_run(s->ctx, t, s->sink, s->options, err));
    HT_TRY(check_tensor(t, s->options, err));
    if (t->in != NULL) {
        ht_source_drop(s->plan->source, t->in);
    }
    drop_made(t);
    *done += t->out.bytes;
    return ht_meter_tell(meter, *done, *done, t->out.name, err);
}

static ht_status run(struct stream *s, ht_err *err) {
    struct ht_meter meter;
    uint64_t total = 0, done = 0;
    for (size_t i = 0; i < s->plan->n_tensors; i++) {
        total += s->plan->tensors[i].out.bytes;
    }
    ht_meter_init(&meter, s->ctx, s->options->stage, "bytes", total);
    s->now = &s->batches[0];
    s->before = &s->batches[1];
    for (;;) {
        fill_batch(s, s->now);
        if (s->now->n == 0 && s->before->n == 0) {
            if (s->next == s->plan->n_tensors) {
                return HT_OK;
            }
            HT_TRY(codes_of(s, &meter, &done, err));
            continue;
        }
        ht_pool_run(s->ctx->pool, s->now->n + 1, pool_task, s);
        if (s->write_status != HT_OK) {
            if (err != NULL) {
                *err = s->write_err;
            }
            return s->write_status;
        }
        HT_TRY(add_up(s, s->now, &done, err));
        if (s->now->n > 0) {
            HT_TRY(ht_meter_tell(&meter, done, done, s->now->tasks[s->now->n - 1].t->out.name, err));
        }
        struct batch *swap = s->now;
        s->now = s->before;
        s->before = swap;
    }
}

ht_status ht_stream_run(struct ht_context *ctx, struct ht_flow_plan *plan, struct ht_sink *sink,
                        const struct ht_stream_options *options, ht_err *err) {
    struct stream s = {.ctx = ctx, .plan = plan, .sink = sink, .options = options};
    ht_err_clear(&s.write_err);
    ht_status status = get_buffers(&s, ht_pool_threads(ctx->pool), err);
    if (status == HT_OK) {
        status = run(&s, err);
    }
    free_buffers(&s);
    return status;
}

ht_status ht_stream_sample(struct ht_plan_tensor *t, uint64_t row, uint64_t rows,
                           const struct ht_stream_options *options, double *seconds, ht_err *err) {
    if (t->scheme != NULL) {
        return ht_codes_sample(t, row, rows, seconds, err);
    }
    uint64_t n = rows * cols_of(t), bytes = rows * ht_format_row_bytes(t->out.format, cols_of(t));
    struct task k = {.t = t, .row = row, .rows = rows};
    struct scratch s = {ht_mem_alloc_aligned(n, sizeof(float)), ht_mem_alloc_aligned(n, sizeof(float))};
    unsigned char *dst = ht_mem_alloc_aligned(1, bytes);
    ht_status status = HT_OK;
    if (s.x == NULL || s.y == NULL || dst == NULL) {
        status = ht_fail_nomem(err, 2 * n * sizeof(float) + bytes);
    } else {
        double start = ht_sys_now();
        run_task(&k, dst, &s, options);
        *seconds = ht_sys_now() - start;
    }
    ht_mem_free_aligned(s.x);
    ht_mem_free_aligned(s.y);
    ht_mem_free_aligned(dst);
    return status;
}
