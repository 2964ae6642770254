/* Improvements of codes and scales that there are already, each by the exact change of the loss: with e = w - v
 * and g = e H, moving v by d changes it by -2 d g^T + d H d^T. Columns go in steps; g of the step's own columns is
 * kept current within it, g of all columns by one matrix product behind it. */
#include <string.h>

#include "format/half.h"
#include "quant/round/dense.h"
#include "quant/round/round_impl.h"

#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding and subtracting it rounds |v| < 2^22 to nearest even */

typedef void work_fn(struct ht_rounder *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta);

struct sweep {
    struct ht_rounder *r;
    uint64_t at, width;
    work_fn *work;
};

/* g[k] -= d * h[k] over the step's columns. */
HT_CLONES
static void follow(float *g, const float *h, float d, uint64_t n) {
    for (uint64_t k = 0; k < n; k++) {
        g[k] -= d * h[k];
    }
}

HT_CLONES
float ht_round_dot(const float *a, const float *b, uint64_t n) {
    float sum[16] = {0};
    uint64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int l = 0; l < 16; l++) {
            sum[l] += a[i + l] * b[i + l];
        }
    }
    float all = 0.0f;
    for (int l = 0; l < 16; l++) {
        all += sum[l];
    }
    for (; i < n; i++) {
        all += a[i] * b[i];
    }
    return all;
}

/* ---- codes ------------------------------------------------------------------------------------------------- */

int ht_cell_nearest(const struct ht_cells *c, uint64_t at, float x) {
    float p = (x + c->min[at]) * ht_cell_inverse(c->scale[at]);
    if (c->levels != NULL) {
        int code = c->lo;
        for (int k = 0; k < c->hi - c->lo; k++) {
            code += p > 0.5f * (c->levels[k] + c->levels[k + 1]);
        }
        return code;
    }
    float first = (float)c->lo - c->zero[at], last = (float)c->hi - c->zero[at];
    p = p > first ? p : first; /* a NaN, too */
    p = p < last ? p : last;
    return (int)(((p + ROUND_MAGIC) - ROUND_MAGIC) + c->zero[at]);
}

float ht_round_kept(const struct ht_rounder *r, uint64_t at, uint64_t cell, float target, int8_t *code) {
    enum ht_keep keep = (enum ht_keep)r->keep[at];
    *code = (int8_t)ht_cell_nearest(&r->cells, cell, keep == HT_KEEP_REST ? target : 0.0f);
    float value = ht_cell_value(&r->cells, cell, *code);
    switch (keep) {
    case HT_KEEP_VALUE: return ht_f16_to_f32(ht_f16_from_f32(target));
    case HT_KEEP_REST: return value + ht_f16_to_f32(ht_f16_from_f32(target - value));
    default: return value;
    }
}

static void move_columns(struct ht_rounder *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta) {
    const struct ht_cells *cells = &r->cells;
    for (uint64_t i = 0; i < width; i++) {
        uint64_t col = at + i, cell = col / cells->run * cells->stride + row;
        const float *h = r->h + col * r->cols;
        float *v = &r->v[row * r->cols + col], hjj = h[col];
        int8_t *code = &r->codes[row * r->cols + col];
        if (!ht_on_grid(r, row * r->cols + col)) {
            continue;
        }
        int c = ht_cell_nearest(cells, cell, *v + g[i] / hjj);
        if (c == *code) {
            continue;
        }
        float value = ht_cell_value(cells, cell, c), d = value - *v;
        if (2.0f * d * g[i] - d * d * hjj > 0.0f) {
            *code = (int8_t)c;
            *v = value;
            delta[i] += d;
            follow(g, h + at, d, width);
        }
    }
}

/* All elements of a vector move at once, which goes too far where their inputs resemble each other: shorter ways
 * are tried, too. True: codes (the block's) and d hold a change that lowers the loss. */
static bool better_vector(const struct ht_rounder *r, const struct ht_grid *grid, uint64_t row, uint64_t col,
                          const float *g, int8_t *codes, float *d) {
    const struct ht_format *f = r->format;
    uint64_t in = col % f->block_elems;
    const int8_t *mine = r->codes + row * r->cols + col;
    const float *v = r->v + row * r->cols + col;
    float x[HT_BLOCK_MAX] = {0}, weight[HT_BLOCK_MAX] = {0};
    for (float way = 1.0f; way > 0.2f; way *= 0.5f) {
        for (uint64_t j = 0; j < f->vector; j++) {
            float hjj = r->h[(col + j) * r->cols + col + j];
            x[in + j] = v[j] + way * g[j] / hjj;
            weight[in + j] = hjj;
        }
        f->round_vector(x, weight, grid, (uint32_t)in, codes);
        if (memcmp(codes + in, mine, f->vector) == 0) {
            return false;
        }
        ht_grid_values(grid, codes + in, in, f->vector, d);
        float gain = 0.0f;
        for (uint64_t j = 0; j < f->vector; j++) {
            d[j] -= v[j];
        }
        for (uint64_t j = 0; j < f->vector; j++) {
            gain += d[j] * (2.0f * g[j] - ht_round_dot(d, r->h + (col + j) * r->cols + col, f->vector));
        }
        if (gain > 0.0f) {
            return true;
        }
    }
    return false;
}

static void move_vectors(struct ht_rounder *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta) {
    const struct ht_format *f = r->format;
    float d[HT_BLOCK_MAX];
    int8_t codes[HT_BLOCK_MAX];
    for (uint64_t i = 0; i < width; i += f->vector) {
        uint64_t col = at + i, in = col % f->block_elems;
        const struct ht_grid *grid = ht_round_block(r, row, col / f->block_elems);
        if (!better_vector(r, grid, row, col, g + i, codes, d)) {
            continue;
        }
        float *v = r->v + row * r->cols + col;
        memcpy(r->codes + row * r->cols + col, codes + in, f->vector);
        for (uint64_t j = 0; j < f->vector; j++) {
            v[j] += d[j];
            delta[i + j] += d[j];
            follow(g, r->h + (col + j) * r->cols + at, d[j], width);
        }
        ht_grid_values(grid, codes + in, in, f->vector, v);
    }
}

/* ---- scales ------------------------------------------------------------------------------------------------ */

/* The best change of scale and offset: minimum of -2 (a pg + b qg) + a^2 pp + 2 a b pq + b^2 qq. */
static void solve_two(float pp, float pq, float qq, float pg, float qg, float *a, float *b) {
    float det = pp * qq - pq * pq;
    if (qq > 0.0f && det > 1e-4f * pp * qq) {
        *a = (pg * qq - qg * pq) / det;
        *b = (qg * pp - pg * pq) / det;
    } else {
        *a = pp > 0.0f ? pg / pp : 0.0f;
        *b = 0.0f;
    }
}

/* Units that lie within the step. */
static void refit_units(struct ht_rounder *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta) {
    float p[HT_ROUND_BLOCK], q[HT_ROUND_BLOCK], hp[HT_ROUND_BLOCK], hq[HT_ROUND_BLOCK], value[HT_ROUND_BLOCK];
    union ht_round_moved moved;
    for (uint64_t i = 0, n; i < width; i += n) {
        uint64_t col = at + i, unit = col / r->unit;
        float *v = r->v + row * r->cols + col, a, b = 0.0f, gain = 0.0f;
        n = ht_unit_cols(r, unit);
        bool two = r->ops->directions(r, row, unit, p, q);
        for (uint64_t j = 0; j < n; j++) {
            const float *h = r->h + (col + j) * r->cols + col;
            hp[j] = ht_round_dot(p, h, n);
            hq[j] = two ? ht_round_dot(q, h, n) : 0.0f;
        }
        float pq = two ? ht_round_dot(p, hq, n) : 0.0f, qq = two ? ht_round_dot(q, hq, n) : 0.0f;
        solve_two(ht_round_dot(p, hp, n), pq, qq, ht_round_dot(p, g + i, n), two ? ht_round_dot(q, g + i, n) : 0.0f, &a,
                  &b);
        if (!r->ops->move(r, row, unit, &a, &b, &moved, value)) {
            continue;
        }
        for (uint64_t j = 0; j < n; j++) {
            p[j] = value[j];
            value[j] -= v[j];
        }
        for (uint64_t j = 0; j < n; j++) {
            gain += value[j] * (2.0f * g[i + j] - ht_round_dot(value, r->h + (col + j) * r->cols + col, n));
        }
        if (gain > 0.0f) {
            r->ops->commit(r, row, unit, &moved);
            for (uint64_t j = 0; j < n; j++) {
                v[j] = p[j]; /* what decoding gives, to the bit */
                delta[i + j] += value[j];
                follow(g, r->h + (col + j) * r->cols + at, value[j], width);
            }
        }
    }
}

/* ---- scales of units wider than a step: all rows at once ---------------------------------------------------- */

struct wide {
    struct ht_rounder *r;
    uint64_t unit, col, n;
    const float *hq; /* [cols] H times the ones of the unit's columns */
    float qq;
};

static void wide_directions_task(void *ctx, size_t row, int thread) {
    const struct wide *w = ctx;
    struct ht_rounder *r = w->r;
    r->ops->directions(r, row, w->unit, r->p + row * w->n, r->room + (uint64_t)thread * 2 * r->unit);
}

/* y holds p H of every row; g follows for all columns. */
static void wide_task(void *ctx, size_t row, int thread) {
    const struct wide *w = ctx;
    struct ht_rounder *r = w->r;
    float *value = r->room + (uint64_t)thread * 2 * r->unit, *v = r->v + row * r->cols + w->col;
    float *g = r->g + row * r->cols;
    const float *p = r->p + row * w->n, *hp = r->y + row * r->cols;
    float pp = ht_round_dot(p, hp + w->col, w->n), pg = ht_round_dot(p, g + w->col, w->n);
    float pq = 0.0f, qg = 0.0f, a, b;
    for (uint64_t j = 0; w->hq != NULL && j < w->n; j++) {
        pq += hp[w->col + j];
        qg += g[w->col + j];
    }
    union ht_round_moved moved;
    solve_two(pp, pq, w->qq, pg, qg, &a, &b);
    if (!r->ops->move(r, row, w->unit, &a, &b, &moved, value) ||
        !(2.0f * (a * pg + b * qg) - (a * a * pp + 2.0f * a * b * pq + b * b * w->qq) > 0.0f)) {
        return;
    }
    r->ops->commit(r, row, w->unit, &moved);
    memcpy(v, value, w->n * sizeof *v);
    follow(g, hp, a, r->cols);
    if (w->hq != NULL) {
        follow(g, w->hq, b, r->cols);
    }
}

static void refit_wide(struct ht_rounder *r) {
    for (uint64_t unit = 0; unit < r->n_units; unit++) {
        struct wide w = {.r = r, .unit = unit, .col = unit * r->unit, .n = ht_unit_cols(r, unit)};
        if (r->offsets) {
            for (uint64_t j = 0; j < r->cols; j++) {
                r->hq[j] = 0.0f;
            }
            for (uint64_t i = w.col; i < w.col + w.n; i++) {
                follow(r->hq, r->h + i * r->cols, -1.0f, r->cols);
            }
            w.hq = r->hq;
            for (uint64_t i = w.col; i < w.col + w.n; i++) {
                w.qq += r->hq[i];
            }
        }
        ht_pool_run(r->pool, r->rows, wide_directions_task, &w);
        ht_dense_product(r->pool, r->p, r->rows, w.n, r->h + w.col, r->cols, r->cols, r->y, r->scratch);
        ht_pool_run(r->pool, r->rows, wide_task, &w);
    }
}

/* ---- the sweep --------------------------------------------------------------------------------------------- */

static void sweep_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct sweep *s = ctx;
    struct ht_rounder *r = s->r;
    float g[HT_ROUND_BLOCK], *delta = r->e + row * s->width;
    memcpy(g, r->g + row * r->cols + s->at, s->width * sizeof *g);
    memset(delta, 0, s->width * sizeof *delta);
    s->work(r, row, s->at, s->width, g, delta);
}

static void subtract_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounder *r = ctx;
    for (uint64_t j = 0; j < r->cols; j++) {
        r->g[row * r->cols + j] -= r->y[row * r->cols + j];
    }
}

static void sweep(struct ht_rounder *r, work_fn *work) {
    struct sweep s = {.r = r, .work = work};
    for (s.at = 0; s.at < r->cols; s.at += s.width) {
        s.width = r->cols - s.at < r->step ? r->cols - s.at : r->step;
        ht_pool_run(r->pool, r->rows, sweep_task, &s);
        ht_dense_product(r->pool, r->e, r->rows, s.width, r->h + s.at, r->cols, r->cols, r->y, r->scratch);
        ht_pool_run(r->pool, r->rows, subtract_task, r);
    }
}

void ht_rounding_descend(struct ht_rounder *r) {
    sweep(r, r->vector != 0 ? move_vectors : move_columns);
}

void ht_rounding_refit(struct ht_rounder *r) {
    if (r->unit > HT_ROUND_BLOCK) {
        refit_wide(r);
    } else {
        sweep(r, refit_units);
    }
}
