/* Code formats: every code of every format, packing at any length, small floats against ml_dtypes. */
#include "test_format_data.h"

#include <math.h>

#include "base/rng.h"
#include "format/code.h"
#include "format/half.h"
#include "format/levels.h"

#define GOLDEN HT_TEST_DIR "/golden/formats/codes.safetensors"
#define FOR_CODES(f)                                                                                            \
    for (size_t i_ = 0; i_ < ht_format_count(); i_++)                                                           \
        for (const struct ht_format *f = ht_format_at(i_); f != NULL && f->code != NULL; f = NULL)

static struct data_file golden;

static const void *get(const char *name, const char *suffix, size_t *n) {
    char key[80];
    size_t shape[2] = {0, 0}, bytes = 0;
    snprintf(key, sizeof key, "%s.%s", name, suffix);
    const void *p = data_get(&golden, key, shape, &bytes);
    if (p == NULL) {
        fail_msg("%s is not in %s", key, GOLDEN);
    }
    *n = shape[0] * shape[1];
    return p;
}

static void rows_are_sound(void **state) {
    (void)state;
    int seen = 0;
    FOR_CODES(f) {
        const struct ht_code *c = f->code;
        float lo = INFINITY, hi = -INFINITY, at_zero = 0;
        seen++;
        assert_true(c->lo <= 0 && c->hi > c->lo && c->zero >= c->lo && c->zero <= c->hi);
        assert_true(c->bits == 0 ? c->hi - c->lo == 2 : (uint32_t)(c->hi - c->lo) < 1u << c->bits);
        /* the smallest run of whole bytes */
        assert_int_equal(ht_code_row_bytes(f, f->block_elems), f->block_bytes);
        assert_true(fabs(ht_format_bits(f) - ht_code_bits(f)) < 1e-12);
        for (uint32_t n = 1; n < f->block_elems && c->bits != 0; n++) {
            assert_true(n * c->bits % 8 != 0);
        }
        for (int32_t code = c->lo; code <= c->hi; code++) {
            float v = ht_code_level(f, code);
            if (isfinite(v)) {
                lo = v < lo ? v : lo;
                hi = v > hi ? v : hi;
            }
            at_zero = code == c->zero ? v : at_zero;
        }
        if (!c->fitted) {
            assert_true(lo == c->min_level && hi == c->max_level);
        }
        if (strcmp(f->name, "binary") != 0 && strcmp(f->name, "e8m0") != 0 && c->fitted != HT_FITTED_KMEANS) {
            assert_true(at_zero == 0);
        }
    }
    assert_true(seen >= 60);
}

/* Rows of any length: what is packed comes back, bytes behind stay, unused bits are 0, get and put agree. */
static void packing(void **state) {
    (void)state;
    enum { MAX = 77 };
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    FOR_CODES(f) {
        const struct ht_code *c = f->code;
        uint64_t count = (uint64_t)(c->hi - c->lo) + 1;
        for (size_t n = 0; n <= MAX; n++) {
            size_t bytes = (size_t)ht_code_row_bytes(f, n);
            uint8_t *row = malloc(bytes + 1), *by_put = calloc(bytes + 1, 1);
            int32_t *codes = malloc((n + 1) * sizeof *codes), *back = malloc((n + 1) * sizeof *back);
            assert_true(row && by_put && codes && back);
            if (c->bits == 0) {
                memset(by_put, 0, bytes);
            }
            row[bytes] = 0x5a;
            back[n] = 12345;
            for (size_t i = 0; i < n; i++) {
                codes[i] = (int32_t)ht_rng_below(&rng, count) + c->lo;
                ht_code_put(f, by_put, i, codes[i]);
            }
            ht_code_pack(f, codes, row, n);
            ht_code_unpack(f, row, back, n);
            assert_memory_equal(codes, back, n * sizeof *codes);
            assert_int_equal(row[bytes], 0x5a);
            assert_int_equal(back[n], 12345);
            assert_memory_equal(row, by_put, bytes);
            for (size_t i = 0; i < n; i++) {
                assert_int_equal(ht_code_get(f, row, i), codes[i]);
            }
            if (c->bits != 0 && n * c->bits % 8 != 0) {
                assert_int_equal(row[bytes - 1] >> n * c->bits % 8, 0);
            }
            free(row);
            free(by_put);
            free(codes);
            free(back);
        }
    }
}

/* The order of bits is part of the format. */
static void bit_order(void **state) {
    (void)state;
    const struct {
        const char *format;
        int n;
        int32_t codes[8];
        int bytes;
        uint8_t want[6];
    } cases[] = {
        {"uint4", 3, {1, 2, 15}, 2, {0x21, 0x0f}},
        {"int4", 3, {-8, 7, 0}, 2, {0xf0, 0x08}},
        {"uint3", 8, {0, 1, 2, 3, 4, 5, 6, 7}, 3, {0x88, 0xc6, 0xfa}},
        {"int8", 2, {-128, 127}, 2, {0x00, 0xff}},
        {"uint12", 2, {0xabc, 0x123}, 3, {0xbc, 0x3a, 0x12}},
        {"int16", 1, {-1}, 2, {0xff, 0x7f}},
        {"uint1", 8, {1, 0, 0, 0, 0, 0, 1, 1}, 1, {0xc1}},
        {"binary", 3, {1, 1, 0}, 1, {0x03}},
        {"ternary", 4, {-1, 0, 1, 1}, 1, {0xa4}},
        {"ternary_b3", 5, {1, 1, 1, 1, 1}, 1, {255}},    /* 242: ceil(256 * 242 / 243) */
        {"ternary_b3", 5, {-1, -1, -1, -1, 0}, 1, {2}},  /* 1: ceil(256 / 243) */
        {"ternary_b3", 6, {-1, 0, 1, -1, 0, 1}, 2, {49, 171}}, /* 0*81+1*27+2*9+0+1 = 46; 2*81 = 162 */
        {"nf4", 2, {0, 15}, 1, {0xf0}},
        {"fp8_e4m3", 1, {0x7e}, 1, {0x7e}},
        {"log4", 2, {-7, 7}, 1, {0xe0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ht_format *f = ht_format_find(cases[i].format);
        uint8_t row[8] = {0};
        ht_code_pack(f, cases[i].codes, row, (size_t)cases[i].n);
        assert_int_equal(ht_code_row_bytes(f, (uint64_t)cases[i].n), cases[i].bytes);
        if (memcmp(row, cases[i].want, (size_t)cases[i].bytes) != 0) {
            fail_msg("%s, case %zu: %02x %02x %02x", cases[i].format, i, row[0], row[1], row[2]);
        }
    }
}

/* Any bytes unpack to codes of the format. */
static void any_bytes(void **state) {
    (void)state;
    FOR_CODES(f) {
        for (int b = 0; b < 256; b++) {
            uint8_t row[32];
            int32_t codes[16];
            memset(row, b, sizeof row);
            ht_code_unpack(f, row, codes, 16);
            for (int i = 0; i < 16; i++) {
                assert_true(codes[i] >= f->code->lo && codes[i] <= f->code->hi);
                assert_int_equal(ht_code_get(f, row, (uint64_t)i), codes[i]);
            }
        }
    }
}

/* Every finite level comes back as itself; between levels the nearest is found; beyond, the last. */
static void nearest(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 2);
    FOR_CODES(f) {
        const struct ht_code *c = f->code;
        float top = c->fitted ? (float)c->hi : c->max_level, bottom = c->fitted ? (float)c->lo : c->min_level;
        for (int32_t code = c->lo; code <= c->hi; code++) {
            float v = ht_code_level(f, code);
            if (isfinite(v)) {
                assert_true(ht_code_level(f, ht_code_nearest(f, v)) == v);
            }
        }
        int step = c->hi - c->lo > 4096 ? 97 : 1;
        for (int trial = 0; trial < 300; trial++) {
            float x = (float)((bottom + (double)(top - bottom) * ht_rng_uniform(&rng)) * 1.1);
            double got = fabs((double)ht_code_level(f, ht_code_nearest(f, x)) - (double)x);
            for (int32_t code = c->lo; code <= c->hi; code += step) {
                double d = fabs((double)ht_code_level(f, code) - (double)x);
                assert_true(!(d < got * (1 - 1e-6)));
            }
        }
        assert_true(ht_code_level(f, ht_code_nearest(f, INFINITY)) == top);
        assert_true(ht_code_level(f, ht_code_nearest(f, 3e38f)) == top);
        if (c->min_level < 0) {
            assert_true(ht_code_level(f, ht_code_nearest(f, -INFINITY)) == bottom);
        }
        float of_nan = ht_code_level(f, ht_code_nearest(f, NAN));
        assert_true(f->real != NULL && f->real->has_nan ? isnan(of_nan) : ht_code_nearest(f, NAN) == c->zero);
    }
    assert_int_equal(ht_code_nearest(ht_format_find("int4"), 2.5f), 2);
    assert_int_equal(ht_code_nearest(ht_format_find("int4"), -3.5f), -4);
    assert_int_equal(ht_code_nearest(ht_format_find("uint8"), 255.4f), 255);
    assert_int_equal(ht_code_nearest(ht_format_find("binary"), 0.0f), 1);
    assert_int_equal(ht_code_nearest(ht_format_find("binary"), -0.0f), 1);
}

static const char *const reals[] = {"fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1", "e8m0"};

static void small_floats(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        const struct ht_format *f = ht_format_find(reals[i]);
        size_t n, n_x, n_code, n_sat;
        const float *levels = get(reals[i], "levels", &n), *x = get(reals[i], "x", &n_x);
        const uint8_t *code = get(reals[i], "code", &n_code), *sat = get(reals[i], "sat", &n_sat);
        assert_int_equal(n, f->code->hi + 1);
        for (int32_t c = 0; c <= f->code->hi; c++) {
            float want, got = ht_code_level(f, c), converted = ht_real_to_f32(f->real, (uint32_t)c);
            memcpy(&want, levels + c, 4);
            assert_true(isnan(want) ? isnan(got) && isnan(converted)
                                    : ht_f32_bits(want) == ht_f32_bits(got) && ht_f32_bits(want) == ht_f32_bits(converted));
        }
        for (size_t k = 0; k < n_x; k++) {
            float v;
            memcpy(&v, x + k, 4);
            uint32_t saturated = ht_real_from_f32(f->real, v, true), plain = ht_real_from_f32(f->real, v, false);
            if (saturated != sat[k]) {
                fail_msg("%s: %a saturating: code %02x, ml_dtypes %02x", reals[i], (double)v, saturated, sat[k]);
            }
            if (f->real->has_nan ? plain != code[k] : plain != sat[k]) {
                fail_msg("%s: %a: code %02x, ml_dtypes %02x", reals[i], (double)v, plain, code[k]);
            }
        }
    }
}

/* What the rows say of range and precision is what their values show. */
static void ranges(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        const struct ht_real *r = f->real;
        if (r == NULL || r->max_code == 0) {
            continue;
        }
        uint32_t patterns = 1u << (r->sign_bits + r->exponent_bits + r->mantissa_bits);
        double max = 0, smallest = INFINITY, above_one = INFINITY;
        bool inf = false, nan = false, zero = false;
        for (uint32_t p = 0; p < patterns; p++) {
            double v = (double)ht_real_to_f32(r, p);
            nan = nan || isnan(v);
            inf = inf || isinf(v);
            zero = zero || v == 0;
            if (isfinite(v)) {
                max = v > max ? v : max;
                smallest = v > 0 && v < smallest ? v : smallest;
                above_one = v > 1 && v < above_one ? v : above_one;
                /* to f32 and back: the same pattern */
                assert_int_equal(ht_real_from_f32(r, (float)v, false), p);
            }
        }
        assert_true(max == r->max && smallest == r->min_subnormal && above_one - 1 == r->eps);
        assert_true(inf == r->has_inf && nan == r->has_nan && zero == r->has_zero);
        assert_true(r->min_normal == ldexp(1, r->has_zero ? 1 - r->bias : -r->bias));
    }
}

/* f16 and bf16 through the general conversion are those of half.h, on every pattern and around every tie. */
static void halves(void **state) {
    (void)state;
    const struct ht_real *f16 = ht_format_find("f16")->real, *bf16 = ht_format_find("bf16")->real;
    for (uint32_t p = 0; p < 0x7f80u; p++) {
        for (int side = 0; side < 3; side++) {
            float x = ht_f32_from_bits((p << 16 | 0x8000u) + (uint32_t)(side - 1));
            assert_int_equal(ht_real_from_f32(bf16, x, false), ht_bf16_from_f32(x));
            assert_int_equal(ht_real_from_f32(f16, x, false), ht_f16_from_f32(x));
            float tie = p < 0x7c00u ? 0.5f * (ht_f16_to_f32((uint16_t)p) + ht_f16_to_f32((uint16_t)(p + (p < 0x7bffu)))) : x;
            assert_int_equal(ht_real_from_f32(f16, -tie, false), ht_f16_from_f32(-tie));
        }
    }
}

static void tf32(void **state) {
    (void)state;
    size_t n, m;
    const float *x = get("tf32", "x", &n), *y = get("tf32", "y", &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        float v, want;
        memcpy(&v, x + i, 4);
        memcpy(&want, y + i, 4);
        assert_int_equal(ht_f32_bits(ht_tf32_round(v)), ht_f32_bits(want));
    }
    assert_true(isnan(ht_tf32_round(NAN)));
    assert_true(isnan(ht_tf32_round(ht_f32_from_bits(0x7f800001u))));
}

static void overflow_counts(void **state) {
    (void)state;
    const float x[] = {0.0f, -0.0f, 1.0f, 448.0f, 463.9f, 464.0f, 1e9f, -1e9f, INFINITY, NAN, 0x1p-9f, 0x1p-10f, 0x1.8p-10f, 0x1p-7f, 0x1p-6f};
    struct ht_real_counts c = {0};
    ht_real_count(ht_format_find("fp8_e4m3")->real, x, sizeof x / sizeof x[0], &c);
    assert_int_equal(c.n, 15);
    assert_int_equal(c.inf, 1);
    assert_int_equal(c.nan, 1);
    assert_int_equal(c.overflow, 3);   /* 464 is a tie that would round to 480 */
    assert_int_equal(c.underflow, 1);  /* 2^-10 is a tie with 0 */
    assert_int_equal(c.subnormal, 3);
    /* Agrees with the conversion on random floats of every format. */
    struct ht_rng rng;
    ht_rng_init(&rng, 3);
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_real *r = ht_format_at(i)->real;
        for (int k = 0; r != NULL && r->max_code != 0 && k < 3000; k++) {
            double e = log2(r->min_subnormal) - 2 + (log2(r->max) - log2(r->min_subnormal) + 4) * ht_rng_uniform(&rng);
            float v = (float)exp2(e);
            if (k % 3 == 0) {
                v = (float)(floor(16 * v / r->max) / 16 * r->max); /* ties and edges */
            }
            uint32_t p = ht_real_from_f32(r, v, false), sat = ht_real_from_f32(r, v, true);
            bool over = isfinite(v) && (p > r->max_code || (!r->has_nan && (double)v > r->max && sat == r->max_code));
            if (!r->has_nan && over) { /* no pattern tells: rounds beyond when past half a step */
                over = (double)v >= r->max + 0.5 * (r->max - (double)ht_real_to_f32(r, r->max_code - 1));
            }
            struct ht_real_counts one = {0};
            ht_real_count(r, &v, 1, &one);
            assert_int_equal(one.overflow, over);
            if (r->has_zero && v > 0) {
                assert_int_equal(one.underflow, p == 0);
                double back = (double)ht_real_to_f32(r, p);
                assert_int_equal(one.subnormal, back > 0 && back < r->min_normal);
            }
        }
    }
}

/* Tables that are embedded equal the rules that define them. */
static void derived_levels(void **state) {
    (void)state;
    float levels[HT_LEVELS_MAX];
    size_t n;
    assert_true(fabs(ht_normal_quantile(0.975) - 1.959963984540054) < 1e-12);
    assert_true(fabs(ht_normal_quantile(1e-10) + 6.361340902404056) < 1e-11);
    assert_true(ht_normal_quantile(0.5) == 0 || fabs(ht_normal_quantile(0.5)) < 1e-15);
    const struct ht_code *nf4 = ht_format_find("nf4")->code;
    const float *bnb = get("bnb.nf4", "levels", &n);
    ht_levels_normal(4, levels);
    assert_int_equal(n, 16);
    for (int c = 0; c < 16; c++) {
        assert_true(memcmp(&nf4->levels[c], bnb + c, 4) == 0);
        assert_true(fabsf(levels[c] - nf4->levels[c]) <= 2e-7f); /* theirs begins from probabilities in f32 */
    }
    bnb = get("bnb.fp4", "levels", &n);
    for (int c = 0; c < 16; c++) {
        /* 3-bit float: 0, subnormal 1/16, then (1 + m/2) * 2^(e) with codes in bitsandbytes' order */
        static const float rule[8] = {0, 0.0625f, 8, 12, 4, 6, 2, 3};
        float want = (c < 8 ? rule[c] : -rule[c - 8]) / 12;
        assert_true(ht_format_find("fp4")->code->levels[c] == want);
        assert_true(*(const float *)memcpy(&want, bnb + c, 4) == ht_format_find("fp4")->code->levels[c]);
    }
    bnb = get("bnb", "dynamic", &n);
    ht_levels_dynamic(levels);
    assert_memory_equal(levels, ht_dynamic_map, sizeof levels);
    assert_memory_equal(bnb, ht_dynamic_map, sizeof levels);
    for (int bits = 3; bits <= 7; bits++) {
        char name[16];
        snprintf(name, sizeof name, "pot%d", bits);
        const struct ht_format *f = ht_format_find(name);
        ht_levels_pot(bits, levels);
        assert_true(f == NULL || memcmp(levels, f->code->levels, ((1u << bits) - 1) * 4) == 0);
        snprintf(name, sizeof name, "apot%d", bits);
        f = ht_format_find(name);
        if (f != NULL) {
            ht_levels_apot(bits, levels);
            assert_memory_equal(levels, f->code->levels, ((1u << bits) - 1) * 4);
        }
    }
    /* normal levels of other widths: odd but for the ends, a zero, quantiles in order */
    for (int bits = 2; bits <= 8; bits++) {
        ht_levels_normal(bits, levels);
        assert_true(levels[0] == -1 && levels[(1 << bits) - 1] == 1 && levels[(1 << (bits - 1)) - 1] == 0);
        for (int c = 1; c < 1 << bits; c++) {
            assert_true(levels[c] > levels[c - 1]);
        }
    }
}

/* Least error of k levels for n weighted points in order: dynamic programming over the points themselves. */
static double best_error(const double *v, const double *w, int n, int k) {
    static double least[9][81];
    for (int j = 0; j <= n; j++) {
        least[0][j] = j == 0 ? 0 : INFINITY;
    }
    for (int c = 1; c <= k; c++) {
        for (int j = 0; j <= n; j++) {
            least[c][j] = least[c - 1][j];
            double sw = 0, swv = 0, swvv = 0;
            for (int i = j - 1; i >= 0; i--) {
                sw += w[i];
                swv += w[i] * v[i];
                swvv += w[i] * v[i] * v[i];
                double e = least[c - 1][i] + swvv - (sw > 0 ? swv * swv / sw : 0);
                least[c][j] = e < least[c][j] ? e : least[c][j];
            }
        }
    }
    return least[k][n];
}

/* k-means levels are the best there are; the parameters of log and power law beat any tried at random. */
static void fitted_levels(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 11);
    struct ht_hist *h = malloc(sizeof *h);
    assert_non_null(h);
    for (int trial = 0; trial < 30; trial++) {
        enum { N = 80 };
        double v[N], w[N];
        float x[N], weight[N], levels[HT_LEVELS_MAX];
        int n = 1 + (int)ht_rng_below(&rng, N), place = 0;
        memset(h, 0, sizeof *h);
        for (int i = 0; i < n; i++) { /* ascending, one to a bin, so that bins lose nothing */
            place += 1 + (int)ht_rng_below(&rng, (uint64_t)(HT_HIST_BINS / N - 1));
            v[i] = (place + 0.5) / (HT_HIST_BINS / 2) - 1;
            w[i] = trial % 2 ? 0.1 + ht_rng_uniform(&rng) : 1.0;
            x[i] = (float)v[i];
            weight[i] = (float)w[i];
            w[i] = (double)weight[i];
            v[i] = (double)x[i];
        }
        ht_hist_add(h, x, weight, 1, (size_t)n);
        for (int bits = 2; bits <= 3; bits++) {
            ht_err err = {0};
            const struct ht_format *f = ht_format_find(bits == 2 ? "kmeans2" : "kmeans3");
            ASSERT_OK(ht_levels_fit(f, h, levels, NULL, &err), &err);
            for (int c = 1; c < 1 << bits; c++) {
                assert_true(levels[c] >= levels[c - 1]);
            }
            double got = ht_hist_error(h, levels, 1 << bits), best = best_error(v, w, n, 1 << bits);
            assert_true(got <= best * (1 + 1e-4) + 1e-12);
        }
        /* a histogram of something like weights */
        memset(h, 0, sizeof *h);
        for (int i = 0; i < 4000; i++) {
            float g = (float)(ht_rng_normal(&rng) * (trial % 3 == 0 ? 0.05 : 0.3));
            ht_hist_add(h, &g, NULL, 1, 1);
        }
        for (int k = 0; k < 2; k++) {
            double found = 0;
            ht_err err = {0};
            const struct ht_format *f = ht_format_find(k ? "pow4" : "log4");
            ASSERT_OK(ht_levels_fit(f, h, levels, &found, &err), &err);
            assert_true(levels[0] == -1 && levels[7] == 0 && levels[14] == 1 && found > 0);
            double got = ht_hist_error(h, levels, 15);
            for (int i = 0; i < 200; i++) {
                double other = exp2(k ? -3 + 3.5 * ht_rng_uniform(&rng) : -12 + 16 * ht_rng_uniform(&rng));
                (k ? ht_levels_pow : ht_levels_log)(7, other, levels);
                assert_true(got <= ht_hist_error(h, levels, 15) * 1.01);
            }
        }
    }
    free(h);
}

static int open_golden(void **state) {
    (void)state;
    return data_open(GOLDEN, &golden) ? 0 : -1;
}

static int close_golden(void **state) {
    (void)state;
    data_close(&golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_sound), cmocka_unit_test(packing),      cmocka_unit_test(bit_order),
        cmocka_unit_test(any_bytes),      cmocka_unit_test(nearest),      cmocka_unit_test(small_floats),
        cmocka_unit_test(ranges),         cmocka_unit_test(halves),       cmocka_unit_test(tf32),
        cmocka_unit_test(overflow_counts), cmocka_unit_test(derived_levels), cmocka_unit_test(fitted_levels),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
