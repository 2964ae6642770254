/* Statistics layer by layer: each against the inputs themselves, which a sample of all tokens holds; the two streams;
 * hidden states in a file; the same for any number of threads. */
#include "tiny_model.h"

#include <math.h>

#include "base/append.h"
#include "base/file.h"
#include "calib/calib.h"

#define ALL 511u /* every need but gradients: 1 .. 128, and GRAD is nobody's here */
#define TOKENS 192u

static const char *const texts[] = {HT_TEST_DIR "/golden/token/corpus.jsonl"};

struct layers {
    ht_context *ctx;
    struct ht_model *model;
    struct ht_calib_windows windows;
    struct ht_calib_layers *l;
};

static void start(struct layers *s, int threads, unsigned needs, const char *spill) {
    *s = (struct layers){.ctx = make_context(threads, NULL, NULL)};
    ht_err err = {0};
    ASSERT_OK(ht_model_load(tiny_model(), &s->model, &err), &err);
    ASSERT_OK(ht_calib_windows(s->model, texts, 1, TOKENS, 64, &s->windows, &err), &err);
    const struct ht_calib_layers_options o = {.needs = needs, .n_sample = TOKENS, .math = HT_MATH_EXACT, .spill = spill};
    ASSERT_OK(ht_calib_layers_new_with(s->ctx, s->model, &s->windows, &o, &s->l, &err), &err);
}

static void end(struct layers *s) {
    ht_calib_layers_free(s->l);
    ht_calib_windows_deinit(&s->windows);
    ht_model_unload(s->model);
    ht_context_free(s->ctx);
}

static bool near(double a, double b, double scale) {
    return fabs(a - b) <= 2e-5 * scale;
}

static void test_every_statistic(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct layers s;
    start(&s, 2, ALL & ~(unsigned)HT_NEEDS_GRAD, NULL);
    ASSERT_OK(ht_calib_layers_collect(s.l, 0, &err), &err);
    const struct ht_stats *st = ht_calib_layers_stats(s.l, s.model->layers[0].linears[HT_ROLE_FFN_DOWN]);
    assert_true(st != NULL && st->tokens == TOKENS && st->n_sample == TOKENS);
    assert_ptr_equal(ht_calib_layers_stats(s.l, s.model->layers[0].linears[HT_ROLE_ATTN_Q]),
                     ht_calib_layers_stats(s.l, s.model->layers[0].linears[HT_ROLE_ATTN_V]));
    uint64_t n = st->cols;
    for (uint64_t j = 0; j < n; j++) {
        double square = 0, magnitude = 0, sum = 0, cross = 0;
        float least = INFINITY, most = -INFINITY;
        for (uint64_t t = 0; t < TOKENS; t++) {
            float x = st->sample[t * n + j];
            square += (double)x * x;
            magnitude += fabsf(x);
            sum += x;
            cross += (double)x * st->sample[t * n + (j + 1) % n];
            least = x < least ? x : least;
            most = x > most ? x : most;
        }
        assert_true(st->min[j] == least && st->max[j] == most && st->absmax[j] == fmaxf(-least, most));
        assert_true(near(st->mean_square[j], square / TOKENS, square / TOKENS));
        assert_true(near(st->mean_abs[j], magnitude / TOKENS, magnitude / TOKENS));
        assert_true(near(st->mean[j], sum / TOKENS, magnitude / TOKENS));
        assert_true(near(st->gram[j * n + j], square / TOKENS, square / TOKENS));
        double scale = sqrt((double)st->mean_square[j] * st->mean_square[(j + 1) % n]);
        assert_true(near(st->gram[j * n + (j + 1) % n], cross / TOKENS, scale));
        /* Nothing is quantized yet: both streams are one. */
        assert_true(near(st->cross[j * n + (j + 1) % n], cross / TOKENS, scale));
    }
    end(&s);
}

/* With a changed first layer the streams part: the unquantized one stays what the model gives. */
static void test_streams_part(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct layers s, plain;
    start(&s, 2, HT_NEEDS_CROSS | HT_NEEDS_GRAM, NULL);
    start(&plain, 2, HT_NEEDS_GRAM, NULL);
    struct ht_linear *up = s.model->layers[0].linears[HT_ROLE_FFN_UP];
    float *zeros = ht_mem_calloc(up->w.rows * up->w.cols, sizeof *zeros);
    assert_non_null(zeros);
    ASSERT_OK(ht_calib_layers_collect(s.l, 0, &err), &err);
    ASSERT_OK(ht_calib_layers_advance_float(s.l, 0, &err), &err);
    up->w = (struct ht_mat){ht_format_find("f32"), zeros, up->w.rows, up->w.cols, up->w.cols * sizeof *zeros};
    ASSERT_OK(ht_calib_layers_advance(s.l, 0, &err), &err);
    ASSERT_OK(ht_calib_layers_advance(plain.l, 0, &err), &err);
    ASSERT_OK(ht_calib_layers_collect(s.l, 1, &err), &err);
    ASSERT_OK(ht_calib_layers_collect(plain.l, 1, &err), &err);
    const struct ht_stats *a = ht_calib_layers_stats(s.l, s.model->layers[1].linears[HT_ROLE_ATTN_Q]);
    const struct ht_stats *b = ht_calib_layers_stats(plain.l, plain.model->layers[1].linears[HT_ROLE_ATTN_Q]);
    double differ = 0, all = 0, bound = 0;
    for (uint64_t j = 0; j < a->cols; j++) {
        uint64_t at = j * a->cols + j;
        differ += fabs(a->cross[at] - a->gram[at]);
        all += b->gram[at];
        /* |E[y x]| <= sqrt(E[y^2] E[x^2]), y the inputs of the plain model. */
        bound = fmax(bound, fabs(a->cross[at]) / sqrt((double)a->gram[at] * b->gram[at]));
    }
    assert_true(differ > 0.01 * all);
    assert_true(bound <= 1.0001 && bound > 0.5);
    ht_mem_free(zeros);
    end(&s);
    end(&plain);
}

static void assert_near(const float *a, const float *b, uint64_t n, uint64_t cols, const float *scale) {
    for (uint64_t i = 0; i < n; i++) {
        double size = n == cols ? scale[i] : n == cols * cols ? sqrt((double)scale[i / cols] * scale[i % cols]) : 1;
        assert_true(fabs((double)a[i] - b[i]) <= 1e-4 * fmax(size, fabs((double)b[i])));
    }
}

/* A norm's weights over s: what was collected before, divided, is what is collected then. */
static void test_divided(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct layers a, b;
    unsigned needs = ALL & ~(unsigned)HT_NEEDS_GRAD;
    start(&a, 2, needs, NULL);
    start(&b, 2, needs, NULL);
    ASSERT_OK(ht_calib_layers_collect(a.l, 0, &err), &err);
    const struct ht_stats *x = ht_calib_layers_stats(a.l, a.model->layers[0].linears[HT_ROLE_ATTN_K]);
    uint64_t n = x->cols;
    float *s = ht_mem_alloc_array(n, sizeof *s), *norm = ht_mem_alloc_array(n, sizeof *norm);
    assert_true(s != NULL && norm != NULL);
    const float *weights = b.model->layers[0].vectors[HT_ROLE_ATTN_NORM];
    for (uint64_t j = 0; j < n; j++) {
        s[j] = (j % 7 == 0 ? -0.5f : 0.5f) * (float)(1 + j % 5);
        norm[j] = weights[j] / s[j];
    }
    memcpy((float *)(uintptr_t)weights, norm, n * sizeof *norm); /* steps of the plan point there, too */
    ht_calib_layers_divide(a.l, a.model->layers[0].linears[HT_ROLE_ATTN_Q], s); /* which k shares */
    ASSERT_OK(ht_calib_layers_collect(b.l, 0, &err), &err);
    const struct ht_stats *y = ht_calib_layers_stats(b.l, b.model->layers[0].linears[HT_ROLE_ATTN_K]);
    assert_near(x->gram, y->gram, n * n, n, y->mean_square);
    assert_near(x->cross, y->cross, n * n, n, y->mean_square);
    assert_near(x->mean_square, y->mean_square, n, n, y->mean_square);
    assert_near(x->mean_abs, y->mean_abs, n, n, y->mean_abs);
    assert_near(x->mean, y->mean, n, n, y->mean_abs);
    assert_near(x->absmax, y->absmax, n, n, y->absmax);
    assert_near(x->min, y->min, n, n, y->absmax);
    assert_near(x->max, y->max, n, n, y->absmax);
    assert_near(x->sample, y->sample, TOKENS * n, n, NULL);
    ht_mem_free(norm);
    ht_mem_free(s);
    end(&a);
    end(&b);
}

static void test_threads_and_files_do_not_matter(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    char dir[] = "/tmp/ht-layers-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = ht_path_join(dir, "out");
    unsigned needs = ALL & ~(unsigned)HT_NEEDS_GRAD;
    struct layers a, b;
    start(&a, 1, needs, NULL);
    start(&b, 7, needs, path);
    for (int32_t layer = 0; layer < 2; layer++) {
        ASSERT_OK(ht_calib_layers_collect(a.l, layer, &err), &err);
        ASSERT_OK(ht_calib_layers_collect(b.l, layer, &err), &err);
        for (int role = 0; role < HT_ROLES; role++) {
            if (a.model->layers[layer].linears[role] == NULL) {
                continue;
            }
            const struct ht_stats *x = ht_calib_layers_stats(a.l, a.model->layers[layer].linears[role]);
            const struct ht_stats *y = ht_calib_layers_stats(b.l, b.model->layers[layer].linears[role]);
            size_t n = x->cols;
            assert_memory_equal(x->gram, y->gram, n * n * sizeof(float));
            assert_memory_equal(x->cross, y->cross, n * n * sizeof(float));
            assert_memory_equal(x->absmax, y->absmax, 6 * n * sizeof(float));
            assert_memory_equal(x->sample, y->sample, x->n_sample * n * sizeof(float));
        }
        ASSERT_OK(ht_calib_layers_advance_float(a.l, layer, &err), &err);
        ASSERT_OK(ht_calib_layers_advance_float(b.l, layer, &err), &err);
        ASSERT_OK(ht_calib_layers_advance(a.l, layer, &err), &err);
        ASSERT_OK(ht_calib_layers_advance(b.l, layer, &err), &err);
    }
    end(&a);
    end(&b);
    assert_int_equal(rmdir(dir), 0); /* the file had no name */
    ht_mem_free(path);
}

static void test_append_goes_on(void **state) {
    (void)state;
    ht_err err = {0};
    char dir[] = "/tmp/ht-append-XXXXXX", *data;
    size_t len;
    assert_non_null(mkdtemp(dir));
    char *path = ht_path_join(dir, "work");
    struct ht_append *a, *b;
    ASSERT_OK(ht_append_open(path, 0, &a, &err), &err);
    ASSERT_OK(ht_append_write(a, "abcdef", 6, &err), &err);
    ASSERT_OK(ht_append_sync(a, &err), &err);
    assert_int_equal(ht_append_open(path, 6, &b, &err), HT_EXISTS);
    ht_append_close(a);
    ht_err_clear(&err);
    ASSERT_OK(ht_append_open(path, 4, &a, &err), &err);
    ASSERT_OK(ht_append_write(a, "x", 1, &err), &err);
    ASSERT_OK(ht_append_zeros(a, 2, &err), &err);
    assert_int_equal(ht_append_pos(a), 7);
    ht_append_close(a);
    ASSERT_OK(ht_read_file(path, 100, &data, &len, &err), &err);
    assert_int_equal(len, 7);
    assert_memory_equal(data, "abcdx\0\0", 7);
    ht_mem_free(data);
    ASSERT_OK(ht_remove_file(path, &err), &err);
    ASSERT_OK(ht_remove_file(path, &err), &err);
    assert_int_equal(rmdir(dir), 0);
    ht_mem_free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_statistic),
        cmocka_unit_test(test_streams_part),
        cmocka_unit_test(test_divided),
        cmocka_unit_test(test_threads_and_files_do_not_matter),
        cmocka_unit_test(test_append_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
