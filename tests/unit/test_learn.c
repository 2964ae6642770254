/* Learned rounding: what is reported is what the codes give, nothing is worse than rounding to nearest, learning helps
 * on schemes of every kind of grid and on GGUF's, and the bytes do not depend on the number of threads. */
#include "test.h"

#include "tiny_model.h"

#include <math.h>

#include "base/rng.h"
#include "quant/soft/relax.h"
#include "train/learn.h"

#define MODELS HT_TEST_DIR "/golden/models/"

enum { WINDOWS = 3, TOKENS = 40, LINEARS = 7 };

static const enum ht_role roles[LINEARS] = {HT_ROLE_ATTN_Q,   HT_ROLE_ATTN_K, HT_ROLE_ATTN_V,  HT_ROLE_ATTN_OUTPUT,
                                            HT_ROLE_FFN_GATE, HT_ROLE_FFN_UP, HT_ROLE_FFN_DOWN};

struct task {
    struct ht_pool *pool;
    struct ht_model *m;
    struct ht_train_block *block;
    float *x, *target;
    struct ht_qtensor q[LINEARS];
    unsigned char *bytes[LINEARS];
    size_t n_bytes[LINEARS];
    struct ht_learn_linear linears[LINEARS];
};

/* Weights with a few large values, as trained ones have, and inputs that are not alike. */
static void begin(struct task *t, const char *path, const char *text, int threads) {
    ht_err err = {0};
    struct ht_scheme scheme;
    struct ht_rng rng;
    struct ht_model_options options = {.tokenizer_optional = true};
    *t = (struct task){0};
    ht_rng_init(&rng, 41);
    ASSERT_OK(ht_pool_new(threads, &t->pool, &err), &err);
    ASSERT_OK(ht_model_load_with(path, &options, &t->m, &err), &err);
    ASSERT_OK(ht_train_block_new(t->pool, t->m, 0, WINDOWS, TOKENS, &t->block, &err), &err);
    size_t n = WINDOWS * TOKENS * t->m->hp.width;
    t->x = ht_mem_alloc_array(n, sizeof *t->x);
    t->target = ht_mem_alloc_array(n, sizeof *t->target);
    assert_true(t->x != NULL && t->target != NULL);
    for (size_t i = 0; i < n; i++) {
        t->x[i] = (float)ht_rng_normal(&rng) * (i % 7 == 0 ? 4.0f : 1.0f);
    }
    const struct ht_format *format = ht_format_find(text);
    if (format == NULL) {
        ASSERT_OK(ht_scheme_parse(text, &scheme, &err), &err);
    }
    for (size_t i = 0; i < LINEARS; i++) {
        struct ht_train_param *p = &t->block->params[roles[i]];
        for (size_t k = 0; k < p->rows * p->cols; k += 53) {
            p->w[k] *= 5;
        }
        t->linears[i] = (struct ht_learn_linear){.role = roles[i], .format = format};
        if (format == NULL) {
            ASSERT_OK(ht_qtensor_init(&t->q[i], &scheme, p->rows, p->cols, NULL, &err), &err);
            t->linears[i].q = &t->q[i];
        } else {
            t->n_bytes[i] = (size_t)(p->rows * ht_format_row_bytes(format, p->cols));
            t->linears[i].bytes = t->bytes[i] = ht_mem_calloc(t->n_bytes[i], 1);
            assert_non_null(t->bytes[i]);
        }
    }
    memcpy(t->target, ht_train_block_forward(t->block, t->x, WINDOWS, TOKENS), n * sizeof *t->x);
}

static void end(struct task *t) {
    for (size_t i = 0; i < LINEARS; i++) {
        ht_qtensor_deinit(&t->q[i]);
        ht_mem_free(t->bytes[i]);
    }
    ht_mem_free(t->x);
    ht_mem_free(t->target);
    ht_train_block_free(t->block);
    ht_model_unload(t->m);
    ht_pool_free(t->pool);
}

/* What the files' own decoding gives, in the block. */
static void decode(struct task *t) {
    for (size_t i = 0; i < LINEARS; i++) {
        struct ht_train_param *p = &t->block->params[roles[i]];
        if (t->linears[i].q != NULL) {
            ht_qtensor_decode(&t->q[i], 0, p->rows, p->w);
        } else {
            t->linears[i].format->decode(t->bytes[i], p->w, (size_t)(p->rows * p->cols));
        }
    }
}

static struct ht_learn_report learn(struct task *t, enum ht_learn_method method, double lr, double lr_range) {
    struct ht_learn_options o;
    struct ht_learn_report r;
    ht_err err = {0};
    ht_learn_defaults(method, &o);
    o.steps = 30;
    o.batch = 2;
    o.lr = lr;
    o.lr_range = lr_range;
    ASSERT_OK(ht_learn_block(t->block, t->x, t->target, WINDOWS, TOKENS, t->linears, LINEARS, &o, &r, &err), &err);
    return r;
}

static double loss_now(struct task *t) {
    ht_train_block_forward(t->block, t->x, WINDOWS, TOKENS);
    return ht_train_block_mse(t->block, t->target, false, 1);
}

struct kase {
    const char *format;
    double at_most; /* loss, of nearest's: what learning must reach at least */
};

/* Every kind of grid: symmetric, with zero, with offset, tables, small floats, one scale, nested scales, fitted levels;
 * GGUF with and without mins, and with a table. */
static const struct kase cases[] = {
    {"int4:g32", 0.8},        {"int3:g32", 0.7},  {"uint3:g32", 0.8},        {"int3:g32:offset", 0.8},
    {"int3:channel", 0.7},    {"nf4:g32", 0.8},   {"fp4_e2m1:g32", 0.8},     {"int4:tensor", 0.8},
    {"int4:g64:nested", 0.8}, {"kmeans3:g64", 0.9}, {"int4:g32:narrow", 0.8}, {"q4_0", 0.8},
    {"q4_1", 0.8},            {"iq4_nl", 0.8},
};

static void check_case(const char *path, const struct kase *k, enum ht_learn_method method) {
    struct task t;
    begin(&t, path, k->format, 2);
    bool sign = method == HT_LEARN_SIGN;
    struct ht_learn_report r = learn(&t, method, sign ? 1.0 / 30 : 0.05, sign ? 1.0 / 30 : 0.003);
    double left = loss_now(&t);
    decode(&t);
    double decoded = loss_now(&t);
    if (!(fabs(left - r.loss) <= 1e-5 * r.loss && fabs(decoded - r.loss) <= 1e-4 * r.loss)) {
        fail_msg("%s: reported %.6g, in the block %.6g, decoded %.6g", k->format, r.loss, left, decoded);
    }
    if (!(r.loss <= k->at_most * r.loss_start) || r.moved == 0 || r.best_step == 0) {
        fail_msg("%s: nearest %.6g, learned %.6g, %llu codes moved", k->format, r.loss_start, r.loss,
                 (unsigned long long)r.moved);
    }
    end(&t);
}

static void blocks(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(MODELS "llama3rope-rand", &cases[i], HT_LEARN_SIGN);
    }
    check_case(MODELS "qwen2-rand", &cases[0], HT_LEARN_SIGN);
    check_case(MODELS "qwen3-rand", &cases[2], HT_LEARN_SIGN);
    if (tiny_model() != NULL) {
        static const struct kase k = {"q2_k", 0.9};
        check_case(tiny_model(), &k, HT_LEARN_SIGN);
    }
}

static void distil(void **state) {
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        check_case(MODELS "llama3rope-rand", &cases[i], HT_LEARN_DISTIL);
    }
    check_case(MODELS "qwen3-rand", &cases[11], HT_LEARN_DISTIL);
}

/* Ranges alone: at 3 bits clipping the few large weights pays, if the gradients point the right way. */
static void ranges(void **state) {
    (void)state;
    static const char *const texts[] = {"int3:g32", "uint3:g32", "int3:g32:offset", "int3:channel:narrow"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct task t;
        begin(&t, MODELS "llama3rope-rand", texts[i], 1);
        struct ht_learn_report r = learn(&t, HT_LEARN_SIGN, 0, 0.03);
        if (!(r.loss < 0.95 * r.loss_start) || r.moved != 0) {
            fail_msg("%s: nearest %.6g, with learned ranges %.6g", texts[i], r.loss_start, r.loss);
        }
        end(&t);
    }
}

/* Nothing to gain, nothing lost: with no learning rate, codes are those of rounding to nearest. */
static void still(void **state) {
    (void)state;
    struct task t;
    ht_err err = {0};
    begin(&t, MODELS "llama3rope-rand", "int4:g32", 1);
    struct ht_qtensor q;
    const struct ht_train_param *p = &t.block->params[roles[0]];
    ASSERT_OK(ht_qtensor_init(&q, &t.q[0].scheme, p->rows, p->cols, NULL, &err), &err);
    ASSERT_OK(ht_qtensor_encode(&q, p->w, NULL, NULL, &err), &err);
    float *before = ht_mem_alloc_array(p->rows * p->cols, sizeof *before);
    assert_true(before != NULL && p->cols == 64);
    memcpy(before, p->w, p->rows * p->cols * sizeof *before);
    struct ht_learn_report r = learn(&t, HT_LEARN_SIGN, 0, 0);
    assert_true(r.best_step == 0 && r.moved == 0);
    assert_true(r.loss >= r.loss_start && r.loss <= r.loss_start);
    float a[64], b[64];
    for (uint64_t row = 0; row < p->rows; row++) {
        ht_qtensor_decode(&q, row, 1, a);
        ht_qtensor_decode(&t.q[0], row, 1, b);
        for (uint64_t i = 0; i < p->cols; i++) { /* a tie may go either way */
            float w = before[row * p->cols + i];
            assert_true(fabsf(b[i] - w) <= fabsf(a[i] - w) * 1.00001f + 1e-7f);
        }
    }
    ht_mem_free(before);
    ht_qtensor_deinit(&q);
    end(&t);
}

static void threads(void **state) {
    (void)state;
    static const char *const texts[] = {"int3:g32", "q4_0"};
    for (size_t k = 0; k < 2; k++) {
        struct task one, many;
        begin(&one, MODELS "qwen3-rand", texts[k], 1);
        learn(&one, HT_LEARN_SIGN, 0.03, 0.03);
        for (int n = 2; n <= 7; n += 5) {
            begin(&many, MODELS "qwen3-rand", texts[k], n);
            learn(&many, HT_LEARN_SIGN, 0.03, 0.03);
            for (size_t i = 0; i < LINEARS; i++) {
                if (one.linears[i].q != NULL) {
                    assert_memory_equal(one.q[i].codes, many.q[i].codes, one.q[i].rows * one.q[i].row_bytes);
                    assert_memory_equal(one.q[i].scales, many.q[i].scales, one.q[i].n_scales * 2);
                } else {
                    assert_memory_equal(one.bytes[i], many.bytes[i], one.n_bytes[i]);
                }
            }
            end(&many);
        }
        end(&one);
    }
}

/* tr(E H E^T) in double. */
static double gram_loss(const float *w, const float *values, const float *h, size_t rows, size_t cols) {
    double sum = 0;
    for (size_t r = 0; r < rows; r++) {
        for (size_t i = 0; i < cols; i++) {
            double e = (double)w[r * cols + i] - (double)values[r * cols + i], along = 0;
            for (size_t j = 0; j < cols; j++) {
                along += (double)h[i * cols + j] * ((double)w[r * cols + j] - (double)values[r * cols + j]);
            }
            sum += e * along;
        }
    }
    return sum;
}

static void gram(void **state) {
    (void)state;
    enum { N = 200 };
    static const char *const texts[] = {"int3:g32", "uint4:g32", "q4_0"};
    for (size_t k = 0; k < 3; k++) {
        struct task t;
        ht_err err = {0};
        struct ht_rng rng;
        struct ht_relax_report r;
        struct ht_relax_options o;
        begin(&t, MODELS "llama3rope-rand", texts[k], 2);
        const struct ht_train_param *p = &t.block->params[roles[0]];
        size_t rows = (size_t)p->rows, cols = (size_t)p->cols;
        float *h = ht_mem_calloc(cols * cols, sizeof *h), *values = ht_mem_alloc_array(rows * cols, sizeof *values);
        ht_rng_init(&rng, 42);
        for (size_t s = 0; s < N; s++) { /* inputs with a common part: correlated */
            float x[64], common = (float)ht_rng_normal(&rng);
            assert_true(cols <= 64);
            for (size_t i = 0; i < cols; i++) {
                x[i] = common + (float)ht_rng_normal(&rng);
            }
            for (size_t i = 0; i < cols * cols; i++) {
                h[i] += x[i / cols] * x[i % cols] / N;
            }
        }
        ht_relax_defaults(&o);
        ASSERT_OK(ht_relax(t.pool, p->w, rows, cols, h, &t.linears[0], &o, values, &r, &err), &err);
        double want = gram_loss(p->w, values, h, rows, cols);
        assert_true(fabs(want - r.loss) <= 1e-4 * want);
        if (!(r.loss <= 0.65 * r.loss_nearest)) {
            fail_msg("%s: nearest %.6g, learned %.6g", texts[k], r.loss_nearest, r.loss);
        }
        float *decoded = ht_mem_alloc_array(rows * cols, sizeof *decoded);
        if (t.linears[0].q != NULL) {
            ht_qtensor_decode(&t.q[0], 0, rows, decoded);
        } else {
            t.linears[0].format->decode(t.bytes[0], decoded, rows * cols);
        }
        for (size_t i = 0; i < rows * cols; i++) {
            assert_true(fabsf(decoded[i] - values[i]) <= 1e-6f);
        }
        h[1] = h[cols] = NAN;
        ht_err_clear(&err);
        assert_int_equal(ht_relax(t.pool, p->w, rows, cols, h, &t.linears[0], &o, values, &r, &err), HT_NUMERIC);
        ht_mem_free(decoded);
        ht_mem_free(values);
        ht_mem_free(h);
        end(&t);
    }
}

static int stop(void *user) {
    return ++*(int *)user == 3;
}

static void refusals(void **state) {
    (void)state;
    struct task t;
    ht_err err = {0};
    struct ht_learn_options o;
    struct ht_learn_report r;
    int calls = 0;
    ht_learn_defaults(HT_LEARN_SIGN, &o);
    begin(&t, MODELS "llama3rope-rand", "int4:g32", 1);
#define LEARN() ht_learn_block(t.block, t.x, t.target, WINDOWS, TOKENS, t.linears, LINEARS, &o, &r, &err)
    o.batch = WINDOWS + 1;
    assert_int_equal(LEARN(), HT_INVAL);
    ht_err_clear(&err);
    o.batch = 1;
    o.cancel = stop;
    o.user = &calls;
    assert_int_equal(LEARN(), HT_CANCELLED);
    assert_int_equal(calls, 3);
    ht_err_clear(&err);
    o.cancel = NULL;
    t.linears[1].role = t.linears[0].role;
    assert_int_equal(LEARN(), HT_INVAL);
    ht_err_clear(&err);
    t.linears[1].role = HT_ROLE_ATTN_NORM;
    assert_int_equal(LEARN(), HT_INVAL);
    ht_err_clear(&err);
    t.linears[1].role = roles[1];
    t.x[5] = NAN;
    assert_int_equal(LEARN(), HT_NUMERIC);
    ht_err_clear(&err);
    end(&t);
    if (tiny_model() != NULL) {
        begin(&t, tiny_model(), "iq2_xxs", 1);
        assert_int_equal(LEARN(), HT_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "vectors"));
        end(&t);
    }
}

static void no_memory(void **state) {
    (void)state;
    struct ht_learn_options o;
    struct ht_learn_report r;
    ht_learn_defaults(HT_LEARN_DISTIL, &o);
    o.steps = 1;
    o.batch = 1;
    for (uint64_t n = 1;; n += 3) {
        struct task t;
        ht_err err = {0};
        begin(&t, MODELS "llama3rope-rand", n % 2 ? "int4:g32" : "q4_0", 1);
        ht_mem_fail_at(n, 0);
        ht_status status = LEARN();
        ht_mem_fail_at(0, 0);
        end(&t);
        if (status == HT_OK) {
            assert_true(n > 20);
            break;
        }
        assert_int_equal(status, HT_NOMEM);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks), cmocka_unit_test(distil),   cmocka_unit_test(ranges),    cmocka_unit_test(still),
        cmocka_unit_test(gram),   cmocka_unit_test(threads),  cmocka_unit_test(refusals),  cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
