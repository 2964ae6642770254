/* The matrix product: every format of the table x level x odd shapes x numbers of tokens x kinds of values,
 * EXACT and FAST, against sums in double; integer sums bit for bit; guard pages on both sides of every
 * buffer; the same bits for 1, 2, 3 and 7 threads. A new format or level is taken in without a change here.
 */
#include "test.h"

#include "kernel_cases.h"

#ifdef HT_TESTS_EMULATED /* under an emulator: fewer shapes and numbers of tokens, the same kinds of values  \
                          */
static const size_t token_counts[] = {1, 3, 9, 17};
static const size_t shapes[][2] = {{1, 32}, {5, 256}, {19, 800}};
enum { MAX_TOKENS = 17, REF_TOKENS = 9, THREADS_ROWS = 33 };
#else
static const size_t token_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 64};
static const size_t shapes[][2] = {{1, 1},    {7, 17},   {5, 64},    {17, 576},
                                   {50, 288}, {67, 768}, {19, 1536}, {33, 1027}};
enum { MAX_TOKENS = 64, REF_TOKENS = 9, THREADS_ROWS = 211 };
#endif

/* What the weights and the inputs hold. */
enum values {
    NORMAL, /* normal values through the format's encoder; inputs with outliers, as hidden states have them */
    RANDOM, /* random bytes: every code, sub-scale and sign occurs, scales span the range of f16 */
    FULL,   /* the outermost codes everywhere, and every input +-max: the largest integer sums there are */
    TINY,   /* scales that are f16 subnormals, inputs near 1e-30 */
    HUGE_X, /* weights near the end of f16, inputs near 1e30 */
    ZEROS,
    N_VALUES
};

/* One weight matrix with what every product of it must give. */
struct fixture {
    const struct ht_format *format;
    size_t rows, cols;
    struct guarded w, x, scratch;
    struct ht_mat mat;
    double *want[2], *bound[2]; /* by enum ht_math: [MAX_TOKENS, rows], and the sum the tolerance refers to */
};

/* Columns of the shape, as near as the format can have them. */
static size_t cols_of(const struct ht_format *fmt, size_t cols) {
    size_t unit = fmt->block_elems > 1 ? fmt->block_elems : 1;
    if (fmt->unpack != NULL && unit % 32 != 0) {
        unit *= 32; /* inputs are rounded in groups of 32 */
    }
    return (cols + unit - 1) / unit * unit;
}

/* Random bytes that decode to finite numbers. */
static void random_block(const struct ht_format *fmt, struct ht_rng *rng, uint8_t *dst) {
    float x[HT_BLOCK_MAX];
    for (bool good = false; !good;) {
        for (size_t i = 0; i < fmt->block_bytes; i++) {
            dst[i] = (uint8_t)ht_rng_u64(rng);
        }
        fmt->decode(dst, x, fmt->block_elems);
        good = true;
        for (size_t i = 0; i < fmt->block_elems; i++) {
            good = good && fabsf(x[i]) < 1e15f;
        }
    }
}

static void encoded_block(const struct ht_format *fmt, struct ht_rng *rng, enum values values, uint8_t *dst) {
    float x[HT_BLOCK_MAX];
    fill_normal(rng, x, fmt->block_elems, 0.05f);
    for (size_t i = 0; i < fmt->block_elems && values != NORMAL; i++) {
        float sign = x[i] < 0 ? -1.0f : 1.0f;
        x[i] = values == FULL ? sign : values == TINY ? x[i] * 2e-5f : values == HUGE_X ? x[i] * 2e4f : 0.0f;
    }
    fmt->encode(x, NULL, dst, fmt->block_elems);
}

/* A few blocks are made, the matrix is drawn from them: some encoders search long. */
static void fill_weights(struct fixture *f, struct ht_rng *rng, enum values values) {
    enum { DISTINCT = 24 };
    const struct ht_format *fmt = f->format;
    uint8_t *made = ht_mem_alloc_array(DISTINCT, fmt->block_bytes), *dst = f->w.p;
    assert_non_null(made);
    for (size_t i = 0; i < DISTINCT && values != RANDOM; i++) {
        encoded_block(fmt, rng, values, made + i * fmt->block_bytes);
    }
    for (size_t b = 0; b < f->rows * f->cols / fmt->block_elems; b++, dst += fmt->block_bytes) {
        if (values == RANDOM) {
            random_block(fmt, rng, dst);
        } else {
            memcpy(dst, made + ht_rng_u64(rng) % DISTINCT * fmt->block_bytes, fmt->block_bytes);
        }
    }
    ht_mem_free(made);
}

static void fill_inputs(struct fixture *f, struct ht_rng *rng, enum values values) {
    float *x = f->x.p;
    size_t n = MAX_TOKENS * f->cols;
    float scale = values == TINY ? 1e-30f : values == HUGE_X ? 1e30f : values == ZEROS ? 0.0f : 1.0f;
    fill_normal(rng, x, n, scale);
    for (size_t i = 0; i < n; i++) {
        if (values == FULL) { /* whole tokens of one sign, and mixed ones */
            size_t t = i / f->cols;
            x[i] = t % 3 == 0 ? 2.0f : t % 3 == 1 ? -2.0f : x[i] < 0 ? -2.0f : 2.0f;
        } else if (i % 97 == 0) {
            x[i] *= 50;
        }
    }
}

static void want_exact(struct fixture *f, const float *w_row, size_t r) {
    const float *x = f->x.p;
    for (size_t t = 0; t < MAX_TOKENS; t++) {
        double sum = 0, bound = 0;
        for (size_t k = 0; k < f->cols; k++) {
            double p = (double)w_row[k] * x[t * f->cols + k];
            sum += p;
            bound += fabs(p);
        }
        f->want[HT_MATH_EXACT][t * f->rows + r] = sum;
        f->bound[HT_MATH_EXACT][t * f->rows + r] = bound;
    }
}

/* Adds block b of row r to the FAST sums. */
static void want_fast(struct fixture *f, const uint8_t *block, size_t r, size_t b, const int8_t *q,
                      const float *d) {
    const struct ht_format *fmt = f->format;
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    fmt->unpack(block, &grid, codes);
    for (size_t t = 0; t < MAX_TOKENS; t++) {
        for (size_t i = 0; i < fmt->block_elems; i++) {
            size_t k = b * fmt->block_elems + i, s = i / (size_t)grid.sub_len;
            double level = grid.levels != NULL ? (double)grid.levels[codes[i] - grid.lo] : (double)codes[i];
            double a = (double)d[(t * f->cols + k) / 32] * q[t * f->cols + k];
            f->want[HT_MATH_FAST][t * f->rows + r] +=
                ((double)grid.scale[s] * level - (double)grid.min[s]) * a;
            f->bound[HT_MATH_FAST][t * f->rows + r] +=
                fabs((double)grid.scale[s]) * 255 * fabs(a) + fabs((double)grid.min[s] * a);
        }
    }
}

static void fixture_init(struct fixture *f, const struct ht_format *fmt, size_t rows, size_t cols,
                         enum values values, size_t shift, uint64_t seed) {
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    cols = cols_of(fmt, cols);
    *f = (struct fixture){.format = fmt, .rows = rows, .cols = cols};
    uint64_t row_bytes = ht_format_row_bytes(fmt, cols);
    f->w = guarded_new_shifted(rows * row_bytes, shift);
    f->x = guarded_new(MAX_TOKENS * cols * 4);
    fill_weights(f, &rng, values);
    fill_inputs(f, &rng, values);
    float *x = f->x.p;
    f->mat = (struct ht_mat){fmt, f->w.p, rows, cols, row_bytes};
    f->scratch = guarded_new(ht_matmul_scratch_bytes(&f->mat, MAX_TOKENS, 1));
    for (int m = 0; m < 2; m++) {
        f->want[m] = ht_mem_calloc(MAX_TOKENS * rows, sizeof(double));
        f->bound[m] = ht_mem_calloc(MAX_TOKENS * rows, sizeof(double));
        assert_true(f->want[m] != NULL && f->bound[m] != NULL);
    }
    float *row = ht_mem_alloc_array(cols, 4), *d = ht_mem_alloc_array(MAX_TOKENS * cols / 32, 4);
    int8_t *q = ht_mem_alloc(MAX_TOKENS * cols);
    int32_t *sums = ht_mem_alloc_array(MAX_TOKENS * cols / 16, 4);
    assert_true(row != NULL && d != NULL && q != NULL && sums != NULL);
    if (fmt->unpack != NULL) {
        ht_quantize_q8_ref(x, MAX_TOKENS * cols, q, d, sums);
    }
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *src = (const uint8_t *)f->w.p + r * row_bytes;
        fmt->decode(src, row, cols);
        want_exact(f, row, r);
        for (size_t b = 0; fmt->unpack != NULL && b < cols / fmt->block_elems; b++) {
            want_fast(f, src + b * fmt->block_bytes, r, b, q, d);
        }
    }
    if (fmt->unpack == NULL) { /* FAST is EXACT */
        memcpy(f->want[HT_MATH_FAST], f->want[HT_MATH_EXACT], MAX_TOKENS * rows * sizeof(double));
        memcpy(f->bound[HT_MATH_FAST], f->bound[HT_MATH_EXACT], MAX_TOKENS * rows * sizeof(double));
    }
    ht_mem_free(row);
    ht_mem_free(d);
    ht_mem_free(q);
    ht_mem_free(sums);
}

static void fixture_deinit(struct fixture *f) {
    guarded_free(f->w);
    guarded_free(f->x);
    guarded_free(f->scratch);
    for (int m = 0; m < 2; m++) {
        ht_mem_free(f->want[m]);
        ht_mem_free(f->bound[m]);
    }
}

/* y [T, stride] at a guard page; the caller frees it. */
static struct guarded multiply(const struct fixture *f, const struct ht_kernel_table *table,
                               struct ht_pool *pool, size_t n_tokens, size_t y_stride, enum ht_math math) {
    size_t y_elems = (n_tokens - 1) * y_stride + f->rows;
    struct guarded y = guarded_new(y_elems * 4);
    struct guarded x = guarded_new(n_tokens * f->cols * 4); /* the guard page right behind the last token */
    size_t bytes = ht_matmul_scratch_bytes(&f->mat, n_tokens, ht_pool_threads(pool));
    struct guarded scratch = pool != NULL ? guarded_new(bytes) : f->scratch;
    void *p =
        pool == NULL && guard_side == GUARD_AFTER ? (char *)scratch.p + scratch.bytes - bytes : scratch.p;
    assert_int_equal((uintptr_t)p % 64, 0);
    memcpy(x.p, f->x.p, n_tokens * f->cols * 4);
    memset(y.p, 0xaa, y_elems * 4);
    ht_matmul_with(table, pool, &f->mat, x.p, n_tokens, y.p, y_stride, math, p);
    guarded_free(x);
    if (pool != NULL) {
        guarded_free(scratch);
    }
    return y;
}

static void check(const struct fixture *f, int level, const struct ht_kernel_table *table, size_t n_tokens,
                  size_t y_stride, enum ht_math math) {
    struct guarded g = multiply(f, table, NULL, n_tokens, y_stride, math);
    const float *y = g.p;
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t r = 0; r < f->rows; r++) {
            double want = f->want[math][t * f->rows + r];
            double tolerance = 1e-5 * f->bound[math][t * f->rows + r] + 1e-40 * (double)f->cols;
            if (!(fabs(y[t * y_stride + r] - want) <= tolerance)) {
                fail_msg(
                    "%s %s at level %s, %zu x %zu, token %zu of %zu, row %zu: expected %.9g, found %.9g, "
                    "tolerance %.3g",
                    f->format->name, math == HT_MATH_FAST ? "FAST" : "EXACT",
                    ht_cpu_level_name((enum ht_cpu_level)level), f->rows, f->cols, t, n_tokens, r, want,
                    (double)y[t * y_stride + r], tolerance);
            }
        }
        for (size_t r = f->rows; r < y_stride && t + 1 < n_tokens; r++) {
            assert_int_equal(ht_f32_bits(y[t * y_stride + r]), 0xaaaaaaaau); /* between rows: untouched */
        }
    }
    guarded_free(g);
}

/* The kernels know the format by its decode alone: those of f64 serve it on every level. Then the cases that
 * f64 goes through say all there is to say about the others, and a few are enough. */
static bool only_decoded(const struct ht_format *fmt) {
    size_t slot = ht_format_slot(fmt), plain = ht_format_slot(ht_format_find("f64"));
    bool same = slot != plain && fmt->unpack == NULL;
    FOR_LEVELS(level, table) {
        same = same && table->rows_f32[slot] == table->rows_f32[plain];
    }
    return same;
}

static void walk(const struct fixture *f) {
    FOR_LEVELS(level, table) {
        for (size_t i = 0; i < COUNT(token_counts); i++) {
            if (level == HT_CPU_REF && token_counts[i] > REF_TOKENS) {
                continue; /* token after token in one way only, and slow */
            }
            check(f, level, table, token_counts[i], f->rows + i % 3, HT_MATH_EXACT);
            if (f->format->unpack != NULL || i == 0) { /* else FAST is EXACT */
                check(f, level, table, token_counts[i], f->rows + i % 3, HT_MATH_FAST);
            }
        }
    }
}

/* Every format, every shape: values through the encoder and random bytes by turns. */
static void formats(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *fmt = ht_format_at(i);
        for (size_t s = 0; is_weight_format(fmt) && s < COUNT(shapes); s++) {
            size_t cols = cols_of(fmt, shapes[s][1]);
            if ((s > 0 && cols == cols_of(fmt, shapes[s - 1][1])) || (s != 1 && only_decoded(fmt))) {
                continue; /* short rows are all one to a format of long blocks */
            }
            struct fixture f;
            fixture_init(&f, fmt, shapes[s][0], cols, (s + i) % 2 ? RANDOM : NORMAL, 0, 100 + s);
            walk(&f);
            fixture_deinit(&f);
        }
    }
}

/* Every kind of values on one shape. Blocks of bytes may begin at any address; elements of a float format lie
 * at multiples of their size. */
static void values(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *fmt = ht_format_at(i);
        enum values end = only_decoded(fmt) ? RANDOM + 1 : N_VALUES;
        for (enum values v = NORMAL; is_weight_format(fmt) && v < end; v++) {
            struct fixture f;
            size_t shift = fmt->kind == HT_KIND_FLOAT && fmt->block_elems == 1 ? fmt->block_bytes : 1;
            fixture_init(&f, fmt, 13, 288, v, shift, 50 + (uint64_t)v);
            walk(&f);
            fixture_deinit(&f);
        }
    }
}

static void same_for_threads(const struct fixture *f, const struct ht_kernel_table *table,
                             struct ht_pool *pools[], size_t n_pools, size_t n_tokens, enum ht_math math) {
    struct guarded one = multiply(f, table, NULL, n_tokens, f->rows, math);
    for (size_t c = 0; c < n_pools; c++) {
        struct guarded many = multiply(f, table, pools[c], n_tokens, f->rows, math);
        assert_memory_equal(one.p, many.p, n_tokens * f->rows * 4);
        guarded_free(many);
    }
    guarded_free(one);
}

static void threads(void **state) {
    (void)state;
    static const int counts[] = {2, 3, 7};
    static const size_t tokens[] = {1, 3, 9, 17};
    struct ht_pool *pools[COUNT(counts)];
    for (size_t c = 0; c < COUNT(counts); c++) {
        ht_err err = {0};
        ASSERT_OK(ht_pool_new(counts[c], &pools[c], &err), &err);
    }
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (!is_weight_format(ht_format_at(i)) || only_decoded(ht_format_at(i))) {
            continue;
        }
        struct fixture f;
        fixture_init(&f, ht_format_at(i), THREADS_ROWS, 512, NORMAL, 0, 7);
        FOR_LEVELS(level, table) {
            for (size_t t = 0; t < COUNT(tokens); t++) {
                same_for_threads(&f, table, pools, COUNT(pools), tokens[t], HT_MATH_EXACT);
                same_for_threads(&f, table, pools, COUNT(pools), tokens[t], HT_MATH_FAST);
            }
        }
        fixture_deinit(&f);
    }
    for (size_t c = 0; c < COUNT(counts); c++) {
        ht_pool_free(pools[c]);
    }
}

/* ---- integer sums ---------------------------------------------------------------------------------------
 * Inputs are integers whose scale d is 1, weights are made of scales that are integers: then every partial
 * sum in f32 is an integer below 2^24, whatever the order, and the product must be exact. */

/* Sets the block's f16 scales to 1 (or 0) and the stored codes to `codes`; false: the format's scales are not
 * of that kind. */
static bool integer_block(const struct ht_format *fmt, uint8_t *block) {
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    fmt->unpack(block, &grid, codes);
    grid.d = grid.dmin = 0x3c00; /* 1 */
    fmt->pack(&grid, codes, block);
    fmt->unpack(block, &grid, codes);
    for (int s = 0; s < grid.n_sub; s++) {
        if (grid.scale[s] != rintf(grid.scale[s]) || grid.min[s] != rintf(grid.min[s]) ||
            fabsf(grid.scale[s]) > 128 || fabsf(grid.min[s]) > 128) {
            return false;
        }
    }
    for (int c = grid.lo; grid.levels != NULL && c <= grid.hi; c++) {
        if (grid.levels[c - grid.lo] != rintf(grid.levels[c - grid.lo])) {
            return false;
        }
    }
    return true;
}

/* false: not for this format */
static bool integer_fixture(struct fixture *f, const struct ht_format *fmt) {
    enum { ROWS = 21, COLS = 512 };
    struct ht_rng rng;
    ht_rng_init(&rng, 77);
    size_t row_bytes = ht_format_row_bytes(fmt, COLS);
    *f = (struct fixture){.format = fmt, .rows = ROWS, .cols = COLS};
    f->w = guarded_new(ROWS * row_bytes);
    f->x = guarded_new(MAX_TOKENS * COLS * 4);
    f->mat = (struct ht_mat){fmt, f->w.p, ROWS, COLS, row_bytes};
    f->scratch = guarded_new(ht_matmul_scratch_bytes(&f->mat, MAX_TOKENS, 1));
    uint8_t *w = f->w.p;
    for (size_t b = 0; b < ROWS * COLS / fmt->block_elems; b++, w += fmt->block_bytes) {
        random_block(fmt, &rng, w);
        if (!integer_block(fmt, w)) {
            return false;
        }
    }
    float *x = f->x.p;
    for (size_t i = 0; i < MAX_TOKENS * COLS; i++) {
        int q = (int)(ht_rng_u64(&rng) % 7) - 3;
        x[i] = i % 32 == i / 32 % 32 ? 127.0f : (float)q; /* one 127 per group makes d exactly 1 */
    }
    return true;
}

static void check_integers(const struct fixture *f, int level, const struct ht_kernel_table *table,
                           const double *w, size_t n_tokens) {
    struct guarded y = multiply(f, table, NULL, n_tokens, f->rows, HT_MATH_FAST);
    for (size_t j = 0; j < n_tokens * f->rows; j++) {
        const float *x = (const float *)f->x.p + j / f->rows * f->cols;
        double sum = 0;
        for (size_t k = 0; k < f->cols; k++) {
            sum += w[j % f->rows * f->cols + k] * (double)x[k];
        }
        if ((double)((const float *)y.p)[j] != sum) {
            fail_msg("%s at level %s, %zu tokens, element %zu: expected exactly %.0f, found %.9g",
                     f->format->name, ht_cpu_level_name((enum ht_cpu_level)level), n_tokens, j, sum,
                     (double)((const float *)y.p)[j]);
        }
    }
    guarded_free(y);
}

static void integers(void **state) {
    (void)state;
    size_t served = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *fmt = ht_format_at(i);
        struct fixture f = {0};
        if (fmt->unpack == NULL) {
            continue;
        }
        if (integer_fixture(&f, fmt)) {
            size_t n = f.rows * f.cols;
            float *w = ht_mem_alloc_array(n, sizeof *w);
            double *wide = ht_mem_alloc_array(n, sizeof *wide);
            assert_true(w != NULL && wide != NULL);
            fmt->decode(f.w.p, w, n);
            for (size_t k = 0; k < n; k++) {
                wide[k] = (double)w[k];
            }
            FOR_LEVELS(level, table) {
                for (size_t t = 1; t <= MAX_TOKENS; t += t < 3 ? 1 : 7) {
                    check_integers(&f, level, table, wide, t);
                }
            }
            ht_mem_free(w);
            ht_mem_free(wide);
            served++;
        }
        fixture_deinit(&f);
    }
    assert_true(served >= 12); /* at least the classic and the K types */
}

/* decode of every level gives the bits of the format's own, on every code and scale. */
static void decodes(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *fmt = ht_format_at(i);
        if (!is_weight_format(fmt)) {
            continue;
        }
        struct fixture f;
        size_t cols = cols_of(fmt, 1120), rows = 9;
        fixture_init(&f, fmt, rows, cols, RANDOM, 0, 9);
        float *want = ht_mem_alloc_array(rows * cols, 4);
        struct guarded got = guarded_new(rows * cols * 4);
        assert_non_null(want);
        fmt->decode(f.w.p, want, rows * cols);
        FOR_LEVELS(level, table) {
            table->decode[i](f.w.p, got.p, rows * cols);
            assert_memory_equal(got.p, want, rows * cols * 4);
        }
        guarded_free(got);
        ht_mem_free(want);
        fixture_deinit(&f);
    }
}

/* Inf and NaN in x come out as NaN or Inf of that token and nowhere else. */
static void not_finite(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *fmt = ht_format_at(i);
        if (!is_weight_format(fmt) || only_decoded(fmt)) {
            continue;
        }
        struct fixture f;
        fixture_init(&f, fmt, 9, 512, NORMAL, 0, 8);
        ((float *)f.x.p)[f.cols + 40] = NAN;
        ((float *)f.x.p)[f.cols * 6 + 500] = INFINITY;
        FOR_LEVELS(level, table) {
            for (int m = 0; m < 2; m++) {
                for (size_t n = 3; n <= MAX_TOKENS; n += 10) {
                    struct guarded y = multiply(&f, table, NULL, n, f.rows, m ? HT_MATH_FAST : HT_MATH_EXACT);
                    for (size_t j = 0; j < n * f.rows; j++) {
                        bool bad = j / f.rows == 1 || j / f.rows == 6;
                        float v = ((float *)y.p)[j];
                        assert_true((v - v != 0) == bad);
                    }
                    guarded_free(y);
                }
            }
        }
        fixture_deinit(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH_SIDES(formats),    ON_BOTH_SIDES(values),  cmocka_unit_test(integers),
        cmocka_unit_test(threads), ON_BOTH_SIDES(decodes), cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
