/* Schemes: text both ways, what goes together, the grid that covers a range. */
#include "test.h"

#include <float.h>
#include <math.h>

#include "base/rng.h"
#include "format/half.h"
#include "format/scheme.h"

static struct ht_scheme scheme(const char *text) {
    struct ht_scheme s;
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(text, &s, &err), &err);
    return s;
}

static void texts(void **state) {
    (void)state;
    static const char *const same[] = {
        "int4:g64", "int8:channel", "fp8_e4m3:tensor", "int8:token", "nf4:g64", "nf4:g64:nested", "uint4:g128",
        "uint4:g128:offset", "int4:g32:asym", "int4:g32:offset", "int4:g128:narrow", "int4:g32:scale=f32",
        "int4:tensor:scale=f16", "int8:channel:scale=bf16", "fp4_e2m1:g32:scale=e8m0", "kmeans4:tensor",
        "ternary_b3:channel", "binary:g256", "uint16:channel", "int3:g7", "log5:g64", "int4:g1048576",
    };
    char out[HT_SCHEME_TEXT];
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct ht_scheme s = scheme(same[i]);
        assert_string_equal(ht_scheme_text(&s, out), same[i]);
    }
    static const char *const spelled[][2] = {
        {"INT4:G64", "int4:g64"},
        {"int4:sym:g64:scale=F16", "int4:g64"},
        {"uint8:channel:asym:scale=f32", "uint8:channel"},
        {"nf4:nested:g64", "nf4:g64:nested"},
    };
    for (size_t i = 0; i < sizeof spelled / sizeof spelled[0]; i++) {
        struct ht_scheme s = scheme(spelled[i][0]);
        assert_string_equal(ht_scheme_text(&s, out), spelled[i][1]);
    }
}

static void refusals(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"int4", "no scales of its own: say what shares one, as in int4:g64"},
        {"int44:g64", "did you mean int4"},
        {"q4_0:g32", "q4_0 takes no scales from outside"},
        {"f16:channel", "f16 takes no scales"},
        {"int4:g0", "expected g1 to g1048576"},
        {"int4:g64x", "expected g1"},
        {"int4:g99999999999999999999", "expected g1"},
        {"int4:chanel", "did you mean channel"},
        {"int4:g64:channel", "the granularity is given twice"},
        {"int4:g64:sym:asym", "the zero point is given twice"},
        {"int4:g64:scale=f16:scale=f32", "scale= is given twice"},
        {"int4:g64:scale=f8", "stored as f16, bf16, f32 or e8m0"},
        {"int4:g64:", "unknown part ''"},
        {"", "unknown format ''"},
        {":g64", "unknown format ''"},
        {"nf4:g64:asym", "need integer codes"},
        {"fp8_e4m3:channel:offset", "need integer codes"},
        {"uint4:g64:sym", "sym needs signed codes"},
        {"uint4:g64:narrow", "narrow is for symmetric intN"},
        {"int4:g64:asym:narrow", "narrow is for symmetric intN"},
        {"int1:g64", "those of binary"},
        {"e8m0:g64", "it stores scales"},
        {"int4:g64:offset:scale=e8m0", "cannot store the offset's min"},
        {"int4:g64:asym:nested", "goes with sym"},
        {"nf4:tensor:nested", "goes with sym and gN"},
        {"nf4:g64:nested:scale=f32", "leave scale= away"},
        {"int4:g64:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "is no format such as int4:g64"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ht_scheme s;
        ht_err err = {0};
        assert_int_equal(ht_scheme_parse(bad[i][0], &s, &err), HT_INVAL);
        if (strstr(err.msg, bad[i][1]) == NULL) {
            fail_msg("'%s': message '%s', expected '%s'", bad[i][0], err.msg, bad[i][1]);
        }
    }
}

static void groups(void **state) {
    (void)state;
    struct ht_scheme g64 = scheme("int4:g64"), channel = scheme("int4:channel");
    assert_int_equal(ht_scheme_run(&g64, 576), 64);
    assert_int_equal(ht_scheme_groups(&g64, 576), 9);
    assert_int_equal(ht_scheme_groups(&g64, 577), 10); /* a tail of one */
    assert_int_equal(ht_scheme_run(&g64, 40), 40);
    assert_int_equal(ht_scheme_groups(&g64, 40), 1);
    assert_int_equal(ht_scheme_run(&channel, 577), 577);
    assert_int_equal(ht_scheme_groups(&channel, 577), 1);
}

static void covers(const char *text, float lo, float hi, float scale, float min, int32_t zero) {
    struct ht_scheme s = scheme(text);
    struct ht_affine a = ht_scheme_cover(&s, lo, hi);
    if (a.scale != scale || a.min != min || a.zero != zero) {
        fail_msg("%s over %g .. %g: scale %.9g min %.9g zero %d", text, (double)lo, (double)hi, (double)a.scale,
                 (double)a.min, a.zero);
    }
}

static void grids(void **state) {
    (void)state;
    covers("int4:g64:scale=f32", -7, 7, 1, 0, 0);
    covers("int4:g64:scale=f32", -8, 7, 1, 0, 0);      /* the lowest code serves */
    covers("int4:g64:scale=f32", -8, 1, 1, 0, 0);
    covers("int4:g64:scale=f32:narrow", -7, 1, 1, 0, 0);
    covers("int4:g64:scale=f32:narrow", -14, 1, 2, 0, 0);
    covers("int8:channel", -127, 254, 2, 0, 0);
    covers("fp8_e4m3:tensor", -896, 10, 2, 0, 0);
    covers("nf4:g64", -3, 2, 3, 0, 0);
    covers("uint4:g64", 0, 15, 1, 0, 0);
    covers("uint4:g64", -5, 10, 1, 0, 5);
    covers("uint4:g64", 3, 15, 1, 0, 0);               /* widened to hold 0 */
    covers("uint4:g64", -15, -3, 1, 0, 15);
    covers("uint4:g64:offset", 3, 18, 1, 3, 0);
    covers("int4:g64:offset", 3, 18, 1, 11, 0);        /* codes begin at -8 */
    covers("int4:g64:asym", -8, 7, 1, 0, 0);
    covers("int8:tensor:asym", 0, 255, 1, 0, -128);
    covers("int4:g64", 0, 0, 0, 0, 0);
    covers("uint4:g64", 0, 0, 0, 0, 0);
    covers("uint4:g64:offset", 2.5f, 2.5f, 0, 2.5f, 0); /* all equal: exact */
    covers("uint4:g64", 30, 30, 2, 0, 0);              /* all equal: the top code is it */
    covers("fp4_e2m1:g32:scale=e8m0", -6, 3, 1, 0, 0);
    covers("fp4_e2m1:g32:scale=e8m0", -6.1f, 3, 2, 0, 0);
    covers("uint8:channel", -FLT_MAX, FLT_MAX, (float)(2.0 * (double)FLT_MAX / 255), 0, 128);
    covers("binary:channel", -0.5f, 0.5f, 0.5f, 0, 0);
}

/* The nearest value, by trying all; value and nearest are inverse; the range is covered up to the precision of the
 * stored scale. */
static void nearest_of_all(void **state) {
    (void)state;
    static const char *const list[] = {
        "int2:g64", "int4:g64:narrow", "int8:channel", "uint3:g64", "uint4:g64:offset", "int5:g64:asym", "fp8_e5m2:tensor",
        "fp4_e2m1:g32:scale=e8m0", "nf4:g64", "fp4:g64", "pot4:channel", "apot5:channel", "binary:g64", "ternary:g64",
    };
    struct ht_rng rng;
    ht_rng_init(&rng, 5);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct ht_scheme s = scheme(list[i]);
        for (int trial = 0; trial < 200; trial++) {
            float lo = (float)(-ht_rng_uniform(&rng) * 3), hi = (float)(ht_rng_uniform(&rng) * 3);
            struct ht_affine a = ht_scheme_cover(&s, lo, hi);
            float x = (float)(ht_rng_normal(&rng) * 2);
            int32_t code = ht_scheme_nearest(&s, NULL, &a, x);
            assert_true(code >= ht_scheme_lo(&s) && code <= ht_scheme_hi(&s));
            double got = fabs((double)ht_scheme_value(&s, NULL, &a, code) - (double)x), end[2] = {1e30, 1e30};
            for (int32_t c = ht_scheme_lo(&s); c <= ht_scheme_hi(&s); c++) {
                float v = ht_scheme_value(&s, NULL, &a, c);
                assert_true(!(fabs((double)v - (double)x) < got * (1 - 1e-5) - 1e-6));
                end[0] = fabs((double)v - (double)lo) < end[0] ? fabs((double)v - (double)lo) : end[0];
                end[1] = fabs((double)v - (double)hi) < end[1] ? fabs((double)v - (double)hi) : end[1];
            }
            if (s.format->code->levels == NULL) { /* evenly spaced: both ends within half a step */
                assert_true(end[0] <= 0.51 * (double)a.scale && end[1] <= 0.51 * (double)a.scale);
            }
        }
    }
}

/* Scale 0, Inf and NaN have answers. */
static void degenerate(void **state) {
    (void)state;
    static const char *const list[] = {"int4:g64", "uint4:g64", "uint4:g64:offset", "nf4:g64", "fp8_e4m3:channel", "binary:g64"};
    const float x[] = {0, 1, -1, INFINITY, -INFINITY, NAN, FLT_MAX, 1e-45f};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct ht_scheme s = scheme(list[i]);
        for (size_t k = 0; k < sizeof x / sizeof x[0]; k++) {
            for (float scale = 0; scale < 3; scale += 1) {
                struct ht_affine a = {scale == 2 ? 1e-45f : scale, 0, 0};
                int32_t code = ht_scheme_nearest(&s, NULL, &a, x[k]);
                assert_true(code >= s.format->code->lo && code <= s.format->code->hi);
                assert_true(scale != 0 || ht_scheme_value(&s, NULL, &a, code) == 0);
            }
        }
    }
}

/* binary: |x| averaged; ternary: no alpha does better, tried on a fine grid. */
static void few_levels(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 6);
    struct ht_scheme t = scheme("ternary:g64"), b = scheme("binary:g64");
    assert_true(ht_scheme_range(&t) == ht_range_ternary && ht_scheme_range(&b) == ht_range_binary);
    struct ht_scheme i4 = scheme("int4:g64");
    assert_true(ht_scheme_range(&i4) == ht_range_minmax);
    for (int trial = 0; trial < 60; trial++) {
        enum { N = 300 };
        float x[N], w[N], lo, hi;
        ht_err err = {0};
        size_t n = 1 + (size_t)ht_rng_below(&rng, N);
        for (size_t i = 0; i < n; i++) {
            x[i] = (float)ht_rng_normal(&rng);
            w[i] = (float)ht_rng_uniform(&rng);
        }
        const float *weight = trial % 2 ? w : NULL;
        for (int which = 0; which < 2; which++) {
            ht_range_fn *fn = which ? ht_range_binary : ht_range_ternary;
            ASSERT_OK(fn(NULL, &t, x, weight, n, &lo, &hi, &err), &err);
            assert_true(lo == -hi && hi > 0);
            double best = INFINITY, got = 0;
            for (double alpha = 0; alpha < 4; alpha += 0.002) {
                double e = 0;
                for (int pass = alpha == 0; pass < 2; pass++) {
                    double a = pass ? alpha : (double)hi;
                    e = 0;
                    for (size_t i = 0; i < n; i++) {
                        double m = fabs((double)x[i]), v = which || m > a / 2 ? a : 0;
                        e += (weight ? (double)w[i] : 1) * (m - v) * (m - v);
                    }
                    if (pass == 0) {
                        got = e;
                    }
                }
                best = e < best ? e : best;
            }
            assert_true(got <= best * (1 + 1e-6) + 1e-9);
        }
        memset(w, 0, sizeof w);
        ASSERT_OK(ht_range_ternary(NULL, &t, x, w, n, &lo, &hi, &err), &err); /* no importance at all: as if equal */
        assert_true(hi > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),          cmocka_unit_test(refusals),   cmocka_unit_test(groups), cmocka_unit_test(grids),
        cmocka_unit_test(nearest_of_all), cmocka_unit_test(degenerate), cmocka_unit_test(few_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
