/* Products with qtensors: every code format against sums in double; integers exactly; requantization in 128 bits. */
#include "test.h"

#include "kernel/qform.h"
#include "kernel/qmatmul.h"
#include "base/compiler.h"
#include "kernel_cases.h"

static struct ht_qtensor encoded(const char *text, uint64_t rows, uint64_t cols, const float *x) {
    struct ht_scheme s;
    struct ht_qtensor q;
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(text, &s, &err), &err);
    ASSERT_OK(ht_qtensor_init(&q, &s, rows, cols, "w", &err), &err);
    ASSERT_OK(ht_qtensor_encode(&q, x, NULL, NULL, &err), &err);
    return q;
}

enum { R = 9, T = 11, T_REF = 5, K_MAX = 333 };
static float w[R * K_MAX], x[T * K_MAX], decoded[R * K_MAX];

/* Which function computes: the specification, or the driver with the table of a level. */
static const struct ht_kernel_table *level;
static int level_number;

static HT_ALIGNED(64) char scratch_bytes[1 << 20];

static void multiply(const struct ht_qtensor *q, const float *in, size_t n_tokens, float *y, size_t y_stride,
                     enum ht_math math) {
    if (level == NULL) {
        assert_true(ht_qmatmul_ref_scratch_bytes(q, n_tokens) <= sizeof scratch_bytes);
        ht_qmatmul_ref(q, 0, q->rows, in, n_tokens, y, y_stride, math, scratch_bytes);
    } else {
        assert_true(ht_qmatmul_scratch_bytes(q, n_tokens, 1) <= sizeof scratch_bytes);
        ht_qmatmul_with(level, NULL, q, in, n_tokens, y, y_stride, math, scratch_bytes);
    }
}

/* A qtensor whose codes lie between pages that nobody may touch. */
static struct guarded guard_codes(struct ht_qtensor *q, uint8_t **own) {
    struct guarded g = guarded_new((size_t)(q->rows * q->row_bytes));
    memcpy(g.p, q->codes, g.bytes);
    *own = q->codes;
    q->codes = g.p;
    return g;
}

/* Sum of |rounded input| times the largest weight that the group's grid has. */
static double fast_bound(const struct ht_qtensor *q, uint64_t r, const double *rounded) {
    const struct ht_code *c = q->scheme.format->code;
    double bound = 0;
    for (uint64_t k = 0; k < q->cols; k++) {
        struct ht_affine a = ht_qtensor_grid(q, r, k / q->run);
        double lo = (double)c->min_level - a.zero, hi = (double)c->max_level - a.zero;
        double most = fabs(lo) > fabs(hi) ? fabs(lo) : fabs(hi);
        bound += fabs(rounded[k]) * ((double)a.scale * most + fabs((double)a.min));
    }
    return bound;
}

/* FAST: activations are rounded; the same here in double, with the specification's formula. */
static void check(struct ht_qtensor *q, enum ht_math math, size_t n_tokens) {
    size_t K = (size_t)q->cols;
    struct guarded in = guarded_new(n_tokens * K * 4);
    float y[T * (R + 2)];
    uint8_t *own;
    struct guarded codes = guard_codes(q, &own);
    memcpy(in.p, x, n_tokens * K * 4);
    memset(y, 0xaa, sizeof y);
    multiply(q, in.p, n_tokens, y, R + 2, math);
    ht_qtensor_decode(q, 0, R, decoded);
    bool fast = math == HT_MATH_FAST && ht_qmatmul_is_integer(q);
    for (size_t t = 0; t < n_tokens; t++) {
        double rounded[K_MAX];
        for (size_t k = 0; k < K; k += 32) {
            double max = 0;
            for (size_t i = k; i < K && i < k + 32; i++) {
                max = fabs((double)x[t * K + i]) > max ? fabs((double)x[t * K + i]) : max;
            }
            for (size_t i = k; i < K && i < k + 32; i++) {
                float r = 127.0f / (float)max;
                rounded[i] = fast ? (double)((float)max / 127.0f) * rint((double)(x[t * K + i] * r)) : (double)x[t * K + i];
                rounded[i] = math == HT_MATH_BF16 ? (double)ht_bf16_to_f32(ht_bf16_from_f32(x[t * K + i])) : rounded[i];
            }
        }
        for (size_t r = 0; r < R; r++) {
            double want = 0, bound = 0;
            for (size_t k = 0; k < K; k++) {
                want += (double)decoded[r * K + k] * rounded[k];
                bound += fabs((double)decoded[r * K + k] * rounded[k]);
            }
            bound = fast ? fast_bound(q, r, rounded) : bound;
            double got = (double)y[t * (R + 2) + r];
            if (!(fabs(got - want) <= 1e-5 * bound)) {
                char text[HT_SCHEME_TEXT];
                fail_msg("%s, %zu columns, %zu tokens, %s, level %d: expected %.9g, found %.9g, tolerance %.3g",
                         ht_scheme_text(&q->scheme, text), K, n_tokens, fast ? "FAST" : "EXACT", level_number, want, got,
                         1e-5 * bound);
            }
        }
        assert_int_equal(ht_f32_bits(y[t * (R + 2) + R]), 0xaaaaaaaau);
    }
    q->codes = own;
    guarded_free(codes);
    guarded_free(in);
}

/* q_decode: the bits of ht_qtensor_decode, from any column that starts a byte. */
static void check_decode(struct ht_qtensor *q) {
    struct ht_qform f;
    struct ht_qgrids g;
    uint8_t *own;
    struct guarded codes = guard_codes(q, &own), memory = guarded_new(ht_qgrids_bytes(q->groups));
    ht_qform_init(&f, q, &level->ops);
    ht_qgrids_place(&g, q->groups, memory.p);
    ht_qtensor_decode(q, 0, R, decoded);
    for (uint64_t r = 0; r < R; r++) {
        for (uint64_t k = 0; k < q->cols; k += 40 * (r + 1)) {
            size_t n = (size_t)(q->cols - k < 40 * (r + 2) ? q->cols - k : 40 * (r + 2));
            struct guarded out = guarded_new(n * 4);
            ht_qgrids_row(&f, r, k / q->run, (k + n - 1) / q->run - k / q->run + 1, &g);
            level->q_decode(&f, &g, r, k, n, out.p);
            for (size_t i = 0; i < n; i++) {
                float want = decoded[r * q->cols + k + i], got = ((float *)out.p)[i];
                if (ht_f32_bits(want) != ht_f32_bits(got) && !(want != want && got != got)) {
                    char text[HT_SCHEME_TEXT];
                    fail_msg("%s, level %d, row %d, column %d: expected %.9g, found %.9g", ht_scheme_text(&q->scheme, text),
                             level_number, (int)r, (int)(k + i), (double)want, (double)got);
                }
            }
            guarded_free(out);
        }
    }
    q->codes = own;
    guarded_free(codes);
    guarded_free(memory);
}

static void every_level(struct ht_qtensor *q) {
    level = NULL;
    level_number = -1;
    check(q, HT_MATH_EXACT, T_REF);
    check(q, HT_MATH_FAST, T_REF);
    check(q, HT_MATH_BF16, T_REF);
    FOR_LEVELS(l, table) {
        level = table;
        level_number = l;
        static const size_t tokens[] = {1, 3, T};
        for (size_t t = 0; t < COUNT(tokens); t++) {
            check(q, HT_MATH_FAST, tokens[t]);
        }
        check(q, HT_MATH_EXACT, 1);
        check(q, HT_MATH_EXACT, T);
        check(q, HT_MATH_BF16, l % 2 ? 1 : T);
        check_decode(q);
    }
    level = NULL;
}

static void every_format(void **state) {
    (void)state;
    static const char *const parts[] = {":tensor", ":channel", ":g32", ":g20", ":g16", ":g16:nested", ":g48:asym",
                                        ":g64:asym", ":g32:offset", ":channel:offset"};
    static const size_t cols[] = {1, 64, 256, 333};
    size_t integers = 0, others = 0;
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    fill_normal(&rng, w, R * K_MAX, 0.05f);
    fill_normal(&rng, x, T * K_MAX, 1);
    for (size_t f = 0; f < ht_format_count(); f++) {
        for (size_t p = 0; ht_format_at(f)->code != NULL && p < COUNT(parts); p++) {
            char text[64];
            struct ht_scheme s;
            snprintf(text, sizeof text, "%s%s", ht_format_at(f)->name, parts[p]);
            for (size_t c = 0; ht_scheme_parse(text, &s, NULL) == HT_OK && c < COUNT(cols); c++) {
                struct ht_qtensor q = encoded(text, R, cols[c], w);
                every_level(&q);
                *(ht_qmatmul_is_integer(&q) ? &integers : &others) += 1;
                ht_qtensor_deinit(&q);
            }
        }
    }
    assert_true(integers > 500 && others > 200);
}

/* A block of rows is what the whole gives; the number of tokens changes no bit. */
static void pieces(void **state) {
    (void)state;
    struct ht_qtensor q = encoded("uint4:g64", R, 320, w);
    enum ht_math both[] = {HT_MATH_EXACT, HT_MATH_FAST};
    for (int m = 0; m < 2; m++) {
        float all[T * R], one[T * R];
        struct guarded scratch = guarded_new(ht_qmatmul_ref_scratch_bytes(&q, T));
        ht_qmatmul_ref(&q, 0, R, x, T, all, R, both[m], scratch.p);
        for (size_t t = 0; t < T; t++) {
            ht_qmatmul_ref(&q, 0, 4, x + t * 320, 1, one + t * R, R, both[m], scratch.p);
            ht_qmatmul_ref(&q, 4, R - 4, x + t * 320, 1, one + t * R + 4, R, both[m], scratch.p);
        }
        assert_memory_equal(all, one, sizeof all);
        guarded_free(scratch);
    }
    ht_qtensor_deinit(&q);
}

/* What users call: the specification's result to its tolerance, and the same bytes for any number of threads. */
static void spread_over_threads(void **state) {
    (void)state;
    enum { ROWS = 75, COLS = 320 };
    static float many[ROWS * COLS];
    static const char *const schemes[] = {"int4:g64", "uint4:g128", "int8:channel", "nf4:g64", "fp8_e4m3:channel", "int3:g20",
                                          "int3:g16:nested", "int4:g64:nested", "uint4:g16:asym"};
    const enum ht_math modes[] = {HT_MATH_EXACT, HT_MATH_FAST, HT_MATH_BF16};
    struct ht_rng rng;
    ht_rng_init(&rng, 3);
    fill_normal(&rng, many, ROWS * COLS, 0.05f);
    for (size_t i = 0; i < COUNT(schemes) * COUNT(modes); i++) {
        struct ht_qtensor q = encoded(schemes[i / COUNT(modes)], ROWS, COLS, many);
        enum ht_math math = modes[i % COUNT(modes)];
        float want[T * ROWS], first[T * ROWS], y[T * ROWS];
        struct guarded scratch = guarded_new(ht_qmatmul_ref_scratch_bytes(&q, T));
        ht_qmatmul_ref(&q, 0, ROWS, x, T, want, ROWS, math, scratch.p);
        guarded_free(scratch);
        for (int threads = 1; threads <= 3; threads++) {
            struct ht_pool *pool = NULL;
            ht_err err = {0};
            ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
            scratch = guarded_new(ht_qmatmul_scratch_bytes(&q, T, threads));
            ht_qmatmul(pool, &q, x, T, threads == 1 ? first : y, ROWS, math, scratch.p);
            guarded_free(scratch);
            ht_pool_free(pool);
            assert_true(threads == 1 || memcmp(first, y, sizeof y) == 0);
        }
        for (size_t k = 0; k < T * ROWS; k++) {
            assert_true(fabsf(first[k] - want[k]) <= 1e-4f);
        }
        ht_qtensor_deinit(&q);
    }
}

/* In 128 bits: floor(acc * multiplier / 2^shift + 1/2); and within half a unit of the real product. */
static void requantization(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 9);
    for (int trial = 0; trial < 200000; trial++) {
        double M = exp2(-32 + 61.9 * ht_rng_uniform(&rng));
        int32_t acc = (int32_t)(ht_rng_u64(&rng) >> (32 + trial % 31));
        acc = trial % 2 ? acc : -acc - 1;
        struct ht_requant r;
        ht_err err = {0};
        ASSERT_OK(ht_requant_from(M, &r, &err), &err);
        assert_true(r.multiplier >= 1 << 30 && r.shift >= 1 && r.shift <= 62);
        assert_true(fabs(ldexp(r.multiplier, -r.shift) - M) <= M * 0x1p-31);
        __extension__ typedef __int128 wide;
        wide v = (wide)acc * r.multiplier * 2 + ((wide)1 << r.shift), unit = (wide)2 << r.shift;
        wide q = v / unit - (v % unit < 0);
        int32_t want = q < -128 ? -128 : q > 127 ? 127 : (int32_t)q;
        assert_int_equal(ht_requant_apply(r, acc, 0, -128, 127), want);
        double real = acc * M;
        if (fabs(real) < 1e9) {
            int32_t full = ht_requant_apply(r, acc, 0, INT32_MIN, INT32_MAX);
            assert_true(fabs(full - real) <= 0.5 + fabs(real) * 0x1p-30);
            int32_t shifted = ht_requant_apply(r, acc, 5, -128, 127);
            int32_t sum = full + 5;
            assert_int_equal(shifted, sum < -128 ? -128 : sum > 127 ? 127 : sum);
        }
    }
    struct ht_requant half;
    ht_err err = {0};
    ASSERT_OK(ht_requant_from(0.5, &half, &err), &err);
    assert_int_equal(ht_requant_apply(half, 3, 0, -128, 127), 2);   /* ties go up */
    assert_int_equal(ht_requant_apply(half, -3, 0, -128, 127), -1);
    assert_int_equal(ht_requant_apply(half, INT32_MIN, 0, INT32_MIN, INT32_MAX), INT32_MIN / 2);
    const double bad[] = {0, -1, 0x1p30, 0x1p-33, NAN, INFINITY};
    for (size_t i = 0; i < COUNT(bad); i++) {
        ht_err e = {0};
        assert_int_equal(ht_requant_from(bad[i], &half, &e), HT_INVAL);
    }
}

/* The integer layer is the float layer of the decoded tensors, up to the rounding of its output. */
static void integer_layer(void **state) {
    (void)state;
    enum { ROWS = 6, COLS = 256, TOKENS = 4 };
    struct ht_rng rng;
    ht_rng_init(&rng, 10);
    int8_t qw[ROWS * COLS], qx[TOKENS * COLS], y[TOKENS * ROWS];
    int32_t bias[ROWS];
    struct ht_requant requant[ROWS];
    double M[ROWS];
    for (int i = 0; i < ROWS * COLS; i++) {
        qw[i] = (int8_t)ht_rng_u64(&rng);
    }
    for (int i = 0; i < TOKENS * COLS; i++) {
        qx[i] = (int8_t)ht_rng_u64(&rng);
    }
    for (int r = 0; r < ROWS; r++) {
        ht_err err = {0};
        bias[r] = (int32_t)ht_rng_below(&rng, 200001) - 100000;
        M[r] = 1e-4 * (1 + ht_rng_uniform(&rng));
        ASSERT_OK(ht_requant_from(M[r], &requant[r], &err), &err);
    }
    struct ht_int_layer l = {ROWS, COLS, qw, bias, requant, 3, -7, -10, -128, 127};
    ht_int_layer_ref(&l, qx, TOKENS, y);
    for (int t = 0; t < TOKENS; t++) {
        for (int r = 0; r < ROWS; r++) {
            double sum = bias[r];
            for (int k = 0; k < COLS; k++) {
                sum += (qx[t * COLS + k] - 3.0) * (qw[r * COLS + k] + 7.0);
            }
            double want = sum * M[r] - 10;
            want = want < -128 ? -128 : want > 127 ? 127 : want;
            assert_true(fabs(y[t * ROWS + r] - want) <= 0.5 + 1e-6);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format),   cmocka_unit_test(pieces),        cmocka_unit_test(spread_over_threads),
        cmocka_unit_test(requantization), cmocka_unit_test(integer_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
