/* What the sidecar adds to the product with the codes: kept columns, large inputs, single weights, low rank, bias.
 *
 * Each output is one chain of f32 sums in this order. For many tokens the inputs are laid out with 32 tokens side by
 * side, so that one weight meets 32 of them. */
#include "base/compiler.h"
#include "format/half.h"
#include "model/linear_impl.h"

#include <math.h>

enum { SIDE = 32, MIN_TOKENS = 8 }; /* tokens side by side; fewer are treated one by one */

bool ht_linear_has_terms(const struct ht_linear *l) {
    const unsigned terms =
        HT_LEAVES_COLUMNS | HT_LEAVES_SPARSE | HT_LEAVES_LOWRANK | HT_LEAVES_OUT_BIAS | HT_LEAVES_THRESHOLD;
    return l->side != NULL && (l->side->leaves & terms) != 0;
}

/* ---- sizes ------------------------------------------------------------------------------------------------- */

/* Inputs of all terms: kept, large, low, and u where single weights need it. */
static size_t most_inputs(const struct ht_linear *l) {
    const struct ht_sidecar *s = l->side;
    return (size_t)s->n_out + s->rank + ((s->leaves & HT_LEAVES_THRESHOLD) != 0 ? (size_t)l->w.cols : 0) +
           ((s->leaves & HT_LEAVES_SPARSE) != 0 ? (size_t)l->w.cols : 0);
}

size_t ht_linear_terms_bytes(const struct ht_linear *l, size_t n_tokens) {
    if (!ht_linear_has_terms(l) || n_tokens < MIN_TOKENS) {
        return 0;
    }
    return (n_tokens + SIDE - 1) / SIDE * SIDE * most_inputs(l) * sizeof(float);
}

size_t ht_linear_terms_thread_bytes(const struct ht_linear *l) {
    return ht_linear_has_terms(l) ? (most_inputs(l) + (size_t)l->w.cols) * sizeof(float) : 0;
}

/* ---- columns beyond the threshold ------------------------------------------------------------------------------ */

HT_CLONES
static void mark(const float *u, size_t n, float threshold, uint32_t *any) {
    for (size_t k = 0; k < n; k++) {
        any[k] |= fabsf(u[k]) > threshold;
    }
}

void ht_linear_find_large(struct ht_linear_job *j) {
    const struct ht_sidecar *s = j->l->side;
    j->n_large = 0;
    if ((s->leaves & HT_LEAVES_THRESHOLD) == 0) {
        return;
    }
    memset(j->large, 0, j->K * sizeof *j->large);
    for (size_t t = 0; t < j->T; t++) {
        mark(j->u + t * j->K, j->K, s->threshold, j->large);
    }
    for (uint32_t i = 0; i < s->n_out; i++) {
        j->large[s->out_idx[i]] = 0;
    }
    for (size_t k = 0; k < j->K; k++) { /* in place: n_large <= k */
        if (j->large[k] != 0) {
            j->large[j->n_large++] = (uint32_t)k;
        }
    }
}

/* ---- inputs ---------------------------------------------------------------------------------------------------- */

/* x [n_tokens, n] -> out [n, SIDE], 0 beyond the tokens. */
HT_CLONES
static void side_by_side(const float *x, size_t stride, size_t n_tokens, size_t n, float *out) {
    enum { BLOCK = 16 };
    memset(out, 0, n_tokens < SIDE ? n * SIDE * sizeof *out : 0);
    for (size_t k0 = 0; k0 < n; k0 += BLOCK) {
        size_t m = n - k0 < BLOCK ? n - k0 : BLOCK;
        for (size_t t = 0; t < n_tokens; t++) {
            for (size_t k = 0; k < m; k++) {
                out[(k0 + k) * SIDE + t] = x[t * stride + k0 + k];
            }
        }
    }
}

/* Of a tile of tokens: [kept | large | low | u], each [n, SIDE]. */
static size_t inputs_of(const struct ht_linear_job *j) {
    const struct ht_sidecar *s = j->l->side;
    return s->n_out + j->n_large + s->rank + ((s->leaves & HT_LEAVES_SPARSE) != 0 ? j->K : 0);
}

static void pack_task(void *ctx, size_t tile, int thread) {
    (void)thread;
    const struct ht_linear_job *j = ctx;
    const struct ht_sidecar *s = j->l->side;
    size_t t0 = tile * SIDE, n = j->T - t0 < SIDE ? j->T - t0 : SIDE;
    const float *u = j->u + t0 * j->K;
    float *out = j->packed + tile * SIDE * inputs_of(j);
    side_by_side(j->kept + t0 * s->n_out, s->n_out, n, s->n_out, out);
    out += (size_t)s->n_out * SIDE;
    for (size_t i = 0; i < j->n_large; i++, out += SIDE) {
        for (size_t t = 0; t < SIDE; t++) {
            float v = t < n ? u[t * j->K + j->large[i]] : 0;
            out[t] = fabsf(v) > s->threshold ? v : 0;
        }
    }
    side_by_side(j->low + t0 * s->rank, s->rank, n, s->rank, out);
    out += (size_t)s->rank * SIDE;
    if ((s->leaves & HT_LEAVES_SPARSE) != 0) {
        side_by_side(u, j->K, n, j->K, out);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

/* Values of a row at the large columns, those of ht_qtensor_decode. */
static void codes_at(const struct ht_qtensor *q, uint64_t r, const uint32_t *columns, size_t n, float *x) {
    const struct ht_code *c = q->scheme.format->code;
    const uint8_t *fields = q->codes + r * q->row_bytes;
    const float *levels = c->fitted != HT_FITTED_NOT ? q->levels : NULL;
    bool bytes = c->bits == 8 && c->hi - c->lo == 255;
    struct ht_affine a = {0, 0, 0};
    uint64_t group = UINT64_MAX;
    for (size_t i = 0; i < n; i++) {
        uint32_t k = columns[i];
        if (k / q->run != group) {
            group = k / q->run;
            a = ht_qtensor_grid(q, r, group);
        }
        int32_t code = bytes ? fields[k] + c->lo : ht_code_get(q->scheme.format, fields, k);
        x[i] = ht_scheme_value(&q->scheme, levels, &a, code);
    }
}

/* A row's weights: kept, large, low, single ones. */
struct row {
    float *kept, *large, *low, *single;
    const uint32_t *at; /* columns of the single ones */
    size_t n_single;
};

static struct row row_of(const struct ht_linear_job *j, uint64_t r, float *memory) {
    const struct ht_sidecar *s = j->l->side;
    struct row row = {.kept = memory};
    row.large = row.kept + s->n_out;
    row.low = row.large + j->n_large;
    row.single = row.low + s->rank;
    if (s->n_out > 0) {
        ht_kernels()->f32_from_f16(s->out_val + r * s->n_out, row.kept, s->n_out);
    }
    if (s->rank > 0) {
        ht_kernels()->f32_from_f16(s->lr_b + r * s->rank, row.low, s->rank);
    }
    if ((s->leaves & HT_LEAVES_SPARSE) != 0) {
        row.at = s->sp_idx + s->sp_ptr[r];
        row.n_single = s->sp_ptr[r + 1] - s->sp_ptr[r];
        ht_kernels()->f32_from_f16(s->sp_val + s->sp_ptr[r], row.single, row.n_single);
    }
    if (j->n_large > 0 && j->l->q != NULL) {
        codes_at(j->l->q, r, j->large, j->n_large, row.large);
    } else if (j->n_large > 0) {
        float *decoded = row.single + (row.n_single > 0 ? j->K : 0);
        ht_linear_codes_row(j->l, r, decoded);
        for (size_t i = 0; i < j->n_large; i++) {
            row.large[i] = decoded[j->large[i]];
        }
    }
    return row;
}

static inline float add_singles(float sum, const float *w, const uint32_t *at, size_t n, const float *u) {
    for (size_t i = 0; i < n; i++) {
        sum += w[i] * u[at[i]];
    }
    return sum;
}

static float one_token(const struct ht_linear_job *j, const struct row *row, size_t t) {
    const struct ht_sidecar *s = j->l->side;
    const float *u = j->u + t * j->K, *kept = j->kept + t * s->n_out, *low = j->low + t * s->rank;
    float sum = 0;
    for (uint32_t i = 0; i < s->n_out; i++) {
        sum += row->kept[i] * kept[i];
    }
    for (size_t i = 0; i < j->n_large; i++) {
        float v = u[j->large[i]];
        sum += row->large[i] * (fabsf(v) > s->threshold ? v : 0);
    }
    for (uint32_t i = 0; i < s->rank; i++) {
        sum += row->low[i] * low[i];
    }
    return add_singles(sum, row->single, row->at, row->n_single, u);
}

/* sum [SIDE] of the tokens of a tile; x as pack_task leaves it, n_dense inputs before u. */
HT_CLONES
static void tile_of(const struct row *row, const float *x, size_t n_dense, float *sum) {
    float acc[SIDE] = {0};
    for (size_t i = 0; i < n_dense; i++) {
        HT_LANE_LOOP
        for (size_t t = 0; t < SIDE; t++) {
            acc[t] += row->kept[i] * x[i * SIDE + t];
        }
    }
    x += n_dense * SIDE;
    for (size_t i = 0; i < row->n_single; i++) {
        const float *u = x + (size_t)row->at[i] * SIDE;
        HT_LANE_LOOP
        for (size_t t = 0; t < SIDE; t++) {
            acc[t] += row->single[i] * u[t];
        }
    }
    memcpy(sum, acc, sizeof acc);
}

/* Single weights alone, few tokens: the values of all rows lie one behind the other, and so they are converted. */
static void few_singles(const struct ht_linear_job *j, uint64_t row0, uint64_t rows) {
    enum { BATCH = 64 };
    const struct ht_sidecar *s = j->l->side;
    float value[BATCH];
    uint32_t from = 0, filled = s->sp_ptr[row0], at = filled, end = s->sp_ptr[row0 + rows];
    for (uint64_t r = row0; r < row0 + rows; r++) {
        float bias = (s->leaves & HT_LEAVES_OUT_BIAS) != 0 ? s->out_bias[r] : 0, sum[MIN_TOKENS] = {0};
        for (uint32_t stop = s->sp_ptr[r + 1], n; at < stop; at += n) {
            if (at == filled) {
                n = end - at < BATCH ? end - at : BATCH;
                ht_kernels()->f32_from_f16(s->sp_val + at, value, n);
                from = at;
                filled = at + n;
            }
            n = (stop < filled ? stop : filled) - at;
            for (size_t t = 0; t < j->T; t++) {
                sum[t] = add_singles(sum[t], value + (at - from), s->sp_idx + at, n, j->u + t * j->K);
            }
        }
        for (size_t t = 0; t < j->T; t++) {
            j->y[t * j->y_stride + r] += sum[t] + bias;
        }
    }
}

static void terms_task(void *ctx, size_t task, int thread) {
    const struct ht_linear_job *j = ctx;
    const struct ht_sidecar *s = j->l->side;
    uint64_t row0 = task * HT_LINEAR_ROWS, left = j->l->w.rows - row0;
    uint64_t rows = left < HT_LINEAR_ROWS ? left : HT_LINEAR_ROWS;
    size_t inputs = inputs_of(j), n_dense = s->n_out + j->n_large + s->rank;
    float *memory = (float *)(void *)(j->shared + (size_t)thread * j->thread_bytes);
    if (j->T < MIN_TOKENS && n_dense == 0 && (s->leaves & HT_LEAVES_SPARSE) != 0) {
        few_singles(j, row0, rows);
        return;
    }
    for (uint64_t r = row0; r < row0 + rows; r++) {
        struct row row = row_of(j, r, memory);
        float bias = (s->leaves & HT_LEAVES_OUT_BIAS) != 0 ? s->out_bias[r] : 0, sum[SIDE];
        for (size_t t = 0; t < j->T; t++) {
            if (j->T < MIN_TOKENS) {
                sum[t] = one_token(j, &row, t);
            } else if (t % SIDE == 0) {
                tile_of(&row, j->packed + t * inputs, n_dense, sum);
            }
            j->y[t * j->y_stride + r] += sum[t % SIDE] + bias;
        }
    }
}

void ht_linear_add_terms(struct ht_linear_job *j, struct ht_pool *pool) {
    const unsigned always = HT_LEAVES_COLUMNS | HT_LEAVES_SPARSE | HT_LEAVES_LOWRANK | HT_LEAVES_OUT_BIAS;
    if ((j->l->side->leaves & always) == 0 && j->n_large == 0) {
        return;
    }
    if (j->T >= MIN_TOKENS) {
        ht_pool_run(pool, (j->T + SIDE - 1) / SIDE, pack_task, j);
    }
    ht_pool_run(pool, (size_t)((j->l->w.rows + HT_LINEAR_ROWS - 1) / HT_LINEAR_ROWS), terms_task, j);
}
