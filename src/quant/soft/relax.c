/* AdaRound on the second moments of a linear's inputs. With E = W - W^ the mean squared error of the outputs is
 * tr(E H E^T) exactly, so there is nothing to sample:
 *
 *     W^ = low + gap * h(u),   h(u) = clip(1.2 sigmoid(u) - 0.1)                     (eq. 22 and 23 of the paper)
 *     L  = tr(E H E^T) / c + lambda * sum of 1 - |2 h - 1|^beta                      (eq. 24)
 *     dL/dh = -2 gap * (E H) / c - 2 beta lambda sign(2 h - 1) |2 h - 1|^(beta - 1)
 *
 * Rows are independent of each other and taken in chunks, each through all its steps. */
#include <math.h>

#include "base/compiler.h"
#include "base/mem.h"
#include "kernel/exp.h"
#include "kernel/kernel.h"
#include "quant/soft/relax.h"
#include "quant/soft/soft.h"

#define ROWS 512u /* of a chunk */
#define ZETA 1.1f
#define GAMMA (-0.1f)

void ht_relax_defaults(struct ht_relax_options *o) {
    *o = (struct ht_relax_options){.steps = 400, .lr = 0.03, .weight = 6, .beta_from = 20, .beta_to = 2};
}

struct solver {
    struct ht_pool *pool;
    const struct ht_relax_options *o;
    const float *w, *h; /* the chunk's weights; [cols, cols] */
    float *low, *gap, *fraction;
    float *v;           /* of ht_soft, the chunk's rows: the result */
    float *u, *m1, *m2, *e, *g; /* [rows, cols] */
    uint64_t rows, cols;
    float inverse_c;
    float lr, beta, lambda; /* of the step */
    float part1, part2;     /* 1 - beta^step of Adam */
    uint32_t step;
    void *scratch;
    double *loss;       /* [rows] hard; nearest */
    uint64_t between;
};

/* ---- a weight at work: straight lines, so that loops become vector instructions ------------------------------ */

/* e^x and ln x without branches: kernel/exp.h's polynomial, and Cephes logf's (x > 0, normal). */
HT_INLINE float exp_of(float x) {
    x = x > -80 ? x : -80;
    x = x < 80 ? x : 80;
    float n, p = ht_exp_reduced(x, &n);
    return p * ht_f32_from_bits((uint32_t)((int32_t)n + 127) << 23);
}

HT_INLINE float log_of(float x) {
    uint32_t bits = ht_f32_bits(x);
    float n = (float)((int32_t)(bits >> 23) - 126), m = ht_f32_from_bits((bits & 0x7fffffu) | 0x3f000000u);
    bool low = m < 0.70710678f;
    n = low ? n - 1 : n;
    m = low ? m + m - 1 : m - 1;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    float z = m * m;
    return m + (m * z * p + HT_EXP_LN2_LO * n - 0.5f * z) + HT_EXP_LN2_HI * n;
}

HT_INLINE float soft_of(float u, float *slope) {
    float sig = 1.0f / (1.0f + exp_of(-u)), h = (ZETA - GAMMA) * sig + GAMMA;
    float in = h > 0 ? h : 0;
    in = in < 1 ? in : 1;
    *slope = h == in ? (ZETA - GAMMA) * sig * (1 - sig) : 0;
    return in;
}

/* u where h is the fraction: training starts at the float weights. */
static void start_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct solver *s = ctx;
    for (uint64_t i = row * s->cols; i < (row + 1) * s->cols; i++) {
        float p = (s->fraction[i] - GAMMA) / (ZETA - GAMMA);
        s->u[i] = -logf(1 / p - 1);
        s->m1[i] = s->m2[i] = 0;
    }
}

HT_CLONES
static void soft_row(const struct solver *s, uint64_t at) {
    const float *restrict w = s->w + at, *restrict low = s->low + at, *restrict gap = s->gap + at;
    const float *restrict u = s->u + at;
    float *restrict e = s->e + at;
    const size_t n = (size_t)s->cols;
    for (size_t i = 0; i < n; i++) {
        float slope;
        e[i] = w[i] - (low[i] + gap[i] * soft_of(u[i], &slope));
    }
}

static void soft_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct solver *s = ctx;
    soft_row(s, row * s->cols);
}

HT_CLONES
static void step_row(const struct solver *s, uint64_t at) {
    const float *restrict gap = s->gap + at, *restrict g = s->g + at;
    const size_t n = (size_t)s->cols;
    const float scale = -2 * s->inverse_c, penalty = 2 * s->beta * s->lambda, power = s->beta - 1, lr = s->lr;
    const float part1 = s->part1, part2 = s->part2;
    float *restrict u = s->u + at, *restrict m1 = s->m1 + at, *restrict m2 = s->m2 + at;
    for (size_t i = 0; i < n; i++) {
        float slope, h = soft_of(u[i], &slope), far = 2 * h - 1;
        float pull = copysignf(penalty * exp_of(power * log_of(fabsf(far) + 1e-30f)), far);
        float d = (scale * gap[i] * g[i] - pull) * slope;
        float a = 0.9f * m1[i] + 0.1f * d, b = 0.999f * m2[i] + 0.001f * d * d;
        m1[i] = a;
        m2[i] = b;
        u[i] -= lr * (a / part1) / (sqrtf(b / part2) + 1e-18f); /* d of any use is larger: c makes costs about 1 */
    }
}

static void step_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct solver *s = ctx;
    step_row(s, row * s->cols);
}

static void product(const struct solver *s) {
    struct ht_side e = {s->e, s->cols, false}, h = {s->h, s->cols, false};
    ht_product(s->pool, e, h, s->rows, s->cols, s->cols, s->g, s->cols, false, s->scratch);
}

struct hard {
    const struct solver *s;
    bool nearest;
};

static void hard_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct hard *k = ctx;
    const struct solver *s = k->s;
    for (uint64_t i = row * s->cols; i < (row + 1) * s->cols; i++) {
        float slope, h = k->nearest ? s->fraction[i] : soft_of(s->u[i], &slope);
        s->e[i] = s->w[i] - (s->low[i] + (h >= 0.5f ? s->gap[i] : 0));
    }
}

/* tr(E H E^T) of each row, rounded to nearest or as learned. */
static void hard_loss(const struct solver *s, bool nearest, double *loss) {
    struct hard k = {s, nearest};
    ht_pool_run(s->pool, s->rows, hard_task, &k);
    product(s);
    for (uint64_t r = 0; r < s->rows; r++) {
        loss[r] = 0;
        for (uint64_t i = r * s->cols; i < (r + 1) * s->cols; i++) {
            loss[r] += (double)s->e[i] * (double)s->g[i];
        }
    }
}

static void solve_chunk(struct solver *s, struct ht_relax_report *report) {
    double *nearest = s->loss, *learned = s->loss + s->rows;
    uint32_t quiet = (uint32_t)(s->o->warmup * s->o->steps);
    hard_loss(s, true, nearest);
    ht_pool_run(s->pool, s->rows, start_task, s);
    for (s->step = 1; s->step <= s->o->steps; s->step++) {
        double at = s->step > quiet ? (double)(s->step - quiet) / (double)(s->o->steps - quiet) : 0;
        s->lambda = s->step > quiet ? (float)s->o->weight : 0;
        s->beta = (float)(s->o->beta_from + (s->o->beta_to - s->o->beta_from) * at);
        s->part1 = 1 - powf(0.9f, (float)s->step);
        s->part2 = 1 - powf(0.999f, (float)s->step);
        ht_pool_run(s->pool, s->rows, soft_task, s);
        product(s);
        ht_pool_run(s->pool, s->rows, step_task, s);
    }
    hard_loss(s, false, learned);
    for (uint64_t r = 0; r < s->rows; r++) {
        bool better = learned[r] < nearest[r];
        report->loss_nearest += nearest[r];
        report->loss += better ? learned[r] : nearest[r];
        report->kept_nearest += !better;
        for (uint64_t i = r * s->cols; i < (r + 1) * s->cols; i++) {
            float slope, h = soft_of(s->u[i], &slope);
            s->between += h > 0.01f && h < 0.99f;
            if (!better) {
                continue;
            }
            bool up = h >= 0.5f;
            report->moved += up != (s->fraction[i] >= 0.5f);
            s->v[i] = (up ? 0.75f : 0.25f) - s->fraction[i]; /* ht_soft rounds fraction + v */
        }
    }
}

/* Mean over weights of what one step of a weight costs by itself. */
static double unit_cost(const float *gap, const float *h, uint64_t rows, uint64_t cols) {
    double sum = 0;
    for (uint64_t r = 0; r < rows; r++) {
        for (uint64_t j = 0; j < cols; j++) {
            double g = (double)gap[r * cols + j];
            sum += g * g * (double)h[j * cols + j];
        }
    }
    return sum / (double)(rows * cols);
}

static ht_status solve(struct solver *s, struct ht_soft *soft, struct ht_relax_report *report, ht_err *err) {
    uint64_t rows = soft->rows, cols = soft->cols, n = rows * cols, chunk = rows < ROWS ? rows : ROWS;
    float *cells = ht_mem_alloc_aligned(3 * n + 5 * chunk * cols, sizeof *cells);
    s->loss = ht_mem_alloc_array(2 * chunk, sizeof *s->loss);
    s->scratch = ht_mem_alloc_aligned(ht_product_scratch_bytes(chunk, cols, ht_pool_threads(s->pool)), 1);
    ht_status status = HT_OK;
    if (cells == NULL || s->loss == NULL || s->scratch == NULL) {
        status = ht_fail_nomem(err, (3 * n + 5 * chunk * cols) * sizeof *cells);
        goto done;
    }
    ht_soft_cells(soft, cells, cells + n, cells + 2 * n);
    double c = unit_cost(cells + n, s->h, rows, cols);
    if (!isfinite(c)) {
        status = ht_fail(err, HT_NUMERIC, "learned rounding", HT_NO_POS,
                         "weights or moments of inputs hold NaN or Inf");
        goto done;
    }
    s->inverse_c = c > 0 ? (float)(1 / c) : 0;
    s->lr = (float)s->o->lr;
    s->u = cells + 3 * n;
    s->m1 = s->u + chunk * cols;
    s->m2 = s->m1 + chunk * cols;
    s->e = s->m2 + chunk * cols;
    s->g = s->e + chunk * cols;
    for (uint64_t r = 0; r < rows; r += chunk) {
        uint64_t at = r * cols;
        s->rows = rows - r < chunk ? rows - r : chunk;
        s->w = soft->w + at;
        s->v = soft->v + at;
        s->low = cells + at;
        s->gap = cells + n + at;
        s->fraction = cells + 2 * n + at;
        solve_chunk(s, report);
    }
done:
    ht_mem_free_aligned(cells);
    ht_mem_free(s->loss);
    ht_mem_free_aligned(s->scratch);
    return status;
}

ht_status ht_relax(struct ht_pool *pool, const float *w, uint64_t rows, uint64_t cols, const float *hessian,
                        const struct ht_learn_linear *to, const struct ht_relax_options *options, float *values,
                        struct ht_relax_report *report, ht_err *err) {
    struct ht_relax_report unused;
    struct ht_soft soft = {.to = to};
    ht_status status;
    report = report != NULL ? report : &unused;
    *report = (struct ht_relax_report){0};
    struct solver s = {.pool = pool, .o = options, .h = hessian, .cols = cols};
    bool shape = to->q == NULL || (to->q->rows == rows && to->q->cols == cols && to->q->owned);
    if (options->steps == 0 || !shape || (to->q == NULL) == (to->format == NULL) ||
        (to->format != NULL && to->bytes == NULL)) {
        return ht_fail(err, HT_INVAL, "learned rounding", HT_NO_POS, "expected steps, and room for %llu x %llu codes",
                       (unsigned long long)rows, (unsigned long long)cols);
    }
    HT_TRY_DONE(ht_soft_init(&soft, pool, to, w, rows, cols, false, false, err));
    HT_TRY_DONE(solve(&s, &soft, report, err));
    HT_TRY_DONE(ht_soft_encode(&soft, err));
    if (values != NULL) {
        ht_soft_values(&soft, values);
    }
    if (!isfinite(report->loss)) {
        status = ht_fail(err, HT_NUMERIC, "learned rounding", HT_NO_POS, "moments of inputs hold NaN or Inf");
        goto done;
    }
    report->between = (double)s.between / (double)(rows * cols);
done:
    ht_soft_deinit(&soft);
    return status;
}
