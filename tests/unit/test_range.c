/* Range parts against searches that try everything, on rows small enough for that; then degenerate input. */
#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/range.h"

enum { MAX_N = 4096 };

static const float nf4[16] = { /* QLoRA, arXiv 2305.14314, appendix E */
    -1.0f, -0.6961928f, -0.52507305f, -0.3949175f, -0.28444138f, -0.18477343f, -0.09105004f, 0.0f,
    0.0795803f, 0.1609302f, 0.2461123f, 0.33791524f, 0.44070983f, 0.562617f, 0.72295684f, 1.0f};

static const struct ht_range_grid int8 = {NULL, -127, 127, true, false};
static const struct ht_range_grid int4 = {NULL, -7, 7, true, false};
static const struct ht_range_grid int4_full = {NULL, -8, 7, true, false};
static const struct ht_range_grid int3 = {NULL, -3, 3, true, false};
static const struct ht_range_grid ternary = {NULL, -1, 1, true, false};
static const struct ht_range_grid table = {nf4, 0, 15, true, false};
static const struct ht_range_grid uint4_real = {NULL, 0, 15, false, false};
static const struct ht_range_grid uint4_whole = {NULL, 0, 15, false, true};
static const struct ht_range_grid uint2_real = {NULL, 0, 3, false, false};
static const struct ht_range_grid uint8_whole = {NULL, 0, 255, false, true};
static const struct ht_range_grid *const grids[] = {&int8, &int4, &int4_full, &int3, &ternary, &table, &uint4_real,
                                                    &uint4_whole, &uint2_real, &uint8_whole};
enum { N_GRIDS = sizeof grids / sizeof grids[0] };

enum shape { NORMAL, SKEWED, OUTLIER, HEAVY, POSITIVE };

static void draw(float *x, size_t n, enum shape shape, uint64_t seed) {
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    for (size_t i = 0; i < n; i++) {
        double z = ht_rng_normal(&rng);
        x[i] = (float)(shape == NORMAL   ? z
                       : shape == SKEWED ? exp(0.8 * z) - 0.7
                       : shape == HEAVY  ? z * exp(ht_rng_normal(&rng))
                       : shape == POSITIVE ? 3 + 0.2 * z
                                         : z);
    }
    if (shape == OUTLIER) {
        x[n / 3] = 40;
    }
}

static struct ht_range fit(const char *how, const float *x, const float *w, size_t n, const struct ht_range_grid *grid) {
    struct ht_range_choice choice;
    struct ht_range r = {-1, -1};
    ht_err err = {0};
    struct ht_range_input in = {.x = x, .weight = w, .n = n};
    ASSERT_OK(ht_range_parse(how, &choice, &err), &err);
    ASSERT_OK(ht_range_fit(&choice, &in, grid, &r, &err), &err);
    return r;
}

static struct ht_range fit_state(const char *how, const struct ht_range_state *s, const struct ht_range_grid *grid) {
    struct ht_range_choice choice;
    struct ht_range r = {-1, -1};
    ht_err err = {0};
    struct ht_range_input in = {.state = s};
    ASSERT_OK(ht_range_parse(how, &choice, &err), &err);
    ASSERT_OK(ht_range_fit(&choice, &in, grid, &r, &err), &err);
    return r;
}

/* Value of a code, straight from the definition. */
static double value(const struct ht_range_grid *g, double scale, double zero, int code) {
    return scale * ((g->levels != NULL ? g->levels[code - g->lo] : code) - zero);
}

/* Sum of weight * |x - nearest|^norm, trying every code. */
static double loss(const float *x, const float *w, size_t n, const struct ht_range_grid *g, double scale, double zero,
                   double norm) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double least = INFINITY;
        for (int c = g->lo; c <= g->hi; c++) {
            least = fmin(least, fabs(x[i] - value(g, scale, zero, c)));
        }
        sum += (w != NULL ? w[i] : 1) * pow(least, norm);
    }
    return sum;
}

static void test_bounds_hold_everything(void **state) {
    (void)state;
    float x[200];
    for (size_t g = 0; g < N_GRIDS; g++) {
        for (int shape = NORMAL; shape <= POSITIVE; shape++) {
            draw(x, 200, (enum shape)shape, 7 + g);
            for (int part = 0; part < 2; part++) {
                struct ht_range r = fit(part == 0 ? "absmax" : "minmax", x, NULL, 200, grids[g]);
                float low, high, min = x[0], max = x[0];
                ht_range_reach(grids[g], &r, &low, &high);
                for (int i = 0; i < 200; i++) {
                    min = fminf(min, x[i]);
                    max = fmaxf(max, x[i]);
                }
                /* a whole zero moves both ends by up to half a step */
                float slack = 1e-5f * (max - min) + (grids[g]->integer_zero ? 0.501f * r.scale : 0);
                assert_true(low <= min + slack && high >= max - slack);
                float amax = fmaxf(fabsf(min), fabsf(max));
                if (part == 0 && !grids[g]->integer_zero) { /* tight: one end is met, both for a symmetric grid */
                    assert_true(fminf(-low, high) <= amax * 1.00001f);
                } else if (part == 1 && grids[g]->symmetric) {
                    assert_true(low >= min * 1.00001f || high <= max * 1.00001f);
                } else if (part == 1 && !grids[g]->integer_zero) {
                    assert_true(fabsf(low - min) <= slack && fabsf(high - max) <= slack);
                }
            }
        }
    }
    draw(x, 200, NORMAL, 3);
    struct ht_range r = fit("minmax", x, NULL, 200, &uint4_whole);
    assert_true(r.zero == rintf(r.zero) && ht_range_nearest(&uint4_whole, &r, 0) == 0);
    float a[3] = {-8, 7, 1}; /* full range: -8 needs no larger a scale than 7 does */
    assert_true(fit("minmax", a, NULL, 3, &int4_full).scale == 1);
    assert_true(fit("absmax", a, NULL, 3, &int4_full).scale == 8.0f / 7);
}

static void test_percentile_by_counting(void **state) {
    (void)state;
    static float x[1000];
    static const double shares[] = {50, 90, 95, 99, 99.9, 99.99, 100};
    for (int shape = NORMAL; shape <= POSITIVE; shape++) {
        for (size_t n = 1; n <= 1000; n = n * 3 + 1) {
            draw(x, n, (enum shape)shape, 11 + n);
            for (size_t k = 0; k < sizeof shares / sizeof shares[0]; k++) {
                char how[64];
                double want = INFINITY, share = shares[k] / 100;
                for (size_t i = 0; i < n; i++) {
                    size_t inside = 0;
                    for (size_t j = 0; j < n; j++) {
                        inside += fabsf(x[j]) <= fabsf(x[i]);
                    }
                    if ((double)inside >= share * (double)n * (1 - 1e-12)) {
                        want = fmin(want, fabs(x[i]));
                    }
                }
                snprintf(how, sizeof how, "percentile:%.2f,tails=1", shares[k]);
                struct ht_range r = fit(how, x, NULL, n, &int8);
                assert_true(fabs(r.scale * 127 - want) <= 1e-6 * want);
            }
        }
    }
    for (int i = 0; i < 1000; i++) {
        x[i] = (float)((i * 7) % 1000 - 300); /* -300 .. 699, once each */
    }
    float low, high;
    struct ht_range r = fit("percentile:90,tails=2", x, NULL, 1000, &uint4_real);
    ht_range_reach(&uint4_real, &r, &low, &high);
    assert_true(fabsf(low - -251) < 1e-3f && fabsf(high - 649) < 1e-3f); /* ranks 50 and 950 */
    r = fit("percentile:p=90", x, NULL, 1000, &uint4_real);
    ht_range_reach(&uint4_real, &r, &low, &high);
    assert_true(fabsf(low - -251) < 1e-3f && fabsf(high - 649) < 1e-3f);
    r = fit("percentile:90", x, NULL, 1000, &int8);
    assert_true(fabsf(r.scale * 127 - 599) < 1e-3f);
}

/* ---- entropy ------------------------------------------------------------------------------------------ */

/* KL(P || Q') with every array written out, for the threshold at the upper edge of bin i - 1. */
static double divergence(const double *count, size_t n_bins, size_t i, size_t cells, const double *border, double smooth) {
    static double p[MAX_N], q[MAX_N];
    double total = 0, inside = 0, sum = 0;
    size_t cell_of[MAX_N];
    for (size_t b = 0; b < n_bins; b++) {
        total += count[b];
        inside += b < i ? count[b] : 0;
    }
    for (size_t b = 0; b < i; b++) {
        p[b] = (count[b] + (b + 1 == i ? total - inside : 0)) / total;
        size_t k = 0;
        while (k + 1 < cells && ((double)b + 0.5) / (double)i >= border[k + 1]) {
            k++;
        }
        cell_of[b] = k;
    }
    for (size_t b = 0; b < i; b++) {
        double mass = 0, filled = 0;
        for (size_t c = 0; c < i; c++) {
            if (cell_of[c] == cell_of[b]) {
                mass += count[c];
                filled += count[c] > 0;
            }
        }
        q[b] = count[b] > 0 ? mass / filled / inside : 0;
        q[b] = (inside > 0 ? (1 - smooth) * q[b] + smooth / (double)i : 1.0 / (double)i);
        sum += p[b] > 0 ? p[b] * log(p[b] / q[b]) : 0;
    }
    return sum;
}

static void test_entropy_written_out(void **state) {
    (void)state;
    static float x[3000];
    const struct ht_range_grid *const used[] = {&int4, &int3, &table};
    for (int shape = NORMAL; shape <= HEAVY; shape++) {
        for (size_t g = 0; g < 3; g++) {
            enum { BINS = 160 };
            double count[BINS] = {0}, border[17], amax = 0, least = INFINITY;
            size_t best = BINS, cells = g == 0 ? 8 : g == 1 ? 4 : 9;
            draw(x, 3000, (enum shape)shape, 17);
            for (int i = 0; i < 3000; i++) {
                amax = fmax(amax, fabs(x[i]));
            }
            for (int i = 0; i < 3000; i++) {
                count[(int)fmin(fabs(x[i]) / (amax / BINS), BINS - 1)]++;
            }
            for (size_t k = 0; k <= cells; k++) {
                border[k] = g < 2 ? (double)k / (double)cells
                            : k == 0 ? 0
                            : k == 9 ? 1 : 0.5 * ((double)nf4[6 + k] + nf4[7 + k]);
            }
            for (size_t i = BINS; i >= cells; i--) {
                double d = divergence(count, BINS, i, cells, border, 1e-4);
                if (d < least - 1e-12) {
                    least = d;
                    best = i;
                }
            }
            struct ht_range r = fit("entropy:bins=160", x, NULL, 3000, used[g]);
            float low, high;
            ht_range_reach(used[g], &r, &low, &high);
            if (fabs(high / amax * BINS - (double)best) > 1e-3) {
                fail_msg("shape %d grid %zu: threshold at bin %g, written out %zu", shape, g, high / amax * BINS, best);
            }
        }
    }
}

/* ---- squared error ------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b) {
    double p = *(const double *)a, q = *(const double *)b;
    return (p > q) - (p < q);
}

/* The least error of any scale of a symmetric integer grid: between two scales at which a code changes the codes are
 * fixed, and the best scale for them is known. */
static double least_symmetric(const float *x, const float *w, size_t n, const struct ht_range_grid *g) {
    static double at[4096];
    size_t m = 0;
    double least = INFINITY;
    for (size_t i = 0; i < n; i++) {
        for (int c = g->lo; c < g->hi; c++) {
            double s = x[i] / (c + 0.5);
            if (s > 0) {
                at[m++] = s;
            }
        }
    }
    qsort(at, m, sizeof *at, by_value);
    for (size_t k = 0; k + 1 <= m; k++) {
        double s = k + 1 < m ? 0.5 * (at[k] + at[k + 1]) : at[k] * 1.01, sxq = 0, sqq = 0;
        for (size_t i = 0; i < n; i++) {
            double q = fmin(fmax(rint(x[i] / s), g->lo), g->hi), weight = w != NULL ? w[i] : 1;
            sxq += weight * x[i] * q;
            sqq += weight * q * q;
        }
        if (sqq > 0 && sxq > 0) {
            least = fmin(least, loss(x, w, n, g, sxq / sqq, 0, 2));
        }
    }
    return least;
}

static void test_mse_finds_the_least_scale(void **state) {
    (void)state;
    const struct ht_range_grid *const used[] = {&int4, &int4_full, &int3, &ternary};
    float x[32], w[32];
    double worst = 1, sum = 0;
    int n_cases = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        for (int shape = NORMAL; shape <= HEAVY; shape++) {
            for (size_t g = 0; g < 4; g++) {
                draw(x, 32, (enum shape)shape, 100 + seed);
                draw(w, 32, NORMAL, 900 + seed);
                for (int i = 0; i < 32; i++) {
                    w[i] *= w[i];
                }
                const float *weight = seed & 1 ? w : NULL;
                struct ht_range r = fit(weight != NULL ? "wmse" : "mse", x, weight, 32, used[g]);
                double ours = loss(x, weight, 32, used[g], r.scale, r.zero, 2);
                double ratio = ours / least_symmetric(x, weight, 32, used[g]);
                assert_true(ratio >= 1 - 1e-5);
                worst = fmax(worst, ratio);
                sum += ratio;
                n_cases++;
            }
        }
    }
    print_message("mse: %.5f of the least error on average, %.4f at worst\n", sum / n_cases, worst);
    assert_true(sum / n_cases < 1.003 && worst < 1.2);
}

static void test_mse_asymmetric(void **state) {
    (void)state;
    float x[24];
    double worst = 0, sum = 0;
    for (uint64_t seed = 0; seed < 6; seed++) {
        const struct ht_range_grid *g = seed & 1 ? &uint2_real : &uint4_real;
        draw(x, 24, (enum shape)(seed % 5), 300 + seed);
        float min = x[0], max = x[0];
        for (int i = 0; i < 24; i++) {
            min = fminf(min, x[i]);
            max = fmaxf(max, x[i]);
        }
        double least = INFINITY, span = max - min;
        for (int a = 0; a <= 150; a++) { /* every pair of bounds on a fine net */
            for (int b = 0; b <= 150; b++) {
                double low = min + span * (a - 10) / 160, high = min + span * (b + 10) / 160;
                if (high > low) {
                    double scale = (high - low) / (g->hi - g->lo);
                    least = fmin(least, loss(x, NULL, 24, g, scale, -low / scale, 2));
                }
            }
        }
        struct ht_range r = fit("mse", x, NULL, 24, g);
        double ratio = loss(x, NULL, 24, g, r.scale, r.zero, 2) / least;
        worst = fmax(worst, ratio);
        sum += ratio / 6;
    }
    print_message("mse, two bounds: %.4f of the net's least error on average, %.4f at worst\n", sum, worst);
    assert_true(sum < 1.05 && worst < 1.15);
}

static void test_mse_other_norms(void **state) {
    (void)state;
    float x[64];
    for (int shape = NORMAL; shape <= HEAVY; shape++) {
        draw(x, 64, (enum shape)shape, 50);
        double norms[] = {1, 2.4, 4}, amax = 0;
        for (int i = 0; i < 64; i++) {
            amax = fmax(amax, fabs(x[i]));
        }
        for (int k = 0; k < 3; k++) {
            char how[32];
            double least = INFINITY;
            for (int i = 1; i <= 4000; i++) {
                least = fmin(least, loss(x, NULL, 64, &int4, amax / 7 * i / 4000, 0, norms[k]));
            }
            snprintf(how, sizeof how, "mse:norm=%g", norms[k]);
            struct ht_range r = fit(how, x, NULL, 64, &int4);
            double ratio = loss(x, NULL, 64, &int4, r.scale, 0, norms[k]) / least;
            if (!(ratio < 1.02)) {
                fail_msg("norm %g shape %d: %g of the least error", norms[k], shape, ratio);
            }
        }
    }
}

static void test_half_quadratic(void **state) {
    (void)state;
    float x[64];
    double gain = 0, left = 0;
    int n = 0;
    for (uint64_t seed = 0; seed < 12; seed++, n++) {
        draw(x, 64, (enum shape)(seed % 4), 70 + seed);
        struct ht_range start = fit("minmax", x, NULL, 64, &uint4_real), r = fit("half-quadratic", x, NULL, 64, &uint4_real);
        double before = loss(x, NULL, 64, &uint4_real, start.scale, start.zero, 0.7);
        double after = loss(x, NULL, 64, &uint4_real, r.scale, r.zero, 0.7), least = INFINITY;
        for (int k = -2000; k <= 2000; k++) { /* every zero within a step */
            least = fmin(least, loss(x, NULL, 64, &uint4_real, start.scale, start.zero + k / 2000.0, 0.7));
        }
        assert_true(after <= before * (1 + 1e-6) && r.scale == start.scale);
        assert_true(after >= least * (1 - 1e-3));
        gain += before / after;
        left += after / least;
    }
    for (uint64_t seed = 0; seed < 12; seed++) { /* without a zero the scale is fitted: never worse than minmax */
        draw(x, 64, (enum shape)(seed % 4), 170 + seed);
        struct ht_range start = fit("minmax", x, NULL, 64, &int4), r = fit("half-quadratic", x, NULL, 64, &int4);
        assert_true(r.zero == 0 && r.scale > 0);
        assert_true(loss(x, NULL, 64, &int4, r.scale, 0, 0.7) <= loss(x, NULL, 64, &int4, start.scale, 0, 0.7) * (1 + 1e-6));
    }
    print_message("half-quadratic: %.3f of minmax's error, %.3f of the least\n", n / gain, left / n);
    assert_true(left / n < 1.15 && n / gain < 1);
}

/* ---- many values: sorted, thinned out, drawn ---- */

static double quick_loss(const float *x, size_t n, const struct ht_range_grid *g, const struct ht_range *r, double norm) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)x[i] - (double)ht_range_nearest(g, r, x[i]));
        sum += norm == 2 ? e * e : pow(e, norm);
    }
    return sum;
}

/* Levels of E4M3: what fp8 activations are rounded to. */
static const float *e4m3(struct ht_range_grid *g) {
    static float levels[253];
    int n = 0;
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = sign < 0 ? 126 : 0; sign < 0 ? i > 0 : i <= 126; i += sign) {
            double v = i < 8 ? ldexp(i, -9) : ldexp(8 + i % 8, i / 8 - 10);
            levels[n++] = (float)(sign * v);
        }
    }
    *g = (struct ht_range_grid){levels, 0, n - 1, true, false};
    return levels;
}

#ifdef HT_SANITIZED
enum { N_MANY = 2 };
#else
enum { N_MANY = 8 };
#endif

/* A search over a bounded number of values loses at most 1 % against one over all of them: with importance, of 1 each,
 * every value is looked at in every trial. Columns differ in width, as inputs of a linear do. */
static void test_search_over_many(void **state) {
    (void)state;
    struct ht_range_grid fp8;
    e4m3(&fp8);
    const struct ht_range_grid *const used[] = {&int8, &uint8_whole, &fp8, &int4};
    const size_t sizes[] = {20000, 3 * HT_RANGE_SORTED / 2}, cols = 256;
    size_t most = sizes[1];
    float *x = ht_mem_alloc_array(most, sizeof *x), *ones = ht_mem_alloc_array(most, sizeof *ones);
    for (int k = 0; k < N_MANY; k++) {
        size_t n = sizes[k / 4];
        double norm = k % 4 == 3 ? 2.4 : 2;
        const struct ht_range_grid *g = used[k % 4];
        char how[32];
        draw(x, n, HEAVY, 500 + (uint64_t)k);
        for (size_t i = 0; i < n; i++) {
            x[i] *= i % cols == 17 ? 30.0f : i % cols < 9 ? 4.0f : 1.0f;
            ones[i] = 1;
        }
        snprintf(how, sizeof how, "mse:norm=%g,grid=16", norm);
        struct ht_range r = fit(how, x, NULL, n, g);
        snprintf(how, sizeof how, "wmse:norm=%g,grid=16", norm);
        struct ht_range all = fit(how, x, ones, n, g);
        double ours = quick_loss(x, n, g, &r, norm), least = quick_loss(x, n, g, &all, norm);
        if (!(ours <= 1.01 * least)) {
            fail_msg("grid %d, %zu values: %.4f of the full search's error", k % 4, n, ours / least);
        }
    }
    ht_mem_free(x);
    ht_mem_free(ones);
}

/* The published iteration over all values, written out; a symmetric grid, whose scale it fits. */
static void test_half_quadratic_over_many(void **state) {
    (void)state;
    enum { N = 60000 };
    float *x = ht_mem_alloc_array(N, sizeof *x);
    draw(x, N, HEAVY, 900);
    struct ht_range start = fit("absmax", x, NULL, N, &int8), best = start;
    double least = quick_loss(x, N, &int8, &start, 0.7), scale = start.scale, beta = 10;
    for (int i = 0; i < 20; i++, beta *= 1.01) {
        double up = 0, down = 0;
        for (size_t k = 0; k < N; k++) {
            double v = x[k] / scale, q = fmin(fmax(rint(v), -127), 127), e = v - q;
            double kept = fabs(e) > 0 ? fabs(e) - pow(fabs(e), -0.3) / beta : 0;
            up += (v - (kept > 0 ? copysign(kept, e) : 0)) * q;
            down += q * q;
        }
        scale *= up / down;
        struct ht_range r = {(float)scale, 0};
        double now = quick_loss(x, N, &int8, &r, 0.7);
        if (!(now < least)) {
            break;
        }
        least = now;
        best = r;
    }
    struct ht_range r = fit("half-quadratic", x, NULL, N, &int8);
    assert_true(quick_loss(x, N, &int8, &r, 0.7) <= 1.01 * quick_loss(x, N, &int8, &best, 0.7));
    struct ht_range_choice choice;
    ht_err err = {0};
    ASSERT_OK(ht_range_parse("half-quadratic", &choice, &err), &err);
    assert_int_equal(ht_range_searched(&choice, &int8, N), 16384);
    assert_int_equal(ht_range_searched(&choice, &int8, 100), 100);
    ASSERT_OK(ht_range_parse("mse", &choice, &err), &err);
    assert_int_equal(ht_range_searched(&choice, &int8, N), N);
    assert_int_equal(ht_range_searched(&choice, &int8, 1u << 20), HT_RANGE_SORTED);
    ASSERT_OK(ht_range_parse("percentile", &choice, &err), &err);
    assert_int_equal(ht_range_searched(&choice, &int8, 1u << 20), 1u << 20);
    ht_mem_free(x);
}

/* ---- streams ------------------------------------------------------------------------------------------ */

static void test_state_forgets_order_and_cuts(void **state) {
    (void)state;
    static float x[MAX_N];
    static struct ht_range_state a, b, c, d;
    ht_err err = {0};
    draw(x, MAX_N, HEAVY, 5);
    x[MAX_N - 1] = 1e4f; /* the bins of the first batches are 2^-11 as wide as the last ones */
    x[17] = 0;
    ASSERT_OK(ht_range_state_init(&a, 0.9, &err), &err);
    b = c = d = a;
    ASSERT_OK(ht_range_state_add(&a, x, MAX_N, &err), &err);
    for (size_t i = MAX_N; i > 0; i--) { /* backwards, one at a time */
        ASSERT_OK(ht_range_state_add(&b, x + i - 1, 1, &err), &err);
    }
    assert_memory_equal(a.count, b.count, sizeof a.count);
    assert_true(a.exponent == b.exponent && a.n == b.n && a.n_zero == 1 && b.n_zero == 1 && a.min == b.min && a.max == b.max);
    ASSERT_OK(ht_range_state_add(&c, x, 1000, &err), &err);
    ASSERT_OK(ht_range_state_add(&d, x + 1000, MAX_N - 1000, &err), &err);
    ASSERT_OK(ht_range_state_merge(&c, &d, &err), &err);
    assert_memory_equal(a.count, c.count, sizeof a.count);
    uint64_t n = a.n_zero;
    for (int i = 0; i < HT_RANGE_BINS; i++) {
        n += a.count[0][i] + a.count[1][i];
    }
    assert_int_equal(n, MAX_N);
    struct ht_range_state before = a;
    x[3] = NAN;
    assert_int_equal(ht_range_state_add(&a, x, 10, &err), HT_NUMERIC);
    assert_memory_equal(&a, &before, sizeof a);
}

static void test_moving_average(void **state) {
    (void)state;
    static struct ht_range_state all, first, second;
    ht_err err = {0};
    double low = 0, high = 0, weight = 0;
    ASSERT_OK(ht_range_state_init(&all, 0.75, &err), &err);
    first = second = all;
    for (int i = 0; i < 9; i++) {
        float x[50], min, max;
        draw(x, 50, SKEWED, (uint64_t)i + 1);
        min = max = x[0];
        for (int j = 0; j < 50; j++) {
            min = fminf(min, x[j]);
            max = fmaxf(max, x[j]);
        }
        double share = pow(0.75, 8 - i);
        low += share * min;
        high += share * max;
        weight += share;
        ASSERT_OK(ht_range_state_add(&all, x, 50, &err), &err);
        ASSERT_OK(ht_range_state_add(i < 4 ? &first : &second, x, 50, &err), &err);
    }
    ASSERT_OK(ht_range_state_merge(&first, &second, &err), &err);
    for (int k = 0; k < 2; k++) {
        struct ht_range r = fit_state("moving-average", k == 0 ? &all : &first, &uint4_real);
        float a, b;
        ht_range_reach(&uint4_real, &r, &a, &b);
        assert_true(fabs(a - low / weight) < 1e-4 && fabs(b - high / weight) < 1e-4);
    }
    ASSERT_OK(ht_range_state_init(&second, 0.5, &err), &err);
    assert_int_equal(ht_range_state_merge(&first, &second, &err), HT_INVAL);
    ht_err_clear(&err);
    assert_int_equal(ht_range_state_init(&second, 1, &err), HT_INVAL);
}

/* A stream gives what the values give, to a bin's width. */
static void test_state_against_values(void **state) {
    (void)state;
    static float x[MAX_N];
    static struct ht_range_state s;
    static const char *const parts[] = {"absmax", "minmax", "percentile:99", "mse", "entropy"};
    ht_err err = {0};
    for (int shape = NORMAL; shape <= HEAVY; shape++) {
        draw(x, MAX_N, (enum shape)shape, 23);
        ASSERT_OK(ht_range_state_init(&s, 0, &err), &err);
        ASSERT_OK(ht_range_state_add(&s, x, MAX_N, &err), &err);
        double width = ldexp(1, s.exponent) / HT_RANGE_BINS;
        for (size_t k = 0; k < 5; k++) {
            for (int g = 0; g < 2; g++) {
                const struct ht_range_grid *grid = g == 0 ? &int4 : &uint4_real;
                struct ht_range a = fit(parts[k], x, NULL, MAX_N, grid), b = fit_state(parts[k], &s, grid);
                float low_a, high_a, low_b, high_b;
                ht_range_reach(grid, &a, &low_a, &high_a);
                ht_range_reach(grid, &b, &low_b, &high_b);
                if (k < 3) {
                    assert_true(fabs(low_a - low_b) <= 0.51 * width && fabs(high_a - high_b) <= 0.51 * width);
                    continue;
                }
                double ratio = loss(x, NULL, MAX_N, grid, b.scale, b.zero, 2) / loss(x, NULL, MAX_N, grid, a.scale, a.zero, 2);
                if (k == 3 && !(ratio < 1.02)) {
                    fail_msg("shape %d grid %d: the stream's error is %g of the values'", shape, g, ratio);
                }
                if (k == 4 && !(high_b > 0.7f * high_a && high_b < 1.4f * high_a)) {
                    fail_msg("shape %d grid %d: threshold %g, from values %g", shape, g, (double)high_b, (double)high_a);
                }
            }
        }
    }
}

/* ---- what must not go wrong --------------------------------------------------------------------------- */

static void test_degenerate_rows(void **state) {
    (void)state;
    float zeros[40] = {0}, same[40], outlier[40], tiny[40], one[1] = {2.5f}, huge[2] = {-3.4e38f, 3.4e38f};
    float weight[40];
    for (int i = 0; i < 40; i++) {
        same[i] = -1.25f;
        outlier[i] = i == 20 ? 1e30f : 1e-3f * (float)(i - 20);
        tiny[i] = 1e-44f * (float)i;
        weight[i] = 1;
    }
    for (size_t p = 0; p < ht_range_count(); p++) {
        for (size_t g = 0; g < N_GRIDS; g++) {
            const char *how = ht_range_at(p)->part.name;
            struct ht_range r = fit(how, zeros, weight, 40, grids[g]);
            assert_true(r.scale == 0 && isfinite(r.zero) && ht_range_nearest(grids[g], &r, 0) == 0);
            r = fit(how, same, weight, 40, grids[g]);
            float v = ht_range_nearest(grids[g], &r, -1.25f);
            if (!(fabsf(v - -1.25f) <= (grids[g]->integer_zero ? 0.501f * r.scale : 1e-5f))) {
                fail_msg("%s, grid %zu: -1.25 becomes %g", how, g, (double)v);
            }
            r = fit(how, outlier, weight, 40, grids[g]);
            assert_true(isfinite(r.scale) && r.scale >= 0 && isfinite(r.zero));
            assert_true(isfinite(ht_range_nearest(grids[g], &r, 1e30f)));
            r = fit(how, tiny, weight, 40, grids[g]);
            assert_true(isfinite(r.scale) && isfinite(r.zero) && fabsf(ht_range_nearest(grids[g], &r, 4e-43f)) < 1e-42f);
            r = fit(how, one, weight, 1, grids[g]);
            assert_true(fabsf(ht_range_nearest(grids[g], &r, 2.5f) - 2.5f) <= (grids[g]->integer_zero ? 0.501f * r.scale : 1e-5f));
            r = fit(how, huge, weight, 2, grids[g]);
            assert_true(isfinite(r.scale) && isfinite(r.zero) && r.scale > 0);
        }
    }
    /* One outlier of 100 among 127 of about 1: minmax gives three bits away, the searched range does not. */
    float x[128];
    draw(x, 128, NORMAL, 1);
    x[0] = 20;
    struct ht_range a = fit("minmax", x, NULL, 128, &int4), b = fit("percentile:99", x, NULL, 128, &int4);
    assert_true(a.scale > 2.8f && b.scale < 0.6f);
}

static void test_refused(void **state) {
    (void)state;
    float x[4] = {1, 2, NAN, 4}, y[4] = {1, 2, 3, 4}, w[4] = {1, -1, 1, 1}, none[4] = {0};
    struct ht_range r;
    ht_err err = {0};
    struct ht_range_choice choice;
    static struct ht_range_state empty;
    struct ht_range_grid one = {NULL, 3, 3, true, false};
    for (size_t p = 0; p < ht_range_count(); p++) {
        ASSERT_OK(ht_range_parse(ht_range_at(p)->part.name, &choice, &err), &err);
        struct ht_range_input in = {.x = x, .weight = none, .n = 4};
        assert_int_equal(ht_range_fit(&choice, &in, &int8, &r, &err), HT_NUMERIC);
        assert_non_null(strstr(err.msg, "value 2 of 4"));
        ht_err_clear(&err);
        in.x = y;
        in.n = 0;
        assert_int_equal(ht_range_fit(&choice, &in, &int8, &r, &err), HT_INVAL);
        ht_err_clear(&err);
        in.x = NULL;
        in.state = &empty;
        assert_int_equal(ht_range_fit(&choice, &in, &int8, &r, &err), HT_INVAL);
        ht_err_clear(&err);
        in = (struct ht_range_input){.x = y, .weight = w, .n = 4};
        assert_int_equal(ht_range_fit(&choice, &in, &one, &r, &err), HT_INVAL);
        ht_err_clear(&err);
    }
    ASSERT_OK(ht_range_parse("wmse", &choice, &err), &err);
    struct ht_range_input in = {.x = y, .weight = w, .n = 4};
    assert_int_equal(ht_range_fit(&choice, &in, &int8, &r, &err), HT_INVAL);
    ht_err_clear(&err);
    in.weight = NULL;
    assert_int_equal(ht_range_fit(&choice, &in, &int8, &r, &err), HT_INVAL);
    ht_err_clear(&err);
    in.weight = none; /* no importance at all counts as even importance */
    ASSERT_OK(ht_range_fit(&choice, &in, &int8, &r, &err), &err);
    for (int i = 0; i < 4; i++) {
        assert_true(fabsf(ht_range_nearest(&int8, &r, y[i]) - y[i]) < 0.03f);
    }
}

static void test_names_and_options(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_range_choice c;
    for (size_t i = 0; i < ht_range_count(); i++) {
        const struct ht_part *p = &ht_range_at(i)->part;
        assert_true(p == &ht_range_find(p->name)->part && p->summary != NULL && p->source != NULL);
        for (const struct ht_part_option *o = p->options; o->name != NULL; o++) {
            assert_true(o->low <= o->value && o->value <= o->high && o->help != NULL);
        }
    }
    assert_null(ht_range_at(ht_range_count()));
    ASSERT_OK(ht_range_parse("MSE:grid=128,norm=2.4", &c, &err), &err);
    assert_true(strcmp(c.part->part.name, "mse") == 0 && c.options[0] == 2.4 && c.options[1] == 128);
    ASSERT_OK(ht_range_parse("percentile:99.9", &c, &err), &err);
    assert_true(c.options[0] == 99.9 && c.options[1] == 0);
    static const char *const bad[] = {"", "percentle", "mse:", "mse:norm", "mse:norm=", "mse:norm=9", "mse:2,3",
                                      "mse:power=2", "absmax:1", "mse:norm=2x", "mse:norm=nan", "mse:2,", NULL};
    for (int i = 0; bad[i] != NULL; i++) {
        ht_err_clear(&err);
        if (ht_range_parse(bad[i], &c, &err) != HT_INVAL) {
            fail_msg("'%s' was taken", bad[i]);
        }
    }
    ht_err_clear(&err);
    ht_range_parse("percentle", &c, &err);
    assert_non_null(strstr(err.msg, "did you mean percentile"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_hold_everything), cmocka_unit_test(test_percentile_by_counting),
        cmocka_unit_test(test_entropy_written_out),    cmocka_unit_test(test_mse_finds_the_least_scale),
        cmocka_unit_test(test_mse_asymmetric),         cmocka_unit_test(test_mse_other_norms),
        cmocka_unit_test(test_half_quadratic), cmocka_unit_test(test_search_over_many),
        cmocka_unit_test(test_half_quadratic_over_many), cmocka_unit_test(test_state_forgets_order_and_cuts),
        cmocka_unit_test(test_moving_average),         cmocka_unit_test(test_state_against_values),
        cmocka_unit_test(test_degenerate_rows),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_names_and_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
