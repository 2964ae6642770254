/* What one linear loses: as it was written, and as its format's own rounding to nearest would have lost. Both are
 * errors of the same outputs, y = W x of the weights as they came, on the inputs that the statistics are of. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/job.h"
#include "quant/round/dense.h"

#define CHUNK 256u /* rows measured at once */

void ht_job_decode(const struct ht_job *job, uint64_t row0, uint64_t n, float *x, float *scratch) {
    struct ht_sidecar behind = job->side; /* without what is in front of the codes */
    behind.leaves &= ~(unsigned)(HT_LEAVES_IN_SHIFT | HT_LEAVES_IN_SCALE | HT_LEAVES_HADAMARD | HT_LEAVES_PERM);
    if (job->block == NULL) {
        ht_sidecar_dense(&job->q, behind.leaves != 0 ? &behind : NULL, row0, n, x, scratch);
        return;
    }
    uint64_t row_bytes = ht_format_row_bytes(job->block, job->cols);
    for (uint64_t r = 0; r < n; r++) {
        job->block->decode(job->bytes + (row0 + r) * row_bytes, x + r * job->cols, job->cols);
    }
    if (behind.leaves != 0) {
        ht_sidecar_apply_rows(&behind, row0, n, x, scratch);
    }
}

struct measure {
    const struct ht_job *job;
    const float *gram, *importance;
    float *x, *y, *room; /* [CHUNK, cols] twice, [2, cols] */
    void *scratch;
};

static void measure_deinit(struct measure *m) {
    ht_mem_free_aligned(m->x);
    ht_mem_free_aligned(m->y);
    ht_mem_free_aligned(m->room);
    ht_mem_free_aligned(m->scratch);
}

static ht_status measure_init(struct measure *m, const struct ht_job *job, ht_err *err) {
    uint64_t cols = job->cols;
    *m = (struct measure){
        .job = job,
        .gram = job->stats != NULL ? job->stats->gram : NULL,
        .x = ht_mem_alloc_aligned(CHUNK, cols * sizeof(float)),
        .y = ht_mem_alloc_aligned(CHUNK, cols * sizeof(float)),
        .room = ht_mem_alloc_aligned(2, cols * sizeof(float)),
        .scratch = ht_mem_alloc_aligned(1, ht_dense_scratch_bytes(CHUNK, cols, cols, ht_pool_threads(job->pool)))};
    if (m->x == NULL || m->y == NULL || m->room == NULL || m->scratch == NULL) {
        measure_deinit(m);
        return ht_fail_nomem(err, (2 * CHUNK + 2) * cols * sizeof(float));
    }
    m->importance = ht_job_importance(job, m->room);
    return HT_OK;
}

static uint32_t moments_of(const struct measure *m) {
    return m->gram != NULL ? 2 : m->importance != NULL ? 1 : 0;
}

/* Sum over rows of e H e^T, in the order of the rows, each divided by the square of its unit [n], NULL: ones. */
static double quadratic(const struct measure *m, const float *e, uint64_t n, const float *unit) {
    uint64_t cols = m->job->cols;
    double sum = 0;
    if (m->gram != NULL) {
        ht_dense_product(m->job->pool, e, n, cols, m->gram, cols, cols, m->y, m->scratch);
    }
    for (uint64_t r = 0; r < n; r++) {
        double row = 0;
        for (uint64_t i = r * cols; i < (r + 1) * cols; i++) {
            double to = m->gram != NULL         ? m->y[i]
                        : m->importance != NULL ? (double)(e[i] * m->importance[i - r * cols])
                                                : e[i];
            row += (double)e[i] * to;
        }
        sum += unit != NULL ? row / ((double)unit[r] * unit[r]) : row;
    }
    return sum;
}

ht_status ht_job_measure(struct ht_job *job, const float *original, ht_err *err) {
    const float *unit = job->front != NULL ? job->front->unit : NULL;
    struct ht_job_report *r = &job->report;
    uint64_t cols = job->cols;
    struct measure m;
    HT_TRY(measure_init(&m, job, err));
    r->moments = moments_of(&m);
    r->signal = r->loss = 0;
    for (uint64_t row = 0; row < job->rows; row += CHUNK) {
        uint64_t n = job->rows - row < CHUNK ? job->rows - row : CHUNK;
        const float *own = unit != NULL ? unit + row : NULL;
        r->signal += quadratic(&m, original + row * cols, n, own);
        ht_job_decode(job, row, n, m.x, m.room + cols);
        for (uint64_t i = 0; i < n * cols; i++) {
            m.x[i] -= original[row * cols + i];
        }
        r->loss += quadratic(&m, m.x, n, own);
    }
    measure_deinit(&m);
    return HT_OK;
}

static ht_status measure_nearest(const struct ht_job *nearest, const struct measure *m, ht_job_carry *carry,
                                 const void *ctx, double *loss, ht_err *err) {
    uint64_t cols = nearest->cols;
    *loss = 0;
    for (uint64_t row = 0; row < nearest->rows; row += CHUNK) {
        uint64_t n = nearest->rows - row < CHUNK ? nearest->rows - row : CHUNK;
        ht_job_decode(nearest, row, n, m->x, m->room + cols);
        for (uint64_t i = 0; i < n * cols; i++) {
            m->x[i] -= nearest->w[row * cols + i];
        }
        HT_TRY(carry != NULL ? carry(ctx, m->x, n, cols, err) : HT_OK);
        *loss += quadratic(m, m->x, n, NULL);
    }
    return HT_OK;
}

ht_status ht_job_nearest(const struct ht_job *job, float *w, ht_job_carry *carry, const void *ctx, double *loss,
                         ht_err *err) {
    struct ht_place_recipe how = *job->weights;
    struct ht_job nearest = {.pool = job->pool,
                             .name = job->name,
                             .weights = &how,
                             .block = job->block,
                             .scheme = job->scheme,
                             .w = w,
                             .rows = job->rows,
                             .cols = job->cols};
    struct measure m;
    *loss = NAN;
    HT_TRY(measure_init(&m, job, err));
    if (moments_of(&m) == 0) {
        measure_deinit(&m);
        return HT_OK;
    }
    ht_status status = ht_choice_parse(HT_AXIS_RANGE, "own", &how.range, err);
    if (status == HT_OK) {
        status = ht_job_round_nearest(&nearest, NULL, err);
    }
    if (status == HT_OK) {
        status = measure_nearest(&nearest, &m, carry, ctx, loss, err);
    }
    ht_job_release(&nearest);
    measure_deinit(&m);
    return status;
}
