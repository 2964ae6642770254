/* The second pass: values to codes, with the scales as they are stored. */
#include <math.h>

#include "tensor/qtensor_impl.h"

enum { FEW = 16 }; /* levels that are counted through rather than searched */

/* Finite levels in ascending order with their codes. */
struct table {
    int n;
    float level[HT_LEVELS_MAX];
    int32_t code[HT_LEVELS_MAX];
    /* At most FEW levels: all of them, twice zero too, in the same order; the number of midpoints below a value is
     * the place of its nearest level. */
    int n_few;
    float middle[FEW];
    int32_t few[FEW];
};

static void few_init(struct table *t, const struct ht_code *c, const float *levels) {
    float level[FEW];
    t->n_few = 0;
    for (int32_t code = c->lo; code <= c->hi; code++) {
        int at = t->n_few++;
        for (; at > 0 && level[at - 1] > levels[code - c->lo]; at--) {
            level[at] = level[at - 1];
            t->few[at] = t->few[at - 1];
        }
        level[at] = levels[code - c->lo];
        t->few[at] = code;
    }
    for (int i = 0; i + 1 < t->n_few; i++) {
        t->middle[i] = 0.5f * level[i] + 0.5f * level[i + 1];
    }
}

static void table_init(struct table *t, const struct ht_qtensor *q) {
    const struct ht_code *c = q->scheme.format->code;
    const float *levels = c->fitted ? q->levels : c->levels;
    t->n = t->n_few = 0;
    if (levels != NULL && c->hi - c->lo < FEW && c->hi - c->lo > 1 && q->scheme.format->real == NULL) {
        few_init(t, c, levels);
    }
    for (int32_t code = c->lo; levels != NULL && code <= c->hi; code++) {
        float v = levels[code - c->lo];
        int at = t->n;
        while (at > 0 && t->level[at - 1] > v) {
            at--;
        }
        if (!isfinite(v) || (at > 0 && t->level[at - 1] == v)) {
            continue; /* of two codes for one level (+0 and -0) the first serves */
        }
        memmove(t->level + at + 1, t->level + at, (size_t)(t->n - at) * sizeof *t->level);
        memmove(t->code + at + 1, t->code + at, (size_t)(t->n - at) * sizeof *t->code);
        t->level[at] = v;
        t->code[at] = code;
        t->n++;
    }
}

/* floor(v) or floor(v) + 1, by the fraction of v between them, 0 <= fraction < 1. */
static int goes_up(enum ht_rounding rounding, double fraction, bool negative, struct ht_rng *rng) {
    switch (rounding) {
    case HT_ROUND_FLOOR: return 0;
    case HT_ROUND_STOCHASTIC: return ht_rng_uniform(rng) < fraction;
    default: return fraction > 0.5 || (fraction == 0.5 && !negative); /* away from zero */
    }
}

static int32_t round_in_table(const struct table *t, float v, enum ht_rounding rounding, struct ht_rng *rng) {
    if (!(v > t->level[0])) {
        return t->code[0];
    }
    if (v >= t->level[t->n - 1]) {
        return t->code[t->n - 1];
    }
    int below = 0, above = t->n - 1; /* level[below] <= v < level[above] */
    while (above - below > 1) {
        int mid = (below + above) / 2;
        if (v >= t->level[mid]) {
            below = mid;
        } else {
            above = mid;
        }
    }
    double l = (double)t->level[below], h = (double)t->level[above];
    return t->code[below + goes_up(rounding, ((double)v - l) / (h - l), v < 0, rng)];
}

static int32_t round_integer(const struct ht_scheme *s, float v, int32_t zero, enum ht_rounding rounding,
                             struct ht_rng *rng) {
    int32_t lo = ht_scheme_lo(s), hi = ht_scheme_hi(s);
    double low = floor((double)v), first = (double)lo - zero, last = (double)hi - zero;
    if (v != v) {
        return zero;
    }
    double r = low >= last || low < first ? low : low + goes_up(rounding, (double)v - low, v < 0, rng);
    r = r > first ? r : first;
    return (int32_t)(r < last ? r : last) + zero;
}

/* The nearest codes of one group. A loop of its own for integers, the many. */
HT_CLONES
static void nearest_integers(const float *x, size_t n, const struct ht_affine *a, float lo, float hi, int32_t *codes) {
    float first = lo - (float)a->zero, last = hi - (float)a->zero, scale = a->scale, min = a->min;
    int32_t zero = a->zero;
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - min) / scale;
        v = v > first ? v : first;
        v = v < last ? v : last;
        codes[i] = (int32_t)rintf(v) + zero;
    }
}

HT_CLONES
static void nearest_of_few(const float *x, size_t n, float inverse, const struct table *t, int32_t *codes) {
    for (size_t i = 0; i < n; i++) {
        codes[i] = 0;
    }
    for (int k = 0; k + 1 < t->n_few; k++) {
        float middle = t->middle[k];
        for (size_t i = 0; i < n; i++) {
            codes[i] += x[i] * inverse > middle;
        }
    }
    for (size_t i = 0; i < n; i++) {
        codes[i] = t->few[codes[i]];
    }
}

static void other_codes(const struct ht_qtensor *q, const struct ht_affine *a, const float *x, size_t n,
                        enum ht_rounding rounding, const struct table *t, struct ht_rng *rng, int32_t *codes) {
    const struct ht_scheme *s = &q->scheme;
    float inverse = 1.0f / a->scale;
    for (size_t i = 0; i < n; i++) {
        if (a->scale == 0) {
            codes[i] = ht_scheme_nearest(s, q->levels, a, x[i]);
        } else if (t->n == 0) {
            codes[i] = round_integer(s, (x[i] - a->min) / a->scale, a->zero, rounding, rng);
        } else {
            codes[i] = round_in_table(t, isinf(inverse) ? x[i] / a->scale : x[i] * inverse, rounding, rng);
        }
    }
}

static void group_codes(const struct chunk *c, const struct ht_affine *a, const float *x, size_t n, struct ht_rng *rng,
                        int32_t *codes) {
    const struct ht_qtensor *q = c->q;
    const struct ht_scheme *s = &q->scheme;
    bool integers = s->format->code->levels == NULL && !s->format->code->fitted;
    if (c->o->rounding != HT_ROUND_EVEN) {
        other_codes(q, a, x, n, c->o->rounding, c->table, rng, codes);
    } else if (integers && a->scale != 0) {
        nearest_integers(x, n, a, (float)ht_scheme_lo(s), (float)ht_scheme_hi(s), codes);
    } else if (c->table->n_few > 0 && a->scale != 0 && !isinf(1.0f / a->scale)) {
        nearest_of_few(x, n, 1.0f / a->scale, c->table, codes);
    } else {
        for (size_t i = 0; i < n; i++) {
            codes[i] = ht_scheme_nearest(s, q->levels, a, x[i]);
        }
    }
}

/* Half a step beyond the outermost levels, in units of the scale. */
static void limits(const struct ht_qtensor *q, const struct table *t, double *low, double *high) {
    if (t->n > 1) {
        *low = (double)t->level[0] - 0.5 * ((double)t->level[1] - (double)t->level[0]);
        *high = (double)t->level[t->n - 1] + 0.5 * ((double)t->level[t->n - 1] - (double)t->level[t->n - 2]);
    } else {
        *low = (double)ht_scheme_lo(&q->scheme) - 0.5;
        *high = (double)ht_scheme_hi(&q->scheme) + 0.5;
    }
}

enum { LANES = 8, PIECE = 256 };

/* Sums in LANES places, added up in order: the same at every instruction level. Values that are no numbers do not
 * count. */
HT_CLONES
static void add_errors(const float *x, const float *y, const float *raw, size_t n, double from, double to,
                       struct ht_qtensor_counts *counts) {
    double error[LANES] = {0}, power[LANES] = {0};
    uint64_t out = 0;
    for (size_t i = 0; i < n; i += LANES) {
        size_t m = n - i < LANES ? n - i : LANES;
        for (size_t k = 0; k < m; k++) {
            double v = (double)x[i + k], e = v - (double)y[i + k];
            double finite = fabsf(raw[i + k]) <= 3.402823466e38f ? 1.0 : 0.0;
            error[k] += finite * (e * e);
            power[k] += finite * (v * v);
            out += (v < from) | (v > to);
        }
    }
    for (int k = 0; k < LANES; k++) {
        counts->error += error[k];
        counts->power += power[k];
    }
    counts->saturated += out;
}

static void count_group(const struct chunk *c, const struct ht_affine *a, const float *x, const float *raw, size_t n,
                        const int32_t *codes, struct ht_qtensor_counts *counts) {
    const struct ht_qtensor *q = c->q;
    double low, high;
    limits(q, c->table, &low, &high);
    /* (x - min) / scale + zero beyond the limits, without dividing */
    double scale = (double)a->scale, shift = (double)a->min - scale * a->zero, from = low * scale + shift,
           to = high * scale + shift;
    if (scale <= 0) { /* nothing saturates at scale 0; a nested scale may be negative */
        double swap = from;
        from = scale == 0 ? -INFINITY : to;
        to = scale == 0 ? INFINITY : swap;
    }
    for (size_t i = 0; i < n; i += PIECE) {
        float y[PIECE];
        size_t m = n - i < PIECE ? n - i : PIECE;
        ht_qtensor_group_values(q, a, codes + i, m, y);
        add_errors(x + i, y, raw + i, m, from, to, counts);
    }
}

static void round_task(void *ctx, size_t task, int thread) {
    struct chunk *c = ctx;
    struct ht_qtensor *q = c->q;
    struct ht_qtensor_counts *counts = &c->counts[task], unused = {0};
    int32_t *codes = c->codes + (size_t)thread * q->cols;
    uint64_t begin = task * HT_TASK_ROWS, end = begin + HT_TASK_ROWS < c->n_rows ? begin + HT_TASK_ROWS : c->n_rows;
    for (uint64_t r = begin; r < end; r++) {
        const float *raw = c->x + r * q->cols;
        const float *x = ht_qtensor_clean_row(q, raw, c->clean + (size_t)thread * q->cols, &unused);
        uint64_t row = c->row0 + r;
        struct ht_rng rng;
        ht_rng_init(&rng, c->o->seed + row * UINT64_C(0x9e3779b97f4a7c15));
        for (uint64_t g = 0; g < q->groups; g++) {
            uint64_t k = g * q->run;
            size_t n = (size_t)(q->cols - k < q->run ? q->cols - k : q->run);
            struct ht_affine a = ht_qtensor_grid(q, row, g), use = a;
            if (q->scheme.nested && c->o->nested_last) {
                use.scale = q->exact[row * q->groups + g];
            }
            group_codes(c, &use, x + k, n, &rng, codes + k);
            count_group(c, &a, x + k, raw + k, n, codes + k, counts);
        }
        ht_code_pack(q->scheme.format, codes, q->codes + row * q->row_bytes, (size_t)q->cols);
    }
}

ht_status ht_qtensor_round_rows(struct ht_qtensor *q, uint64_t row0, uint64_t n_rows, const float *x,
                                const struct ht_qtensor_options *o, struct ht_qtensor_counts *counts, ht_err *err) {
    struct chunk c;
    struct table table;
    ht_status status = HT_OK;
    o = o != NULL ? o : &ht_qtensor_defaults;
    table_init(&table, q);
    HT_TRY(ht_qtensor_chunk_init(&c, q, o, row0, n_rows, x, err));
    c.table = &table;
    HT_TRY_DONE(ht_qtensor_chunk_run(&c, round_task, counts, err));
done:
    ht_qtensor_chunk_deinit(&c);
    return status;
}

/* Histogram of x / scale, row by row. */
static ht_status fit_levels(struct ht_qtensor *q, const float *x, const struct ht_qtensor_options *o, ht_err *err) {
    struct chunk c;
    ht_status status = HT_OK;
    struct ht_qtensor_counts unused = {0};
    struct ht_hist *h = ht_mem_calloc(1, sizeof *h);
    if (h == NULL) {
        return ht_fail_nomem(err, sizeof *h);
    }
    HT_TRY_DONE(ht_qtensor_chunk_init(&c, q, o, 0, 0, x, err));
    for (uint64_t r = 0; r < q->rows; r++) {
        const float *row = ht_qtensor_clean_row(q, x + r * q->cols, c.clean, &unused);
        for (uint64_t g = 0; g < q->groups; g++) {
            uint64_t k = g * q->run;
            size_t n = (size_t)(q->cols - k < q->run ? q->cols - k : q->run);
            struct ht_affine a = ht_qtensor_grid(q, r, g);
            for (size_t i = 0; i < n; i++) {
                c.clean[k + i] = a.scale != 0 ? row[k + i] / a.scale : 0;
            }
            /* A group counts by its scale: an error of e levels is an error of e * scale. */
            ht_hist_add(h, c.clean + k, o->weight != NULL ? o->weight + k : NULL,
                               (double)a.scale * (double)a.scale, n);
        }
    }
    status = ht_levels_fit(q->scheme.format, h, q->levels, NULL, err);
    ht_qtensor_chunk_deinit(&c);
done:
    ht_mem_free(h);
    return status;
}

ht_status ht_qtensor_encode(struct ht_qtensor *q, const float *x, const struct ht_qtensor_options *o,
                            struct ht_qtensor_counts *counts, ht_err *err) {
    o = o != NULL ? o : &ht_qtensor_defaults;
    HT_TRY(ht_qtensor_fit_rows(q, 0, q->rows, x, o, counts, err));
    HT_TRY(ht_qtensor_fit_end(q, o, counts, err));
    if (q->n_levels > 0) {
        HT_TRY(fit_levels(q, x, o, err));
    }
    return ht_qtensor_round_rows(q, 0, q->rows, x, o, counts, err);
}
