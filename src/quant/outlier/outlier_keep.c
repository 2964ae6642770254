/* Weights that are kept: by column, one by one, and those that become 0. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "quant/outlier/outlier.h"
#include "quant/range_scheme.h"
#include "quant/round/dense.h"

/* ---- what rounding to nearest costs ------------------------------------------------------------------------- */

/* error [rows, cols] = w - nearest value, on grids of least squared error; importance [cols] or NULL. */
static ht_status nearest_errors(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                                uint64_t cols, const float *importance, float *error, ht_err *err) {
    struct ht_qtensor q = {0};
    struct ht_qtensor_options o = {.pool = pool, .weight = importance};
    struct ht_range_choice choice;
    struct ht_range_scheme range;
    ht_status status = HT_OK;
    if (!scheme->format->code->fitted && ht_scheme_range(scheme) == ht_range_minmax) {
        HT_TRY(ht_range_parse(importance != NULL ? "wmse" : "mse", &choice, err));
        HT_TRY(ht_range_scheme_init(&range, &choice, scheme, err));
        o.range = ht_range_of_scheme;
        o.range_ctx = &range;
    }
    HT_TRY_DONE(ht_qtensor_init(&q, scheme, rows, cols, NULL, err));
    HT_TRY_DONE(ht_qtensor_encode(&q, w, &o, NULL, err));
    ht_qtensor_decode(&q, 0, rows, error);
    for (uint64_t i = 0; i < rows * cols; i++) {
        error[i] = w[i] - error[i];
    }
done:
    ht_qtensor_deinit(&q);
    return status;
}

/* diag(H) is finite and not negative. */
static ht_status check_diagonal(const float *hessian, uint64_t cols, ht_err *err) {
    for (uint64_t j = 0; j < cols; j++) {
        float d = hessian[j * cols + j];
        if (!isfinite(d) || d < 0) {
            return ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "its diagonal holds %g at %llu: the inputs of this "
                           "layer are not finite", (double)d, (unsigned long long)j);
        }
    }
    return HT_OK;
}

struct scored {
    float score; /* falling */
    uint64_t at;
};

static int by_falling_score(const void *a, const void *b) {
    const struct scored *x = a, *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->at < y->at ? -1 : 1;
}

static ht_status check_fraction(const char *what, double fraction, ht_err *err) {
    if (!(fraction >= 0.0 && fraction <= 1.0)) {
        return ht_fail(err, HT_INVAL, what, HT_NO_POS, "expected a share from 0 to 1, found %g", fraction);
    }
    return HT_OK;
}

/* ---- how many ------------------------------------------------------------------------------------------------- */

uint64_t ht_columns_count(const struct ht_columns_options *o, uint64_t rows, uint64_t cols) {
    double budget = o->bits * (double)rows * (double)cols;
    double want = o->bits > 0 ? fmax(floor(budget / (16.0 * (double)rows + 32.0)), 1)
                              : ceil(o->fraction * (double)cols - 1e-9);
    return want < (double)cols ? (uint64_t)want : cols;
}

uint64_t ht_salient_count(double fraction, uint64_t cols) {
    return (uint64_t)ceil(fraction * (double)cols);
}

uint64_t ht_sparse_count(double fraction, uint64_t rows, uint64_t cols) {
    return (uint64_t)(fraction * (double)(rows * cols) + 0.5);
}

/* ---- columns by input ------------------------------------------------------------------------------------------ */

ht_status ht_keep_salient(const float *mean_abs, uint64_t rows, uint64_t cols, double fraction, uint8_t *keep,
                          uint64_t *n, ht_err *err) {
    HT_TRY(check_fraction("salient", fraction, err));
    struct scored *score = ht_mem_alloc_array(cols, sizeof *score);
    if (score == NULL) {
        return ht_fail_nomem(err, cols * sizeof *score);
    }
    ht_status status = HT_OK;
    for (uint64_t j = 0; j < cols; j++) {
        score[j] = (struct scored){mean_abs[j], j};
        if (!isfinite(mean_abs[j])) {
            status = ht_fail(err, HT_NUMERIC, "salient", j, "the mean magnitude of input %llu is not finite",
                             (unsigned long long)j);
            goto done;
        }
    }
    qsort(score, (size_t)cols, sizeof *score, by_falling_score);
    *n = ht_salient_count(fraction, cols);
    for (uint64_t k = 0; k < *n; k++) {
        for (uint64_t i = 0; i < rows; i++) {
            keep[i * cols + score[k].at] = HT_KEEP_VALUE;
        }
    }
done:
    ht_mem_free(score);
    return status;
}

/* ---- columns ------------------------------------------------------------------------------------------------- */

ht_status ht_keep_columns(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                          uint64_t cols, const float *hessian, const struct ht_columns_options *o, uint8_t *keep,
                          uint64_t *n, ht_err *err) {
    HT_TRY(check_fraction("columns", o->fraction, err));
    HT_TRY(check_diagonal(hessian, cols, err));
    if (!(o->bits >= 0.0 && o->bits <= 16.0)) {
        return ht_fail(err, HT_INVAL, "columns", HT_NO_POS, "expected 0 to 16 bits per weight, found %g", o->bits);
    }
    float *error = ht_mem_alloc_array(rows * cols, sizeof *error);
    struct scored *score = ht_mem_alloc_array(cols, sizeof *score);
    ht_status status = HT_OK;
    if (error == NULL || score == NULL) {
        status = ht_fail_nomem(err, (rows + 4) * cols * sizeof *error);
        goto done;
    }
    /* With importance a grid gives way to the very column that should leave it, and its neighbours bear the damage. */
    HT_TRY_DONE(nearest_errors(pool, scheme, w, rows, cols, NULL, error, err));
    for (uint64_t j = 0; j < cols; j++) {
        double sum = 0;
        for (uint64_t i = 0; i < rows; i++) {
            sum += (double)error[i * cols + j] * (double)error[i * cols + j];
        }
        score[j] = (struct scored){(float)(sum * (double)hessian[j * cols + j]), j};
    }
    qsort(score, cols, sizeof *score, by_falling_score);
    *n = ht_columns_count(o, rows, cols);
    for (uint64_t k = 0; k < *n; k++) {
        for (uint64_t i = 0; i < rows; i++) {
            keep[i * cols + score[k].at] = HT_KEEP_VALUE;
        }
    }
done:
    ht_mem_free(score);
    ht_mem_free(error);
    return status;
}

/* ---- single weights -------------------------------------------------------------------------------------------- */

ht_status ht_outlier_inverse_diagonal(struct ht_pool *pool, const float *hessian, uint64_t n, double damping,
                                      float *out, ht_err *err) {
    float *l = ht_mem_alloc_aligned(n * n, sizeof *l), *x = ht_mem_alloc_aligned(n * n, sizeof *x);
    uint64_t pivot = 0;
    double mean = 0;
    ht_status status = l == NULL || x == NULL ? ht_fail_nomem(err, 2 * n * n * sizeof *l) : HT_OK;
    for (uint64_t i = 0; status == HT_OK && i < n; i++) {
        mean += (double)hessian[i * n + i] / (double)n;
    }
    if (status == HT_OK && !isfinite(mean)) {
        status = ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "the inputs of this layer are not finite");
    }
    for (int attempt = 0; status == HT_OK && pivot < n; attempt++, damping = damping > 0 ? damping * 10 : 1e-4) {
        if (attempt > 12) {
            status = ht_fail(err, HT_NUMERIC, "hessian", HT_NO_POS, "it is not positive definite however it is damped");
            break;
        }
        memcpy(l, hessian, n * n * sizeof *l);
        for (uint64_t i = 0; i < n; i++) {
            l[i * n + i] += mean > 0 ? (float)(damping * mean) : 1.0f;
        }
        status = ht_dense_cholesky(pool, l, n, &pivot, err);
    }
    /* Rows of x = L^-1, one after the other: x_i = (e_i - sum_k<i L_ik x_k) / L_ii. Then [H^-1]_jj = sum_i x_ij^2. */
    for (uint64_t i = 0; status == HT_OK && i < n; i++) {
        float *row = x + i * n, inverse = 1.0f / l[i * n + i];
        memset(row, 0, n * sizeof *row);
        row[i] = 1.0f;
        for (uint64_t k = 0; k < i; k++) {
            float c = l[i * n + k];
            const float *other = x + k * n;
            for (uint64_t j = 0; j <= k; j++) {
                row[j] -= c * other[j];
            }
        }
        for (uint64_t j = 0; j <= i; j++) {
            row[j] *= inverse;
            out[j] = (i == j ? 0.0f : out[j]) + row[j] * row[j];
        }
    }
    ht_mem_free_aligned(x);
    ht_mem_free_aligned(l);
    return status;
}

ht_status ht_keep_sparse(struct ht_pool *pool, const struct ht_scheme *scheme, const float *w, uint64_t rows,
                         uint64_t cols, const float *hessian, const struct ht_sparse_options *o, uint8_t *keep,
                         uint64_t *n, ht_err *err) {
    uint64_t elems = rows * cols;
    HT_TRY(check_fraction("sparse", o->fraction, err));
    HT_TRY(check_diagonal(hessian, cols, err));
    float *error = ht_mem_alloc_array(elems, sizeof *error), *inverse = ht_mem_alloc_array(cols, sizeof *inverse);
    struct scored *score = ht_mem_alloc_array(elems, sizeof *score);
    ht_status status = HT_OK;
    *n = 0;
    if (error == NULL || inverse == NULL || score == NULL) {
        status = ht_fail_nomem(err, elems * (sizeof *error + sizeof *score));
        goto done;
    }
    for (uint64_t j = 0; j < cols; j++) {
        inverse[j] = hessian[j * cols + j];
    }
    HT_TRY_DONE(nearest_errors(pool, scheme, w, rows, cols, inverse, error, err));
    HT_TRY_DONE(ht_outlier_inverse_diagonal(pool, hessian, cols, o->damping, inverse, err));
    for (uint64_t i = 0; i < elems; i++) {
        score[i] = (struct scored){error[i] * error[i] / (2.0f * inverse[i % cols]), i};
    }
    qsort(score, elems, sizeof *score, by_falling_score);
    uint64_t most = o->tau > 0 ? elems : ht_sparse_count(o->fraction, rows, cols);
    for (uint64_t k = 0; k < most && (o->tau == 0 || (double)score[k].score > o->tau); k++) {
        if (keep[score[k].at] == HT_KEEP_GRID) {
            keep[score[k].at] = HT_KEEP_REST;
            ++*n;
        }
    }
done:
    ht_mem_free(score);
    ht_mem_free(inverse);
    ht_mem_free(error);
    return status;
}

/* ---- zeros --- */

/* The `zeros` lowest of n scores, whose marks begin at keep, are cut. */
static uint64_t cut(struct scored *score, uint64_t n, uint64_t zeros, uint8_t *keep) {
    uint64_t done = 0;
    qsort(score, n, sizeof *score, by_falling_score);
    for (uint64_t k = n - zeros; k < n; k++) {
        if (keep[score[k].at] == HT_KEEP_GRID) {
            keep[score[k].at] = HT_KEEP_ZERO;
            done++;
        }
    }
    return done;
}

ht_status ht_keep_pruned(struct ht_pool *pool, const float *w, uint64_t rows, uint64_t cols, const float *hessian,
                         const struct ht_prune_options *o, uint8_t *keep, uint64_t *n, ht_err *err) {
    bool whole = o->score == HT_PRUNE_MAGNITUDE && o->m == 0;
    uint64_t room = whole ? rows * cols : cols;
    HT_TRY(check_fraction("prune", o->fraction, err));
    if (o->score != HT_PRUNE_MAGNITUDE) {
        HT_TRY(check_diagonal(hessian, cols, err));
    }
    if (o->m > 0 && o->n > o->m) {
        return ht_fail(err, HT_INVAL, "prune", HT_NO_POS, "of every %u weights %u cannot stay", o->m, o->n);
    }
    struct scored *score = ht_mem_alloc_array(room, sizeof *score);
    float *factor = ht_mem_alloc_array(cols, sizeof *factor);
    ht_status status = HT_OK;
    *n = 0;
    if (score == NULL || factor == NULL) {
        status = ht_fail_nomem(err, room * sizeof *score);
        goto done;
    }
    if (o->score == HT_PRUNE_HESSIAN) {
        HT_TRY_DONE(ht_outlier_inverse_diagonal(pool, hessian, cols, o->damping, factor, err));
    }
    for (uint64_t j = 0; j < cols; j++) {
        factor[j] = o->score == HT_PRUNE_HESSIAN ? 1.0f / factor[j]
                    : o->score == HT_PRUNE_ACTIVATION ? hessian[j * cols + j] : 1.0f;
    }
    for (uint64_t i = 0; i < rows; i++) {
        uint64_t base = whole ? i * cols : 0;
        for (uint64_t j = 0; j < cols; j++) {
            score[base + j] = (struct scored){w[i * cols + j] * w[i * cols + j] * factor[j], base + j};
        }
        for (uint64_t j = 0; o->m > 0 && j + o->m <= cols; j += o->m) {
            *n += cut(score + j, o->m, o->m - o->n, keep + i * cols);
        }
        if (o->m == 0 && !whole) {
            *n += cut(score, cols, (uint64_t)(o->fraction * (double)cols + 0.5), keep + i * cols);
        }
    }
    if (whole) {
        *n = cut(score, room, (uint64_t)(o->fraction * (double)room + 0.5), keep);
    }
done:
    ht_mem_free(factor);
    ht_mem_free(score);
    return status;
}
