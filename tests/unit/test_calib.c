#include "tiny_model.h"

#include <math.h>

#include "calib/calib.h"
#include "flow/flow.h"

#define TEXT HT_TEST_DIR "/golden/token/corpus.jsonl"
#define TEXT2 HT_TEST_DIR "/golden/token/edge.jsonl"

static struct ht_imatrix *collect(const struct ht_model *m, const char *const *texts, size_t n, uint64_t tokens,
                                  int threads) {
    ht_context *ctx = make_context(threads, NULL, NULL);
    struct ht_imatrix *im;
    ht_err err = {0};
    ASSERT_OK(ht_calib_imatrix(ctx, m, texts, n, tokens, 64, HT_MATH_EXACT, &im, &err), &err);
    ht_context_free(ctx);
    return im;
}

static const char *const one_text[] = {TEXT};

/* The first layer's input is known without running anything: the norm of each token's embedding. */
static void test_first_layer_by_hand(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct ht_model *m;
    struct ht_ids ids = {0};
    ASSERT_OK(ht_model_load(tiny_model(), &m, &err), &err);
    struct ht_imatrix *im = collect(m, one_text, 1, 200, 2);
    ASSERT_OK(ht_calib_tokens(m, TEXT, &ids, &err), &err);
    size_t width = m->hp.width;
    double *sum = ht_mem_calloc(width, sizeof *sum);
    float *x = ht_mem_alloc_array(width, sizeof *x);
    for (size_t t = 0; t < 3 * 64; t++) { /* 200 tokens are three windows of 64 */
        ht_linear_row(m->token_embd, (uint64_t)ids.ids[t], x, NULL);
        double ss = 0;
        for (size_t j = 0; j < width; j++) {
            ss += (double)x[j] * x[j];
        }
        double scale = 1.0 / sqrt(ss / (double)width + m->hp.rms_eps);
        for (size_t j = 0; j < width; j++) {
            double v = x[j] * scale * m->layers[0].vectors[HT_ROLE_ATTN_NORM][j];
            sum[j] += v * v;
        }
    }
    static const char *const names[] = {"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"};
    for (size_t i = 0; i < 3; i++) {
        const struct ht_imatrix_entry *e = ht_imatrix_find(im, names[i]);
        assert_non_null(e);
        assert_true(e->n == width && e->n_mat == 1 && e->count[0] == 192.0f);
        for (size_t j = 0; j < width; j++) {
            assert_true(fabs(e->sum2[j] - sum[j]) <= 1e-5 * sum[j]);
        }
    }
    assert_true(im->chunk_size == 64 && im->chunk_count == 3 && im->n_datasets == 1);
    assert_string_equal(im->datasets[0], TEXT);
    ht_mem_free(x);
    ht_mem_free(sum);
    ht_mem_free(ids.ids);
    ht_imatrix_free(im);
    ht_model_unload(m);
}

/* One entry for each linear of each layer, none for the head; linears of one input have equal sums. */
static void test_entries(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct ht_model *m;
    ASSERT_OK(ht_model_load(tiny_model(), &m, &err), &err);
    struct ht_imatrix *im = collect(m, one_text, 1, 128, 2);
    assert_int_equal(im->n, 7 * m->hp.n_layers);
    assert_null(ht_imatrix_find(im, "output.weight"));
    assert_null(ht_imatrix_find(im, "token_embd.weight"));
    static const enum ht_role roles[] = {HT_ROLE_ATTN_Q, HT_ROLE_ATTN_K, HT_ROLE_ATTN_V, HT_ROLE_ATTN_OUTPUT,
                                         HT_ROLE_FFN_GATE, HT_ROLE_FFN_UP, HT_ROLE_FFN_DOWN};
    for (uint32_t l = 0; l < m->hp.n_layers; l++) {
        const struct ht_layer *layer = &m->layers[l];
        for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
            const struct ht_linear *linear = layer->linears[roles[i]];
            const struct ht_imatrix_entry *e = ht_imatrix_find(im, linear->name);
            assert_non_null(e);
            assert_true(e->n == linear->w.cols && e->count[0] == 128.0f);
            double total = 0;
            for (size_t j = 0; j < e->n; j++) {
                assert_true(e->sum2[j] >= 0 && isfinite(e->sum2[j]));
                total += e->sum2[j];
            }
            assert_true(total > 0);
        }
        const struct ht_imatrix_entry *g = ht_imatrix_find(im, layer->linears[HT_ROLE_FFN_GATE]->name);
        const struct ht_imatrix_entry *u = ht_imatrix_find(im, layer->linears[HT_ROLE_FFN_UP]->name);
        const struct ht_imatrix_entry *q = ht_imatrix_find(im, layer->linears[HT_ROLE_ATTN_Q]->name);
        assert_memory_equal(g->sum2, u->sum2, g->n * sizeof(float));
        assert_memory_not_equal(g->sum2, q->sum2, g->n * sizeof(float));
    }
    ht_imatrix_free(im);
    ht_model_unload(m);
}

static void test_threads_do_not_matter(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct ht_model *m;
    static const char *const texts[] = {TEXT2, TEXT};
    ASSERT_OK(ht_model_load(tiny_model(), &m, &err), &err);
    struct ht_imatrix *one = collect(m, texts, 2, 256, 1), *three = collect(m, texts, 2, 256, 3);
    assert_int_equal(one->n, three->n);
    for (size_t i = 0; i < one->n; i++) {
        const struct ht_imatrix_entry *e = ht_imatrix_find(three, one->entries[i].name);
        assert_memory_equal(e->sum2, one->entries[i].sum2, e->n * sizeof(float));
    }
    ht_imatrix_free(three);
    ht_imatrix_free(one);
    ht_model_unload(m);
}

static void test_refused(void **state) {
    (void)state;
    need_tiny();
    ht_err err = {0};
    struct ht_model *m;
    struct ht_imatrix *im;
    ht_context *ctx = make_context(1, NULL, NULL);
    static const char *const missing[] = {"/nonexistent/text"};
    ASSERT_OK(ht_model_load(tiny_model(), &m, &err), &err);
    assert_int_equal(ht_calib_imatrix(ctx, m, one_text, 1, 63, 64, HT_MATH_EXACT, &im, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "do not fill one window of 64"));
    ht_err_clear(&err);
    assert_int_equal(ht_calib_imatrix(ctx, m, one_text, 1, 0, 1u << 20, HT_MATH_EXACT, &im, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "one window needs 1048576"));
    assert_int_equal(ht_calib_imatrix(ctx, m, missing, 1, 0, 64, HT_MATH_EXACT, &im, NULL), HT_NOTFOUND);
    assert_int_equal(ht_calib_imatrix(ctx, m, one_text, 0, 0, 64, HT_MATH_EXACT, &im, NULL), HT_INVAL);
    assert_int_equal(ht_calib_imatrix(ctx, m, one_text, 1, 0, 0, HT_MATH_EXACT, &im, NULL), HT_INVAL);
    ht_model_unload(m);
    ht_context_free(ctx);
}

static void put_nan(const char *name, uint16_t *w, size_t n) {
    if (strcmp(name, "model.layers.1.mlp.up_proj.weight") == 0) {
        w[n / 2] = 0x7fc0;
    }
}

static void test_nan_is_located(void **state) {
    (void)state;
    need_tiny();
    char folder[] = "/tmp/ht-calib-XXXXXX";
    assert_non_null(mkdtemp(folder));
    tiny_copy(folder, put_nan);
    ht_err err = {0};
    struct ht_model *m;
    struct ht_imatrix *im;
    ht_context *ctx = make_context(2, NULL, NULL);
    ASSERT_OK(ht_model_load(folder, &m, &err), &err);
    assert_int_equal(ht_calib_imatrix(ctx, m, one_text, 1, 64, 64, HT_MATH_EXACT, &im, &err), HT_NUMERIC);
    assert_string_equal(err.what, "blk.1.ffn_down.weight"); /* the first linear that meets it */
    ht_model_unload(m);
    ht_context_free(ctx);
    tiny_remove(folder);
}

static double field(const char *json, const char *key) {
    json_t *j;
    ht_err err = {0};
    ASSERT_OK(ht_json_parse(json, strlen(json), 0, "record", &j, &err), &err);
    double v = json_number_value(json_object_get(j, key));
    json_decref(j);
    return v;
}

/* Two texts together give what their files give when merged; .dat keeps the importances. */
static void test_files(void **state) {
    (void)state;
    need_tiny();
    char dir[] = "/tmp/ht-calib-XXXXXX", path[5][64];
    static const char *const names[] = {"a.gguf", "b.gguf", "ab.gguf", "sum.gguf", "sum.dat"};
    static const char *const texts[] = {TEXT, TEXT2};
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < 5; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", dir, names[i]);
    }
    ht_err err = {0};
    ht_context *ctx = make_context(2, NULL, NULL);
    char *json;
    ht_imatrix_options o = {.size = sizeof o, .model = tiny_model(), .ctx = 32, .tokens = 96, .exact = true};
    for (size_t i = 0; i < 2; i++) {
        o.output = path[i];
        o.texts = &texts[i];
        o.n_texts = 1;
        ASSERT_OK(ht_flow_imatrix(ctx, &o, &json, &err), &err);
        assert_true(field(json, "tokens") == 96 && field(json, "windows") == 3);
        ht_mem_free(json);
    }
    assert_int_equal(ht_flow_imatrix(ctx, &o, NULL, NULL), HT_EXISTS);
    const char *parts[] = {path[0], path[1]}, *sum[] = {path[3]};
    ASSERT_OK(ht_flow_imatrix_merge(ctx, parts, 2, path[3], false, &json, &err), &err);
    assert_true(field(json, "windows") == 6);
    ht_mem_free(json);
    ASSERT_OK(ht_flow_imatrix_merge(ctx, sum, 1, path[4], false, NULL, &err), &err);
    struct ht_imatrix *m[4]; /* a, b, sum, dat */
    ASSERT_OK(ht_imatrix_load(path[0], &m[0], &err), &err);
    ASSERT_OK(ht_imatrix_load(path[1], &m[1], &err), &err);
    ASSERT_OK(ht_imatrix_load(path[3], &m[2], &err), &err);
    ASSERT_OK(ht_imatrix_load(path[4], &m[3], &err), &err);
    assert_int_equal(m[2]->n_datasets, 2);
    for (size_t i = 0; i < m[2]->n; i++) {
        const struct ht_imatrix_entry *s = &m[2]->entries[i], *a = ht_imatrix_find(m[0], s->name);
        const struct ht_imatrix_entry *b = ht_imatrix_find(m[1], s->name), *d = ht_imatrix_find(m[3], s->name);
        assert_true(s->count[0] == 192.0f);
        for (size_t j = 0; j < s->n; j++) {
            assert_true(s->sum2[j] == a->sum2[j] + b->sum2[j]);
            float mean = s->sum2[j] / s->count[0];
            assert_true(fabsf(d->sum2[j] / d->count[0] - mean) <= 1e-6f * mean);
        }
    }
    assert_int_equal(ht_flow_imatrix_merge(ctx, sum, 0, path[2], false, NULL, NULL), HT_INVAL);
    for (size_t i = 0; i < 5; i++) {
        if (i < 4) {
            ht_imatrix_free(m[i]);
        }
        unlink(path[i]);
    }
    ht_context_free(ctx);
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_layer_by_hand),   cmocka_unit_test(test_entries),
        cmocka_unit_test(test_threads_do_not_matter), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nan_is_located),        cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
