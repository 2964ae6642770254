/* Blocks of GGUF formats as grids of the solver. */
#include <string.h>

#include "base/mem.h"
#include "quant/round/round_impl.h"

struct blocks {
    const struct ht_format *format;
    struct ht_grid *grids; /* [rows of a chunk, n_units] */
    unsigned char *dst;
    uint64_t row_bytes;
};

static struct ht_grid *grid_at(const struct ht_rounder *r, uint64_t row, uint64_t unit) {
    const struct blocks *b = r->grids;
    return &b->grids[row * r->n_units + unit];
}

static void sync_cells(struct ht_rounder *r, uint64_t row, uint64_t unit) {
    const struct ht_grid *grid = grid_at(r, row, unit);
    uint64_t subs = (uint64_t)grid->n_sub;
    for (uint64_t s = 0; s < subs; s++) {
        uint64_t at = (unit * subs + s) * r->cells.stride + row;
        r->cells.scale[at] = grid->scale[s];
        r->cells.min[at] = grid->min[s];
    }
}

static ht_status fit(struct ht_rounder *r, uint64_t row, uint64_t unit, const float *x, const float *weight,
                     ht_err *err) {
    (void)err;
    const struct blocks *b = r->grids;
    struct ht_grid *grid = grid_at(r, row, unit);
    b->format->fit(x, weight, grid);
    b->format->snap(grid);
    sync_cells(r, row, unit);
    return HT_OK;
}

static void start(struct ht_rounder *r, uint64_t row) {
    for (uint64_t unit = 0; unit < r->n_units; unit++) {
        fit(r, row, unit, r->w + row * r->cols + unit * r->unit, r->diagonal + unit * r->unit, NULL);
    }
}

static void nearest(struct ht_rounder *r, uint64_t row, uint64_t unit) {
    const struct blocks *b = r->grids;
    uint64_t at = row * r->cols + unit * r->unit;
    const struct ht_grid *grid = grid_at(r, row, unit);
    b->format->round(r->w + at, r->diagonal + unit * r->unit, grid, r->codes + at);
    ht_grid_values(grid, r->codes + at, 0, r->unit, r->v + at);
}

/* p from codes and sub-scales, q the sub-mins. */
static bool directions(const struct ht_rounder *r, uint64_t row, uint64_t unit, float *p, float *q) {
    const struct ht_grid *grid = grid_at(r, row, unit);
    const int8_t *codes = r->codes + row * r->cols + unit * r->unit;
    for (uint64_t i = 0; i < r->unit; i++) {
        int s = (int)i / grid->sub_len;
        float level = grid->levels ? grid->levels[codes[i] - grid->lo] : (float)codes[i];
        p[i] = level * (float)grid->q_scale[s];
        q[i] = -(float)grid->q_min[s];
    }
    return true;
}

static bool move(const struct ht_rounder *r, uint64_t row, uint64_t unit, float *scale, float *offset,
                 union ht_round_moved *moved, float *value) {
    const int8_t *codes = r->codes + row * r->cols + unit * r->unit;
    moved->grid = *grid_at(r, row, unit);
    if (!ht_grid_move(&moved->grid, *scale, *offset)) {
        return false;
    }
    ht_grid_values(&moved->grid, codes, 0, r->unit, value);
    return true;
}

static void commit(struct ht_rounder *r, uint64_t row, uint64_t unit, const union ht_round_moved *moved) {
    *grid_at(r, row, unit) = moved->grid;
    sync_cells(r, row, unit);
}

static void pack(struct ht_rounder *r, uint64_t row) {
    const struct blocks *b = r->grids;
    unsigned char *dst = b->dst + (r->row0 + row) * b->row_bytes;
    for (uint64_t unit = 0; unit < r->n_units; unit++) {
        b->format->pack(grid_at(r, row, unit), r->codes + row * r->cols + unit * r->unit,
                        dst + unit * b->format->block_bytes);
    }
}

static const struct ht_round_ops block_ops = {start, nearest, fit, directions, move, commit, pack};

static struct ht_rounder rounding_of(const struct ht_format *f, uint64_t cols) {
    struct ht_grid shape = {0};
    float zeros[HT_BLOCK_MAX] = {0};
    f->fit(zeros, NULL, &shape); /* the shape does not depend on the weights */
    return (struct ht_rounder){.ops = &block_ops, .cols = cols, .unit = f->block_elems,
                                .n_units = cols / f->block_elems, .vector = f->vector,
                                .step = ht_rounding_step(f->block_elems, cols), .format = f,
                                .cells = {.run = (uint64_t)shape.sub_len, .n = cols / (uint64_t)shape.sub_len,
                                          .levels = shape.levels, .lo = shape.lo, .hi = shape.hi}};
}

static uint64_t chunk_grids(const struct ht_rounder *r, uint64_t rows) {
    return r->n_units * (rows < HT_ROUND_ROWS ? rows : HT_ROUND_ROWS);
}

uint64_t ht_round_memory(const struct ht_format *format, uint64_t rows, uint64_t cols, int threads) {
    struct ht_rounder r = rounding_of(format, cols);
    return ht_rounding_memory(&r, rows, threads) + chunk_grids(&r, rows) * sizeof(struct ht_grid);
}

ht_status ht_round_feedback(struct ht_pool *pool, const struct ht_format *format, const float *w, uint64_t rows,
                            uint64_t cols, const float *hessian, const struct ht_round_options *options, void *dst,
                            struct ht_round_report *report, ht_err *err) {
    struct ht_rounder r = rounding_of(format, cols);
    if (options->keep != NULL || options->values != NULL) {
        return ht_fail(err, HT_INVAL, format->name, HT_NO_POS, "blocks cannot keep weights beside their codes: use a "
                       "scheme, such as int4:g64");
    }
    struct blocks b = {.format = format, .dst = dst, .row_bytes = ht_format_row_bytes(format, cols)};
    b.grids = ht_mem_alloc_array(chunk_grids(&r, rows), sizeof *b.grids);
    if (b.grids == NULL) {
        return ht_fail_nomem(err, ht_round_memory(format, rows, cols, ht_pool_threads(pool)));
    }
    r.pool = pool;
    r.grids = &b;
    /* A trellis: nothing can be handed on within a block. */
    ht_status status = ht_rounding_solve(&r, format->vector == format->block_elems, w, rows, hessian, options, report,
                                         err);
    ht_mem_free(b.grids);
    return status;
}

const struct ht_grid *ht_round_block(const struct ht_rounder *r, uint64_t row, uint64_t unit) {
    return grid_at(r, row, unit);
}
