#include "quant/transform/rotation.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "tensor/hadamard.h"

#define TASK_ROWS 16u

/* ---- cores ------------------------------------------------------------------------------------------------- */

static bool is_prime(uint64_t q) {
    for (uint64_t d = 2; d * d <= q; d++) {
        if (q % d == 0) {
            return false;
        }
    }
    return q > 1;
}

static bool first_kind(uint64_t m) {
    return m % 4 == 0 && is_prime(m - 1);
}

static bool second_kind(uint64_t m) {
    return m % 4 == 0 && (m / 2 - 1) % 4 == 1 && is_prime(m / 2 - 1);
}

uint64_t ht_rotation_core(uint64_t n) {
    uint64_t pow2 = ht_hadamard_block(n), odd = n / pow2;
    if (odd == 1) {
        return 1;
    }
    for (uint64_t f = 4; f <= pow2 && odd * f <= HT_MAX_ROTATION_CORE; f *= 2) {
        if (first_kind(odd * f) || second_kind(odd * f)) {
            return odd * f;
        }
    }
    return 0;
}

/* Quadratic character of a modulo the prime q: 0, 1 or -1; by Euler's criterion. */
static int character(uint64_t a, uint64_t q) {
    uint64_t r = 1;
    for (uint64_t e = (q - 1) / 2, b = a % q; e != 0; e /= 2, b = b * b % q) {
        r = e % 2 != 0 ? r * b % q : r;
    }
    return a % q == 0 ? 0 : r == 1 ? 1 : -1;
}

/* Entry of Paley's conference matrix of order q + 1: a border of ones around the characters of i - j; skew-symmetric
 * for q = 3 mod 4, symmetric for q = 1 mod 4, 0 on the diagonal. */
static int conference(uint64_t i, uint64_t j, uint64_t q) {
    if (i == 0 || j == 0) {
        return i == j ? 0 : i != 0 && q % 4 == 3 ? -1 : 1;
    }
    return character(i - 1 + q - (j - 1), q);
}

/* I + S with S skew (first kind); each entry of S (x) [1 1; 1 -1], with [1 -1; -1 -1] on the diagonal (second). */
static void paley(float *c, uint64_t m) {
    bool first = first_kind(m);
    uint64_t q = first ? m - 1 : m / 2 - 1;
    float unit = (float)(1 / sqrt((double)m));
    for (uint64_t i = 0; i < m; i++) {
        for (uint64_t j = 0; j < m; j++) {
            int e = first ? conference(i, j, q) + (i == j) : conference(i / 2, j / 2, q);
            if (!first) {
                bool last = i % 2 == 1 && j % 2 == 1;
                e = i / 2 == j / 2 ? (i % 2 == 0 && j % 2 == 0 ? 1 : -1) : last ? -e : e;
            }
            c[i * m + j] = (float)e * unit;
        }
    }
}

/* Rows of normals, made orthonormal one after the other, twice each: uniform among all orthogonal matrices. */
static ht_status random_core(float *c, uint64_t m, struct ht_rng *rng, ht_err *err) {
    double *a = ht_mem_alloc_array(m * m, sizeof *a);
    if (a == NULL) {
        return ht_fail_nomem(err, m * m * sizeof *a);
    }
    for (uint64_t i = 0; i < m * m; i++) {
        a[i] = ht_rng_normal(rng);
    }
    for (uint64_t i = 0; i < m; i++) {
        double *row = a + i * m, norm = 0;
        for (uint64_t k = 0; k < 2 * i; k++) {
            const double *other = a + k % i * m;
            double dot = 0;
            for (uint64_t j = 0; j < m; j++) {
                dot += row[j] * other[j];
            }
            for (uint64_t j = 0; j < m; j++) {
                row[j] -= dot * other[j];
            }
        }
        for (uint64_t j = 0; j < m; j++) {
            norm += row[j] * row[j];
        }
        for (uint64_t j = 0; j < m; j++) {
            row[j] /= sqrt(norm);
            c[i * m + j] = (float)row[j];
        }
    }
    ht_mem_free(a);
    return HT_OK;
}

ht_status ht_rotation_init(struct ht_rotation *q, uint64_t n, uint64_t seed, ht_err *err) {
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    memset(q, 0, sizeof *q);
    q->n = n;
    q->core = n != 0 ? ht_rotation_core(n) : 0;
    q->hadamard = q->core != 0;
    q->core = q->core != 0 || n == 0 ? q->core : n / ht_hadamard_block(n);
    if (q->core == 0 || q->core > HT_MAX_ROTATION_CORE) {
        return ht_fail(err, HT_UNSUPPORTED, "rotation", HT_NO_POS,
                       "no rotation of %llu channels: the odd factor %llu is above %u", (unsigned long long)n,
                       (unsigned long long)q->core, HT_MAX_ROTATION_CORE);
    }
    q->block = n / q->core;
    q->sign = ht_mem_alloc_array(n, sizeof *q->sign);
    q->c = q->core > 1 ? ht_mem_alloc_array(q->core * q->core, sizeof *q->c) : NULL;
    if (q->sign == NULL || (q->core > 1 && q->c == NULL)) {
        ht_rotation_deinit(q);
        return ht_fail_nomem(err, (n + q->core * q->core) * sizeof *q->sign);
    }
    for (uint64_t i = 0; i < n; i++) {
        q->sign[i] = ht_rng_u64(&rng) >> 63 != 0 ? -1.0f : 1.0f;
    }
    ht_status status = HT_OK;
    if (q->c != NULL && q->hadamard) {
        paley(q->c, q->core);
    } else if (q->c != NULL) {
        status = random_core(q->c, q->core, &rng, err);
    }
    if (status != HT_OK) {
        ht_rotation_deinit(q);
    }
    return status;
}

void ht_rotation_deinit(struct ht_rotation *q) {
    ht_mem_free(q->c);
    ht_mem_free(q->sign);
    memset(q, 0, sizeof *q);
}

/* ---- use --------------------------------------------------------------------------------------------------- */

/* x [n] in place, t [n] scratch. Element a * block + b of x: H runs over b, C over a. */
void ht_rotation_row(const struct ht_rotation *q, float *x, float *t) {
    for (uint64_t i = 0; i < q->n; i++) {
        x[i] *= q->sign[i];
    }
    ht_hadamard(x, (size_t)q->n, (size_t)q->block);
    if (q->c == NULL) {
        return;
    }
    memset(t, 0, q->n * sizeof *t);
    for (uint64_t i = 0; i < q->core; i++) {
        for (uint64_t j = 0; j < q->core; j++) {
            float c = q->c[i * q->core + j];
            for (uint64_t b = 0; b < q->block; b++) {
                t[i * q->block + b] += c * x[j * q->block + b];
            }
        }
    }
    memcpy(x, t, q->n * sizeof *x);
}

struct turning {
    const struct ht_rotation *q;
    float *x, *scratch;
    uint64_t rows, stride; /* of rows; of outputs: cols, cols */
    uint64_t thread_elems;
};

static void rows_task(void *ctx, size_t task, int thread) {
    const struct turning *j = ctx;
    for (uint64_t r = task * TASK_ROWS; r < j->rows && r < (task + 1) * TASK_ROWS; r++) {
        ht_rotation_row(j->q, j->x + r * j->stride, j->scratch + (uint64_t)thread * j->thread_elems);
    }
}

/* TASK_ROWS columns, gathered into rows. */
static void outputs_task(void *ctx, size_t task, int thread) {
    const struct turning *j = ctx;
    float *t = j->scratch + (uint64_t)thread * j->thread_elems, *rows = t + j->q->n;
    uint64_t from = task * TASK_ROWS, count = j->rows - from < TASK_ROWS ? j->rows - from : TASK_ROWS;
    for (uint64_t i = 0; i < j->q->n; i++) {
        for (uint64_t c = 0; c < count; c++) {
            rows[c * j->q->n + i] = j->x[i * j->stride + from + c];
        }
    }
    for (uint64_t c = 0; c < count; c++) {
        ht_rotation_row(j->q, rows + c * j->q->n, t);
    }
    for (uint64_t i = 0; i < j->q->n; i++) {
        for (uint64_t c = 0; c < count; c++) {
            j->x[i * j->stride + from + c] = rows[c * j->q->n + i];
        }
    }
}

static ht_status run(struct ht_pool *pool, struct turning *j, ht_task_fn *fn, ht_err *err) {
    uint64_t elems = (uint64_t)ht_pool_threads(pool) * j->thread_elems;
    j->scratch = ht_mem_alloc_array(elems, sizeof *j->scratch);
    if (j->scratch == NULL) {
        return ht_fail_nomem(err, elems * sizeof *j->scratch);
    }
    ht_pool_run(pool, (size_t)((j->rows + TASK_ROWS - 1) / TASK_ROWS), fn, j);
    ht_mem_free(j->scratch);
    return HT_OK;
}

ht_status ht_rotation_rows(const struct ht_rotation *q, struct ht_pool *pool, float *x, uint64_t n_rows,
                           uint64_t row_stride, ht_err *err) {
    struct turning j = {q, x, NULL, n_rows, row_stride, q->n};
    return run(pool, &j, rows_task, err);
}

ht_status ht_rotation_outputs(const struct ht_rotation *q, struct ht_pool *pool, float *w, uint64_t cols, ht_err *err) {
    struct turning j = {q, w, NULL, cols, cols, (TASK_ROWS + 1) * q->n};
    return run(pool, &j, outputs_task, err);
}
