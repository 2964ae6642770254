/* What quantization of a site's consumers costs at their outputs, for given factors. */
#include <string.h>

#include "base/mem.h"
#include "quant/round/dense.h"
#include "quant/transform/transform_impl.h"

#define TASK_ROWS 16u
#define GRAM_COLS 192u /* four panels of a product */

struct trial {
    const struct ht_trial *t;
    const struct ht_stats *stats;
    const float *s, *z;  /* wide or NULL */
    uint64_t rows, cols; /* in work: rows of the linear that are tried */
    uint64_t tokens;     /* of the sample; 0: by the gram */
    uint64_t from, width; /* by the gram: the columns in work */
    float *w, *q;        /* [rows, cols] weights; what comes back */
    float *x, *xq;       /* [tokens, cols] */
    float *y, *yq;       /* by the gram: [rows, cols] E H; else [tokens, rows] each */
    double *sums;        /* per task */
    double *weights;     /* [tokens] or NULL: ones */
    void *scratch;
};

static uint64_t rows_of(const struct ht_trial *t, uint64_t rows) {
    return t->max_rows != 0 && t->max_rows < rows ? t->max_rows : rows;
}

static void gather(const struct trial *t, const struct ht_fold_matrix *m) {
    for (uint64_t r = 0; r < t->rows; r++) {
        memcpy(t->w + r * t->cols, m->w + r * m->rows / t->rows * m->cols, t->cols * sizeof *t->w);
    }
}

static void scale_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct trial *t = ctx;
    for (uint64_t i = task * TASK_ROWS; i < t->rows && i < (task + 1) * TASK_ROWS; i++) {
        for (uint64_t c = 0; c < t->cols; c++) {
            t->y[i * t->cols + c] = t->w[i * t->cols + c] * t->s[c];
        }
    }
}

static void run(const struct trial *t, uint64_t rows, ht_task_fn *fn) {
    ht_pool_run(t->t->pool, (size_t)((rows + TASK_ROWS - 1) / TASK_ROWS), fn, (void *)(uintptr_t)t);
}

/* The weights as they will be quantized; y is scratch. */
static const float *scaled(const struct trial *t) {
    if (t->s == NULL) {
        return t->w;
    }
    run(t, t->rows, scale_task);
    return t->y;
}

/* q becomes E, what the weights lack as inputs meet them. */
static void error_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct trial *t = ctx;
    for (uint64_t i = task * TASK_ROWS; i < t->rows && i < (task + 1) * TASK_ROWS; i++) {
        for (uint64_t c = 0; c < t->cols; c++) {
            float *q = &t->q[i * t->cols + c];
            *q = (t->s != NULL ? *q / t->s[c] : *q) - t->w[i * t->cols + c];
        }
    }
}

/* The columns of y in work count twice: for H below its diagonal blocks, and above. */
static void double_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct trial *t = ctx;
    for (uint64_t i = task * TASK_ROWS; i < t->rows && i < (task + 1) * TASK_ROWS; i++) {
        for (uint64_t c = t->from; c < t->from + t->width; c++) {
            t->y[i * t->cols + c] *= 2;
        }
    }
}

static void gram_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct trial *t = ctx;
    double sum = 0;
    for (uint64_t i = task * TASK_ROWS * t->cols; i < t->rows * t->cols && i < (task + 1) * TASK_ROWS * t->cols; i++) {
        sum += (double)t->q[i] * (double)t->y[i];
    }
    t->sums[task] = sum;
}

static void sample_task(void *ctx, size_t task, int thread) {
    (void)thread;
    const struct trial *t = ctx;
    double sum = 0;
    for (uint64_t i = task * TASK_ROWS * t->rows; i < t->tokens * t->rows && i < (task + 1) * TASK_ROWS * t->rows;
         i++) {
        double d = (double)t->y[i] - (double)t->yq[i];
        sum += d * d * (t->weights != NULL ? t->weights[i / t->rows] : 1.0);
    }
    t->sums[task] = sum;
}

static double total(const struct trial *t, uint64_t rows, ht_task_fn *fn) {
    double sum = 0;
    run(t, rows, fn);
    for (uint64_t i = 0; i < (rows + TASK_ROWS - 1) / TASK_ROWS; i++) {
        sum += t->sums[i];
    }
    return sum;
}

/* tr(E H E^T), the lower half of H in blocks of columns: those before a block count twice. */
static double by_gram(struct trial *t) {
    const float *h = t->stats->gram;
    struct ht_side e = {.data = t->q, .stride = t->cols};
    run(t, t->rows, error_task);
    for (t->from = 0; t->from < t->cols; t->from += t->width) {
        t->width = t->cols - t->from < GRAM_COLS ? t->cols - t->from : GRAM_COLS;
        struct ht_side before = {.data = h + t->from * t->cols, .stride = t->cols}, own = before, e_own = e;
        own.data += t->from;
        e_own.data += t->from;
        if (t->from > 0) {
            ht_product(t->t->pool, e, before, t->rows, t->width, t->from, t->y + t->from, t->cols, false, t->scratch);
            run(t, t->rows, double_task);
        }
        ht_product(t->t->pool, e_own, own, t->rows, t->width, t->width, t->y + t->from, t->cols, t->from > 0,
                   t->scratch);
    }
    return total(t, t->rows, gram_task);
}

/* Sets x to what the linear sees, shifted, and xq to what is left of it behind the grid of activations. */
static ht_status prepare_inputs(struct trial *t, enum ht_role role, ht_err *err) {
    for (uint64_t i = 0; i < t->tokens; i++) {
        for (uint64_t c = 0; c < t->cols; c++) {
            float x = t->stats->sample[i * t->cols + c] - (t->z != NULL ? t->z[c] : 0);
            t->x[i * t->cols + c] = t->s != NULL ? x / t->s[c] : x;
        }
    }
    if (t->t->inputs != NULL) {
        HT_TRY(t->t->inputs(t->t->ctx, role, t->x, t->tokens, t->cols, t->s, t->xq, err));
    } else {
        memcpy(t->xq, t->x, t->tokens * t->cols * sizeof *t->x);
    }
    for (uint64_t i = 0; i < t->tokens && t->s != NULL; i++) {
        for (uint64_t c = 0; c < t->cols; c++) {
            t->x[i * t->cols + c] = t->stats->sample[i * t->cols + c] - (t->z != NULL ? t->z[c] : 0);
        }
    }
    return HT_OK;
}

static void weigh_tokens(struct trial *t) {
    for (uint64_t i = 0; t->weights != NULL && i < t->tokens; i++) {
        double sum = 0;
        for (uint64_t c = 0; c < t->cols; c++) {
            double x = t->stats->sample[i * t->cols + c];
            sum += x * x;
        }
        t->weights[i] = sum > 0 ? 1 / sum : 0;
    }
}

static double by_sample(struct trial *t) {
    ht_dense_product(t->t->pool, t->x, t->tokens, t->cols, t->w, t->cols, t->rows, t->y, t->scratch);
    ht_dense_product(t->t->pool, t->xq, t->tokens, t->cols, t->q, t->cols, t->rows, t->yq, t->scratch);
    return total(t, t->tokens, sample_task) / (double)t->tokens;
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static ht_status allocate(struct trial *t, uint64_t rows, ht_err *err) {
    int threads = ht_pool_threads(t->t->pool);
    uint64_t wide = most(rows * t->cols, t->tokens * rows);
    t->w = ht_mem_alloc_aligned(rows * t->cols, sizeof *t->w);
    t->q = ht_mem_alloc_aligned(rows * t->cols, sizeof *t->q);
    t->y = ht_mem_alloc_aligned(wide, sizeof *t->y);
    t->sums = ht_mem_alloc_array(most(rows, t->tokens) / TASK_ROWS + 1, sizeof *t->sums);
    t->scratch = ht_mem_alloc_aligned(t->tokens != 0 ? ht_dense_scratch_bytes(t->tokens, t->cols, rows, threads)
                                                     : ht_product_scratch_bytes(rows, t->cols, threads), 1);
    bool ok = t->w != NULL && t->q != NULL && t->y != NULL && t->sums != NULL && t->scratch != NULL;
    if (t->tokens != 0) {
        t->x = ht_mem_alloc_aligned(t->tokens * t->cols, sizeof *t->x);
        t->xq = ht_mem_alloc_aligned(t->tokens * t->cols, sizeof *t->xq);
        t->yq = ht_mem_alloc_aligned(t->tokens * rows, sizeof *t->yq);
        t->weights = t->t->relative ? ht_mem_alloc_array(t->tokens, sizeof *t->weights) : NULL;
        ok = ok && (t->weights != NULL || !t->t->relative) && t->x != NULL && t->xq != NULL && t->yq != NULL;
    }
    return ok ? HT_OK : ht_fail_nomem(err, (2 * rows * t->cols + wide) * sizeof *t->w);
}

static void release(struct trial *t) {
    ht_mem_free_aligned(t->w);
    ht_mem_free_aligned(t->q);
    ht_mem_free_aligned(t->y);
    ht_mem_free_aligned(t->x);
    ht_mem_free_aligned(t->xq);
    ht_mem_free_aligned(t->yq);
    ht_mem_free_aligned(t->scratch);
    ht_mem_free(t->sums);
    ht_mem_free(t->weights);
}

ht_status ht_trial_loss(const struct ht_trial *trial, const struct ht_fold_block *block, const struct ht_foldsite *site,
                        const struct ht_stats *stats, const float *s, const float *z, double *loss, ht_err *err) {
    struct trial t = {.t = trial, .stats = stats, .s = s, .z = z, .cols = ht_fold_inputs(block, site)};
    bool sample = trial->inputs != NULL || stats->gram == NULL;
    if (t.cols == 0 || stats->cols != t.cols || (sample && (stats->sample == NULL || stats->n_sample == 0))) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "a trial needs %s of %llu inputs, found %llu",
                       sample ? "a sample" : "the gram", (unsigned long long)t.cols, (unsigned long long)stats->cols);
    }
    t.tokens = sample ? stats->n_sample : 0;
    uint64_t rows = 0;
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        rows = most(rows, rows_of(trial, block->matrices[*role].rows));
    }
    ht_status status = HT_OK;
    *loss = 0;
    HT_TRY_DONE(allocate(&t, rows, err));
    weigh_tokens(&t);
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        const struct ht_fold_matrix *m = &block->matrices[*role];
        t.rows = rows_of(trial, m->rows);
        gather(&t, m);
        HT_TRY_DONE(trial->weights(trial->ctx, *role, scaled(&t), t.rows, t.cols, s, t.q, err));
        if (sample) {
            HT_TRY_DONE(prepare_inputs(&t, *role, err));
        }
        *loss += (sample ? by_sample(&t) : by_gram(&t)) * ((double)m->rows / (double)t.rows);
    }
done:
    release(&t);
    return status;
}
