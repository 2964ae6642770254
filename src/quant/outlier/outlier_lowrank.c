/* A low-rank term for the error of a linear. The leading eigenvectors of G = E H E^T come from subspace iteration:
 * Halko et al. 2011, arXiv 0909.4061, algorithm 4.4, from seeded normal vectors. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "format/half.h"
#include "quant/outlier/outlier.h"
#include "quant/round/dense.h"

#define EXTRA 8u       /* vectors beyond the rank: the last wanted ones converge as the gap to these */
#define ITERATIONS 12
#define SWEEPS 30

struct lowrank {
    struct ht_pool *pool;
    uint64_t rows, cols, k;
    const float *h; /* [cols, cols]; diagonal: [cols] or NULL */
    bool diagonal;
    float *e, *eh;  /* [rows, cols] */
    float *g;       /* [rows, rows] */
    float *q, *y;   /* [k, rows] */
    double *t, *u;  /* [k, k] */
    void *scratch;
};

/* eh = e H; returns tr(e H e^T). */
static double loss_of(struct lowrank *l) {
    double sum = 0;
    if (l->diagonal) {
        for (uint64_t i = 0; i < l->rows * l->cols; i++) {
            l->eh[i] = l->h != NULL ? l->e[i] * l->h[i % l->cols] : l->e[i];
        }
    } else {
        ht_dense_product(l->pool, l->e, l->rows, l->cols, l->h, l->cols, l->cols, l->eh, l->scratch);
    }
    for (uint64_t i = 0; i < l->rows * l->cols; i++) {
        sum += (double)l->e[i] * (double)l->eh[i];
    }
    return sum;
}

static double product(const float *a, const float *b, uint64_t n) {
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

/* Rows of q become orthonormal; one that hangs on those before it becomes 0. Twice, for the precision. */
static void orthonormalize(float *q, uint64_t k, uint64_t n) {
    for (uint64_t i = 0; i < k; i++) {
        float *row = q + i * n;
        double start = product(row, row, n);
        for (int pass = 0; pass < 2; pass++) {
            for (uint64_t p = 0; p < i; p++) {
                float c = (float)product(row, q + p * n, n);
                for (uint64_t j = 0; j < n; j++) {
                    row[j] -= c * q[p * n + j];
                }
            }
        }
        double size = product(row, row, n);
        float scale = size > 1e-12 * start ? (float)(1.0 / sqrt(size)) : 0.0f;
        for (uint64_t j = 0; j < n; j++) {
            row[j] *= scale;
        }
    }
}

static void rotate(double *x, uint64_t a, uint64_t b, double c, double s) {
    double p = x[a], q = x[b];
    x[a] = c * p - s * q;
    x[b] = s * p + c * q;
}

/* Jacobi: t [k, k] symmetric becomes diagonal, the rows of u its eigenvectors. */
static void eigen(double *t, double *u, uint64_t k) {
    for (uint64_t i = 0; i < k * k; i++) {
        u[i] = i % (k + 1) == 0 ? 1.0 : 0.0;
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double off = 0, all = 0;
        for (uint64_t i = 0; i < k * k; i++) {
            all += t[i] * t[i];
            off += i % (k + 1) != 0 ? t[i] * t[i] : 0;
        }
        if (!(off > 1e-24 * all)) {
            return;
        }
        for (uint64_t a = 0; a < k; a++) {
            for (uint64_t b = a + 1; b < k; b++) {
                if (t[a * k + b] == 0.0) {
                    continue;
                }
                double theta = (t[b * k + b] - t[a * k + a]) / (2 * t[a * k + b]);
                double tan = (theta >= 0 ? 1 : -1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(tan * tan + 1), s = tan * c;
                for (uint64_t j = 0; j < k; j++) { /* columns of t, then rows of t and u */
                    rotate(t + j * k, a, b, c, s);
                }
                for (uint64_t j = 0; j < k; j++) {
                    double p = t[a * k + j], q = t[b * k + j], v = u[a * k + j], w = u[b * k + j];
                    t[a * k + j] = c * p - s * q;
                    t[b * k + j] = s * p + c * q;
                    u[a * k + j] = c * v - s * w;
                    u[b * k + j] = s * v + c * w;
                }
            }
        }
    }
}

/* Eigenvectors of g in the rows of y, in falling order of their eigenvalues. */
static void leading(struct lowrank *l) {
    uint64_t n = l->rows, k = l->k;
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    for (uint64_t i = 0; i < k * n; i++) {
        l->q[i] = (float)ht_rng_normal(&rng);
    }
    orthonormalize(l->q, k, n);
    for (int i = 0; i < ITERATIONS; i++) {
        ht_dense_product(l->pool, l->q, k, n, l->g, n, n, l->y, l->scratch);
        memcpy(l->q, l->y, k * n * sizeof *l->q);
        orthonormalize(l->q, k, n);
    }
    ht_dense_product(l->pool, l->q, k, n, l->g, n, n, l->y, l->scratch);
    for (uint64_t a = 0; a < k; a++) {
        for (uint64_t b = 0; b <= a; b++) {
            l->t[a * k + b] = l->t[b * k + a] = product(l->y + a * n, l->q + b * n, n);
        }
    }
    eigen(l->t, l->u, k);
    for (uint64_t place = 0; place < k; place++) { /* the largest that is left */
        uint64_t best = 0;
        for (uint64_t a = 1; a < k; a++) {
            best = l->t[a * k + a] > l->t[best * k + best] ? a : best;
        }
        l->t[best * k + best] = -INFINITY;
        float *row = l->y + place * n;
        for (uint64_t j = 0; j < n; j++) {
            double sum = 0;
            for (uint64_t b = 0; b < k; b++) {
                sum += l->u[best * k + b] * (double)l->q[b * n + j];
            }
            row[j] = (float)sum;
        }
    }
}

/* Term r: b = u c, a = u^T E / c, c so that both are of one size; e loses what is stored. row: [cols]. */
static void store_term(struct lowrank *l, uint64_t r, struct ht_sidecar *side, double *row) {
    const float *u = l->y + r * l->rows;
    double size = 0;
    for (uint64_t j = 0; j < l->cols; j++) {
        row[j] = 0;
    }
    for (uint64_t i = 0; i < l->rows; i++) {
        for (uint64_t j = 0; j < l->cols; j++) {
            row[j] += (double)u[i] * (double)l->e[i * l->cols + j];
        }
    }
    for (uint64_t j = 0; j < l->cols; j++) {
        size += row[j] * row[j];
    }
    float c = size > 0 ? (float)sqrt(sqrt(size)) : 1.0f;
    for (uint64_t j = 0; j < l->cols; j++) {
        side->lr_a[r * l->cols + j] = ht_f16_from_f32((float)row[j] / c);
    }
    for (uint64_t i = 0; i < l->rows; i++) {
        uint16_t b = ht_f16_from_f32(u[i] * c);
        side->lr_b[i * side->rank + r] = b;
        for (uint64_t j = 0; j < l->cols; j++) {
            l->e[i * l->cols + j] -= ht_f16_to_f32(b) * ht_f16_to_f32(side->lr_a[r * l->cols + j]);
        }
    }
}

static size_t scratch_bytes(uint64_t rows, uint64_t cols, uint64_t k, int threads) {
    size_t a = ht_dense_scratch_bytes(rows, cols, cols, threads), b = ht_dense_scratch_bytes(rows, cols, rows, threads);
    size_t c = ht_dense_scratch_bytes(k, rows, rows, threads), most = a > b ? a : b;
    return most > c ? most : c;
}

ht_status ht_outlier_lowrank(struct ht_pool *pool, const float *w, const float *values, uint64_t rows, uint64_t cols,
                             const float *hessian, bool diagonal, struct ht_sidecar *side, double *before,
                             double *after, ht_err *err) {
    uint64_t least = rows < cols ? rows : cols;
    if (side->rank == 0 || side->rank > least) {
        return ht_fail(err, HT_INVAL, "low rank", HT_NO_POS, "expected a rank from 1 to %llu, found %u",
                       (unsigned long long)least, side->rank);
    }
    uint64_t k = side->rank + EXTRA < rows ? side->rank + EXTRA : rows, n = rows * cols;
    struct lowrank l = {.pool = pool, .rows = rows, .cols = cols, .k = k, .h = hessian, .diagonal = diagonal};
    l.e = ht_mem_alloc_aligned(n, sizeof *l.e);
    l.eh = ht_mem_alloc_aligned(n, sizeof *l.eh);
    l.g = ht_mem_alloc_aligned(rows * rows, sizeof *l.g);
    l.q = ht_mem_alloc_aligned(k * rows, sizeof *l.q);
    l.y = ht_mem_alloc_aligned(k * rows, sizeof *l.y);
    l.t = ht_mem_alloc_array(2 * k * k + cols, sizeof *l.t);
    l.scratch = ht_mem_alloc_aligned(scratch_bytes(rows, cols, k, ht_pool_threads(pool)), 1);
    ht_status status = HT_OK;
    if (!l.e || !l.eh || !l.g || !l.q || !l.y || !l.t || !l.scratch) {
        status = ht_fail_nomem(err, (2 * n + rows * rows + 2 * k * rows) * sizeof *l.e);
        goto done;
    }
    l.u = l.t + k * k;
    for (uint64_t i = 0; i < n; i++) {
        l.e[i] = w[i] - values[i];
    }
    *before = loss_of(&l);
    if (!isfinite(*before)) {
        status = ht_fail(err, HT_NUMERIC, "low rank", HT_NO_POS, "weights or inputs of this layer are not finite");
        goto done;
    }
    ht_dense_product(pool, l.eh, rows, cols, l.e, cols, rows, l.g, l.scratch);
    leading(&l);
    for (uint64_t r = 0; r < side->rank; r++) {
        store_term(&l, r, side, l.u + k * k);
    }
    *after = loss_of(&l);
done:
    ht_mem_free_aligned(l.scratch);
    ht_mem_free(l.t);
    ht_mem_free_aligned(l.y);
    ht_mem_free_aligned(l.q);
    ht_mem_free_aligned(l.g);
    ht_mem_free_aligned(l.eh);
    ht_mem_free_aligned(l.e);
    return status;
}
