/* Formats of few levels and few scales: the encoder's error against the least that any scale gives, found here by
 * trying all that differ: every threshold (ternary, q2_0), every code of the scale (mxfp4, nvfp4), a formula (q1_0). */
#include "test.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "format/format.h"

/* Energy of a block that no grid takes away at best: sum of w x x minus the most of A * A / B over the scales. An
 * event is an element's step to the next code as the scale shrinks. */
struct event {
    double at, a, b; /* scale at which it happens; what A = sum of w x q and B = sum of w q q grow by */
};

static int by_scale(const void *p, const void *q) {
    double a = ((const struct event *)p)->at, b = ((const struct event *)q)->at;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* Codes lo .. hi times a positive scale; x comes with the sign of the scale. */
static double least_of_steps(const float *x, const float *w, int n, int lo, int hi, double sign) {
    static struct event e[1024];
    int count = 0;
    double energy = 0.0, a = 0.0, b = 0.0, most = 0.0;
    for (int i = 0; i < n; i++) {
        double v = sign * (double)x[i], wi = w ? (double)w[i] : 1.0, m = fabs(v);
        int far = v > 0.0 ? hi : -lo;
        energy += wi * v * v;
        for (int q = 1; q <= far; q++) {
            e[count++] = (struct event){m / (q - 0.5), wi * m, wi * (2.0 * q - 1.0)};
        }
    }
    qsort(e, (size_t)count, sizeof *e, by_scale);
    for (int i = 0; i < count; i++) {
        a += e[i].a;
        b += e[i].b;
        most = b > 0.0 && a * a / b > most ? a * a / b : most;
    }
    return energy - most;
}

static double least_ternary(const float *x, const float *w) {
    return least_of_steps(x, w, 256, -1, 1, 1.0);
}

static double least_q2_0(const float *x, const float *w) {
    return fmin(least_of_steps(x, w, 64, -1, 2, 1.0), least_of_steps(x, w, 64, -1, 2, -1.0));
}

static double least_q1_0(const float *x, const float *w) {
    double a = 0.0, b = 0.0, energy = 0.0;
    for (int i = 0; i < 128; i++) {
        double wi = w ? (double)w[i] : 1.0;
        a += wi * fabs((double)x[i]);
        b += wi;
        energy += wi * (double)x[i] * (double)x[i];
    }
    return energy - a * a / b;
}

static double fp4_error(const float *x, const float *w, int n, double scale) {
    static const double levels[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        double least = INFINITY;
        for (int k = 0; k < 8; k++) {
            double e = fabs((double)x[i]) - scale * levels[k];
            least = e * e < least ? e * e : least;
        }
        sum += (w ? (double)w[i] : 1.0) * least;
    }
    return sum;
}

static double least_mxfp4(const float *x, const float *w) {
    double best = INFINITY;
    for (int e = -40; e < 40; e++) {
        best = fmin(best, fp4_error(x, w, 32, ldexp(1.0, e)));
    }
    return best;
}

static double least_nvfp4(const float *x, const float *w) {
    double sum = 0.0;
    for (int s = 0; s < 64; s += 16) {
        double best = INFINITY;
        for (int c = 0; c < 127; c++) {
            double scale = c < 8 ? ldexp(c, -10) : ldexp(1.0 + (c % 8) / 8.0, c / 8 - 8);
            best = fmin(best, fp4_error(x + s, w ? w + s : NULL, 16, scale));
        }
        sum += best;
    }
    return sum;
}

static const struct {
    const char *name;
    double (*least)(const float *x, const float *w);
    double mean, worst; /* error over the least, over all blocks and in one */
} cases[] = {
    {"tq1_0", least_ternary, 1.0001, 1.002}, {"tq2_0", least_ternary, 1.0001, 1.002},
    {"q1_0", least_q1_0, 1.00001, 1.0001},  {"q2_0", least_q2_0, 1.0005, 1.02},
    {"mxfp4", least_mxfp4, 1.00001, 1.0001}, {"nvfp4", least_nvfp4, 1.0001, 1.01},
};

/* Normal values, heavy tails, one-sided, a few large ones; even rows without importance. */
static float value(struct ht_rng *rng, int kind) {
    double g = ht_rng_normal(rng);
    switch (kind % 4) {
    case 0: return (float)g;
    case 1: return (float)(g * exp(0.7 * ht_rng_normal(rng)));
    case 2: return (float)(fabs(g) + 0.3);
    default: return (float)(g * (ht_rng_below(rng, 40) == 0 ? 6.0 : 1.0));
    }
}

static void scales_are_the_best(void **state) {
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const struct ht_format *f = ht_format_find(cases[k].name);
        struct ht_rng rng;
        double ours = 0.0, least = 0.0, worst = 0.0;
        ht_rng_init(&rng, 11);
        for (int trial = 0; trial < 800; trial++) {
            float x[256], y[256], w[256];
            uint8_t block[128];
            double e = 0.0;
            for (uint32_t i = 0; i < f->block_elems; i++) {
                x[i] = value(&rng, trial / 2);
                w[i] = (float)exp((trial % 8 < 4 ? 0.5 : 1.0) * ht_rng_normal(&rng));
            }
            const float *weight = trial % 2 ? w : NULL;
            f->encode(x, weight, block, f->block_elems);
            f->decode(block, y, f->block_elems);
            for (uint32_t i = 0; i < f->block_elems; i++) {
                e += (weight ? (double)w[i] : 1.0) * pow((double)x[i] - (double)y[i], 2.0);
            }
            double want = cases[k].least(x, weight);
            assert_true(e >= want * (1.0 - 1e-5));
            ours += e;
            least += want;
            worst = e / want > worst ? e / want : worst;
        }
        print_message("%-6s error / least %.6f, worst block %.5f\n", f->name, ours / least, worst);
        assert_true(ours <= cases[k].mean * least && worst <= cases[k].worst);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(scales_are_the_best)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
