/* Improvements of codes and scales that there are already, each by the exact change of the loss: with e = w - v
 * and g = e H, moving v by d changes it by -2 d g^T + d H d^T. Columns go in steps; g of the step's own columns is
 * kept current within it, g of all columns by one matrix product behind it. */
#include <string.h>

#include "quant/round/dense.h"
#include "quant/round/round_impl.h"

#define LANES HT_ROUND_LANES

typedef void work_fn(struct ht_rounding *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta);

struct sweep {
    struct ht_rounding *r;
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
static float dot(const float *a, const float *b, uint64_t n) {
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

static void move_columns(struct ht_rounding *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta) {
    uint64_t elems = r->format->block_elems;
    for (uint64_t i = 0; i < width; i++) {
        uint64_t col = at + i;
        const float *h = r->h + col * r->cols;
        const struct ht_grid *grid = &r->grids[row * r->n_grids + col / elems];
        int s = (int)(col % elems) / grid->sub_len;
        float *v = &r->v[row * r->cols + col], hjj = h[col];
        int8_t *code = &r->codes[row * r->cols + col];
        int c = ht_grid_nearest(grid, s, *v + g[i] / hjj);
        if (c == *code) {
            continue;
        }
        float value = ht_grid_value(grid, s, c), d = value - *v;
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
static bool better_vector(const struct ht_rounding *r, const struct ht_grid *grid, uint64_t row, uint64_t col,
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
        ht_rounding_values(f, grid, codes + in, in, f->vector, d);
        float gain = 0.0f;
        for (uint64_t j = 0; j < f->vector; j++) {
            d[j] -= v[j];
        }
        for (uint64_t j = 0; j < f->vector; j++) {
            gain += d[j] * (2.0f * g[j] - dot(d, r->h + (col + j) * r->cols + col, f->vector));
        }
        if (gain > 0.0f) {
            return true;
        }
    }
    return false;
}

static void move_vectors(struct ht_rounding *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta) {
    const struct ht_format *f = r->format;
    float d[HT_BLOCK_MAX];
    int8_t codes[HT_BLOCK_MAX];
    for (uint64_t i = 0; i < width; i += f->vector) {
        uint64_t col = at + i, in = col % f->block_elems;
        const struct ht_grid *grid = &r->grids[row * r->n_grids + col / f->block_elems];
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
        ht_rounding_values(f, grid, codes + in, in, f->vector, v);
    }
}

/* ---- scales ------------------------------------------------------------------------------------------------ */

/* v = d * p - dmin * q over one block: p from codes and sub-scales, q the sub-mins. */
static void directions(const struct ht_grid *grid, const int8_t *codes, uint64_t n, float *p, float *q) {
    for (uint64_t i = 0; i < n; i++) {
        int s = (int)i / grid->sub_len;
        float level = grid->levels ? grid->levels[codes[i] - grid->lo] : (float)codes[i];
        p[i] = level * (float)grid->q_scale[s];
        q[i] = -(float)grid->q_min[s];
    }
}

/* The best change of d and dmin: minimum of -2 (a pg + b qg) + a^2 pp + 2 a b pq + b^2 qq. */
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

static void refit_blocks(struct ht_rounding *r, uint64_t row, uint64_t at, uint64_t width, float *g, float *delta) {
    const struct ht_format *f = r->format;
    uint64_t n = f->block_elems;
    float p[HT_BLOCK_MAX], q[HT_BLOCK_MAX], hp[HT_BLOCK_MAX], hq[HT_BLOCK_MAX], value[HT_BLOCK_MAX];
    for (uint64_t i = 0; i < width; i += n) {
        uint64_t col = at + i;
        struct ht_grid *grid = &r->grids[row * r->n_grids + col / n], moved = *grid;
        const int8_t *codes = r->codes + row * r->cols + col;
        float *v = r->v + row * r->cols + col, a, b, gain = 0.0f;
        directions(grid, codes, n, p, q);
        for (uint64_t j = 0; j < n; j++) {
            const float *h = r->h + (col + j) * r->cols + col;
            hp[j] = dot(p, h, n);
            hq[j] = dot(q, h, n);
        }
        solve_two(dot(p, hp, n), dot(p, hq, n), dot(q, hq, n), dot(p, g + i, n), dot(q, g + i, n), &a, &b);
        if (!ht_grid_move(&moved, a, b)) {
            continue;
        }
        ht_rounding_values(f, &moved, codes, 0, n, value);
        for (uint64_t j = 0; j < n; j++) {
            value[j] -= v[j];
        }
        for (uint64_t j = 0; j < n; j++) {
            gain += value[j] * (2.0f * g[i + j] - dot(value, r->h + (col + j) * r->cols + col, n));
        }
        if (gain > 0.0f) {
            *grid = moved;
            for (uint64_t j = 0; j < n; j++) {
                v[j] += value[j];
                delta[i + j] += value[j];
                follow(g, r->h + (col + j) * r->cols + at, value[j], width);
            }
            ht_rounding_values(f, grid, codes, 0, n, v);
        }
    }
}

/* ---- the sweep --------------------------------------------------------------------------------------------- */

static void sweep_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct sweep *s = ctx;
    struct ht_rounding *r = s->r;
    float g[HT_ROUND_BLOCK], *delta = r->e + row * s->width;
    memcpy(g, r->g + row * r->cols + s->at, s->width * sizeof *g);
    memset(delta, 0, s->width * sizeof *delta);
    s->work(r, row, s->at, s->width, g, delta);
}

static void subtract_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounding *r = ctx;
    for (uint64_t j = 0; j < r->cols; j++) {
        r->g[row * r->cols + j] -= r->y[row * r->cols + j];
    }
}

static void sweep(struct ht_rounding *r, work_fn *work) {
    struct sweep s = {.r = r, .work = work};
    for (s.at = 0; s.at < r->cols; s.at += s.width) {
        s.width = r->cols - s.at < r->step ? r->cols - s.at : r->step;
        ht_pool_run(r->pool, r->rows, sweep_task, &s);
        ht_dense_product(r->pool, r->e, r->rows, s.width, r->h + s.at, r->cols, r->cols, r->y, r->scratch);
        ht_pool_run(r->pool, r->rows, subtract_task, r);
    }
}

void ht_rounding_descend(struct ht_rounding *r) {
    sweep(r, r->format->vector != 0 ? move_vectors : move_columns);
}

void ht_rounding_refit(struct ht_rounding *r) {
    sweep(r, refit_blocks);
}
