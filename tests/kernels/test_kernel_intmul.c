/* Codes times codes: every level gives, bit for bit, what kernel/intmul.h says, written down here once more. */
#include "test.h"

#include "kernel/intmul.h"
#include "kernel_cases.h"

enum { R = 37, K_MAX = 700, T_MAX = 14 };

struct product {
    struct ht_qtensor w;
    struct ht_scheme x;
    size_t tokens, n_segments;
    uint32_t first[K_MAX];
    int16_t *codes;          /* [T, K] */
    struct ht_affine *grids; /* [T, n_segments] */
};

static struct ht_scheme scheme_of(const char *text) {
    struct ht_scheme s;
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(text, &s, &err), &err);
    return s;
}

/* Any bytes as codes and zero points; scales of either sign of exponent. */
static void fill(struct product *p, struct ht_rng *rng, size_t cols, bool extreme) {
    const struct ht_code *c = p->x.format->code;
    for (uint64_t i = 0; i < p->w.rows * p->w.row_bytes; i++) {
        p->w.codes[i] = extreme ? (uint8_t)(i / p->w.row_bytes % 2 ? 0xff : 0) : (uint8_t)ht_rng_u64(rng);
    }
    for (uint64_t i = 0; p->w.zeros != NULL && i < p->w.rows * p->w.zero_bytes && (i == 0 || p->w.n_scales > 1); i++) {
        p->w.zeros[i] = extreme ? (uint8_t)(i % 3 ? 0xff : 0) : (uint8_t)ht_rng_u64(rng);
    }
    for (uint64_t r = 0; r < p->w.rows; r++) {
        for (uint64_t g = 0; g < p->w.groups; g++) {
            struct ht_affine a = ht_qtensor_grid(&p->w, r, g);
            a.scale = (float)(0.001 + ht_rng_uniform(rng));
            ht_qtensor_set_grid(&p->w, r, g, &a);
        }
    }
    for (size_t i = 0; i < p->tokens * cols; i++) {
        int32_t span = c->hi - c->lo + 1;
        p->codes[i] = (int16_t)(extreme ? (i / cols % 2 ? c->hi : c->lo) : c->lo + (int32_t)ht_rng_below(rng, (uint32_t)span));
    }
    for (size_t i = 0; i < p->tokens * p->n_segments; i++) {
        bool zero = p->x.zero == HT_ZERO_CODE;
        int32_t z = extreme ? (i % 2 ? c->lo : c->hi) : c->lo + (int32_t)ht_rng_below(rng, (uint32_t)(c->hi - c->lo + 1));
        p->grids[i] = (struct ht_affine){(float)(0.001 + ht_rng_uniform(rng)), 0, zero ? z : 0};
    }
}

static struct product make(const char *w, const char *x, size_t rows, size_t cols, size_t tokens, size_t segments,
                           struct ht_rng *rng, bool extreme) {
    struct product p = {.x = scheme_of(x), .tokens = tokens, .n_segments = segments};
    struct ht_scheme s = scheme_of(w);
    ht_err err = {0};
    ASSERT_OK(ht_qtensor_init(&p.w, &s, rows, cols, "w", &err), &err);
    p.codes = ht_mem_alloc(tokens * cols * sizeof *p.codes);
    p.grids = ht_mem_alloc(tokens * segments * sizeof *p.grids);
    /* The first segments are short and odd, the last takes the rest. */
    for (size_t i = 0; i < segments; i++) {
        p.first[i] = (uint32_t)(i * i * 3 + i);
    }
    fill(&p, rng, cols, extreme);
    return p;
}

static void drop(struct product *p) {
    ht_qtensor_deinit(&p->w);
    ht_mem_free(p->codes);
    ht_mem_free(p->grids);
}

static uint64_t most(const struct ht_scheme *s) {
    int64_t lo = s->format->code->lo, hi = s->format->code->hi;
    return (uint64_t)(s->zero == HT_ZERO_CODE ? hi - lo : -lo > hi ? -lo : hi);
}

/* One output, in 64 bits. */
static float expected(const struct product *p, const int32_t *w, uint64_t r, size_t t) {
    size_t K = (size_t)p->w.cols, segment = 0, start = 0;
    uint64_t limit = (uint64_t)INT32_MAX / most(&p->w.scheme) / most(&p->x);
    int64_t sum = 0;
    float y = 0;
    for (size_t k = 0; k < K; k++) {
        segment += segment + 1 < p->n_segments && p->first[segment + 1] == k;
        struct ht_affine aw = ht_qtensor_grid(&p->w, r, k / p->w.run), ax = p->grids[t * p->n_segments + segment];
        sum += (int64_t)(w[k] - aw.zero) * (p->codes[t * K + k] - ax.zero);
        bool ends = k + 1 == K || (k + 1) % p->w.run == 0 || k + 1 - start == limit ||
                    (segment + 1 < p->n_segments && p->first[segment + 1] == k + 1);
        if (ends) {
            assert_true(sum == (int32_t)sum);
            float scale = ax.scale * aw.scale, term = scale * (float)sum;
            y = y + term;
            sum = 0;
            start = k + 1;
        }
    }
    return y;
}

static void run(const struct product *p, const struct ht_kernel_table *table, struct ht_pool *pool, float *y,
                size_t y_stride) {
    const struct ht_int_x x = {&p->x, p->n_segments > 1 ? p->first : NULL, p->n_segments};
    struct guarded scratch =
        guarded_new(ht_int_scratch_bytes(&p->w, p->n_segments, &p->x, p->tokens, ht_pool_threads(pool)));
    struct guarded codes = guarded_new((size_t)(p->w.rows * p->w.row_bytes));
    struct ht_qtensor w = p->w;
    struct ht_int_job j;
    memcpy(codes.p, w.codes, codes.bytes);
    w.codes = codes.p;
    ht_int_begin_with(table, &j, &w, &x, p->tokens, scratch.p);
    for (size_t t = 0; t < p->tokens; t++) {
        ht_int_token(&j, t, p->codes + t * p->w.cols, p->grids + t * p->n_segments);
    }
    ht_int_run(&j, pool, y, y_stride);
    guarded_free(codes);
    guarded_free(scratch);
}

static void check(const struct product *p) {
    size_t rows = (size_t)p->w.rows, K = (size_t)p->w.cols, stride = rows + 3;
    float *want = ht_mem_alloc(p->tokens * rows * sizeof *want), *y = ht_mem_alloc(p->tokens * stride * sizeof *y);
    int32_t *codes = ht_mem_alloc(K * sizeof *codes);
    for (uint64_t r = 0; r < rows; r++) {
        ht_qtensor_codes(&p->w, r, codes);
        for (size_t t = 0; t < p->tokens; t++) {
            want[t * rows + r] = expected(p, codes, r, t);
        }
    }
    FOR_LEVELS(l, table) {
        memset(y, 0xaa, p->tokens * stride * sizeof *y);
        run(p, table, NULL, y, stride);
        for (size_t t = 0; t < p->tokens; t++) {
            for (size_t r = 0; r < rows; r++) {
                if (ht_f32_bits(y[t * stride + r]) != ht_f32_bits(want[t * rows + r])) {
                    char w_text[HT_SCHEME_TEXT], x_text[HT_SCHEME_TEXT];
                    fail_msg("%s with %s, %zu columns, %zu segments, level %d, %zu tokens, row %zu, token %zu: expected "
                             "%.9g, found %.9g", ht_scheme_text(&p->w.scheme, w_text), ht_scheme_text(&p->x, x_text), K,
                             p->n_segments, l, p->tokens, r, t, (double)want[t * rows + r], (double)y[t * stride + r]);
                }
            }
            assert_int_equal(ht_f32_bits(y[t * stride + rows]), 0xaaaaaaaau);
        }
    }
    ht_mem_free(want);
    ht_mem_free(y);
    ht_mem_free(codes);
}

/* Every width, granularity and kind of zero point; columns that nothing divides; few and many tokens. */
static void every_pair(void **state) {
    (void)state;
    static const char *const weights[] = {"uint1:channel", "int2:channel", "uint3:g64", "int4:channel", "int4:g64", "int4:g32:scale=f32",
                                          "uint4:g128", "int5:g20", "int6:channel:asym", "uint7:tensor", "int8:channel",
                                          "int8:channel:asym", "int8:tensor", "int8:g64:nested", "uint8:g32", "int9:channel", "int16:g64"};
    static const char *const acts[] = {"int8:token", "uint8:token", "int8:token:asym", "int4:token", "uint4:token", "uint2:token"};
    static const size_t cols[] = {1, 3, 64, 130, 333, 512, 700}, tokens[] = {1, 2, 4, 5, 8, 9, T_MAX};
    struct ht_rng rng;
    size_t n = 0;
    ht_rng_init(&rng, 5);
    for (size_t i = 0; i < COUNT(weights); i++) {
        for (size_t j = 0; j < COUNT(acts); j++) {
            for (size_t k = 0; k < 3; k++, n++) {
                size_t K = cols[n % COUNT(cols)], segments = n % 3 == 2 && K > 64 ? 4 : 1;
                struct product p = make(weights[i], acts[j], n % 2 ? R : 5, K, tokens[n / 2 % COUNT(tokens)], segments, &rng, n % 4 == 1);
                check(&p);
                drop(&p);
            }
        }
    }
}

/* Rows longer than an int32 sum may be: the outermost codes, exactly. */
static void long_rows(void **state) {
    (void)state;
    static const struct {
        const char *w, *x;
        size_t cols;
    } cases[] = {{"int8:channel", "int8:token", 131071 + 70}, {"uint8:channel", "uint8:token", 33025 + 130},
                 {"int8:channel:asym", "int8:token:asym", 33025}, {"int8:tensor", "uint8:token", 70000}};
    struct ht_rng rng;
    ht_rng_init(&rng, 6);
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (size_t tokens = 2; tokens <= 9; tokens += 7) {
            struct product p = make(cases[i].w, cases[i].x, 3, cases[i].cols, tokens, 1, &rng, true);
            check(&p);
            drop(&p);
        }
    }
    struct ht_scheme i8 = scheme_of("int8:channel"), u8 = scheme_of("uint8:token"), i16 = scheme_of("int16:channel");
    assert_int_equal(ht_int_run_limit(&i8, &i8), 131071);
    assert_int_equal(ht_int_run_limit(&u8, &u8), 33025);
    assert_int_equal(ht_int_run_limit(&i16, &i8), 511);
}

/* The same bytes for any number of threads; a NaN scale stays in its token. */
static void spread(void **state) {
    (void)state;
    static const char *const weights[] = {"int8:channel", "uint4:g64", "int3:g20"};
    static float first[T_MAX * 300], y[T_MAX * 300];
    struct ht_rng rng;
    ht_rng_init(&rng, 7);
    for (size_t i = 0; i < 2 * COUNT(weights); i++) {
        size_t tokens = i % 2 ? T_MAX : 2;
        struct product p = make(weights[i / 2], "uint8:token", 300, 320, tokens, 1, &rng, false);
        p.grids[1].scale = NAN;
        for (int threads = 1; threads <= 3; threads++) {
            struct ht_pool *pool = NULL;
            ht_err err = {0};
            ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
            run(&p, ht_kernel_table(), pool, threads == 1 ? first : y, 300);
            ht_pool_free(pool);
            assert_true(threads == 1 || memcmp(first, y, tokens * 300 * sizeof *y) == 0);
        }
        for (size_t k = 0; k < tokens * 300; k++) {
            assert_int_equal(isnan(first[k]) != 0, k / 300 == 1);
        }
        drop(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH_SIDES(every_pair), cmocka_unit_test(long_rows), cmocka_unit_test(spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
