/* Error feedback in its LDL form. With H = R R^T, R upper triangular in the visiting order,
 *
 *     e H e^T = sum_j R_jj^2 (e_j + sum_{i<j} e_i R_ij / R_jj)^2,
 *
 * so the best code of column j, those before it given, is the nearest to w_j + sum_{i<j} e_i R_ij / R_jj. Within a
 * step of columns the errors are handed on at once; all later columns get those of a whole step by one matrix
 * product. */
#include <math.h>
#include <string.h>

#include "quant/round/dense.h"
#include "quant/round/round_impl.h"

#define LANES HT_ROUND_LANES
#define ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding and subtracting it rounds |v| < 2^22 to nearest even */

struct step {
    struct ht_rounder *r;
    uint64_t at, width; /* turns */
    int thread;         /* of the tile in work */
};

struct tile {
    HT_ALIGNED(64) float t[HT_ROUND_BLOCK][LANES]; /* targets */
    HT_ALIGNED(64) float e[LANES];
    HT_ALIGNED(64) float scale[LANES], min[LANES], zero[LANES], inverse[LANES];
    HT_ALIGNED(64) float code[LANES], value[LANES], w[LANES];
};

/* The cell of one column in each lane, and the weights. */
static void gather(const struct ht_rounder *r, struct tile *k, uint64_t row, uint64_t n, uint64_t col) {
    uint64_t at = col / r->cells.run * r->cells.stride + row;
    for (uint64_t l = 0; l < LANES; l++) {
        float scale = r->cells.scale[at + l];
        k->scale[l] = scale;
        k->min[l] = r->cells.min[at + l];
        k->zero[l] = r->cells.zero[at + l];
        k->inverse[l] = ht_cell_inverse(scale);
        k->w[l] = r->w[(row + (l < n ? l : n - 1)) * r->cols + col];
    }
}

HT_CLONES
static void nearest_lanes(struct tile *k, const float *t, const struct ht_cells *cells) {
    float lo = (float)cells->lo, hi = (float)cells->hi;
    HT_LANE_LOOP
    for (unsigned l = 0; l < LANES; l++) {
        float p = (t[l] + k->min[l]) * k->inverse[l], first = lo - k->zero[l], last = hi - k->zero[l];
        p = p > first ? p : first;
        p = p < last ? p : last;
        p = (p + ROUND_MAGIC) - ROUND_MAGIC;
        k->code[l] = p + k->zero[l];
        k->value[l] = k->scale[l] * p - k->min[l];
        k->e[l] = k->w[l] - k->value[l];
    }
}

/* The same for a table of levels: counts the midpoints below. */
HT_CLONES
static void nearest_levels(struct tile *k, const float *t, const struct ht_cells *cells) {
    const float *levels = cells->levels;
    int n = cells->hi - cells->lo;
    float level[LANES];
    for (unsigned l = 0; l < LANES; l++) {
        level[l] = levels[0];
        k->code[l] = (float)cells->lo;
    }
    for (int c = 0; c < n; c++) {
        float mid = 0.5f * (levels[c] + levels[c + 1]), next = levels[c + 1];
        HT_LANE_LOOP
        for (unsigned l = 0; l < LANES; l++) {
            bool above = (t[l] + k->min[l]) * k->inverse[l] > mid;
            level[l] = above ? next : level[l];
            k->code[l] = above ? (float)(cells->lo + c + 1) : k->code[l];
        }
    }
    for (unsigned l = 0; l < LANES; l++) {
        k->value[l] = k->scale[l] * level[l] - k->min[l];
        k->e[l] = k->w[l] - k->value[l];
    }
}

/* The later targets of the step: t[j] += e * m[j], m the step's row of the column just rounded. */
HT_CLONES
static void hand_on(float (*t)[LANES], const float *e, const float *m, uint64_t from, uint64_t to) {
    for (uint64_t j = from; j < to; j++) {
        float c = m[j];
        HT_LANE_LOOP
        for (unsigned l = 0; l < LANES; l++) {
            t[j][l] += c * e[l];
        }
    }
}

/* Lanes whose weight is kept another way than on the grid. */
static void store_kept(const struct step *s, struct tile *k, uint64_t row, uint64_t n, uint64_t i, uint64_t col) {
    const struct ht_rounder *r = s->r;
    uint64_t cell = col / r->cells.run * r->cells.stride + row;
    for (uint64_t l = 0; l < n; l++) {
        uint64_t at = (row + l) * r->cols + col;
        if (!ht_on_grid(r, at)) {
            int8_t code;
            k->value[l] = ht_round_kept(r, at, cell + l, k->t[i][l], &code);
            k->code[l] = (float)code;
            k->e[l] = k->w[l] - k->value[l];
        }
    }
}

static void store(const struct step *s, const struct tile *k, uint64_t row, uint64_t n, uint64_t i, uint64_t col) {
    struct ht_rounder *r = s->r;
    for (uint64_t l = 0; l < n; l++) {
        r->codes[(row + l) * r->cols + col] = (int8_t)(int)k->code[l];
        r->v[(row + l) * r->cols + col] = k->value[l];
        r->e[(row + l) * s->width + i] = k->e[l];
    }
}

#define VECTOR_TRIES 4

/* The vector in work, one row. x: targets without the errors within the vector; these depend on the codes. */
struct vector {
    const struct ht_grid *grid;
    const float *x, *w; /* [n] */
    const float *m;     /* the step's m at the vector: m[i * stride + j] */
    const float *cond;  /* [n] */
    uint64_t n, stride;
    uint32_t at;        /* in the block */
};

/* Targets as the vector's own errors make them, and the loss: sum over j of cond_j (target_j - value_j)^2. */
static float vector_targets(const struct vector *k, const float *value, float *target) {
    float loss = 0.0f;
    for (uint64_t j = 0; j < k->n; j++) {
        float t = k->x[j];
        for (uint64_t i = 0; i < j; i++) {
            t += (k->w[i] - value[i]) * k->m[i * k->stride + j];
        }
        target[j] = t;
        loss += k->cond[j] * (t - value[j]) * (t - value[j]);
    }
    return loss;
}

/* Rounds, sees what its errors do to the targets within the vector, rounds again; the best of some tries. codes:
 * the block's. */
static void round_vector(const struct ht_format *f, const struct vector *k, int8_t *codes, float *value) {
    float x[HT_BLOCK_MAX] = {0}, weight[HT_BLOCK_MAX] = {0}, target[HT_BLOCK_MAX], next[HT_BLOCK_MAX];
    int8_t tried[HT_BLOCK_MAX] = {0};
    float best = INFINITY;
    int tries = k->n > 16 ? 2 : VECTOR_TRIES;
    memcpy(weight + k->at, k->cond, k->n * sizeof *weight);
    memcpy(x + k->at, k->x, k->n * sizeof *x);
    for (int i = 0; i < tries; i++) {
        f->round_vector(x, weight, k->grid, k->at, tried);
        ht_grid_values(k->grid, tried + k->at, k->at, k->n, next);
        float loss = vector_targets(k, next, target);
        if (loss < best || i == 0) {
            best = loss;
            memcpy(codes + k->at, tried + k->at, k->n);
            memcpy(value, next, k->n * sizeof *value);
        }
        memcpy(x + k->at, target, k->n * sizeof *x);
    }
}

/* The vector of columns at turns at + i ..., which are neighbours: all lanes' targets to codes. */
static void round_vectors(const struct step *s, const struct tile *k, uint64_t row, uint64_t n, uint64_t i) {
    struct ht_rounder *r = s->r;
    const struct ht_format *f = r->format;
    uint64_t col = r->order[s->at + i], block = col / f->block_elems, in = col % f->block_elems;
    float x[HT_BLOCK_MAX];
    for (uint64_t l = 0; l < n; l++) {
        uint64_t start = (row + l) * r->cols + block * f->block_elems;
        struct vector v = {.grid = ht_round_block(r, row + l, block), .x = x, .w = r->w + start + in,
                           .m = r->m + i * s->width + i, .cond = r->cond + s->at + i, .n = f->vector,
                           .stride = s->width, .at = (uint32_t)in};
        for (uint64_t j = 0; j < f->vector; j++) {
            x[j] = k->t[i + j][l];
        }
        round_vector(f, &v, r->codes + start, r->v + start + in);
        for (uint64_t j = 0; j < f->vector; j++) {
            r->e[(row + l) * s->width + i + j] = r->w[start + in + j] - r->v[start + in + j];
        }
    }
}

/* What feedback has made of the unit's weights: the continuous values that make up best for all errors so far. Each
 * is its target with the errors of those before it in the unit, whose own values are such targets, too. x: [unit]
 * natural order; e: [unit] errors by turn. */
static void compensated(const struct step *s, const struct tile *k, uint64_t row, uint64_t l, uint64_t i, float *x,
                        float *e) {
    const struct ht_rounder *r = s->r;
    uint64_t from = s->at + i, unit = r->order[from] / r->unit, n = 0;
    while (from + n < r->cols && r->order[from + n] / r->unit == unit) { /* columns that come last are not among them */
        n++;
    }
    const float *w = r->w + (row + l) * r->cols;
    for (uint64_t t = from; t < from + n; t++) {
        const float *m = r->mt + t * r->cols;
        bool here = t < s->at + s->width;
        float target = here ? k->t[t - s->at][l] : r->g[(row + l) * r->cols + t];
        if (!here) { /* the step's errors have not reached it yet */
            target += ht_round_dot(m + s->at, r->e + (row + l) * s->width, i);
        }
        target += ht_round_dot(m + from, e, t - from);
        e[t - from] = w[r->order[t]] - target;
        x[r->order[t] - unit * r->unit] = target;
    }
}

/* At the first turn of a unit: its grid. */
static void fit_dynamic(const struct step *s, const struct tile *k, uint64_t row, uint64_t n, uint64_t i) {
    struct ht_rounder *r = s->r;
    uint64_t turn = s->at + i, unit = r->order[turn] / r->unit;
    if (!r->dynamic || r->last[r->order[turn]] || (turn > 0 && r->order[turn - 1] / r->unit == unit)) {
        return;
    }
    float *x = r->room + (uint64_t)s->thread * 2 * r->unit, *weight = x + r->unit;
    for (uint64_t l = 0; l < n; l++) {
        compensated(s, k, row, l, i, x, weight);
        uint64_t first = unit * r->unit, at = (row + l) * r->cols + first, cols = ht_unit_cols(r, unit);
        for (uint64_t j = 0; j < cols; j++) {
            bool counts = ht_on_grid(r, at + j);
            x[j] = counts ? x[j] : 0.0f;
            weight[j] = counts ? r->diagonal[first + j] : 0.0f;
        }
        if (r->ops->fit(r, row + l, unit, x, weight, &r->errs[s->thread]) != HT_OK) {
            return; /* the cell stays as it is; the step fails */
        }
    }
}

static void vectors_of_tile(const struct step *s, struct tile *k, uint64_t row, uint64_t n) {
    struct ht_rounder *r = s->r;
    for (uint64_t i = 0; i < s->width; i += r->format->vector) {
        fit_dynamic(s, k, row, n, i);
        round_vectors(s, k, row, n, i);
        for (uint64_t j = i; j < i + r->format->vector; j++) {
            for (uint64_t l = 0; l < LANES; l++) {
                k->e[l] = l < n ? r->e[(row + l) * s->width + j] : 0.0f;
            }
            hand_on(k->t, k->e, r->m + j * s->width, i + r->format->vector, s->width);
        }
    }
}

static void columns_of_tile(const struct step *s, struct tile *k, uint64_t row, uint64_t n) {
    struct ht_rounder *r = s->r;
    for (uint64_t i = 0; i < s->width; i++) {
        uint64_t col = r->order[s->at + i];
        fit_dynamic(s, k, row, n, i);
        gather(r, k, row, n, col);
        if (r->cells.levels != NULL) {
            nearest_levels(k, k->t[i], &r->cells);
        } else {
            nearest_lanes(k, k->t[i], &r->cells);
        }
        if (r->keep != NULL) {
            store_kept(s, k, row, n, i, col);
        }
        store(s, k, row, n, i, col);
        hand_on(k->t, k->e, r->m + i * s->width, i + 1, s->width);
    }
}

static void tile_task(void *ctx, size_t task, int thread) {
    struct step mine = *(const struct step *)ctx, *s = &mine;
    struct ht_rounder *r = s->r;
    s->thread = thread;
    uint64_t row = task * LANES, n = r->rows - row < LANES ? r->rows - row : LANES;
    struct tile k;
    for (uint64_t i = 0; i < s->width; i++) {
        for (uint64_t l = 0; l < LANES; l++) {
            k.t[i][l] = r->g[(row + (l < n ? l : n - 1)) * r->cols + s->at + i];
        }
    }
    if (r->vector != 0) {
        vectors_of_tile(s, &k, row, n);
    } else {
        columns_of_tile(s, &k, row, n);
    }
}

/* Targets by turn start as the weights. */
static void start_task(void *ctx, size_t row, int thread) {
    (void)thread;
    struct ht_rounder *r = ctx;
    for (uint64_t i = 0; i < r->cols; i++) {
        r->g[row * r->cols + i] = r->w[row * r->cols + r->order[i]];
    }
}

static void rest_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct step *s = ctx;
    uint64_t from = s->at + s->width, n = s->r->cols - from;
    float *t = s->r->g + row * s->r->cols + from;
    const float *y = s->r->y + row * n;
    for (uint64_t j = 0; j < n; j++) {
        t[j] += y[j];
    }
}

ht_status ht_rounding_feedback(struct ht_rounder *r, ht_err *err) {
    ht_pool_run(r->pool, r->rows, start_task, r);
    struct step s = {.r = r};
    for (s.at = 0; s.at < r->cols; s.at += s.width) {
        s.width = r->cols - s.at < r->step ? r->cols - s.at : r->step;
        for (uint64_t i = 0; i < s.width; i++) {
            for (uint64_t j = 0; j < s.width; j++) {
                r->m[i * s.width + j] = j > i ? r->mt[(s.at + j) * r->cols + s.at + i] : 0.0f;
            }
        }
        ht_pool_run(r->pool, (r->rows + LANES - 1) / LANES, tile_task, &s);
        for (int i = 0; i < ht_pool_threads(r->pool); i++) {
            if (r->errs[i].code != HT_OK) {
                if (err != NULL && err->code == HT_OK) {
                    *err = r->errs[i];
                }
                return r->errs[i].code;
            }
        }
        uint64_t from = s.at + s.width;
        if (from < r->cols) {
            ht_dense_product(r->pool, r->e, r->rows, s.width, r->mt + from * r->cols + s.at, r->cols, r->cols - from,
                             r->y, r->scratch);
            ht_pool_run(r->pool, r->rows, rest_task, &s);
        }
    }
    return HT_OK;
}
