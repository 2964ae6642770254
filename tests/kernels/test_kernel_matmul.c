/* The matrix product: every format x level x odd shapes x numbers of tokens, EXACT and FAST, against sums in
 * double; guard pages behind every buffer; the same bits for 1, 2 and 7 threads. */
#include "test.h"

#include "kernel_cases.h"

static const size_t token_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 64};
enum { MAX_TOKENS = 64 };

/* One weight matrix with what every product of it must give. */
struct fixture {
    const struct ht_format *format;
    size_t rows, cols;
    struct guarded w, x;
    struct ht_mat mat;
    double *want[2], *bound[2]; /* by enum ht_math: [MAX_TOKENS, rows], and the sum the tolerance refers to */
};

/* random bytes: every code, sub-scale and sign occurs, scales span the range of f16. Blocks that do not
 * decode to finite numbers are drawn again. Otherwise: normal values through the format's encoder. */
static void fill_weights(struct fixture *f, struct ht_rng *rng, bool random_bytes) {
    const struct ht_format *fmt = f->format;
    float block[HT_BLOCK_MAX];
    size_t elems = fmt->block_elems > 1 ? fmt->block_elems : 1;
    uint8_t *dst = f->w.p;
    for (size_t b = 0; b < f->rows * f->cols / elems; b++, dst += fmt->block_bytes) {
        if (!random_bytes) {
            fill_normal(rng, block, elems, 0.05f);
            fmt->encode(block, NULL, dst, elems);
            continue;
        }
        bool good;
        do {
            for (size_t i = 0; i < fmt->block_bytes; i++) {
                dst[i] = (uint8_t)ht_rng_u64(rng);
            }
            fmt->decode(dst, block, elems);
            good = true;
            for (size_t i = 0; i < elems; i++) {
                good = good && fabsf(block[i]) < 1e15f;
            }
        } while (!good);
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
                         bool random_bytes, uint64_t seed) {
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    *f = (struct fixture){.format = fmt, .rows = rows, .cols = cols};
    uint64_t row_bytes = ht_format_row_bytes(fmt, cols);
    f->w = guarded_new(rows * row_bytes);
    f->x = guarded_new(MAX_TOKENS * cols * 4);
    fill_weights(f, &rng, random_bytes);
    fill_normal(&rng, f->x.p, MAX_TOKENS * cols, 1);
    float *x = f->x.p;
    for (size_t i = 0; i < MAX_TOKENS * cols; i += 97) {
        x[i] *= 50; /* outliers, as hidden states have them */
    }
    f->mat = (struct ht_mat){fmt, f->w.p, rows, cols, row_bytes};
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
    struct guarded scratch = guarded_new(ht_matmul_scratch_bytes(&f->mat, n_tokens, ht_pool_threads(pool)));
    assert_int_equal((uintptr_t)scratch.p % 64, 0);
    memcpy(x.p, f->x.p, n_tokens * f->cols * 4);
    memset(y.p, 0xaa, y_elems * 4);
    ht_matmul_with(table, pool, &f->mat, x.p, n_tokens, y.p, y_stride, math, scratch.p);
    guarded_free(x);
    guarded_free(scratch);
    return y;
}

static void check(const struct fixture *f, int level, const struct ht_kernel_table *table, size_t n_tokens,
                  size_t y_stride, enum ht_math math) {
    struct guarded g = multiply(f, table, NULL, n_tokens, y_stride, math);
    const float *y = g.p;
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t r = 0; r < f->rows; r++) {
            double want = f->want[math][t * f->rows + r], tolerance = 1e-5 * f->bound[math][t * f->rows + r];
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

static bool is_weight_format(const struct ht_format *f) {
    return f->kind != HT_KIND_INT;
}

/* Shapes per block length: {rows, columns in blocks of 256 or in 32s}. */
static void walk_format(const struct ht_format *fmt) {
    static const size_t wide[][2] = {{1, 256}, {19, 1536}, {67, 768}};
    static const size_t narrow[][2] = {{1, 32}, {5, 64}, {17, 576}, {50, 288}, {3, 1120}, {34, 1536}};
    static const size_t odd[][2] = {{1, 1}, {7, 17}, {13, 300}, {49, 1027}, {33, 1056}};
    const size_t(*shapes)[2] = fmt->block_elems > 32 ? wide : fmt->block_elems > 1 ? narrow : odd;
    size_t n = fmt->block_elems > 32 ? COUNT(wide) : fmt->block_elems > 1 ? COUNT(narrow) : COUNT(odd);
    for (size_t s = 0; s < n; s++) {
        for (int random_bytes = 0; random_bytes < 2; random_bytes++) {
            struct fixture f;
            fixture_init(&f, fmt, shapes[s][0], shapes[s][1], random_bytes, 100 + s);
            FOR_LEVELS(level, table) {
                for (size_t i = 0; i < COUNT(token_counts); i++) {
                    check(&f, level, table, token_counts[i], f.rows + i % 3, HT_MATH_EXACT);
                    check(&f, level, table, token_counts[i], f.rows + i % 3, HT_MATH_FAST);
                }
            }
            fixture_deinit(&f);
        }
    }
}

static void formats(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (is_weight_format(ht_format_at(i))) {
            walk_format(ht_format_at(i));
        }
    }
}

static void threads(void **state) {
    (void)state;
    static const int counts[] = {2, 7};
    static const size_t tokens[] = {1, 3, 9, 33};
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *fmt = ht_format_at(i);
        if (!is_weight_format(fmt)) {
            continue;
        }
        struct fixture f;
        fixture_init(&f, fmt, 211, 512, false, 7);
        FOR_LEVELS(level, table) {
            for (size_t t = 0; t < COUNT(tokens) * 2; t++) {
                enum ht_math math = t % 2 ? HT_MATH_FAST : HT_MATH_EXACT;
                size_t n = tokens[t / 2];
                struct guarded one = multiply(&f, table, NULL, n, f.rows, math);
                for (size_t c = 0; c < COUNT(counts); c++) {
                    struct ht_pool *pool;
                    ht_err err = {0};
                    ASSERT_OK(ht_pool_new(counts[c], &pool, &err), &err);
                    struct guarded many = multiply(&f, table, pool, n, f.rows, math);
                    assert_memory_equal(one.p, many.p, n * f.rows * 4);
                    guarded_free(many);
                    ht_pool_free(pool);
                }
                guarded_free(one);
            }
        }
        fixture_deinit(&f);
    }
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
        size_t cols = fmt->block_elems > 32 ? 1280 : 1120, rows = 9;
        fixture_init(&f, fmt, rows, cols, true, 9);
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
        if (!is_weight_format(fmt)) {
            continue;
        }
        struct fixture f;
        fixture_init(&f, fmt, 9, 512, false, 8);
        ((float *)f.x.p)[512 + 40] = NAN;
        ((float *)f.x.p)[512 * 6 + 500] = INFINITY;
        FOR_LEVELS(level, table) {
            for (int m = 0; m < 2; m++) {
                for (size_t n = 3; n <= 33; n += 10) {
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
        cmocka_unit_test(formats),
        cmocka_unit_test(threads),
        cmocka_unit_test(decodes),
        cmocka_unit_test(not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
