/* Walks every small slot of the kernel table on every level of this machine: odd sizes, extreme values,
 * memory that ends at a guard page. Expected values are computed here in double. */
#include "test.h"

#include "kernel_cases.h"

static const size_t sizes[] = {1,  2,  7,   15,  16,  17,  31,   32,   33,  63,
                               64, 65, 127, 128, 200, 576, 1000, 1536, 4099};

static void near_or_fail(double got, double want, double tolerance, const char *what, int level, size_t n) {
    if (!(fabs(got - want) <= tolerance)) {
        fail_msg("%s at level %s, n %zu: expected %.9g, found %.9g, tolerance %.3g", what,
                 ht_cpu_level_name((enum ht_cpu_level)level), n, want, got, tolerance);
    }
}

static void dots(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s];
        struct guarded a = guarded_new(n * 4), b = guarded_new(n * 4), h = guarded_new(n * 2);
        float *x = a.p, *y = b.p;
        uint16_t *z = h.p;
        fill_normal(&rng, x, n, 3);
        fill_normal(&rng, y, n, 1e4f);
        double want = 0, want_h = 0, abs_sum = 0, abs_h = 0;
        for (size_t i = 0; i < n; i++) {
            z[i] = ht_f16_from_f32(y[i]);
            want += (double)x[i] * y[i];
            abs_sum += fabs((double)x[i] * y[i]);
            want_h += (double)x[i] * ht_f16_to_f32(z[i]);
            abs_h += fabs((double)x[i] * ht_f16_to_f32(z[i]));
        }
        FOR_LEVELS(level, t) {
            near_or_fail(t->ops.dot_f32(x, y, n), want, 1e-5 * abs_sum, "dot_f32", level, n);
            near_or_fail(t->ops.dot_f32_f16(x, z, n), want_h, 1e-5 * abs_h, "dot_f32_f16", level, n);
        }
        guarded_free(a);
        guarded_free(b);
        guarded_free(h);
    }
}

static void axpys(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 2);
    for (size_t s = 0; s < COUNT(sizes); s++) {
        size_t n = sizes[s];
        struct guarded a = guarded_new(n * 4), b = guarded_new(n * 4), h = guarded_new(n * 2);
        float *x = a.p, *y = b.p;
        uint16_t *z = h.p;
        FOR_LEVELS(level, t) {
            for (int half = 0; half < 2; half++) {
                fill_normal(&rng, x, n, 3);
                float *old = ht_mem_alloc_array(n, 4);
                assert_non_null(old);
                fill_normal(&rng, old, n, 2);
                memcpy(y, old, n * 4);
                t->ops.f16_from_f32(x, z, n);
                if (half) {
                    t->ops.axpy_f16(-1.7f, z, y, n);
                } else {
                    t->ops.axpy_f32(-1.7f, x, y, n);
                }
                for (size_t i = 0; i < n; i++) {
                    double add = -(double)1.7f * (half ? ht_f16_to_f32(z[i]) : x[i]);
                    near_or_fail(y[i], old[i] + add, 1e-6 * (fabs((double)old[i]) + fabs(add)), "axpy", level,
                                 n);
                }
                ht_mem_free(old);
            }
        }
        guarded_free(a);
        guarded_free(b);
        guarded_free(h);
    }
}

/* All 65,536 halves, and f32 values around every rounding boundary of f16. */
static void halves(void **state) {
    (void)state;
    enum { N = 65536 };
    uint16_t *h = ht_mem_alloc_array(N, 2), *back = ht_mem_alloc_array(N, 2);
    float *x = ht_mem_alloc_array(N, 4), *y = ht_mem_alloc_array(N, 4);
    assert_true(h != NULL && back != NULL && x != NULL && y != NULL);
    FOR_LEVELS(level, t) {
        for (size_t i = 0; i < N; i++) {
            h[i] = (uint16_t)i;
        }
        t->ops.f32_from_f16(h, x, N);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(ht_f32_bits(x[i]), ht_f32_bits(ht_f16_to_f32(h[i])));
        }
        for (uint32_t step = 0; step < 3; step++) {
            static const uint32_t low[3] = {0x0fff, 0x1000, 0x1001}; /* below, at, above the middle */
            for (uint32_t i = 0; i < N; i++) {
                y[i] = ht_f32_from_bits((i << 16 & 0x80000000u) | (0x32000000u + ((i & 0x7fffu) << 13)) |
                                        low[step]);
            }
            t->ops.f16_from_f32(y, back, N);
            for (size_t i = 0; i < N; i++) {
                assert_int_equal(back[i], ht_f16_from_f32(y[i]));
            }
        }
        y[0] = NAN, y[1] = INFINITY, y[2] = -INFINITY, y[3] = 65519.0f, y[4] = 65520.0f, y[5] = -0.0f,
        y[6] = 1e-30f;
        t->ops.f16_from_f32(y, back, 7);
        for (size_t i = 0; i < 7; i++) {
            assert_int_equal(back[i], ht_f16_from_f32(y[i]));
        }
    }
    ht_mem_free(h);
    ht_mem_free(back);
    ht_mem_free(x);
    ht_mem_free(y);
}

static void rms_norms(void **state) {
    (void)state;
    static const float scales[] = {1e-12f, 1e-3f, 1, 1e5f};
    struct ht_rng rng;
    ht_rng_init(&rng, 3);
    for (size_t s = 0; s < COUNT(sizes) * COUNT(scales); s++) {
        size_t n = sizes[s / COUNT(scales)];
        struct guarded a = guarded_new(n * 4), b = guarded_new(n * 4), c = guarded_new(n * 4);
        float *x = a.p, *w = b.p, *y = c.p;
        fill_normal(&rng, x, n, scales[s % COUNT(scales)]);
        fill_normal(&rng, w, n, 1);
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)x[i] * x[i];
        }
        double r = 1 / sqrt(sum / (double)n + (double)1e-5f);
        FOR_LEVELS(level, t) {
            t->ops.rms_norm(x, w, 1e-5f, y, n);
            for (size_t i = 0; i < n; i++) {
                near_or_fail(y[i], x[i] * r * w[i], 1e-6 * fabs(x[i] * r * w[i]) + 1e-37, "rms_norm", level,
                             n);
            }
            memcpy(y, x, n * 4);
            t->ops.rms_norm(y, NULL, 1e-5f, y, n); /* in place, no weights */
            for (size_t i = 0; i < n; i++) {
                near_or_fail(y[i], x[i] * r, 1e-6 * fabs(x[i] * r) + 1e-37, "rms_norm", level, n);
            }
        }
        guarded_free(a);
        guarded_free(b);
        guarded_free(c);
    }
}

static void softmaxes(void **state) {
    (void)state;
    static const float scales[] = {0, 1, 30, 1e4f};
    struct ht_rng rng;
    ht_rng_init(&rng, 4);
    for (size_t s = 0; s < COUNT(sizes) * COUNT(scales); s++) {
        size_t n = sizes[s / COUNT(scales)];
        struct guarded a = guarded_new(n * 4), b = guarded_new(n * 4);
        float *x = a.p, *y = b.p;
        fill_normal(&rng, x, n, scales[s % COUNT(scales)]);
        if (n > 2) {
            x[n / 2] = -INFINITY;
        }
        double top = -INFINITY, sum = 0;
        for (size_t i = 0; i < n; i++) {
            top = x[i] > top ? x[i] : top;
        }
        for (size_t i = 0; i < n; i++) {
            sum += exp(x[i] - top);
        }
        FOR_LEVELS(level, t) {
            memcpy(y, x, n * 4);
            t->ops.softmax(y, n);
            for (size_t i = 0; i < n; i++) {
                near_or_fail(y[i], exp(x[i] - top) / sum, 2e-6, "softmax", level, n);
            }
            float max = 0;
            double want = top + log(sum);
            near_or_fail(t->ops.log_sum_exp(x, n, &max), want, 1e-12 * (1 + fabs(want)), "log_sum_exp", level,
                         n);
            assert_true(max == (float)top);
            near_or_fail(t->ops.log_sum_exp(x, n, NULL), want, 1e-12 * (1 + fabs(want)), "log_sum_exp", level,
                         n);
        }
        guarded_free(a);
        guarded_free(b);
    }
}

static void silus(void **state) {
    (void)state;
    enum { N = 4001 };
    struct guarded a = guarded_new(N * 4), b = guarded_new(N * 4), c = guarded_new(N * 4);
    float *gate = a.p, *up = b.p, *y = c.p;
    for (int i = 0; i < N; i++) {
        gate[i] = (float)(i - N / 2) * 0.06f; /* -120 .. 120 */
        up[i] = i % 2 ? 1.25f : -3.5f;
    }
    gate[0] = -INFINITY, gate[1] = -1e30f, gate[2] = 1e30f, gate[3] = 1e-40f;
    FOR_LEVELS(level, t) {
        t->ops.silu_mul(gate, up, y, N);
        for (size_t i = 1; i < N; i++) {
            double g = gate[i], want = g / (1 + exp(-g)) * up[i];
            near_or_fail(y[i], want, 2e-6 * fabs(want) + 1e-36, "silu_mul", level, i);
        }
        t->ops.silu_mul(gate + 2, up + 2, y, 1);
        memcpy(y, gate, N * 4);
        t->ops.silu_mul(y, up, y, N); /* in place */
        near_or_fail(y[N - 1], (double)gate[N - 1] * up[N - 1], 1e-3, "silu_mul", level, N);
    }
    guarded_free(a);
    guarded_free(b);
    guarded_free(c);
}

static void quantizations(void **state) {
    (void)state;
    static const float scales[] = {1e-38f, 1e-30f, 1, 1e30f};
    struct ht_rng rng;
    ht_rng_init(&rng, 5);
    for (size_t n = 32; n <= 2048; n *= 2) {
        struct guarded a = guarded_new(n * 4), b = guarded_new(n), c = guarded_new(n / 8),
                       e = guarded_new(n / 4);
        struct guarded b2 = guarded_new(n), c2 = guarded_new(n / 8), e2 = guarded_new(n / 4);
        for (size_t s = 0; s < COUNT(scales); s++) {
            float *x = a.p;
            fill_normal(&rng, x, n, scales[s]);
            x[n - 1] = s == 1 ? INFINITY : s == 2 ? 0.5f : x[n - 1];
            x[0] = s == 3 ? NAN : x[0];
            if (n > 64) {
                memset(x + 32, 0, 128);
            }
            ht_quantize_q8_ref(x, n, b.p, c.p, e.p);
            FOR_LEVELS(level, t) {
                t->quantize_q8(x, n, b2.p, c2.p, e2.p);
                assert_memory_equal(b.p, b2.p, n);
                for (size_t g = 0; g < n / 32; g++) {
                    float d = ((float *)c.p)[g], d2 = ((float *)c2.p)[g];
                    assert_true(d == d2 || (d != d && d2 != d2));
                }
                assert_memory_equal(e.p, e2.p, n / 4);
            }
            for (size_t i = 0; i < n; i++) { /* the error is at most half a step */
                float d = ((float *)c.p)[i / 32];
                int q = ((int8_t *)b.p)[i];
                assert_true(d != d || fabs((double)x[i] - (double)d * q) <= 0.5001 * (double)d + 1e-36);
            }
        }
        guarded_free(a);
        guarded_free(b);
        guarded_free(c);
        guarded_free(e);
        guarded_free(b2);
        guarded_free(c2);
        guarded_free(e2);
    }
}

/* ---- f32 product -----------------------------------------------------------------------------------------
 * Small integers: every sum is exact in any order. */

static void one_gemm(struct ht_rng *rng, size_t n_rows, size_t cols, size_t n_tokens, size_t pad) {
    size_t w_stride = cols + pad, y_stride = n_rows + pad, packed_elems = cols * HT_GEMM_TOKENS;
    struct guarded w = guarded_new(((n_rows - 1) * w_stride + cols) * 4);
    struct guarded x = guarded_new(((n_tokens - 1) * w_stride + cols) * 4);
    struct guarded y = guarded_new(((n_tokens - 1) * y_stride + n_rows) * 4),
                   packed = guarded_new(packed_elems * 4);
    float *pw = w.p, *px = x.p, *py = y.p, *pp = packed.p;
    for (size_t i = 0; i < w.bytes / 4; i++) {
        pw[i] = (float)(ht_rng_u64(rng) % 31) - 15;
    }
    for (size_t i = 0; i < x.bytes / 4; i++) {
        px[i] = (float)(ht_rng_u64(rng) % 31) - 15;
    }
    FOR_LEVELS(level, t) {
        memset(y.p, 0xaa, y.bytes);
        memset(packed.p, 0xaa, packed.bytes);
        t->pack_f32(px, w_stride, n_tokens, cols, pp);
        for (size_t i = 0; i < packed_elems; i++) {
            size_t token = i % HT_GEMM_TOKENS;
            assert_true(pp[i] == (token < n_tokens ? px[token * w_stride + i / HT_GEMM_TOKENS] : 0));
        }
        t->gemm_f32(pw, w_stride, n_rows, cols, pp, n_tokens, py, y_stride, false);
        t->gemm_f32(pw, w_stride, n_rows, cols, pp, n_tokens, py, y_stride, true);
        for (size_t i = 0; i < n_tokens * n_rows; i++) {
            size_t token = i / n_rows, row = i % n_rows;
            double want = 0;
            for (size_t k = 0; k < cols; k++) {
                want += 2.0 * (double)pw[row * w_stride + k] * (double)px[token * w_stride + k];
            }
            near_or_fail(py[token * y_stride + row], want, 0, "gemm_f32", level, cols);
        }
        for (size_t i = n_rows; pad > 0 && n_tokens > 1 && i < y_stride; i++) {
            assert_int_equal(ht_f32_bits(py[i]), 0xaaaaaaaau); /* between rows: untouched */
        }
    }
    guarded_free(w);
    guarded_free(x);
    guarded_free(y);
    guarded_free(packed);
}

static void gemms(void **state) {
    (void)state;
    static const size_t rows[] = {1, 2, 3, 4, 5, 6, 7, 13, 48}, tokens[] = {1, 5, 8, 16, 17, 31, 32};
    static const size_t cols[] = {1, 3, 32, 130};
    struct ht_rng rng;
    ht_rng_init(&rng, 8);
    for (size_t i = 0; i < COUNT(rows) * COUNT(tokens) * COUNT(cols); i++) {
        size_t n = i / COUNT(rows) / COUNT(tokens);
        one_gemm(&rng, rows[i % COUNT(rows)], cols[n], tokens[i / COUNT(rows) % COUNT(tokens)], i % 3);
    }
}

/* ---- attention -------------------------------------------------------------------------------------------
 */

struct attention_case {
    size_t n_q, head_dim, first_keys, keys_step, pad; /* pad: elements between rows */
    bool f16;
    float scale;
};

static double cache_at(const struct ht_attention *a, const void *base, size_t i) {
    return a->f16 ? (double)ht_f16_to_f32(((const uint16_t *)base)[i]) : (double)((const float *)base)[i];
}

static void want_attention(const struct ht_attention *a, size_t i, double *out) {
    size_t n = a->first_keys + i * a->keys_step;
    double *p = ht_mem_alloc_array(n, sizeof *p), top = -INFINITY, sum = 0;
    assert_non_null(p);
    for (size_t j = 0; j < n; j++) {
        p[j] = 0;
        for (size_t c = 0; c < a->head_dim; c++) {
            p[j] += (double)a->q[i * a->q_stride + c] * cache_at(a, a->k, j * a->k_stride + c);
        }
        p[j] *= (double)a->scale;
        top = p[j] > top ? p[j] : top;
    }
    memset(out, 0, a->head_dim * sizeof *out);
    for (size_t j = 0; j < n; j++) {
        p[j] = exp(p[j] - top);
        sum += p[j];
    }
    for (size_t j = 0; j < n; j++) {
        for (size_t c = 0; c < a->head_dim; c++) {
            out[c] += p[j] / sum * cache_at(a, a->v, j * a->v_stride + c);
        }
    }
    ht_mem_free(p);
}

static struct guarded cache_new(struct ht_rng *rng, size_t n, bool f16) {
    float *x = ht_mem_alloc_array(n, 4);
    assert_non_null(x);
    fill_normal(rng, x, n, 1);
    struct guarded g = guarded_new(n * (f16 ? 2 : 4));
    if (f16) {
        ht_f16_from_f32_ref(x, g.p, n);
    } else {
        memcpy(g.p, x, n * 4);
    }
    ht_mem_free(x);
    return g;
}

static void one_attention(struct ht_rng *rng, const struct attention_case *c) {
    size_t n = c->first_keys + (c->n_q - 1) * c->keys_step, stride = c->head_dim + c->pad;
    size_t cache = (n - 1) * stride + c->head_dim, rows = (c->n_q - 1) * stride + c->head_dim;
    struct guarded k = cache_new(rng, cache, c->f16), v = cache_new(rng, cache, c->f16);
    struct guarded q = guarded_new(rows * 4), out = guarded_new(rows * 4);
    size_t scratch_bytes = ht_attention_scratch_bytes(n, c->head_dim);
    struct guarded scratch = guarded_new(scratch_bytes);
    fill_normal(rng, q.p, rows, 1);
    struct ht_attention a = {
        .q = q.p,
        .k = k.p,
        .v = v.p,
        .out = out.p,
        .n_q = c->n_q,
        .head_dim = c->head_dim,
        .q_stride = stride,
        .k_stride = stride,
        .v_stride = stride,
        .out_stride = stride,
        .first_keys = c->first_keys,
        .keys_step = c->keys_step,
        .f16 = c->f16,
        .scale = c->scale,
    };
    double *want = ht_mem_alloc_array(c->n_q * c->head_dim, sizeof *want);
    assert_non_null(want);
    for (size_t i = 0; i < c->n_q; i++) {
        want_attention(&a, i, want + i * c->head_dim);
    }
    FOR_LEVELS(level, t) {
        memset(out.p, 0xaa, rows * 4);
        t->ops.attention(&a, scratch.p);
        for (size_t i = 0; i < c->n_q; i++) {
            for (size_t j = 0; j < c->head_dim; j++) {
                near_or_fail(a.out[i * stride + j], want[i * c->head_dim + j], 5e-5, "attention", level, i);
            }
            for (size_t j = c->head_dim; j < stride && i + 1 < c->n_q; j++) {
                assert_int_equal(ht_f32_bits(a.out[i * stride + j]),
                                 0xaaaaaaaau); /* between rows: untouched */
            }
        }
    }
    ht_mem_free(want);
    guarded_free(k);
    guarded_free(v);
    guarded_free(q);
    guarded_free(out);
    guarded_free(scratch);
}

static void attentions(void **state) {
    (void)state;
    static const struct attention_case cases[] = {
        {1, 64, 1, 1, 0, true, 0.125f},    {1, 64, 300, 1, 128, true, 0.125f},
        {1, 128, 77, 1, 0, false, 0.088f}, {2, 80, 65, 1, 3, true, 0.11f},
        {3, 64, 333, 0, 0, true, 0.125f},  {6, 128, 129, 0, 0, true, 0.088f},
        {7, 64, 1, 1, 64, true, 0.125f},   {13, 40, 60, 1, 5, false, 0.15f},
        {64, 64, 1, 1, 0, true, 0.125f},   {65, 64, 64, 1, 0, false, 0.125f},
        {130, 16, 1, 1, 1, true, 0.5f},    {9, 256, 70, 1, 0, true, 0.0625f},
        {5, 7, 20, 1, 2, true, 0.4f},      {33, 96, 200, 1, 0, false, 0.3f},
    };
    struct ht_rng rng;
    ht_rng_init(&rng, 6);
    for (size_t i = 0; i < COUNT(cases); i++) {
        one_attention(&rng, &cases[i]);
    }
}

/* Every slot has a name and a serving level; names are unique; and each is in the list of what the tests
 * walk, so that a new one cannot come without its test. */
static void slots(void **state) {
    (void)state;
    static const char *const walked[] = {
        /* here */
        "dot_f32",
        "dot_f32_f16",
        "axpy_f32",
        "axpy_f16",
        "f16_from_f32",
        "f32_from_f16",
        "rms_norm",
        "pack_f32",
        "gemm_f32",
        "softmax",
        "silu_mul",
        "log_sum_exp",
        "attention",
        "quantize_q8",
        /* test_kernel_matmul.c, all per format but gemm_q8 */
        "gemm_q8",
        "decode",
        "rows_f32",
        "rows_q8",
        "panel_q8",
        /* test_kernel_syrk.c */
        "syrk_f32",
        /* test_kernel_qtensor.c */
        "q_decode",
        "q_rows_q8",
        "q_panel_q8",
        /* test_kernel_intmul.c */
        "int_rows",
        "int_tile",
    };
    size_t n = 0;
    const char *level, *name;
    while ((name = ht_kernel_slot(n, &level)) != NULL) {
        assert_non_null(level);
        size_t w = 0, length = strcspn(name, " ");
        while (w < COUNT(walked) && (strlen(walked[w]) != length || strncmp(walked[w], name, length) != 0)) {
            w++;
        }
        if (w == COUNT(walked)) {
            fail_msg("slot %s has no test in the kernel walk", name);
        }
        for (size_t j = 0; j < n; j++) {
            assert_string_not_equal(name, ht_kernel_slot(j, NULL));
        }
        n++;
    }
    assert_true(n > 12 + ht_format_count());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        ON_BOTH_SIDES(dots),          ON_BOTH_SIDES(axpys),     cmocka_unit_test(halves),
        ON_BOTH_SIDES(rms_norms),     ON_BOTH_SIDES(softmaxes), ON_BOTH_SIDES(silus),
        ON_BOTH_SIDES(quantizations), ON_BOTH_SIDES(gemms),     ON_BOTH_SIDES(attentions),
        cmocka_unit_test(slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
