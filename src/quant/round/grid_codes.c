/* Groups of a scheme as grids of the solver. Codes are kept as whole numbers of one byte: integers less `bias`,
 * tables by the rank of their level. The qtensor holds the grids found beforehand; those that changed are stored with
 * the row. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/range_scheme.h"
#include "quant/round/round_impl.h"

struct groups {
    struct ht_qtensor *q;
    bool fixed;            /* grids stay as they were found: nested scales, one for the tensor, fitted levels */
    ht_range_fn *range;
    const void *range_ctx;
    struct ht_range_scheme part;
    float levels[HT_LEVELS_MAX];
    int32_t code[HT_LEVELS_MAX]; /* by rank */
    int32_t bias;          /* stored integer less ours */
    int32_t *stored;       /* [rows of a chunk, cols] */
};

static struct ht_affine affine_at(const struct ht_rounder *r, uint64_t row, uint64_t unit) {
    const struct groups *b = r->grids;
    uint64_t at = unit * r->cells.stride + row;
    return (struct ht_affine){.scale = r->cells.scale[at], .min = -r->cells.min[at],
                              .zero = (int32_t)r->cells.zero[at] + b->bias};
}

static void set_cell(struct ht_rounder *r, uint64_t row, uint64_t unit, const struct ht_affine *a) {
    const struct groups *b = r->grids;
    uint64_t at = unit * r->cells.stride + row;
    r->cells.scale[at] = a->scale;
    r->cells.min[at] = -a->min;
    r->cells.zero[at] = (float)(a->zero - b->bias);
}

static void start(struct ht_rounder *r, uint64_t row) {
    const struct groups *b = r->grids;
    for (uint64_t unit = 0; unit < r->n_units; unit++) {
        struct ht_affine a = ht_qtensor_grid(b->q, r->row0 + row, unit);
        set_cell(r, row, unit, &a);
    }
}

static void nearest(struct ht_rounder *r, uint64_t row, uint64_t unit) {
    uint64_t col = unit * r->unit, at = unit * r->cells.stride + row, n = ht_unit_cols(r, unit);
    for (uint64_t j = row * r->cols + col; j < row * r->cols + col + n; j++) {
        if (ht_on_grid(r, j)) {
            int c = ht_cell_nearest(&r->cells, at, r->w[j]);
            r->codes[j] = (int8_t)c;
            r->v[j] = ht_cell_value(&r->cells, at, c);
        } else {
            r->v[j] = ht_round_kept(r, j, at, r->w[j], &r->codes[j]);
        }
    }
}

static ht_status fit(struct ht_rounder *r, uint64_t row, uint64_t unit, const float *x, const float *weight,
                     ht_err *err) {
    const struct groups *b = r->grids;
    float lo, hi;
    HT_TRY(b->range(b->range_ctx, &b->q->scheme, x, weight, (size_t)ht_unit_cols(r, unit), &lo, &hi, err));
    struct ht_affine a = ht_scheme_cover(&b->q->scheme, lo, hi);
    if (!isfinite(a.scale) || !isfinite(a.min)) {
        return ht_fail(err, HT_NUMERIC, NULL, HT_NO_POS, "row %llu, group %llu: values from %g to %g need a scale "
                       "beyond the range of %s; store scales as f32 (scale=f32)",
                       (unsigned long long)(r->row0 + row), (unsigned long long)unit, (double)lo, (double)hi,
                       b->q->scheme.scale->name);
    }
    set_cell(r, row, unit, &a);
    return HT_OK;
}

static bool directions(const struct ht_rounder *r, uint64_t row, uint64_t unit, float *p, float *q) {
    const struct groups *b = r->grids;
    uint64_t n = ht_unit_cols(r, unit), at = unit * r->cells.stride + row;
    const int8_t *codes = r->codes + row * r->cols + unit * r->unit;
    for (uint64_t i = 0; i < n; i++) { /* kept values do not move with the scale */
        bool moves = ht_on_grid(r, row * r->cols + unit * r->unit + i);
        p[i] = moves ? ht_cell_level(&r->cells, at, codes[i]) : 0.0f;
        q[i] = moves ? 1.0f : 0.0f;
    }
    return b->q->scheme.zero == HT_ZERO_OFFSET;
}

static bool move(const struct ht_rounder *r, uint64_t row, uint64_t unit, float *scale, float *offset,
                 union ht_round_moved *moved, float *value) {
    const struct groups *b = r->grids;
    const struct ht_scheme *s = &b->q->scheme;
    uint64_t n = ht_unit_cols(r, unit), at = unit * r->cells.stride + row;
    const int8_t *codes = r->codes + row * r->cols + unit * r->unit;
    struct ht_affine old = affine_at(r, row, unit), a = old;
    if (b->fixed) {
        return false;
    }
    a.scale = ht_scheme_snap_scale(s, old.scale + *scale);
    if (s->zero == HT_ZERO_OFFSET) {
        a.min = ht_scheme_snap_scale(s, old.min + *offset);
    }
    if (!isfinite(a.scale) || !isfinite(a.min) || !(a.scale > 0.0f) || (a.scale == old.scale && a.min == old.min)) {
        return false;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t j = row * r->cols + unit * r->unit + i;
        value[i] = ht_on_grid(r, j) ? a.scale * ht_cell_level(&r->cells, at, codes[i]) + a.min : r->v[j];
    }
    *scale = a.scale - old.scale;
    *offset = a.min - old.min;
    moved->affine = a;
    return true;
}

static void commit(struct ht_rounder *r, uint64_t row, uint64_t unit, const union ht_round_moved *moved) {
    set_cell(r, row, unit, &moved->affine);
}

/* What the codes of kept weights stand for may have changed with their scale. REST: the rest follows, so that the
 * value stays; ZERO: the value is that of the code. */
static void settle(struct ht_rounder *r, uint64_t row) {
    for (uint64_t j = 0; r->keep != NULL && j < r->cols; j++) {
        uint64_t at = row * r->cols + j, cell = j / r->unit * r->cells.stride + row;
        if (!ht_on_grid(r, at)) {
            r->v[at] = ht_round_kept(r, at, cell, r->v[at], &r->codes[at]);
        }
    }
    if (r->values != NULL) {
        memcpy(r->values + row * r->cols, r->v + row * r->cols, r->cols * sizeof *r->values);
    }
}

static void pack_codes(struct ht_rounder *r, uint64_t row) {
    const struct groups *b = r->grids;
    const int8_t *codes = r->codes + row * r->cols;
    int32_t *stored = b->stored + row * r->cols;
    struct ht_qtensor *q = b->q;
    for (uint64_t unit = 0; unit < r->n_units && !b->fixed; unit++) {
        struct ht_affine a = affine_at(r, row, unit);
        ht_qtensor_set_grid(q, r->row0 + row, unit, &a);
    }
    for (uint64_t j = 0; j < r->cols; j++) {
        stored[j] = r->cells.levels != NULL ? b->code[codes[j] - r->cells.lo] : codes[j] + b->bias;
    }
    ht_code_pack(q->scheme.format, stored, q->codes + (r->row0 + row) * q->row_bytes, (size_t)r->cols);
}

static void pack(struct ht_rounder *r, uint64_t row) {
    settle(r, row);
    pack_codes(r, row);
}

static const struct ht_round_ops group_ops = {start, nearest, fit, directions, move, commit, pack};

/* ---- the whole matrix --------------------------------------------------------------------------------------- */

static struct ht_rounder rounding_of(const struct ht_scheme *s, uint64_t cols) {
    uint64_t run = ht_scheme_run(s, cols), n = ht_scheme_groups(s, cols);
    return (struct ht_rounder){.ops = &group_ops, .cols = cols, .unit = run, .n_units = n,
                                .step = ht_rounding_step(run, cols), .cells = {.run = run, .n = n},
                                .offsets = s->zero == HT_ZERO_OFFSET};
}

/* The range function, and what it needs. */
static ht_status choose_range(struct groups *b, const struct ht_scheme *s, const struct ht_range_choice *choice,
                              ht_err *err) {
    struct ht_range_choice weighted;
    b->range = ht_scheme_range(s);
    if (choice == NULL && (s->format->code->fitted || b->range != ht_range_minmax)) {
        return HT_OK;
    }
    if (choice == NULL) {
        HT_TRY(ht_range_parse("wmse:grid=16", &weighted, err)); /* least squares and golden section do the rest */
        choice = &weighted;
    }
    HT_TRY(ht_range_scheme_init(&b->part, choice, s, err));
    b->range = ht_range_of_scheme;
    b->range_ctx = &b->part;
    return HT_OK;
}

static ht_status check(const struct groups *b, const struct ht_scheme *s, const struct ht_round_options *o,
                       ht_err *err) {
    const struct ht_code *c = s->format->code;
    if (c->hi - c->lo >= HT_LEVELS_MAX) {
        return ht_fail(err, HT_INVAL, s->format->name, HT_NO_POS, "error feedback serves codes of at most 8 bits; more "
                       "gain nothing by it");
    }
    if (o->dynamic && b->fixed) {
        return ht_fail(err, HT_INVAL, s->format->name, HT_NO_POS, "dynamic grids need scales of their own: not nested, "
                       "not one for the tensor, no fitted levels");
    }
    return HT_OK;
}

/* Groups with kept weights: fitted once more without them. */
static ht_status fit_without_kept(struct groups *b, const float *w, const float *importance, const uint8_t *keep,
                                  ht_err *err) {
    struct ht_qtensor *q = b->q;
    float *x = ht_mem_alloc_array(2 * q->run, sizeof *x), *weight = x != NULL ? x + q->run : NULL;
    ht_status status = x != NULL ? HT_OK : ht_fail_nomem(err, 2 * q->run * sizeof *x);
    for (uint64_t i = 0; status == HT_OK && i < q->rows * q->groups; i++) {
        uint64_t row = i / q->groups, first = i % q->groups * q->run, kept = 0;
        uint64_t n = q->cols - first < q->run ? q->cols - first : q->run;
        for (uint64_t j = 0; j < n; j++) {
            bool grid = keep[row * q->cols + first + j] == HT_KEEP_GRID;
            kept += !grid;
            x[j] = grid ? w[row * q->cols + first + j] : 0.0f;
            weight[j] = grid ? importance[first + j] : 0.0f;
        }
        if (kept > 0) {
            float lo, hi;
            status = b->range(b->range_ctx, &q->scheme, x, weight, (size_t)n, &lo, &hi, err);
            struct ht_affine a = ht_scheme_cover(&q->scheme, lo, hi);
            if (status == HT_OK && isfinite(a.scale) && isfinite(a.min)) {
                ht_qtensor_set_grid(q, row, i % q->groups, &a);
            }
        }
    }
    ht_mem_free(x);
    return status;
}

/* Grids from the original weights. Fitted levels come with a whole encoding, whose codes are replaced. */
static ht_status fit_all(struct groups *b, struct ht_pool *pool, const float *w, const float *importance, ht_err *err) {
    struct ht_qtensor_options o = {.weight = importance, .range = b->range, .range_ctx = b->range_ctx, .pool = pool};
    struct ht_qtensor *q = b->q;
    if (q->n_levels > 0) {
        return ht_qtensor_encode(q, w, &o, NULL, err);
    }
    HT_TRY(ht_qtensor_fit_rows(q, 0, q->rows, w, &o, NULL, err));
    return ht_qtensor_fit_end(q, &o, NULL, err);
}

static void set_levels(struct groups *b, struct ht_rounder *r) {
    const struct ht_scheme *s = &b->q->scheme;
    const struct ht_code *c = s->format->code;
    const float *table = c->fitted ? b->q->levels : c->levels;
    if (table != NULL) {
        int n = ht_range_levels(s->format, table, b->levels, b->code);
        r->cells.levels = b->levels;
        r->cells.lo = -(n / 2);
        r->cells.hi = r->cells.lo + n - 1;
    } else {
        b->bias = ht_scheme_hi(s) > INT8_MAX ? 128 : 0;
        r->cells.lo = ht_scheme_lo(s) - b->bias;
        r->cells.hi = ht_scheme_hi(s) - b->bias;
    }
}

uint64_t ht_round_qtensor_memory(const struct ht_scheme *scheme, uint64_t rows, uint64_t cols, int threads) {
    struct ht_rounder r = rounding_of(scheme, cols);
    uint64_t n = rows < HT_ROUND_ROWS ? rows : HT_ROUND_ROWS;
    return ht_rounding_memory(&r, rows, threads) + (n + 1) * cols * sizeof(int32_t);
}

ht_status ht_round_qtensor(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                           uint64_t cols, const float *hessian, const struct ht_round_options *options,
                           struct ht_qtensor *q, struct ht_round_report *report, ht_err *err) {
    struct groups b = {.q = q, .fixed = scheme->nested || scheme->granularity == HT_PER_TENSOR ||
                                        scheme->format->code->fitted != HT_FITTED_NOT};
    uint64_t chunk = rows < HT_ROUND_ROWS ? rows : HT_ROUND_ROWS;
    float *importance = NULL;
    HT_TRY(check(&b, scheme, options, err));
    HT_TRY(choose_range(&b, scheme, options->range, err));
    HT_TRY(ht_qtensor_init(q, scheme, rows, cols, NULL, err));
    struct ht_rounder r = rounding_of(scheme, cols);
    r.pool = pool;
    r.grids = &b;
    ht_status status = HT_OK;
    importance = ht_mem_alloc_array(cols, sizeof *importance);
    b.stored = ht_mem_alloc_array(chunk * cols, sizeof *b.stored);
    if (importance == NULL || b.stored == NULL) {
        status = ht_fail_nomem(err, (chunk + 1) * cols * sizeof *b.stored);
        goto done;
    }
    for (uint64_t j = 0; j < cols; j++) {
        importance[j] = hessian[j * cols + j];
        if (!isfinite(importance[j]) || importance[j] < 0) {
            status = ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "its diagonal holds %g at %llu: the inputs of this "
                             "layer are not finite", (double)importance[j], (unsigned long long)j);
            goto done;
        }
    }
    HT_TRY_DONE(fit_all(&b, pool, w, importance, err));
    if (options->keep != NULL && !b.fixed) {
        HT_TRY_DONE(fit_without_kept(&b, w, importance, options->keep, err));
    }
    set_levels(&b, &r);
    HT_TRY_DONE(ht_rounding_solve(&r, false, w, rows, hessian, options, report, err));
done:
    ht_mem_free(importance);
    ht_mem_free(b.stored);
    if (status != HT_OK) {
        ht_qtensor_deinit(q);
    }
    return status;
}
