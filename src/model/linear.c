/* The linear layer: passes over the pool.
 *
 *     tokens   input -> u; what the codes see (m), its codes; kept columns
 *     low      lr_a u
 *     dense    m times the weight
 *     rows     the sidecar's terms (linear_terms.c) and biases are added
 *
 * A plain matrix without sidecar is ht_matmul and the bias. */
#include "model/linear.h"

#include <math.h>

#include "model/linear_impl.h"

/* ---- sizes ------------------------------------------------------------------------------------------------- */

static size_t take(size_t *at, size_t bytes) {
    size_t start = *at;
    *at = (start + bytes + 63) & ~(size_t)63;
    return start;
}

static unsigned leaves_of(const struct ht_linear *l) {
    return l->side != NULL ? l->side->leaves : 0;
}

/* Codes times codes. */
static bool integer_product(const struct ht_linear *l) {
    return l->q != NULL && l->side != NULL && ht_act_is_integer(l->side) &&
           ht_int_is_served(&l->q->scheme, &l->side->act);
}

static struct ht_mat low_rank_a(const struct ht_linear *l) {
    const struct ht_sidecar *s = l->side;
    return (struct ht_mat){ht_format_find("f16"), s->lr_a, s->rank, s->cols, s->cols * sizeof *s->lr_a};
}

/* Whether inputs are the codes' columns as they come; and nothing of them is left out. */
static bool inputs_stay(const struct ht_linear *l) {
    return (leaves_of(l) & (HT_LEAVES_IN_SHIFT | HT_LEAVES_IN_SCALE | HT_LEAVES_HADAMARD | HT_LEAVES_PERM)) == 0;
}

static bool all_rounded(const struct ht_linear *l) {
    return (leaves_of(l) & (HT_LEAVES_COLUMNS | HT_LEAVES_THRESHOLD)) == 0 &&
           (integer_product(l) || (leaves_of(l) & HT_LEAVES_ACT) == 0);
}

struct layout {
    size_t u, m, kept, low, grids, first, large, packed, ints, shared;
    size_t codes, thread_bytes; /* of a thread: codes within */
    size_t total;
};

static struct layout layout_of(const struct ht_linear *l, size_t T, int threads) {
    struct layout a = {0};
    size_t at = 0, K = (size_t)l->w.cols, per_thread = 0;
    unsigned leaves = leaves_of(l);
    if (l->side != NULL) {
        a.u = take(&at, inputs_stay(l) ? 0 : T * K * sizeof(float));
        a.m = take(&at, all_rounded(l) ? 0 : T * K * sizeof(float));
        a.kept = take(&at, T * l->side->n_out * sizeof(float));
        a.low = take(&at, T * l->side->rank * sizeof(float));
        a.large = take(&at, (leaves & HT_LEAVES_THRESHOLD) != 0 ? K * sizeof(uint32_t) : 0);
        a.packed = take(&at, ht_linear_terms_bytes(l, T));
        take(&per_thread, K * sizeof(float));
    }
    if ((leaves & HT_LEAVES_ACT) != 0) {
        a.grids = take(&at, T * ht_act_segments(l->side) * sizeof(struct ht_affine));
    }
    size_t dense = l->q == NULL ? ht_matmul_scratch_bytes(&l->w, T, threads) : 0;
    if (integer_product(l)) {
        size_t n = (size_t)ht_act_segments(l->side);
        a.first = take(&at, n * sizeof(uint32_t));
        a.ints = take(&at, ht_int_scratch_bytes(l->q, n, &l->side->act, T, threads));
        a.codes = take(&per_thread, K * sizeof(int16_t));
    } else if (l->q != NULL) {
        dense = ht_qmatmul_scratch_bytes(l->q, T, threads);
    }
    size_t terms = (ht_linear_terms_thread_bytes(l) + 63) & ~(size_t)63;
    a.thread_bytes = per_thread > terms ? per_thread : terms;
    if ((leaves & HT_LEAVES_LOWRANK) != 0) {
        struct ht_mat thin = low_rank_a(l);
        size_t bytes = ht_matmul_scratch_bytes(&thin, T, threads);
        dense = dense > bytes ? dense : bytes;
    }
    size_t mine = (size_t)threads * a.thread_bytes;
    a.shared = take(&at, dense > mine ? dense : mine);
    a.total = at;
    return a;
}

size_t ht_linear_scratch_bytes(const struct ht_linear *l, size_t max_tokens, int threads) {
    return layout_of(l, max_tokens, threads).total;
}

/* ---- tokens ------------------------------------------------------------------------------------------------ */

static void mask(const struct ht_linear *l, const struct ht_linear_job *j, size_t t) {
    const struct ht_sidecar *s = l->side;
    const float *u = j->u + t * j->K;
    float *m = j->m + t * j->K;
    memcpy(m, u, j->K * sizeof *m);
    for (uint32_t i = 0; i < s->n_out; i++) {
        j->kept[t * s->n_out + i] = u[s->out_idx[i]];
        m[s->out_idx[i]] = 0;
    }
    for (size_t k = 0; (s->leaves & HT_LEAVES_THRESHOLD) != 0 && k < j->K; k++) {
        m[k] = fabsf(m[k]) > s->threshold ? 0 : m[k];
    }
}

static void token_task(void *ctx, size_t t, int thread) {
    const struct ht_linear_job *j = ctx;
    const struct ht_sidecar *s = j->l->side;
    float *u = j->u + t * j->K, *m = j->m + t * j->K;
    unsigned char *mine = j->shared + (size_t)thread * j->thread_bytes;
    if (u != j->x + t * j->K) {
        ht_sidecar_inputs(s, j->x + t * j->K, 1, u, (float *)(void *)mine);
    }
    if (m != u) {
        mask(j->l, j, t);
    }
    if ((s->leaves & HT_LEAVES_ACT) == 0) {
        return;
    }
    struct ht_affine *grids = j->grids + t * j->n_segments;
    ht_act_fit(s, m, grids);
    if (j->integer) {
        int16_t *codes = (int16_t *)(void *)(mine + j->thread_codes);
        ht_act_codes(s, m, grids, codes);
        ht_int_token(&j->ints, t, codes, grids);
    } else {
        ht_act_values(s, m, grids);
        /* A column that skips the rounding counts nothing here, whatever the grid makes of 0. */
        for (uint32_t i = 0; i < s->n_out; i++) {
            m[s->out_idx[i]] = 0;
        }
        for (size_t k = 0; (s->leaves & HT_LEAVES_THRESHOLD) != 0 && k < j->K; k++) {
            m[k] = fabsf(u[k]) > s->threshold ? 0 : m[k];
        }
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------- */

/* y = scale * y + bias */
static void finish_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct ht_linear_job *j = ctx;
    size_t from = task * HT_LINEAR_TOKENS, to = from + HT_LINEAR_TOKENS < j->T ? from + HT_LINEAR_TOKENS : j->T;
    for (size_t t = from; t < to; t++) {
        float *y = j->y + t * j->y_stride;
        for (uint64_t r = 0; j->l->scale != NULL && r < j->l->w.rows; r++) {
            y[r] *= *j->l->scale;
        }
        for (uint64_t r = 0; j->l->bias != NULL && r < j->l->w.rows; r++) {
            y[r] += j->l->bias[r];
        }
    }
}

/* ---- all of it --------------------------------------------------------------------------------------------- */

static void *at_or_null(unsigned char *base, size_t at, bool there) {
    return there ? base + at : NULL;
}

static void place(struct ht_linear_job *j, const struct layout *a, unsigned char *base) {
    const struct ht_linear *l = j->l;
    j->integer = integer_product(l);
    float *given = (float *)(uintptr_t)j->x; /* read only */
    j->u = inputs_stay(l) ? given : (float *)(void *)(base + a->u);
    j->m = all_rounded(l) ? j->u : (float *)(void *)(base + a->m);
    j->packed = at_or_null(base, a->packed, l->side != NULL);
    j->kept = at_or_null(base, a->kept, l->side != NULL);
    j->low = at_or_null(base, a->low, l->side != NULL);
    j->large = at_or_null(base, a->large, (leaves_of(l) & HT_LEAVES_THRESHOLD) != 0);
    j->grids = at_or_null(base, a->grids, (leaves_of(l) & HT_LEAVES_ACT) != 0);
    j->shared = base + a->shared;
    j->thread_bytes = a->thread_bytes;
    j->thread_codes = a->codes;
    if (j->integer) {
        uint32_t *first = (uint32_t *)(void *)(base + a->first);
        const struct ht_int_x x = {&l->side->act, first, (size_t)ht_act_segments(l->side)};
        for (size_t i = 0; i < x.n_segments; i++) {
            uint64_t from, to;
            ht_act_segment(l->side, i, &from, &to);
            first[i] = (uint32_t)from;
        }
        ht_int_begin(&j->ints, l->q, &x, j->T, base + a->ints);
    }
}

static void dense(struct ht_pool *pool, struct ht_linear_job *j) {
    const struct ht_linear *l = j->l;
    enum ht_math math = j->grids != NULL ? HT_MATH_EXACT : j->math;
    if (l->q == NULL) {
        ht_matmul(pool, &l->w, j->m, j->T, j->y, j->y_stride, math, j->shared);
    } else if (j->integer) {
        ht_int_run(&j->ints, pool, j->y, j->y_stride);
    } else {
        ht_qmatmul(pool, l->q, j->m, j->T, j->y, j->y_stride, math, j->shared);
    }
}

void ht_linear_apply(struct ht_pool *pool, const struct ht_linear *l, const float *x, size_t n_tokens, float *y,
                     size_t y_stride, enum ht_math math, void *scratch) {
    struct ht_linear_job j = {.l = l, .x = x, .T = n_tokens, .K = (size_t)l->w.cols, .y = y, .y_stride = y_stride,
                              .math = math};
    struct layout a = layout_of(l, n_tokens, ht_pool_threads(pool));
    place(&j, &a, scratch);
    if (l->side != NULL) {
        j.n_segments = j.grids != NULL ? (size_t)ht_act_segments(l->side) : 0;
        ht_pool_run(pool, n_tokens, token_task, &j);
        ht_linear_find_large(&j);
        if (l->side->rank > 0) {
            struct ht_mat thin = low_rank_a(l);
            ht_matmul(pool, &thin, j.u, n_tokens, j.low, l->side->rank, HT_MATH_EXACT, j.shared);
        }
    }
    dense(pool, &j);
    if (l->side != NULL) {
        ht_linear_add_terms(&j, pool);
    }
    if (l->bias != NULL || l->scale != NULL) {
        ht_pool_run(pool, (n_tokens + HT_LINEAR_TOKENS - 1) / HT_LINEAR_TOKENS, finish_task, &j);
    }
}

/* ---- questions --------------------------------------------------------------------------------------------- */

void ht_linear_codes_row(const struct ht_linear *l, uint64_t row, float *w) {
    if (l->q != NULL) {
        ht_qtensor_decode(l->q, row, 1, w);
    } else {
        l->w.format->decode((const unsigned char *)l->w.data + row * l->w.row_bytes, w, (size_t)l->w.cols);
    }
}

void ht_linear_row(const struct ht_linear *l, uint64_t row, float *w, float *scratch) {
    ht_linear_codes_row(l, row, w);
    if (l->side != NULL) {
        ht_sidecar_apply_rows(l->side, row, 1, w, scratch);
    }
    for (uint64_t k = 0; l->scale != NULL && k < l->w.cols; k++) {
        w[k] *= *l->scale;
    }
}

uint64_t ht_linear_bytes(const struct ht_linear *l) {
    return (l->q != NULL ? ht_qtensor_bytes(l->q) : l->w.rows * l->w.row_bytes) +
           (l->side != NULL ? ht_sidecar_bytes(l->side) : 0) + (l->bias != NULL ? l->w.rows * sizeof(float) : 0);
}

bool ht_linear_is_integer(const struct ht_linear *l, enum ht_math math) {
    if (integer_product(l)) {
        return true;
    }
    bool rounded = (leaves_of(l) & HT_LEAVES_ACT) != 0;
    return math == HT_MATH_FAST && !rounded &&
           (l->q != NULL ? ht_qmatmul_is_integer(l->q) : l->w.format->unpack != NULL);
}
