/* Forward and backward of a layer: every kind of step of the table, alone, sharing its input with another step, and as
 * part of whole layers of every architecture, against central differences in double; forward against the model's own
 * run; the same bytes for any number of threads. */
#include "test.h"

#include "tiny_model.h"

#include "model/session.h"
#include "train_tape.h"

#define MODELS HT_TEST_DIR "/golden/models/"

enum { WINDOWS = 2, TOKENS = 7 };

static const char *const models[] = {MODELS "llama3rope-rand", MODELS "qwen2-rand", MODELS "qwen3-rand"};

static struct ht_model *load(const char *path) {
    struct ht_model *m;
    ht_err err = {0};
    struct ht_model_options options = {.tokenizer_optional = true};
    ASSERT_OK(ht_model_load_with(path, &options, &m, &err), &err);
    return m;
}

static struct ht_train_block *block_of(struct ht_pool *pool, const struct ht_model *m, int32_t layer, size_t windows,
                                       size_t tokens) {
    struct ht_train_block *b;
    ht_err err = {0};
    ASSERT_OK(ht_train_block_new(pool, m, layer, windows, tokens, &b, &err), &err);
    return b;
}

static void want_all(struct ht_train_block *b) {
    bool want[HT_ROLES];
    ht_err err = {0};
    memset(want, 1, sizeof want);
    ASSERT_OK(ht_train_block_want(b, want, true, &err), &err);
}

static float *normal(struct ht_rng *rng, size_t n, float scale) {
    float *x = ht_mem_alloc_array(n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = scale * (float)ht_rng_normal(rng);
    }
    return x;
}

/* Vectors that are not all alike: random models have norms of one and no biases to speak of. */
static void stir(struct ht_rng *rng, struct ht_train_block *b) {
    for (int role = 0; role < HT_ROLES; role++) {
        for (size_t i = 0; b->params[role].cols == 0 && i < b->params[role].rows; i++) {
            b->params[role].w[i] += 0.2f * (float)ht_rng_normal(rng);
        }
    }
}

/* Gradients of everything that the first step of a tape reads. */
static void check_step(struct ht_rng *rng, const struct ht_train_block *b, const float *dy, const char *model) {
    const struct ht_tape_step *s = &b->steps[0];
    struct tape t = tape_new(b, dy);
    char what[128];
    for (int k = 0; k < HT_STEP_INPUTS; k++) {
        if (s->in[k] >= 0) {
            snprintf(what, sizeof what, "%s: %s, input %d, %zu steps", model, ht_step_name(s->kind), k, b->n_steps);
            tape_check(&t, rng, t.values[s->in[k]], b->values[s->in[k]].dx,
                       tape_tokens(&t) * b->values[s->in[k]].width, 1e-5, what);
        }
    }
    enum ht_role roles[] = {s->role, ht_role_bias(s->role)};
    for (int k = 0; k < 2; k++) {
        const struct ht_train_param *p = &b->params[roles[k]];
        if (roles[k] != HT_ROLE_OTHER && p->w != NULL) {
            snprintf(what, sizeof what, "%s: %s, weight %s", model, ht_step_name(s->kind), ht_role_name(roles[k]));
            tape_check(&t, rng, t.params[roles[k]], p->dw, tape_param_count(p), 1e-5, what);
        }
    }
    tape_free(&t);
}

/* The step alone; then with its first input also added to its output, where widths allow: so gradients are added up. */
static void one_step(struct ht_rng *rng, const struct ht_train_block *whole, const struct ht_tape_step *s,
                     const char *model) {
    struct ht_train_block b = *whole;
    size_t T = b.windows * b.tokens, width = b.values[s->out].width;
    float *dy = normal(rng, T * width, 1);
    b.n_steps = 1;
    b.steps[0] = *s;
    b.output = s->out;
    ht_train_block_backward(&b, dy, false);
    check_step(rng, &b, dy, model);
    if (b.values[s->in[0]].width == width) {
        struct ht_tape_value sum = {width, normal(rng, T * width, 1), normal(rng, T * width, 1), true};
        b.output = (int)b.n_values;
        b.values[b.n_values++] = sum;
        b.steps[b.n_steps++] = (struct ht_tape_step){HT_STEP_ADD, HT_ROLE_OTHER, {s->in[0], s->out, -1}, b.output};
        ht_train_block_backward(&b, dy, false);
        check_step(rng, &b, dy, model);
        ht_mem_free(sum.x);
        ht_mem_free(sum.dx);
    }
    ht_mem_free(dy);
}

static void steps(void **state) {
    (void)state;
    bool seen[HT_STEPS] = {false};
    struct ht_rng rng;
    ht_rng_init(&rng, 31);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct ht_model *m = load(models[i]);
        struct ht_train_block *b = block_of(NULL, m, 1, WINDOWS, TOKENS);
        float *x = normal(&rng, WINDOWS * TOKENS * m->hp.width, 1);
        want_all(b);
        stir(&rng, b);
        for (int style = 0; style < 2; style++) {
            b->rope = style ? HT_ROPE_PAIRS : HT_ROPE_HALVES;
            ht_train_block_forward(b, x, WINDOWS, TOKENS);
            for (size_t s = 0; s < b->n_steps; s++) {
                seen[b->steps[s].kind] = true;
                if (b->steps[s].out >= 0) {
                    one_step(&rng, b, &b->steps[s], m->arch->name);
                }
            }
        }
        ht_mem_free(x);
        ht_train_block_free(b);
        ht_model_unload(m);
    }
    for (int kind = 0; kind < HT_STEPS; kind++) {
        if (ht_train_step((enum ht_step_kind)kind)->backward != NULL && !seen[kind]) {
            fail_msg("no layer of the models here has a step '%s'", ht_step_name((enum ht_step_kind)kind));
        }
    }
}

static void whole_layer(struct ht_rng *rng, const char *path) {
    struct ht_model *m = load(path);
    struct ht_train_block *b = block_of(NULL, m, 0, WINDOWS, TOKENS);
    size_t n = WINDOWS * TOKENS * m->hp.width;
    float *x = normal(rng, n, 1), *dy = normal(rng, n, 1);
    char what[128];
    want_all(b);
    stir(rng, b);
    ht_train_block_forward(b, x, WINDOWS, TOKENS);
    ht_train_block_backward(b, dy, false);
    struct tape t = tape_new(b, dy);
    double worst = tape_check(&t, rng, t.values[0], ht_train_block_input_gradient(b), n, 2e-5, "input of the layer");
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_train_param *p = &b->params[role];
        if (p->w != NULL) {
            snprintf(what, sizeof what, "%s: %s", m->arch->name, ht_role_name((enum ht_role)role));
            worst = fmax(worst, tape_check(&t, rng, t.params[role], p->dw, tape_param_count(p), 2e-5, what));
        }
    }
    print_message("%s: gradients of a whole layer within %.1e of their largest\n", m->arch->name, worst);
    tape_free(&t);
    ht_mem_free(x);
    ht_mem_free(dy);
    ht_train_block_free(b);
    ht_model_unload(m);
}

static void layers(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 32);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        whole_layer(&rng, models[i]);
    }
}

static void forward_as_run(struct ht_rng *rng, const char *path, struct ht_pool *pool) {
    enum { N = 70 };
    struct ht_model *m = load(path);
    struct ht_run *run;
    ht_err err = {0};
    struct ht_run_options o = {.ctx = N, .batch = N, .math = HT_MATH_EXACT, .f32_cache = true};
    ASSERT_OK(ht_run_new(pool, m, &o, &run, &err), &err);
    struct ht_train_block *b = block_of(pool, m, 1, WINDOWS, N);
    size_t n = N * (size_t)m->hp.width;
    float *x = normal(rng, WINDOWS * n, 1);
    const float *y = ht_train_block_forward(b, x, WINDOWS, N);
    for (size_t w = 0; w < WINDOWS; w++) {
        ht_run_layer(run, 1, NULL, N, x + w * n);
        double top = 0, off = 0;
        for (size_t i = 0; i < n; i++) {
            top = fmax(top, fabs((double)x[w * n + i]));
            off = fmax(off, fabs((double)x[w * n + i] - (double)y[w * n + i]));
        }
        assert_true(off <= 1e-5 * top);
    }
    ht_mem_free(x);
    ht_train_block_free(b);
    ht_run_free(run);
    ht_model_unload(m);
}

/* Inputs rounded as the run time rounds them: a layer of codes with activations, against the same in training. */
static void rounded_as_run(struct ht_rng *rng, struct ht_pool *pool, const char *scheme, float threshold) {
    enum { N = 40 };
    struct ht_model *m = load(MODELS "qwen3-rand");
    struct ht_qtensor q[HT_ROLES] = {{.rows = 0}};
    struct ht_sidecar side[HT_ROLES] = {{.rows = 0}};
    struct ht_scheme weights;
    struct ht_run *run;
    ht_err err = {0};
    struct ht_run_options o = {.ctx = N, .batch = N, .math = HT_MATH_EXACT, .f32_cache = true};
    struct ht_train_block *b = block_of(pool, m, 1, 1, N);
    size_t n = N * (size_t)m->hp.width;
    float *x = normal(rng, n, 1);
    for (size_t i = 0; i < n; i += 17) {
        x[i] *= 20;
    }
    const float *plain = ht_train_block_forward(b, x, 1, N);
    double apart = 0;
    float *was = normal(rng, n, 1);
    memcpy(was, plain, n * sizeof *was);
    ASSERT_OK(ht_scheme_parse("int8:channel", &weights, &err), &err);
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_train_param *p = &b->params[role];
        struct ht_linear *linear = m->layers[1].linears[role];
        if (p->cols == 0) {
            continue;
        }
        ASSERT_OK(ht_qtensor_init(&q[role], &weights, p->rows, p->cols, NULL, &err), &err);
        ASSERT_OK(ht_qtensor_encode(&q[role], p->w, NULL, NULL, &err), &err);
        ht_qtensor_decode(&q[role], 0, p->rows, p->w);
        struct ht_sidecar *s = &side[role];
        *s = (struct ht_sidecar){.rows = p->rows, .cols = p->cols, .leaves = HT_LEAVES_ACT};
        ASSERT_OK(ht_scheme_parse(scheme, &s->act, &err), &err);
        s->leaves |= threshold > 0 ? HT_LEAVES_THRESHOLD : 0;
        s->threshold = threshold;
        ASSERT_OK(ht_sidecar_init(s, NULL, &err), &err);
        ASSERT_OK(ht_train_block_round_inputs(b, (enum ht_role)role, s, &err), &err);
        *linear = (struct ht_linear){.name = linear->name, .layer = linear->layer, .q = &q[role], .side = s,
                                     .w = {.rows = p->rows, .cols = p->cols}};
    }
    const float *y = ht_train_block_forward(b, x, 1, N);
    ASSERT_OK(ht_run_new(pool, m, &o, &run, &err), &err);
    ht_run_layer(run, 1, NULL, N, x);
    double top = 0, off = 0;
    for (size_t i = 0; i < n; i++) {
        top = fmax(top, fabs((double)x[i]));
        off = fmax(off, fabs((double)x[i] - (double)y[i]));
        apart = fmax(apart, fabs((double)was[i] - (double)y[i]));
    }
    /* A value at the edge of two codes may take the other one: that moves an output by a step of one input. */
    if (!(off <= 0.1 * apart && apart > 1e-3 * top)) {
        fail_msg("%s: %.3g off, %.3g from the layer without rounding, largest %.3g", scheme, off, apart, top);
    }
    ht_run_free(run);
    for (int role = 0; role < HT_ROLES; role++) {
        ht_qtensor_deinit(&q[role]);
        ht_sidecar_deinit(&side[role]);
    }
    ht_mem_free(was);
    ht_mem_free(x);
    ht_train_block_free(b);
    ht_model_unload(m);
}

static struct ht_pool *pool_of(int threads) {
    struct ht_pool *pool;
    ht_err err = {0};
    ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
    return pool;
}

static void forward(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 33);
    struct ht_pool *pool = pool_of(2);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        forward_as_run(&rng, models[i], pool);
    }
    if (tiny_model() != NULL) {
        forward_as_run(&rng, tiny_model(), pool);
    }
    ht_pool_free(pool);
}

/* Output, gradients of the input and of all weights, behind each other. */
static size_t everything(const struct ht_model *m, int threads, const float *x, const float *dy, size_t windows,
                         size_t tokens, float **out) {
    struct ht_pool *pool = pool_of(threads);
    struct ht_train_block *b = block_of(pool, m, 0, windows, tokens);
    size_t n = windows * tokens * m->hp.width, total = 2 * n;
    want_all(b);
    for (int role = 0; role < HT_ROLES; role++) {
        total += b->params[role].w != NULL ? tape_param_count(&b->params[role]) : 0;
    }
    float *to = *out = ht_mem_alloc_array(total, sizeof *to);
    assert_non_null(to);
    memcpy(to, ht_train_block_forward(b, x, windows, tokens), n * sizeof *to);
    ht_train_block_backward(b, dy, false);
    memcpy(to + n, ht_train_block_input_gradient(b), n * sizeof *to);
    to += 2 * n;
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_train_param *p = &b->params[role];
        if (p->w != NULL) {
            memcpy(to, p->dw, tape_param_count(p) * sizeof *to);
            to += tape_param_count(p);
        }
    }
    ht_train_block_free(b);
    ht_pool_free(pool);
    return total;
}

static void threads(void **state) {
    (void)state;
    enum { W = 3, N = 70 };
    struct ht_rng rng;
    ht_rng_init(&rng, 34);
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        struct ht_model *m = load(models[i]);
        float *x = normal(&rng, W * N * m->hp.width, 1), *dy = normal(&rng, W * N * m->hp.width, 1), *one, *many;
        size_t n = everything(m, 1, x, dy, W, N, &one);
        for (int t = 2; t <= 7; t += 5) {
            assert_int_equal(everything(m, t, x, dy, W, N, &many), n);
            assert_memory_equal(one, many, n * sizeof *one);
            ht_mem_free(many);
        }
        ht_mem_free(one);
        ht_mem_free(x);
        ht_mem_free(dy);
        ht_model_unload(m);
    }
}

/* Only what is asked for is computed, and is the same; a second backward adds to the first. */
static void wanted(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_err err = {0};
    ht_rng_init(&rng, 35);
    struct ht_model *m = load(models[1]);
    struct ht_train_block *b = block_of(NULL, m, 0, WINDOWS, TOKENS);
    size_t n = WINDOWS * TOKENS * m->hp.width, k = tape_param_count(&b->params[HT_ROLE_ATTN_K]);
    float *x = normal(&rng, n, 1), *dy = normal(&rng, n, 1), *all = ht_mem_alloc_array(k, sizeof *all);
    want_all(b);
    ht_train_block_forward(b, x, WINDOWS, TOKENS);
    ht_train_block_backward(b, dy, false);
    memcpy(all, b->params[HT_ROLE_ATTN_K].dw, k * sizeof *all);
    bool want[HT_ROLES] = {[HT_ROLE_ATTN_K] = true};
    ASSERT_OK(ht_train_block_want(b, want, false, &err), &err);
    assert_null(ht_train_block_input_gradient(b));
    assert_null(b->params[HT_ROLE_ATTN_Q].dw);
    assert_false(b->values[0].wanted || b->values[1].wanted);
    ht_train_block_forward(b, x, WINDOWS, TOKENS);
    ht_train_block_backward(b, dy, false);
    assert_memory_equal(all, b->params[HT_ROLE_ATTN_K].dw, k * sizeof *all);
    ht_train_block_backward(b, dy, true);
    for (size_t i = 0; i < k; i++) {
        assert_true(fabsf(b->params[HT_ROLE_ATTN_K].dw[i] - 2 * all[i]) <= 1e-6f * fabsf(all[i]));
    }
    ht_mem_free(all);
    ht_mem_free(x);
    ht_mem_free(dy);
    ht_train_block_free(b);
    ht_model_unload(m);
}

static void loss(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 36);
    struct ht_model *m = load(models[0]);
    struct ht_train_block *b = block_of(NULL, m, 0, WINDOWS, TOKENS);
    size_t n = WINDOWS * TOKENS * m->hp.width;
    float *x = normal(&rng, n, 1), *target = normal(&rng, n, 1);
    want_all(b);
    const float *y = ht_train_block_forward(b, x, WINDOWS, TOKENS);
    double want = 0;
    for (size_t i = 0; i < n; i++) {
        want += ((double)y[i] - (double)target[i]) * ((double)y[i] - (double)target[i]) / (double)n;
    }
    double found = ht_train_block_mse(b, target, true, 3);
    assert_true(fabs(found - want) <= 1e-6 * want);
    for (size_t i = 0; i < n; i++) {
        double d = 6 * ((double)y[i] - (double)target[i]) / (double)n;
        assert_true(fabs((double)b->values[b->output].dx[i] - d) <= 1e-6 * fabs(d) + 1e-9);
    }
    ht_mem_free(x);
    ht_mem_free(target);
    ht_train_block_free(b);
    ht_model_unload(m);
}

static void refusals(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_model *m = load(models[0]);
    struct ht_train_block *b;
    assert_int_equal(ht_train_block_new(NULL, m, 99, 1, 8, &b, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "below 3"));
    ht_err_clear(&err);
    assert_int_equal(ht_train_block_new(NULL, m, 0, 0, 8, &b, &err), HT_INVAL);
    ht_err_clear(&err);
    assert_int_equal(ht_train_block_new(NULL, m, 0, SIZE_MAX / 2, 8, &b, &err), HT_LIMIT);
    assert_int_equal(ht_train_block_bytes(m, SIZE_MAX / 2, 8, 1), UINT64_MAX);
    for (uint64_t n = 1;; n++) {
        ht_err_clear(&err);
        ht_mem_fail_at(n, 0);
        ht_status status = ht_train_block_new(NULL, m, 0, 1, 4, &b, &err);
        ht_mem_fail_at(0, 0);
        if (status == HT_OK) {
            assert_true(n > 10);
            break;
        }
        assert_int_equal(status, HT_NOMEM);
        assert_null(b);
    }
    ht_train_block_free(b);
    ht_model_unload(m);
}

static void rounded_inputs(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 36);
    struct ht_pool *pool = pool_of(2);
    rounded_as_run(&rng, pool, "int8:token", 0);
    rounded_as_run(&rng, pool, "int8:token", 6);
    rounded_as_run(&rng, pool, "int4:g32", 0);
    rounded_as_run(&rng, pool, "fp8_e4m3:token", 0);
    ht_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounded_inputs),
        cmocka_unit_test(steps),  cmocka_unit_test(layers), cmocka_unit_test(forward), cmocka_unit_test(threads),
        cmocka_unit_test(wanted), cmocka_unit_test(loss),   cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
