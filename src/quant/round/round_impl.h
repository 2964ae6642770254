/* Inside quant/round/: one chunk of rows on its way from real weights to codes. Hot loops take LANES rows at a time,
 * one in each lane, column by column. What a grid is made of, how it is found and stored, is behind ht_round_ops:
 * blocks of a GGUF format (grid_blocks.c), groups of a scheme (grid_codes.c). */
#ifndef HT_QUANT_ROUND_ROUND_IMPL_H
#define HT_QUANT_ROUND_ROUND_IMPL_H

#include "base/compiler.h"
#include "quant/round/round.h"
#include "tensor/qtensor.h"

#define HT_ROUND_LANES 16u
#define HT_ROUND_ROWS 1024u /* rows in work at once: bounds memory, results do not depend on it */
#define HT_ROUND_BLOCK 256u /* most columns of one step: between two steps the rest is brought up to date at once */

struct ht_rounder;

/* The grids of all rows as inner loops read them. A cell is what shares one scale in one row:
 *     value(code) = scale * level(code) - min,    level(code) = levels ? levels[code - lo] : code - zero */
struct ht_cells {
    uint64_t run, n;            /* columns of a cell; cells per row */
    uint64_t stride;            /* rows, in whole lanes */
    const float *levels;        /* [hi - lo + 1] ascending, or NULL */
    int lo, hi;                 /* codes */
    float *scale, *min, *zero;  /* [n, stride] */
};

union ht_round_moved {
    struct ht_grid grid;
    struct ht_affine affine;
};

/* UNIT: the columns of a row whose grid is fitted, refitted and stored as one: block or group. */
struct ht_round_ops {
    /* All cells of a row, from the original weights. */
    void (*start)(struct ht_rounder *r, uint64_t row);
    /* Codes and v of a unit, nearest to the weights. */
    void (*nearest)(struct ht_rounder *r, uint64_t row, uint64_t unit);
    /* The cells of a unit, for x [unit] with this importance. */
    ht_status (*fit)(struct ht_rounder *r, uint64_t row, uint64_t unit, const float *x, const float *weight,
                     ht_err *err);
    /* v = scale * p + offset * q over the unit; p, q [unit]. False: there is no q. */
    bool (*directions)(const struct ht_rounder *r, uint64_t row, uint64_t unit, float *p, float *q);
    /* The unit with its scale and offset changed, as far as they can be stored: what became of them, and the values.
     * False: nothing would change. */
    bool (*move)(const struct ht_rounder *r, uint64_t row, uint64_t unit, float *scale, float *offset,
                 union ht_round_moved *moved, float *value);
    void (*commit)(struct ht_rounder *r, uint64_t row, uint64_t unit, const union ht_round_moved *moved);
    /* The row as stored. */
    void (*pack)(struct ht_rounder *r, uint64_t row);
};

struct ht_rounder {
    struct ht_pool *pool;
    const struct ht_round_ops *ops;
    void *grids;         /* of ops */
    const struct ht_format *format; /* of blocks; its vectors are rounded by it */
    uint64_t row0;       /* of the matrix */
    uint64_t rows, cols; /* of the chunk */
    uint64_t unit, n_units; /* columns; per row, the last may be shorter */
    uint64_t vector;     /* columns rounded together; 0: each on its own */
    uint64_t step;       /* columns of one step: a multiple of the vector */
    bool dynamic;        /* fit each unit at its first turn */
    bool offsets;        /* a unit wider than a step has an offset that can move */
    const float *w;      /* [rows, cols] */
    const bool *last;    /* [cols] kept as their value in every row: they come last */
    const uint8_t *keep; /* [rows, cols] enum ht_keep, or NULL */
    float *values;       /* [rows, cols] of the chunk, or NULL */
    const float *h;      /* [cols, cols], damped */
    double added;        /* to its diagonal: the damping */
    const float *diagonal; /* [cols] of h, undamped: the importance of columns */
    const uint32_t *order; /* [cols] column visited at each turn */
    const uint32_t *turn;  /* [cols] turn of each column */
    const float *mt;     /* [cols, cols] by turn: target_j = w_j + sum_{i<j} mt[j][i] e_i */
    const float *cond;   /* [cols] by turn: variance of the input given those not yet visited */
    struct ht_cells cells;
    int8_t *codes;       /* [rows, cols] */
    float *v;            /* [rows, cols] what codes and grids decode to */
    float *g;            /* [rows, cols] sweeps: (W - V) H; feedback: targets by turn */
    float *e;            /* [rows, step] what the step changed */
    float *y;            /* [rows, cols] products */
    float *m;            /* [step, step] of the step in work */
    float *p;            /* [rows, unit], units wider than HT_ROUND_BLOCK */
    float *hq;           /* [cols] */
    float *room;         /* [threads, 2, unit] */
    ht_err *errs;        /* [threads] */
    void *scratch;       /* of ht_dense_product */
};

/* Cells of all rows, from the original weights; codes nearest to the weights, and v. */
void ht_rounding_start(struct ht_rounder *r);
/* Codes by error feedback, and v. Fails where a dynamic grid does. */
ht_status ht_rounding_feedback(struct ht_rounder *r, ht_err *err);
/* Codes by the greedy order of each row, and v. */
ht_status ht_rounding_greedy(struct ht_rounder *r, ht_err *err);
uint64_t ht_rounding_greedy_memory(uint64_t cols, int threads);
/* g = (W - V) H; returns tr((W - V) H (W - V)^T), H without its damping: what is compared and told. */
double ht_rounding_loss(struct ht_rounder *r);
/* One sweep over all columns; g must be current and stays so. */
void ht_rounding_descend(struct ht_rounder *r);
/* One pass over all units: their scales and offsets; g must be current and stays so. */
void ht_rounding_refit(struct ht_rounder *r);

/* The grid of a block; formats only. */
const struct ht_grid *ht_round_block(const struct ht_rounder *r, uint64_t row, uint64_t unit);

/* ---- solve.c: what both kinds of grids go through --------------------------------------------------------- */

/* ops, grids, unit, n_units, vector, step, cells (run, n, levels, lo, hi) and cols are set; the rest is done here.
 * whole: a unit cannot be handed errors from within, it is rounded to nearest. */
ht_status ht_rounding_solve(struct ht_rounder *r, bool whole, const float *w, uint64_t rows, const float *hessian,
                            const struct ht_round_options *options, struct ht_round_report *report, ht_err *err);
uint64_t ht_rounding_memory(const struct ht_rounder *r, uint64_t rows, int threads);
uint64_t ht_rounding_step(uint64_t unit, uint64_t cols);

HT_INLINE uint64_t ht_unit_cols(const struct ht_rounder *r, uint64_t unit) {
    uint64_t left = r->cols - unit * r->unit;
    return left < r->unit ? left : r->unit;
}

HT_INLINE float ht_cell_inverse(float scale) {
    return scale > 1e-36f || scale < -1e-36f ? 1.0f / scale : 0.0f;
}

HT_INLINE float ht_cell_level(const struct ht_cells *c, uint64_t at, int code) {
    return c->levels != NULL ? c->levels[code - c->lo] : (float)code - c->zero[at];
}

/* Values of n codes of a block from its element `from` on. */
HT_INLINE void ht_grid_values(const struct ht_grid *grid, const int8_t *codes, uint64_t from, uint64_t n, float *v) {
    for (uint64_t i = 0; i < n; i++) {
        v[i] = ht_grid_value(grid, (int)((from + i) / (uint64_t)grid->sub_len), codes[i]);
    }
}

/* at: cell * stride + row. */
HT_INLINE float ht_cell_value(const struct ht_cells *c, uint64_t at, int code) {
    return c->scale[at] * ht_cell_level(c, at, code) - c->min[at];
}

/* Sum of a[i] * b[i], in an order of its own. */
float ht_round_dot(const float *a, const float *b, uint64_t n);
/* The code whose value is nearest to x. */
int ht_cell_nearest(const struct ht_cells *c, uint64_t at, float x);

static inline bool ht_on_grid(const struct ht_rounder *r, uint64_t at) {
    return r->keep == NULL || r->keep[at] == HT_KEEP_GRID;
}

/* A weight that is not free to take any code: its code and value for this target. Element `at` of the chunk, in
 * `cell`.
 */
float ht_round_kept(const struct ht_rounder *r, uint64_t at, uint64_t cell, float target, int8_t *code);

#endif
