/* Folds: every kind at every site of every architecture leaves the model's logits as they were. */
#include "fold_test.h"

#define GOLDEN HT_TEST_DIR "/golden/models/"

static float random_factor(struct ht_rng *rng) {
    return (float)exp2(4 * ht_rng_uniform(rng) - 2);
}

/* ---- one kind at one site, over the whole model ------------------------------------------------------------ */

static void fold_scale(struct folded *f, const struct ht_foldsite *site) {
    ht_err err = {0};
    struct ht_rng rng;
    ht_rng_init(&rng, 3);
    int folded = 0;
    for (size_t i = 0; i < f->n; i++) {
        uint64_t n = ht_fold_channels(&f->blocks[i], site);
        float *s = ht_mem_alloc_array(n + 1, sizeof *s);
        for (uint64_t j = 0; j < n; j++) {
            s[j] = random_factor(&rng);
        }
        if (n != 0) {
            ASSERT_OK(ht_fold_scale(&f->blocks[i], site, s, &err), &err);
            folded++;
        }
        ht_mem_free(s);
    }
    assert_true(folded > 0);
}

/* The residual stream takes one rotation for all layers, heads one for each layer. */
static void fold_rotate(struct folded *f, const struct ht_foldsite *site) {
    ht_err err = {0};
    bool heads = site->span == HT_FOLD_HEADS;
    for (size_t i = 0; i < f->n; i++) {
        struct ht_fold_block *b = &f->blocks[i];
        struct ht_rotation q;
        if (ht_fold_channels(b, site) == 0) {
            continue;
        }
        for (const struct ht_foldsite *norm = f->model->arch->folds; !heads && norm->name != NULL; norm++) {
            if (norm->span == HT_FOLD_CHANNELS && b->vectors[norm->producers[0]].x != NULL) {
                ASSERT_OK(ht_fold_norm(b, norm, &err), &err);
            }
        }
        ASSERT_OK(ht_rotation_init(&q, heads ? b->head_dim : f->model->hp.width, heads ? i : 1, &err), &err);
        ASSERT_OK(ht_fold_rotate(b, site, &q, f->pool, &err), &err);
        ht_rotation_deinit(&q);
    }
}

/* Where a bias has no slot the fold says so. */
static void fold_shift(struct folded *f, const struct ht_foldsite *site) {
    ht_err err = {0};
    struct ht_rng rng;
    ht_rng_init(&rng, 17);
    for (size_t i = 0; i < f->n; i++) {
        struct ht_fold_block *b = &f->blocks[i];
        uint64_t n = ht_fold_channels(b, site);
        if (n == 0) {
            continue;
        }
        float *z = ht_mem_alloc_array(n, sizeof *z);
        for (uint64_t j = 0; j < n; j++) {
            z[j] = 0.2f * (float)ht_rng_normal(&rng);
        }
        ht_status status = ht_fold_shift(b, site, z, &err);
        bool slots = b->vectors[ht_role_bias(site->producers[0])].x != NULL &&
                     b->vectors[ht_role_bias(site->consumers[0])].x != NULL;
        assert_int_equal(status, slots ? HT_OK : HT_UNSUPPORTED);
        assert_true(!slots || b->vectors[ht_role_bias(site->consumers[0])].used);
        ht_mem_free(z);
    }
}

/* Channels at random, heads' within the head; the residual stream's the same in all layers. */
static void fold_permute(struct folded *f, const struct ht_foldsite *site) {
    ht_err err = {0};
    struct ht_rng rng;
    for (size_t i = 0; i < f->n; i++) {
        struct ht_fold_block *b = &f->blocks[i];
        uint64_t n = ht_fold_channels(b, site), segment = site->span == HT_FOLD_HEADS ? b->head_dim : n;
        if (n == 0) {
            continue;
        }
        uint32_t *order = ht_mem_alloc_array(n, sizeof *order);
        ht_rng_init(&rng, site->span == HT_FOLD_RESIDUAL ? 1 : i);
        for (uint64_t j = 0; j < n; j++) { /* Fisher and Yates */
            uint64_t from = j / segment * segment, k = from + ht_rng_below(&rng, j - from + 1);
            order[j] = order[k];
            order[k] = (uint32_t)j;
        }
        ASSERT_OK(ht_fold_permute(b, site, order, &err), &err);
        ht_mem_free(order);
    }
}

static const struct {
    enum ht_fold_kind kind;
    const char *name;
    void (*fold)(struct folded *f, const struct ht_foldsite *site);
} kinds[] = {
    {HT_FOLD_SCALE, "scale", fold_scale},
    {HT_FOLD_SHIFT, "shift", fold_shift},
    {HT_FOLD_PERMUTE, "permute", fold_permute},
    {HT_FOLD_ROTATE, "rotate", fold_rotate},
};

static void walk(const char *path, bool biases) {
    struct folded f;
    folded_open(&f, path, biases);
    size_t n_kinds = sizeof kinds / sizeof kinds[0];
    const struct ht_foldsite *sites = f.model->arch->folds;
    folded_close(&f);
    for (const struct ht_foldsite *site = sites; site->name != NULL; site++) {
        for (size_t k = 0; k < n_kinds; k++) {
            if ((site->kinds & kinds[k].kind) == 0) {
                continue;
            }
            folded_open(&f, path, biases);
            float *before = folded_logits(&f);
            kinds[k].fold(&f, site);
            folded_put(&f);
            double d = folded_difference(&f, before);
            print_message("# %s%s: %s %s %.1e\n", strrchr(path, '/') + 1, biases ? " with biases" : "", site->name,
                          kinds[k].name, d);
            assert_true(d < 1e-4);
            ht_mem_free_aligned(before);
            folded_close(&f);
        }
    }
}

static void test_walk_tiny(void **state) {
    (void)state;
    need_tiny();
    walk(tiny_model(), false);
}

static void test_walk_random(void **state) {
    (void)state;
    walk(GOLDEN "llama3rope-rand", false);
    walk(GOLDEN "llama3rope-rand", true);
    walk(GOLDEN "qwen2-rand", false);
    walk(GOLDEN "qwen2-rand", true);
    walk(GOLDEN "qwen3-rand", false);
}

/* Every architecture has sites, and their names are unique. */
static void test_tables(void **state) {
    (void)state;
    for (size_t a = 0; a < ht_arch_count(); a++) {
        const struct ht_foldsite *sites = ht_arch_at(a)->folds;
        assert_non_null(sites);
        for (const struct ht_foldsite *s = sites; s->name != NULL; s++) {
            assert_ptr_equal(ht_fold_site(sites, s->name), s);
            assert_true(s->kinds != 0);
            assert_true(s->producers[0] != HT_ROLE_OTHER && s->consumers[0] != HT_ROLE_OTHER);
        }
        assert_null(ht_fold_site(sites, "nowhere"));
    }
}

/* The measure sees a fold that lacks its other half. */
static void test_half_a_fold(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    folded_open(&f, GOLDEN "qwen2-rand", false);
    float *before = folded_logits(&f), s[64];
    for (int j = 0; j < 64; j++) {
        s[j] = j % 2 ? 0.9f : 1.1f;
    }
    assert_true(folded_difference(&f, before) == 0);
    const struct ht_foldsite *site = ht_fold_site(f.model->arch->folds, "attn_norm");
    ASSERT_OK(ht_fold_scale_inputs(&f.blocks[0], site, s, &err), &err);
    folded_put(&f);
    assert_true(folded_difference(&f, before) > 1e-3);
    ht_mem_free_aligned(before);
    folded_close(&f);
}

static void test_norm_becomes_ones(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    folded_open(&f, GOLDEN "qwen3-rand", false);
    float *before = folded_logits(&f);
    int norms = 0;
    for (size_t i = 0; i < f.n; i++) {
        for (const struct ht_foldsite *site = f.model->arch->folds; site->name != NULL; site++) {
            const struct ht_fold_vector *v = &f.blocks[i].vectors[site->producers[0]];
            if (site->span == HT_FOLD_CHANNELS && v->x != NULL && ht_fold_channels(&f.blocks[i], site) != 0) {
                ASSERT_OK(ht_fold_norm(&f.blocks[i], site, &err), &err);
                for (uint64_t j = 0; j < v->n; j++) {
                    assert_true(v->x[j] == 1.0f);
                }
                norms++;
            }
        }
    }
    assert_int_equal(norms, 2 * (f.n - 1) + 1);
    folded_put(&f);
    assert_true(folded_difference(&f, before) < 1e-5);
    ht_mem_free_aligned(before);
    const struct ht_foldsite *up = ht_fold_site(f.model->arch->folds, "up");
    assert_int_equal(ht_fold_norm(&f.blocks[0], up, &err), HT_INVAL);
    folded_close(&f);
}

/* ---- factors ----------------------------------------------------------------------------------------------- */

/* Two consumers [2, 3] behind a norm of 3. */
static void small_block(struct ht_fold_block *b) {
    ht_err err = {0};
    static const float q[6] = {1, -2, 0, 0.5f, 1, 0}, k[6] = {-4, 0.25f, 0, 2, 1, 0};
    memset(b, 0, sizeof *b);
    b->n_heads = b->n_kv_heads = 1;
    b->head_dim = 2;
    ASSERT_OK(ht_fold_block_vector(b, HT_ROLE_ATTN_NORM, 3, &err), &err);
    ASSERT_OK(ht_fold_block_matrix(b, HT_ROLE_ATTN_Q, 2, 3, &err), &err);
    ASSERT_OK(ht_fold_block_matrix(b, HT_ROLE_ATTN_K, 2, 3, &err), &err);
    memcpy(b->matrices[HT_ROLE_ATTN_Q].w, q, sizeof q);
    memcpy(b->matrices[HT_ROLE_ATTN_K].w, k, sizeof k);
    for (int j = 0; j < 3; j++) {
        b->vectors[HT_ROLE_ATTN_NORM].x[j] = 1;
    }
}

static const struct ht_foldsite small_site = {
    "small", HT_FOLD_CHANNELS, HT_FOLD_SCALE, {HT_ROLE_ATTN_NORM}, {HT_ROLE_ATTN_Q, HT_ROLE_ATTN_K}, {HT_ROLE_OTHER}};

static void test_migrate(void **state) {
    (void)state;
    struct ht_fold_block b;
    ht_err err = {0};
    struct ht_transform_report report;
    float absmax[3] = {16, 0.5f, 3}, s[3];
    struct ht_stats stats = {.cols = 3, .absmax = absmax};
    small_block(&b);
    /* column maxima 4, 2, 0: s = sqrt(16 / 4), sqrt(0.5 / 2), dead */
    ASSERT_OK(ht_transform_migrate(&b, &small_site, &stats, 0.5, s, &report, &err), &err);
    assert_float_equal(s[0], 2, 1e-6);
    assert_float_equal(s[1], 0.5, 1e-6);
    assert_true(s[2] == 1 && report.dead == 1 && report.clamped == 0 && report.channels == 3);
    ASSERT_OK(ht_transform_migrate(&b, &small_site, &stats, 1, s, &report, &err), &err);
    assert_float_equal(s[0], 16, 1e-5);
    ASSERT_OK(ht_transform_migrate(&b, &small_site, &stats, 0, s, &report, &err), &err);
    assert_float_equal(s[0], 0.25, 1e-6);
    absmax[1] = NAN;
    assert_int_equal(ht_transform_migrate(&b, &small_site, &stats, 0.5, s, &report, &err), HT_NUMERIC);
    err = (ht_err){0};
    absmax[1] = 1;
    b.matrices[HT_ROLE_ATTN_K].w[1] = NAN;
    assert_int_equal(ht_transform_migrate(&b, &small_site, &stats, 0.5, s, &report, &err), HT_NUMERIC);
    err = (ht_err){0};
    stats.cols = 4;
    assert_int_equal(ht_transform_migrate(&b, &small_site, &stats, 0.5, s, &report, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "3 inputs"));
    err = (ht_err){0};
    assert_int_equal(ht_transform_equalize(&b, &small_site, s, &report, &err), HT_INVAL);
    err = (ht_err){0};
    s[0] = 0;
    assert_int_equal(ht_fold_scale(&b, &small_site, s, &err), HT_NUMERIC);
    ht_fold_block_deinit(&b);
}

/* After SmoothQuant with alpha 1/2, activations and weights of every channel reach equally far. */
static void test_migrate_heads(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    struct ht_rng rng;
    struct ht_transform_report report;
    ht_rng_init(&rng, 5);
    folded_open(&f, GOLDEN "qwen2-rand", false);
    const struct ht_foldsite *site = ht_fold_site(f.model->arch->folds, "value");
    struct ht_fold_block *b = &f.blocks[0];
    uint64_t n = ht_fold_channels(b, site), inputs = ht_fold_inputs(b, site);
    assert_int_equal(n, 32);
    assert_int_equal(inputs, 64);
    float absmax[64], s[64], wide[64];
    for (int c = 0; c < 64; c++) {
        absmax[c] = random_factor(&rng);
    }
    struct ht_stats stats = {.cols = inputs, .absmax = absmax};
    ASSERT_OK(ht_transform_migrate(b, site, &stats, 0.5, s, &report, &err), &err);
    ASSERT_OK(ht_fold_scale(b, site, s, &err), &err);
    ht_fold_widen(b, site, s, wide);
    const struct ht_fold_matrix *o = &b->matrices[HT_ROLE_ATTN_OUTPUT];
    for (uint64_t j = 0; j < n; j++) {
        float x = 0, w = 0;
        for (uint64_t g = 0; g < 2; g++) {
            uint64_t c = (j / 16 * 2 + g) * 16 + j % 16;
            assert_true(wide[c] == s[j]);
            x = fmaxf(x, absmax[c] / wide[c]);
            for (uint64_t r = 0; r < o->rows; r++) {
                w = fmaxf(w, fabsf(o->w[r * 64 + c]));
            }
        }
        assert_float_equal(x, w, 1e-5f * x);
    }
    folded_close(&f);
}

static float row_reach(const struct ht_fold_matrix *m, uint64_t r) {
    float most = 0;
    for (uint64_t c = 0; c < m->cols; c++) {
        most = fmaxf(most, fabsf(m->w[r * m->cols + c]));
    }
    return most;
}

/* Both sides reach equally far, and the model is the same. */
static void test_equalize(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    struct ht_transform_report report;
    folded_open(&f, GOLDEN "qwen2-rand", false);
    float *before = folded_logits(&f), s[96];
    static const char *const names[] = {"up", "value", "query_key"};
    for (size_t i = 0; i + 1 < f.n; i++) {
        for (size_t k = 0; k < 3; k++) {
            const struct ht_foldsite *site = ht_fold_site(f.model->arch->folds, names[k]);
            ASSERT_OK(ht_transform_equalize(&f.blocks[i], site, s, &report, &err), &err);
            ASSERT_OK(ht_fold_scale(&f.blocks[i], site, s, &err), &err);
        }
        const struct ht_fold_matrix *up = &f.blocks[i].matrices[HT_ROLE_FFN_UP];
        const struct ht_fold_matrix *down = &f.blocks[i].matrices[HT_ROLE_FFN_DOWN];
        for (uint64_t j = 0; j < up->rows; j++) {
            float above = row_reach(up, j), below = 0;
            for (uint64_t r = 0; r < down->rows; r++) {
                below = fmaxf(below, fabsf(down->w[r * down->cols + j]));
            }
            assert_float_equal(above, below, 1e-5f * above);
        }
    }
    folded_put(&f);
    assert_true(folded_difference(&f, before) < 1e-5);
    ht_mem_free_aligned(before);
    folded_close(&f);
}

/* W H against W: the model is another, and turning twice gives it back. */
static void test_rotate_inputs(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    folded_open(&f, GOLDEN "qwen2-rand", false);
    float *before = folded_logits(&f);
    ASSERT_OK(ht_fold_rotate_inputs(&f.blocks[0], HT_ROLE_FFN_DOWN, 32, &err), &err);
    folded_put(&f);
    assert_true(folded_difference(&f, before) > 1e-3);
    ASSERT_OK(ht_fold_rotate_inputs(&f.blocks[0], HT_ROLE_FFN_DOWN, 32, &err), &err);
    folded_put(&f);
    assert_true(folded_difference(&f, before) < 1e-5);
    assert_int_equal(ht_fold_rotate_inputs(&f.blocks[0], HT_ROLE_FFN_DOWN, 64, &err), HT_INVAL);
    ht_mem_free_aligned(before);
    folded_close(&f);
}

/* Weights of norms do not commute with a rotation. */
static void test_rotation_needs_ones(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    struct ht_rotation q;
    folded_open(&f, GOLDEN "qwen2-rand", false);
    ASSERT_OK(ht_rotation_init(&q, 64, 1, &err), &err);
    const struct ht_foldsite *site = ht_fold_site(f.model->arch->folds, "residual");
    assert_int_equal(ht_fold_rotate(&f.blocks[0], site, &q, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "besides 1"));
    err = (ht_err){0};
    assert_int_equal(ht_fold_rotate(&f.blocks[0], ht_fold_site(f.model->arch->folds, "value"), &q, NULL, &err), HT_INVAL);
    ht_rotation_deinit(&q);
    folded_close(&f);
}

static void test_refusals(void **state) {
    (void)state;
    struct folded f;
    ht_err err = {0};
    float s[64] = {0};
    folded_open(&f, GOLDEN "qwen3-rand", false);
    const struct ht_foldsite *sites = f.model->arch->folds;
    assert_int_equal(ht_fold_scale(&f.blocks[0], ht_fold_site(sites, "residual"), s, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "cannot fold a scale"));
    err = (ht_err){0};
    /* The head is not in a layer's block. */
    assert_int_equal(ht_fold_scale(&f.blocks[0], ht_fold_site(sites, "output_norm"), s, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "layer 0 lacks"));
    folded_close(&f);
}

/* All folds of the table one after the other on a real model. */
static void test_reference(void **state) {
    (void)state;
    char path[512];
    struct folded f;
    snprintf(path, sizeof path, "%s/ref-135m.gguf", ref_dir() != NULL ? ref_dir() : "");
    if (ref_dir() == NULL || !ht_path_exists(path)) {
        skip();
    }
    folded_open(&f, path, false);
    float *before = folded_logits(&f);
    for (const struct ht_foldsite *site = f.model->arch->folds; site->name != NULL; site++) {
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            if ((site->kinds & kinds[k].kind) != 0) {
                kinds[k].fold(&f, site);
            }
        }
    }
    folded_put(&f);
    double d = folded_difference(&f, before);
    print_message("# ref-135m, all folds: %.1e\n", d);
    assert_true(d < 1e-4);
    ht_mem_free_aligned(before);
    folded_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_walk_tiny),
        cmocka_unit_test(test_walk_random),
        cmocka_unit_test(test_half_a_fold),
        cmocka_unit_test(test_norm_becomes_ones),
        cmocka_unit_test(test_migrate),
        cmocka_unit_test(test_migrate_heads),
        cmocka_unit_test(test_equalize),
        cmocka_unit_test(test_rotate_inputs),
        cmocka_unit_test(test_rotation_needs_ones),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
