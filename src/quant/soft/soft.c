#include "quant/soft/soft.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "quant/soft/soft_run.h"

#define BETA1 HT_SOFT_BETA1
#define BETA2 HT_SOFT_BETA2
#define LEAST_SHARE 0.5f
#define MOST_FACTOR 1.5f /* of a given scale */
#define HOLD 0.25f       /* of a step: how far inside of its code's reach a given weight starts */

/* ---- where a weight stands --------------------------------------------------------------------------------- */

static float level_of(const struct ht_soft *s, int32_t index) {
    return s->levels != NULL ? s->levels[index] : (float)(s->first + index);
}

struct place {
    float at;      /* position, within 0 .. count - 1 */
    int32_t below; /* the level below, at most count - 2 */
    bool clipped;
};

static struct place place_of(const struct ht_soft *s, const struct ht_soft_grid *g, float w) {
    struct place p = {0, 0, true};
    float x = g->scale != 0 ? (w - g->base) / g->scale : 0, top = (float)(s->count - 1);
    if (s->levels == NULL) {
        p.at = x - (float)s->first;
    } else {
        int32_t k = 0;
        for (int32_t step = s->count; step > 0; step /= 2) { /* the last level <= x */
            while (k + step < s->count && s->levels[k + step] <= x) {
                k += step;
            }
        }
        k = k < s->count - 1 ? k : s->count - 2;
        p.at = (float)k + (x - s->levels[k]) / (s->levels[k + 1] - s->levels[k]);
    }
    p.clipped = !(p.at >= 0 && p.at <= top) || g->scale == 0;
    p.at = p.at > 0 ? p.at : 0;
    p.at = p.at < top ? p.at : top;
    p.below = (int32_t)p.at < s->count - 1 ? (int32_t)p.at : s->count - 2;
    return p;
}

static int32_t index_of(const struct ht_soft *s, const struct place *p, float v) {
    float i = floorf(p->at + v + 0.5f), top = (float)(s->count - 1);
    i = i > 0 ? i : 0;
    return (int32_t)(i < top ? i : top);
}

static float gap_of(const struct ht_soft *s, const struct ht_soft_grid *g, const struct place *p) {
    return g->scale * (s->levels != NULL ? s->levels[p->below + 1] - s->levels[p->below] : 1.0f);
}

/* ---- rows over the pool ------------------------------------------------------------------------------------ */

typedef void run_fn(const struct ht_soft *s, struct ht_soft_grid *g, uint64_t at, uint64_t n, void *ctx);

struct rows {
    const struct ht_soft *s;
    run_fn *fn;
    void *ctx;
};

static void row_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct rows *r = ctx;
    const struct ht_soft *s = r->s;
    for (uint64_t g = 0; g < s->runs; g++) {
        uint64_t from = g * s->run, n = s->cols - from < s->run ? s->cols - from : s->run;
        r->fn(s, &s->grids[row * s->runs + g], row * s->cols + from, n, r->ctx);
    }
}

static void each_run(const struct ht_soft *s, run_fn *fn, void *ctx) {
    struct rows r = {s, fn, ctx};
    ht_pool_run(s->pool, s->rows, row_task, &r);
}

/* Integers on a grid that is not of zeros alone: soft_run.h serves them. */
static bool is_plain(const struct ht_soft *s, const struct ht_soft_grid *g) {
    return s->levels == NULL && g->scale != 0;
}

static struct ht_soft_run plain_run(const struct ht_soft *s, const struct ht_soft_grid *g, uint64_t at, uint64_t n) {
    return (struct ht_soft_run){.scale = g->scale, .base = g->base, .first = (float)s->first,
                                .top = (float)(s->count - 1), .w = s->w + at, .v = s->v + at, .n = (size_t)n};
}

static void values_run(const struct ht_soft *s, struct ht_soft_grid *g, uint64_t at, uint64_t n, void *ctx) {
    float *out = ctx;
    if (is_plain(s, g)) {
        struct ht_soft_run run = plain_run(s, g, at, n);
        ht_soft_run_values(&run, out + at);
        return;
    }
    for (uint64_t i = at; i < at + n; i++) {
        struct place p = place_of(s, g, s->w[i]);
        out[i] = g->scale * level_of(s, index_of(s, &p, s->v[i])) + g->base;
    }
}

void ht_soft_values(const struct ht_soft *s, float *out) {
    each_run(s, values_run, out);
}

struct cells {
    float *low, *gap, *fraction;
};

static void cells_run(const struct ht_soft *s, struct ht_soft_grid *g, uint64_t at, uint64_t n, void *ctx) {
    const struct cells *c = ctx;
    for (uint64_t i = at; i < at + n; i++) {
        struct place p = place_of(s, g, s->w[i]);
        c->low[i] = g->scale * level_of(s, p.below) + g->base;
        c->gap[i] = gap_of(s, g, &p);
        c->fraction[i] = p.at - (float)p.below;
    }
}

void ht_soft_cells(const struct ht_soft *s, float *low, float *gap, float *fraction) {
    struct cells c = {low, gap, fraction};
    each_run(s, cells_run, &c);
}

/* ---- grids ------------------------------------------------------------------------------------------------- */

static struct ht_soft_grid grid_of(const struct ht_scheme *scheme, const struct ht_affine *a) {
    float base = scheme->zero == HT_ZERO_OFFSET ? a->min : -a->scale * (float)a->zero;
    return (struct ht_soft_grid){.scale = a->scale, .base = base, .share = {1, 1}};
}

/* A real minimum as it is stored: in the precision of the scales. */
static float snap_min(const struct ht_scheme *scheme, float x) {
    unsigned char bytes[8];
    scheme->scale->encode(&x, NULL, bytes, 1);
    scheme->scale->decode(bytes, &x, 1);
    return x;
}

/* What the shares make of a group's grid, as it is stored. */
static struct ht_affine covered(const struct ht_soft *s, const struct ht_soft_grid *g) {
    const struct ht_scheme *scheme = &s->to->q->scheme;
    if (!s->to->given) {
        return ht_scheme_cover(scheme, g->lo * g->share[0], g->hi * g->share[1]);
    }
    struct ht_affine a = {.scale = ht_scheme_snap_scale(scheme, g->lo * g->share[0])};
    if (scheme->zero == HT_ZERO_OFFSET) {
        a.min = snap_min(scheme, g->hi + (g->share[1] - 1) * g->lo);
    } else if (g->lo != 0) {
        a.zero = (int32_t)lrintf(-g->hi / g->lo);
    }
    return a;
}

static void cover(const struct ht_soft *s, struct ht_soft_grid *g) {
    struct ht_affine a = covered(s, g);
    struct ht_soft_grid now = grid_of(&s->to->q->scheme, &a);
    g->scale = now.scale;
    g->base = now.base;
}

static void range_run(const struct ht_soft *s, struct ht_soft_grid *g, uint64_t at, uint64_t n, void *ctx) {
    (void)ctx;
    *g = (struct ht_soft_grid){.lo = s->w[at], .hi = s->w[at], .share = {1, 1}};
    for (uint64_t i = at; i < at + n; i++) {
        g->lo = s->w[i] < g->lo ? s->w[i] : g->lo;
        g->hi = s->w[i] > g->hi ? s->w[i] : g->hi;
    }
    cover(s, g);
}

struct pair {
    float level;
    int32_t code;
};

static int by_level(const void *a, const void *b) {
    float x = ((const struct pair *)a)->level, y = ((const struct pair *)b)->level;
    return (x > y) - (x < y);
}

/* Finite levels of a table in ascending order, each once. */
static ht_status sort_levels(struct ht_soft *s, const struct ht_code *c, const float *table, int32_t lo, int32_t hi,
                             ht_err *err) {
    size_t n = (size_t)(hi - lo) + 1;
    struct pair *p = ht_mem_alloc_array(n, sizeof *p);
    s->own_levels = ht_mem_alloc_array(n, sizeof *s->own_levels);
    s->codes = ht_mem_alloc_array(n, sizeof *s->codes);
    if (p == NULL || s->own_levels == NULL || s->codes == NULL) {
        ht_mem_free(p);
        return ht_fail_nomem(err, n * sizeof *p);
    }
    size_t m = 0;
    for (int32_t code = lo; code <= hi; code++) {
        if (isfinite(table[code - c->lo])) {
            p[m++] = (struct pair){table[code - c->lo], code};
        }
    }
    qsort(p, m, sizeof *p, by_level);
    for (size_t i = 0; i < m; i++) {
        if (s->count == 0 || p[i].level > s->own_levels[s->count - 1]) {
            s->own_levels[s->count] = p[i].level;
            s->codes[s->count++] = p[i].code;
        }
    }
    s->levels = s->own_levels;
    ht_mem_free(p);
    return HT_OK;
}

/* Index of the level that a code stands for. */
static int32_t index_of_code(const struct ht_soft *s, int32_t code) {
    int32_t index = code - s->first;
    if (s->codes != NULL) {
        for (index = 0; index < s->count - 1 && s->codes[index] != code; index++) {
        }
    }
    return index < 0 ? 0 : index < s->count ? index : s->count - 1;
}

static void given_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct ht_soft *s = ctx;
    int32_t *index = s->start + row * s->cols;
    if (s->to->q != NULL) {
        ht_qtensor_codes(s->to->q, row, index);
        for (uint64_t i = 0; i < s->cols; i++) {
            index[i] = index_of_code(s, index[i]);
        }
    }
}

/* Grids as the scheme's own encoding has them; where they can be learned, they cover the range of each group. */
static ht_status scheme_grids(struct ht_soft *s, bool ranges, ht_err *err) {
    struct ht_qtensor *q = s->to->q;
    const struct ht_scheme *scheme = &q->scheme;
    const struct ht_code *c = scheme->format->code;
    struct ht_qtensor_options o = {.weight = s->to->importance, .pool = s->pool};
    if (!s->to->given) {
        HT_TRY(ht_qtensor_encode(q, s->w, &o, NULL, err));
    }
    int32_t lo = ht_scheme_lo(scheme), hi = ht_scheme_hi(scheme);
    const float *table = c->fitted ? q->levels : c->levels;
    if (table != NULL) {
        HT_TRY(sort_levels(s, c, table, lo, hi, err));
    } else {
        s->first = lo;
        s->count = hi - lo + 1;
    }
    s->run = q->run;
    s->runs = (s->cols + s->run - 1) / s->run;
    s->grids = ht_mem_alloc_array(s->rows * s->runs, sizeof *s->grids);
    if (s->grids == NULL) {
        return ht_fail_nomem(err, s->rows * s->runs * sizeof *s->grids);
    }
    bool whole = scheme->granularity == HT_PER_TENSOR;
    s->ranges = ranges && !scheme->nested && !whole && (s->to->given || ht_scheme_range(scheme) == ht_range_minmax);
    if (s->ranges && !s->to->given) {
        each_run(s, range_run, NULL);
        return HT_OK;
    }
    for (uint64_t i = 0; i < s->rows * s->runs; i++) {
        struct ht_affine a = ht_qtensor_grid(q, whole ? 0 : i / s->runs, whole ? 0 : i % s->runs);
        s->grids[i] = grid_of(scheme, &a);
        s->grids[i].lo = s->grids[i].scale;
        s->grids[i].hi = s->grids[i].base;
    }
    return HT_OK;
}

static void block_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct ht_soft *s = ctx;
    const struct ht_format *f = s->to->format;
    uint64_t n = s->cols / f->block_elems;
    for (uint64_t b = 0; b < n; b++) {
        struct ht_grid *grid = &s->blocks[row * n + b];
        const float *weight = s->to->importance != NULL ? s->to->importance + b * f->block_elems : NULL;
        if (s->to->given) {
            int8_t codes[HT_BLOCK_MAX];
            f->unpack((const unsigned char *)s->to->bytes + (row * n + b) * f->block_bytes, grid, codes);
            for (uint64_t i = 0; i < f->block_elems; i++) {
                s->start[row * s->cols + b * f->block_elems + i] = codes[i] - s->first;
            }
        } else {
            f->fit(s->w + row * s->cols + b * f->block_elems, weight, grid);
            f->snap(grid);
        }
        for (int k = 0; k < grid->n_sub; k++) {
            s->grids[row * s->runs + b * (uint64_t)grid->n_sub + (uint64_t)k] =
                (struct ht_soft_grid){.scale = grid->scale[k], .base = -grid->min[k], .share = {1, 1}};
        }
    }
}

static ht_status block_grids(struct ht_soft *s, ht_err *err) {
    const struct ht_format *f = s->to->format;
    if (f->fit == NULL || f->round_vector != NULL) {
        return ht_fail(err, HT_UNSUPPORTED, f->name, HT_NO_POS, "learned rounding decides each weight by itself; %s %s",
                       f->name, f->fit == NULL ? "has no grid" : "stores vectors of weights: use feedback");
    }
    if (s->cols % f->block_elems != 0) {
        return ht_fail(err, HT_INVAL, f->name, HT_NO_POS, "blocks of %u do not divide %llu columns", f->block_elems,
                       (unsigned long long)s->cols);
    }
    struct ht_grid probe;
    f->fit(s->w, NULL, &probe);
    s->run = (uint64_t)probe.sub_len;
    s->runs = s->cols / s->run;
    s->levels = probe.levels;
    s->first = probe.lo;
    s->count = probe.hi - probe.lo + 1;
    uint64_t n = s->rows * (s->cols / f->block_elems);
    s->blocks = ht_mem_alloc_array(n, sizeof *s->blocks);
    s->grids = ht_mem_alloc_array(s->rows * s->runs, sizeof *s->grids);
    if (s->blocks == NULL || s->grids == NULL) {
        return ht_fail_nomem(err, n * sizeof *s->blocks);
    }
    ht_pool_run(s->pool, s->rows, block_task, s);
    return HT_OK;
}

ht_status ht_soft_init(struct ht_soft *s, struct ht_pool *pool, const struct ht_learn_linear *to, const float *w,
                       uint64_t rows, uint64_t cols, bool ranges, bool adam, ht_err *err) {
    *s = (struct ht_soft){.pool = pool, .to = to, .w = w, .rows = rows, .cols = cols};
    uint64_t n = rows * cols;
    if (to->given && (s->start = ht_mem_alloc_array(n, sizeof *s->start)) == NULL) {
        return ht_fail_nomem(err, n * sizeof *s->start);
    }
    HT_TRY(to->q != NULL ? scheme_grids(s, ranges, err) : block_grids(s, err));
    if (to->given && to->q != NULL) {
        ht_pool_run(pool, rows, given_task, s);
    }
    s->v = ht_mem_calloc(n, sizeof *s->v);
    s->best_v = ht_mem_calloc(n, sizeof *s->best_v);
    s->best_grids = ht_mem_alloc_array(rows * s->runs, sizeof *s->best_grids);
    if (adam) {
        s->m1 = ht_mem_calloc(n, sizeof *s->m1);
        s->m2 = ht_mem_calloc(n, sizeof *s->m2);
    }
    if (s->v == NULL || s->best_v == NULL || s->best_grids == NULL || (adam && (s->m1 == NULL || s->m2 == NULL))) {
        return ht_fail_nomem(err, 4 * n * sizeof *s->v);
    }
    ht_soft_keep(s);
    return HT_OK;
}

void ht_soft_deinit(struct ht_soft *s) {
    ht_mem_free(s->grids);
    ht_mem_free(s->best_grids);
    ht_mem_free(s->own_levels);
    ht_mem_free(s->codes);
    ht_mem_free(s->start);
    ht_mem_free(s->blocks);
    ht_mem_free(s->v);
    ht_mem_free(s->best_v);
    ht_mem_free(s->m1);
    ht_mem_free(s->m2);
    *s = (struct ht_soft){0};
}

struct adopt {
    const struct ht_soft *s;
    float *w;
};

static void adopt_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct adopt *a = ctx;
    const struct ht_soft *s = a->s;
    for (uint64_t i = row * s->cols; i < (row + 1) * s->cols; i++) {
        const struct ht_soft_grid *g = &s->grids[row * s->runs + (i - row * s->cols) / s->run];
        struct place p = place_of(s, g, a->w[i]);
        int32_t want = s->start[i], is = index_of(s, &p, 0);
        if (want == is || g->scale == 0) {
            continue;
        }
        float at = (float)want + (want > is ? HOLD - 0.5f : 0.5f - HOLD);
        int32_t k = at > 0 ? (int32_t)at : 0;
        k = k < s->count - 1 ? k : s->count - 2;
        float low = level_of(s, k), high = level_of(s, k + 1);
        a->w[i] = g->scale * (low + (at - (float)k) * (high - low)) + g->base;
    }
}

void ht_soft_adopt(const struct ht_soft *s, float *w) {
    struct adopt a = {s, w};
    ht_pool_run(s->pool, s->rows, adopt_task, &a);
}

/* ---- learning ---------------------------------------------------------------------------------------------- */

struct update {
    const float *dw;
    const struct ht_soft_step *step;
    float part1, part2; /* 1 - beta^step of Adam */
};

static float adam(float *m1, float *m2, float g, const struct update *u) {
    *m1 = BETA1 * *m1 + (1 - BETA1) * g;
    *m2 = BETA2 * *m2 + (1 - BETA2) * g * g;
    float size = sqrtf(*m2 / u->part2);
    return size > 0 ? *m1 / u->part1 / size : 0;
}

static float sign_of(float g) {
    return (float)((g > 0) - (g < 0));
}

/* From gradients of scale and base to those of the shares: the derivative of `covered`. */
static void range_gradient(const struct ht_scheme *scheme, bool given, const struct ht_soft_grid *g, float dscale,
                           float dbase, float d[2]) {
    const struct ht_code *c = scheme->format->code;
    float lo = g->lo * g->share[0], hi = g->hi * g->share[1];
    d[0] = d[1] = 0;
    if (given) { /* scale = lo share[0]; base = -scale zero, or hi + (share[1] - 1) lo */
        bool offset = scheme->zero == HT_ZERO_OFFSET;
        d[0] = g->lo * dscale + (offset ? 0 : g->hi * dbase);
        d[1] = offset ? g->lo * dbase : 0;
        return;
    }
    if (scheme->zero == HT_ZERO_NONE) {
        float bottom = scheme->narrow ? -c->max_level : c->min_level;
        float above = hi > 0 ? hi / c->max_level : 0, below = lo < 0 ? lo / bottom : 0;
        d[above > below] = dscale * (above > below ? g->hi / c->max_level : bottom != 0 ? g->lo / bottom : 0);
        return;
    }
    float n = (float)(ht_scheme_hi(scheme) - ht_scheme_lo(scheme)), first = (float)ht_scheme_lo(scheme);
    /* base = lo - first * scale in both forms, but for the rounding of the zero. */
    float through = dscale - first * dbase;
    bool fixed = scheme->zero == HT_ZERO_CODE; /* the range is widened to 0 */
    if (!fixed || lo < 0) {
        d[0] = g->lo * (dbase - through / n);
    }
    if (!fixed || hi > 0) {
        d[1] = g->hi * through / n;
    }
}

static void range_update(const struct ht_soft *s, struct ht_soft_grid *g, float dscale, float dbase,
                         const struct update *u) {
    const struct ht_soft_step *step = u->step;
    float d[2];
    range_gradient(&s->to->q->scheme, s->to->given, g, dscale, dbase, d);
    float most = s->to->given ? MOST_FACTOR : 1;
    for (int k = 0; k < 2; k++) {
        float move = step->adam ? adam(&g->moment[k][0], &g->moment[k][1], d[k], u) : sign_of(d[k]);
        float share = g->share[k] - step->lr_range * move;
        share = share > LEAST_SHARE ? share : LEAST_SHARE;
        g->share[k] = share < most ? share : most;
    }
    cover(s, g);
}

static void update_run(const struct ht_soft *s, struct ht_soft_grid *g, uint64_t at, uint64_t n, void *ctx) {
    const struct update *u = ctx;
    const struct ht_soft_step *step = u->step;
    float dscale = 0, dbase = 0;
    if (is_plain(s, g)) {
        struct ht_soft_run run = plain_run(s, g, at, n);
        struct ht_soft_run_step plain = {.dw = u->dw + at, .lr = step->lr, .bound = step->bound,
                                         .m1 = s->m1 != NULL ? s->m1 + at : NULL,
                                         .m2 = s->m2 != NULL ? s->m2 + at : NULL,
                                         .part1 = u->part1, .part2 = u->part2};
        ht_soft_run_update(&run, &plain, &dscale, &dbase);
        n = 0;
    }
    for (uint64_t i = at; i < at + n; i++) {
        struct place p = place_of(s, g, s->w[i]);
        float d = u->dw[i], level = level_of(s, index_of(s, &p, s->v[i]));
        if (p.clipped) {
            dscale += d * level;
            dbase += d;
            continue;
        }
        dscale += d * (level - (s->w[i] - g->base) / g->scale);
        float dv = d * gap_of(s, g, &p);
        float v = s->v[i] - step->lr * (s->m1 != NULL ? adam(&s->m1[i], &s->m2[i], dv, u) : sign_of(dv));
        v = v > -step->bound ? v : -step->bound;
        s->v[i] = v < step->bound ? v : step->bound;
    }
    if (s->ranges && step->lr_range > 0) {
        range_update(s, g, dscale, dbase, u);
    }
}

void ht_soft_update(struct ht_soft *s, const float *dw, const struct ht_soft_step *step) {
    struct update u = {dw, step, 1 - powf(BETA1, (float)step->step), 1 - powf(BETA2, (float)step->step)};
    each_run(s, update_run, &u);
}

void ht_soft_keep(struct ht_soft *s) {
    memcpy(s->best_v, s->v, s->rows * s->cols * sizeof *s->v);
    memcpy(s->best_grids, s->grids, s->rows * s->runs * sizeof *s->grids);
}

void ht_soft_restore(struct ht_soft *s) {
    memcpy(s->v, s->best_v, s->rows * s->cols * sizeof *s->v);
    memcpy(s->grids, s->best_grids, s->rows * s->runs * sizeof *s->grids);
}

/* ---- codes ------------------------------------------------------------------------------------------------- */

static void encode_scheme_row(const struct ht_soft *s, uint64_t row, int32_t *codes) {
    struct ht_qtensor *q = s->to->q;
    const struct ht_scheme *scheme = &q->scheme;
    for (uint64_t g = 0; g < s->runs; g++) {
        const struct ht_soft_grid *grid = &s->grids[row * s->runs + g];
        if (s->ranges) {
            struct ht_affine a = covered(s, grid);
            ht_qtensor_set_grid(q, row, g, &a);
        }
        for (uint64_t i = g * s->run; i < s->cols && i < (g + 1) * s->run; i++) {
            struct place p = place_of(s, grid, s->w[row * s->cols + i]);
            int32_t index = index_of(s, &p, s->v[row * s->cols + i]);
            codes[i] = s->codes != NULL ? s->codes[index] : s->first + index;
        }
        if (grid->scale == 0) { /* the code that decodes to what the group is */
            struct ht_affine a = ht_qtensor_grid(q, row, g);
            for (uint64_t i = g * s->run; i < s->cols && i < (g + 1) * s->run; i++) {
                codes[i] = ht_scheme_nearest(scheme, q->levels, &a, 0);
            }
        }
    }
    ht_code_pack(scheme->format, codes, q->codes + row * q->row_bytes, s->cols);
}

static void encode_block_row(const struct ht_soft *s, uint64_t row) {
    const struct ht_format *f = s->to->format;
    uint64_t n = s->cols / f->block_elems;
    unsigned char *to = (unsigned char *)s->to->bytes + row * ht_format_row_bytes(f, s->cols);
    for (uint64_t b = 0; b < n; b++) {
        int8_t codes[HT_BLOCK_MAX];
        for (uint64_t i = 0; i < f->block_elems; i++) {
            uint64_t col = b * f->block_elems + i, at = row * s->cols + col;
            struct place p = place_of(s, &s->grids[row * s->runs + col / s->run], s->w[at]);
            codes[i] = (int8_t)(s->first + index_of(s, &p, s->v[at]));
        }
        f->pack(&s->blocks[row * n + b], codes, to + b * f->block_bytes);
    }
}

struct encode {
    const struct ht_soft *s;
    int32_t *codes; /* [threads, cols] */
};

static void encode_task(void *ctx, size_t row, int thread) {
    const struct encode *e = ctx;
    if (e->s->to->q != NULL) {
        encode_scheme_row(e->s, row, e->codes + (uint64_t)thread * e->s->cols);
    } else {
        encode_block_row(e->s, row);
    }
}

ht_status ht_soft_encode(const struct ht_soft *s, ht_err *err) {
    uint64_t n = (uint64_t)ht_pool_threads(s->pool) * s->cols;
    struct encode e = {s, ht_mem_alloc_array(n, sizeof *e.codes)};
    if (e.codes == NULL) {
        return ht_fail_nomem(err, n * sizeof *e.codes);
    }
    ht_pool_run(s->pool, s->rows, encode_task, &e);
    ht_mem_free(e.codes);
    return HT_OK;
}
