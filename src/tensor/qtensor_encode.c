/* The first pass: ranges to scales as they are stored. Work is cut into blocks of rows; each writes its own rows and
 * counts, and the counts are added up in order, so results do not depend on threads. */
#include <math.h>

#include "tensor/qtensor_impl.h"

const struct ht_qtensor_options ht_qtensor_defaults;

void ht_qtensor_chunk_deinit(struct chunk *c) {
    ht_mem_free(c->clean);
    ht_mem_free(c->codes);
    ht_mem_free(c->counts);
    ht_mem_free(c->errs);
    ht_mem_free(c->ends);
    memset(c, 0, sizeof *c);
}

ht_status ht_qtensor_chunk_init(struct chunk *c, struct ht_qtensor *q, const struct ht_qtensor_options *o,
                                uint64_t row0, uint64_t n_rows, const float *x, ht_err *err) {
    size_t threads = o->pool != NULL ? (size_t)ht_pool_threads(o->pool) : 1;
    *c = (struct chunk){.q = q, .o = o, .x = x, .row0 = row0, .n_rows = n_rows};
    if (row0 > q->rows || n_rows > q->rows - row0) {
        return ht_fail(err, HT_INVAL, o->name, HT_NO_POS, "rows %llu to %llu of a matrix of %llu rows",
                       (unsigned long long)row0, (unsigned long long)(row0 + n_rows), (unsigned long long)q->rows);
    }
    c->n_tasks = (size_t)((n_rows + HT_TASK_ROWS - 1) / HT_TASK_ROWS);
    c->clean = ht_mem_alloc_array(threads * (size_t)q->cols, sizeof *c->clean);
    c->codes = ht_mem_alloc_array(threads * (size_t)q->cols, sizeof *c->codes);
    c->counts = ht_mem_calloc(c->n_tasks, sizeof *c->counts);
    c->errs = ht_mem_calloc(c->n_tasks, sizeof *c->errs);
    c->ends = ht_mem_calloc(c->n_tasks * 2, sizeof *c->ends);
    if (c->clean == NULL || c->codes == NULL || c->counts == NULL || c->errs == NULL || c->ends == NULL) {
        ht_qtensor_chunk_deinit(c);
        return ht_fail_nomem(err, threads * q->cols * 8);
    }
    return HT_OK;
}

static void add_counts(struct ht_qtensor_counts *to, const struct ht_qtensor_counts *from) {
    to->elems += from->elems;
    to->nan += from->nan;
    to->inf += from->inf;
    to->saturated += from->saturated;
    to->zero_groups += from->zero_groups;
    to->flushed += from->flushed;
    to->error += from->error;
    to->power += from->power;
}

/* Runs fn on every task; adds up counts and takes the first task's error. */
ht_status ht_qtensor_chunk_run(struct chunk *c, ht_task_fn *fn, struct ht_qtensor_counts *counts, ht_err *err) {
    ht_pool_run(c->o->pool, c->n_tasks, fn, c);
    for (size_t t = 0; t < c->n_tasks; t++) {
        if (c->errs[t].code != HT_OK) {
            if (err != NULL && err->code == HT_OK) {
                *err = c->errs[t];
            }
            return c->errs[t].code;
        }
        if (counts != NULL) {
            add_counts(counts, &c->counts[t]);
        }
    }
    return HT_OK;
}

/* The row as it is encoded. NaN becomes 0, Inf the largest finite |x| of its group. */
const float *ht_qtensor_clean_row(const struct ht_qtensor *q, const float *x, float *copy,
                                  struct ht_qtensor_counts *counts) {
    uint64_t bad = 0;
    for (uint64_t k = 0; k < q->cols; k++) {
        bad += !isfinite(x[k]);
    }
    if (bad == 0) {
        return x;
    }
    for (uint64_t k = 0; k < q->cols; k += q->run) {
        uint64_t end = q->cols - k < q->run ? q->cols : k + q->run;
        float largest = 0;
        for (uint64_t i = k; i < end; i++) {
            largest = isfinite(x[i]) && fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
        }
        for (uint64_t i = k; i < end; i++) {
            counts->nan += isnan(x[i]) != 0;
            counts->inf += isinf(x[i]) != 0;
            copy[i] = isnan(x[i]) ? 0.0f : isinf(x[i]) ? copysignf(largest, x[i]) : x[i];
        }
    }
    return copy;
}

/* ---- first pass: scales --------------------------------------------------------------------------------------- */

static ht_status check_finite(const struct chunk *c, uint64_t row, const struct ht_qtensor_counts *n, ht_err *err) {
    if (c->o->allow_nonfinite || n->nan + n->inf == 0) {
        return HT_OK;
    }
    return ht_fail(err, HT_NUMERIC, c->o->name, HT_NO_POS,
                   "row %llu has values that are no numbers (%llu NaN and %llu Inf so far); repair the model, or "
                   "allow them: NaN then counts as 0, Inf as the largest finite value of its group",
                   (unsigned long long)row, (unsigned long long)n->nan, (unsigned long long)n->inf);
}

/* A scale that its format cannot hold, or with which a value becomes infinite. */
static ht_status check_scale(const struct chunk *c, uint64_t r, uint64_t g, float lo, float hi,
                             const struct ht_affine *a, ht_err *err) {
    const struct ht_scheme *s = &c->q->scheme;
    bool ok = isfinite(a->scale) && isfinite(a->min);
    if (ok && (lo < -0x1p125f || hi > 0x1p125f) && s->format->code->fitted == HT_FITTED_NOT) {
        /* a scale that was rounded up may take the last level beyond f32 */
        ok = isfinite(ht_scheme_value(s, NULL, a, ht_scheme_nearest(s, NULL, a, lo))) &&
             isfinite(ht_scheme_value(s, NULL, a, ht_scheme_nearest(s, NULL, a, hi)));
    }
    if (ok) {
        return HT_OK;
    }
    return ht_fail(err, HT_NUMERIC, c->o->name, HT_NO_POS,
                   "row %llu, group %llu: values from %g to %g need a scale beyond the range of %s; store scales as "
                   "f32 (scale=f32)",
                   (unsigned long long)r, (unsigned long long)g, (double)lo, (double)hi, c->q->scheme.scale->name);
}

/* How precisely a nested scale is known before it is nested: as f32. */
static struct ht_scheme exact_scheme(const struct ht_qtensor *q) {
    struct ht_scheme s = q->scheme;
    if (s.nested) {
        s.scale = ht_format_find("f32");
    }
    return s;
}

static ht_status fit_group(const struct chunk *c, const struct ht_scheme *s, uint64_t r, uint64_t g, const float *x,
                           struct ht_qtensor_counts *counts, ht_err *err) {
    struct ht_qtensor *q = c->q;
    uint64_t k = g * q->run;
    size_t n = (size_t)(q->cols - k < q->run ? q->cols - k : q->run);
    ht_range_fn *range = c->o->range != NULL ? c->o->range : ht_scheme_range(s);
    const float *weight = c->o->weight != NULL ? c->o->weight + k : NULL;
    float lo = 0, hi = 0, min, max;
    HT_TRY(ht_range_minmax(NULL, s, x + k, NULL, n, &min, &max, err));
    if (range == ht_range_minmax) {
        lo = min;
        hi = max;
    } else {
        HT_TRY(range(c->o->range_ctx, s, x + k, weight, n, &lo, &hi, err));
    }
    struct ht_affine a = ht_scheme_cover(s, lo, hi);
    HT_TRY(check_scale(c, r, g, lo, hi, &a, err));
    counts->zero_groups += min == 0 && max == 0;
    counts->flushed += a.scale == 0 && (s->zero == HT_ZERO_OFFSET ? lo < hi : min < 0 || max > 0);
    ht_qtensor_set_grid(q, r, g, &a);
    return HT_OK;
}

static void fit_task(void *ctx, size_t task, int thread) {
    struct chunk *c = ctx;
    struct ht_qtensor *q = c->q;
    const struct ht_scheme s = exact_scheme(q);
    struct ht_qtensor_counts *counts = &c->counts[task];
    ht_err *err = &c->errs[task];
    bool tensor = s.granularity == HT_PER_TENSOR;
    uint64_t begin = task * HT_TASK_ROWS, end = begin + HT_TASK_ROWS < c->n_rows ? begin + HT_TASK_ROWS : c->n_rows;
    for (uint64_t r = begin; r < end; r++) {
        const float *x = ht_qtensor_clean_row(q, c->x + r * q->cols, c->clean + (size_t)thread * q->cols, counts);
        counts->elems += q->cols;
        if (check_finite(c, c->row0 + r, counts, err) != HT_OK) {
            return;
        }
        if (tensor) {
            float lo, hi, *ends = c->ends + 2 * task;
            ht_range_minmax(NULL, &s, x, NULL, (size_t)q->cols, &lo, &hi, err);
            ends[0] = r == begin || lo < ends[0] ? lo : ends[0];
            ends[1] = r == begin || hi > ends[1] ? hi : ends[1];
        }
        for (uint64_t g = 0; g < q->groups && !tensor; g++) {
            if (fit_group(c, &s, c->row0 + r, g, x, counts, err) != HT_OK) {
                return;
            }
        }
    }
}

/* A range search over the whole matrix: every value in one run, with its column's importance. */
static ht_status fit_whole(struct chunk *c, ht_range_fn *range, ht_err *err) {
    struct ht_qtensor *q = c->q;
    size_t n = (size_t)(q->rows * q->cols);
    ht_status status = HT_OK;
    float *x = ht_mem_alloc_array(n, sizeof *x), *w = NULL;
    struct ht_qtensor_counts unused = {0};
    if (x == NULL || (c->o->weight != NULL && (w = ht_mem_alloc_array(n, sizeof *w)) == NULL)) {
        status = ht_fail_nomem(err, n * sizeof *x);
        goto done;
    }
    for (uint64_t r = 0; r < q->rows; r++) {
        const float *row = ht_qtensor_clean_row(q, c->x + r * q->cols, c->clean, &unused);
        memcpy(x + r * q->cols, row, (size_t)q->cols * sizeof *x);
        if (w != NULL) {
            memcpy(w + r * q->cols, c->o->weight, (size_t)q->cols * sizeof *w);
        }
    }
    HT_TRY_DONE(range(c->o->range_ctx, &q->scheme, x, w, n, &q->exact[0], &q->exact[1], err));
done:
    ht_mem_free(x);
    ht_mem_free(w);
    return status;
}

static ht_status fit_tensor(struct chunk *c, ht_err *err) {
    struct ht_qtensor *q = c->q;
    ht_range_fn *range = c->o->range != NULL ? c->o->range : ht_scheme_range(&q->scheme);
    if (range != ht_range_minmax) {
        if (c->n_rows != q->rows) {
            return ht_fail(err, HT_INVAL, c->o->name, HT_NO_POS,
                           "one scale per tensor with a range other than min-max needs the whole matrix at once");
        }
        return fit_whole(c, range, err);
    }
    for (size_t t = 0; t < c->n_tasks; t++) { /* exact[2]: whether a chunk was seen before */
        q->exact[0] = q->exact[2] == 0 || c->ends[2 * t] < q->exact[0] ? c->ends[2 * t] : q->exact[0];
        q->exact[1] = q->exact[2] == 0 || c->ends[2 * t + 1] > q->exact[1] ? c->ends[2 * t + 1] : q->exact[1];
        q->exact[2] = 1;
    }
    return HT_OK;
}

ht_status ht_qtensor_fit_rows(struct ht_qtensor *q, uint64_t row0, uint64_t n_rows, const float *x,
                              const struct ht_qtensor_options *o, struct ht_qtensor_counts *counts, ht_err *err) {
    struct chunk c;
    ht_status status = HT_OK;
    o = o != NULL ? o : &ht_qtensor_defaults;
    HT_TRY(ht_qtensor_chunk_init(&c, q, o, row0, n_rows, x, err));
    HT_TRY_DONE(ht_qtensor_chunk_run(&c, fit_task, counts, err));
    if (q->scheme.granularity == HT_PER_TENSOR) {
        HT_TRY_DONE(fit_tensor(&c, err));
    }
done:
    ht_qtensor_chunk_deinit(&c);
    return status;
}

static float mean_scale(const struct ht_qtensor *q) {
    double sum = 0;
    for (uint64_t i = 0; i < q->n_scales; i++) {
        sum += (double)q->exact[i];
    }
    return (float)(sum / (double)q->n_scales);
}

void ht_qtensor_nest(struct ht_qtensor *q, float offset) {
    memcpy(q->scale_map, ht_dynamic_map, sizeof ht_dynamic_map);
    q->scale_offset[0] = offset;
    for (uint64_t b = 0; b < q->n_scales; b += HT_NESTED_BLOCK) {
        uint64_t end = q->n_scales - b < HT_NESTED_BLOCK ? q->n_scales : b + HT_NESTED_BLOCK;
        float largest = 0;
        for (uint64_t i = b; i < end; i++) {
            float a = fabsf(q->exact[i] - offset);
            largest = a > largest ? a : largest;
        }
        q->scale2[b / HT_NESTED_BLOCK] = largest;
        for (uint64_t i = b; i < end; i++) {
            float v = largest > 0 ? (q->exact[i] - offset) * (1.0f / largest) : 0;
            q->scale_codes[i] = (uint8_t)ht_levels_nearest(ht_dynamic_map, 256, v);
        }
    }
}

ht_status ht_qtensor_fit_end(struct ht_qtensor *q, const struct ht_qtensor_options *o,
                             struct ht_qtensor_counts *counts, ht_err *err) {
    o = o != NULL ? o : &ht_qtensor_defaults;
    if (q->scheme.nested) {
        ht_qtensor_nest(q, mean_scale(q));
    }
    if (q->scheme.granularity == HT_PER_TENSOR) {
        const struct chunk c = {.q = q, .o = o};
        struct ht_affine a = ht_scheme_cover(&q->scheme, q->exact[0], q->exact[1]);
        HT_TRY(check_scale(&c, 0, 0, q->exact[0], q->exact[1], &a, err));
        ht_qtensor_set_grid(q, 0, 0, &a);
        if (counts != NULL) {
            bool zero = q->exact[0] == 0 && q->exact[1] == 0;
            counts->zero_groups += zero;
            counts->flushed += a.scale == 0 && !zero && (q->scheme.zero != HT_ZERO_OFFSET || q->exact[0] < q->exact[1]);
        }
    }
    return HT_OK;
}
