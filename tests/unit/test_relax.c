/* AdaRound on moments against the paper's equations written down a second time, in double and without any of the
 * library's steps: every weight goes the same way and as many are left in between, whatever the penalty; and another
 * penalty, exponent or schedule gives other weights, so that the comparison would see a wrong one. */
#include "test.h"

#include <math.h>

#include "base/rng.h"
#include "quant/soft/relax.h"

enum { ROWS = 24, COLS = 32, N = ROWS * COLS, STEPS = 200 };

struct problem {
    float w[N], h[COLS * COLS];
    double low[N], gap[N], fraction[N];
};

/* Weights, correlated inputs, and each weight's two neighbours on the grid that the scheme's encoding has. */
static void pose(struct problem *p, struct ht_qtensor *q) {
    struct ht_rng rng;
    struct ht_scheme scheme;
    ht_err err = {0};
    ht_rng_init(&rng, 7);
    for (size_t i = 0; i < N; i++) {
        p->w[i] = (float)ht_rng_normal(&rng);
    }
    memset(p->h, 0, sizeof p->h);
    for (int s = 0; s < 300; s++) {
        float x[COLS], common = (float)ht_rng_normal(&rng);
        for (size_t j = 0; j < COLS; j++) {
            x[j] = (0.7f * common + (float)ht_rng_normal(&rng)) * (j % 5 == 0 ? 3.0f : 1.0f);
        }
        for (size_t k = 0; k < COLS * COLS; k++) {
            p->h[k] += x[k / COLS] * x[k % COLS] / 300;
        }
    }
    ASSERT_OK(ht_scheme_parse("int3:g32", &scheme, &err), &err);
    ASSERT_OK(ht_qtensor_init(q, &scheme, ROWS, COLS, NULL, &err), &err);
    ASSERT_OK(ht_qtensor_encode(q, p->w, NULL, NULL, &err), &err);
    for (size_t i = 0; i < N; i++) {
        double scale = (double)ht_qtensor_grid(q, i / COLS, 0).scale, at = (double)p->w[i] / scale + 4;
        at = fmin(fmax(at, 0), 7);
        double below = fmin(floor(at), 6);
        p->low[i] = (below - 4) * scale;
        p->gap[i] = scale;
        p->fraction[i] = at - below;
    }
}

static double soft(double u) {
    return fmin(fmax(1.2 / (1 + exp(-u)) - 0.1, 0), 1); /* eq. 23 */
}

struct outcome {
    bool up[N];
    double h[N], between;
};

/* Eq. 21 to 25, plain Adam (Kingma and Ba 2015, algorithm 1), h starting at the float weights. */
static void by_the_paper(const struct problem *p, const struct ht_relax_options *o, struct outcome *out) {
    static double u[N], m[N], v[N], e[N];
    double c = 0;
    for (size_t i = 0; i < N; i++) {
        c += p->gap[i] * p->gap[i] * (double)p->h[(i % COLS) * (COLS + 1)] / N;
        double share = (p->fraction[i] + 0.1) / 1.2;
        u[i] = log(share / (1 - share));
        m[i] = v[i] = 0;
    }
    uint32_t quiet = (uint32_t)(o->warmup * o->steps);
    for (uint32_t t = 1; t <= o->steps; t++) {
        double done = t > quiet ? (double)(t - quiet) / (o->steps - quiet) : 0;
        double beta = o->beta_from + (o->beta_to - o->beta_from) * done, lambda = t > quiet ? o->weight : 0;
        for (size_t i = 0; i < N; i++) {
            e[i] = (double)p->w[i] - p->low[i] - p->gap[i] * soft(u[i]);
        }
        for (size_t i = 0; i < N; i++) {
            double along = 0, sig = 1 / (1 + exp(-u[i])), h = soft(u[i]), far = 2 * h - 1;
            for (size_t j = 0; j < COLS; j++) {
                along += e[i / COLS * COLS + j] * (double)p->h[j * COLS + i % COLS];
            }
            double slope = h > 0 && h < 1 ? 1.2 * sig * (1 - sig) : 0;
            double sign = (far > 0) - (far < 0);
            double d = (-2 * p->gap[i] * along / c - lambda * 2 * beta * sign * pow(fabs(far), beta - 1)) * slope;
            m[i] = 0.9 * m[i] + 0.1 * d;
            v[i] = 0.999 * v[i] + 0.001 * d * d;
            if (v[i] > 0) {
                u[i] -= o->lr * (m[i] / (1 - pow(0.9, t))) / sqrt(v[i] / (1 - pow(0.999, t)));
            }
        }
    }
    out->between = 0;
    for (size_t i = 0; i < N; i++) {
        out->h[i] = soft(u[i]);
        out->up[i] = out->h[i] >= 0.5;
        out->between += out->h[i] > 0.01 && out->h[i] < 0.99 ? 1.0 / N : 0;
    }
}

/* Rows whose error by nearest is no larger are written as nearest. */
static double row_loss(const struct problem *p, const bool *up, size_t row) {
    double sum = 0, e[COLS];
    for (size_t j = 0; j < COLS; j++) {
        size_t i = row * COLS + j;
        e[j] = (double)p->w[i] - p->low[i] - (up[i] ? p->gap[i] : 0);
    }
    for (size_t k = 0; k < COLS * COLS; k++) {
        sum += e[k / COLS] * e[k % COLS] * (double)p->h[k];
    }
    return sum;
}

/* Weights of the library's result that go another way than the reference's, but for those at 1/2 itself. */
static size_t differing(const struct problem *p, const float *values, const struct outcome *r) {
    size_t n = 0;
    bool nearest[N];
    for (size_t i = 0; i < N; i++) {
        nearest[i] = p->fraction[i] >= 0.5;
    }
    for (size_t row = 0; row < ROWS; row++) {
        bool better = row_loss(p, r->up, row) < row_loss(p, nearest, row);
        for (size_t i = row * COLS; i < (row + 1) * COLS; i++) {
            bool up = (double)values[i] - p->low[i] > 0.5 * p->gap[i], want = better ? r->up[i] : nearest[i];
            n += up != want && fabs(r->h[i] - 0.5) > 0.02;
        }
    }
    return n;
}

static void same_as_the_paper(void **state) {
    (void)state;
    static struct problem p;
    static struct outcome r;
    static float values[N];
    static const double weights[] = {0, 0.3, 3, 30};
    struct ht_qtensor q;
    struct ht_relax_report report;
    ht_err err = {0};
    double between[4];
    pose(&p, &q);
    for (size_t k = 0; k < 4; k++) {
        struct ht_relax_options o, other;
        struct ht_learn_linear to = {.q = &q};
        ht_relax_defaults(&o);
        o.steps = STEPS;
        o.weight = weights[k];
        o.warmup = k % 2 ? 0.25 : 0;
        ASSERT_OK(ht_relax(NULL, p.w, ROWS, COLS, p.h, &to, &o, values, &report, &err), &err);
        by_the_paper(&p, &o, &r);
        between[k] = report.between;
        size_t n = differing(&p, values, &r);
        if (n > 2 || fabs(report.between - r.between) > 0.01) {
            fail_msg("penalty %g: %zu weights go another way, %.3f in between, %.3f expected", o.weight, n,
                     report.between, r.between);
        }
        const struct ht_relax_options wrong[] = {
            {o.steps, o.lr, o.weight * 2, o.beta_from, o.beta_to, o.warmup},
            {o.steps, o.lr, o.weight, o.beta_to, o.beta_from, o.warmup},
            {o.steps, o.lr, o.weight, o.beta_from, o.beta_from, o.warmup},
            {o.steps, o.lr, o.weight, o.beta_from, o.beta_to, 0.6},
        };
        for (size_t i = 0; i < 4 && o.weight > 0 && o.weight < 10; i++) { /* far too much of it looks alike */
            other = wrong[i];
            by_the_paper(&p, &other, &r);
            if (differing(&p, values, &r) <= 4 && fabs(report.between - r.between) <= 0.03) {
                fail_msg("penalty %g: change %zu would not be seen", o.weight, i);
            }
        }
    }
    print_message("in between: %.3f %.3f %.3f %.3f\n", between[0], between[1], between[2], between[3]);
    assert_true(between[0] > 0.5 && between[1] < between[0] && between[2] < 0.1 && between[3] < between[2]);
    ht_qtensor_deinit(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_as_the_paper)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
