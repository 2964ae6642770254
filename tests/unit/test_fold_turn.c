/* Transforms that leave something to the run time, on whole models of every architecture, with and without biases:
 * logits stay. Statistics are invented: whatever they say, the function may not change. */
#include "fold_test.h"
#include "quant/fold_job.h"

#define GOLDEN HT_TEST_DIR "/golden/models/"
#define MOST_COLS 4096
#define SAMPLES 4

struct invented {
    const struct ht_fold_block *block;
    struct ht_stats stats;
    float low[MOST_COLS], high[MOST_COLS], square[MOST_COLS], sample[SAMPLES * MOST_COLS];
};

/* Channels around values of their own, some of them wide. */
static const struct ht_stats *stats_of(void *ctx, enum ht_role role) {
    struct invented *v = ctx;
    uint64_t cols = v->block->matrices[role].cols;
    struct ht_rng rng;
    ht_rng_init(&rng, cols + (uint64_t)v->block->layer);
    assert_true(cols > 0 && cols <= MOST_COLS);
    for (uint64_t j = 0; j < cols; j++) {
        float middle = (float)ht_rng_normal(&rng), reach = (float)exp2(4 * ht_rng_uniform(&rng) - 2);
        v->low[j] = middle - reach;
        v->high[j] = middle + reach;
        v->square[j] = middle * middle + reach * reach / 3;
        for (uint64_t t = 0; t < SAMPLES; t++) {
            v->sample[t * cols + j] = middle + reach * (float)(2 * ht_rng_uniform(&rng) - 1);
        }
    }
    v->stats = (struct ht_stats){
        .cols = cols, .tokens = 100, .min = v->low, .max = v->high, .mean_square = v->square, .sample = v->sample, .n_sample = SAMPLES};
    return &v->stats;
}

static ht_status grid_of(void *ctx, enum ht_role role, const struct ht_format **block, struct ht_scheme *scheme,
                         ht_err *err) {
    (void)ctx;
    (void)role;
    *block = NULL;
    return ht_scheme_parse("int4:g8", scheme, err);
}

static unsigned apply(struct folded *f, struct ht_front (*fronts)[HT_ROLES], const char *const *parts) {
    static struct invented v;
    struct ht_recipe recipe;
    unsigned left = 0;
    ht_err err = {0};
    ht_recipe_defaults(&recipe);
    for (size_t i = 0; i + 1 < f->n; i++) { /* layers */
        struct ht_fold_job job = {.pool = f->pool,
                                  .block = &f->blocks[i],
                                  .sites = f->model->arch->folds,
                                  .fronts = fronts[i],
                                  .seed = 3,
                                  .recipe = &recipe,
                                  .stats = stats_of,
                                  .grid = grid_of,
                                  .ctx = &v};
        v.block = &f->blocks[i];
        for (const char *const *part = parts; *part != NULL; part++) {
            struct ht_choice choice;
            ASSERT_OK(ht_choice_parse(HT_AXIS_TRANSFORM, *part, &choice, &err), &err);
            ASSERT_OK(choice.part->fold(&job, &choice, &err), &err);
        }
        assert_true(job.n_sites > 0);
        ht_mem_free(job.notes);
    }
    folded_put(f);
    for (size_t i = 0; i + 1 < f->n; i++) {
        for (int role = 0; role < HT_ROLES; role++) {
            struct ht_linear *linear = f->model->layers[i].linears[role];
            left |= fronts[i][role].side.leaves | (fronts[i][role].n_clusters > 0 ? HT_LEAVES_CLUSTERS : 0);
            if (linear != NULL && fronts[i][role].side.leaves != 0) {
                linear->side = &fronts[i][role].side;
            }
        }
    }
    return left;
}

static const struct {
    const char *parts[5];
    unsigned leaves; /* some linear is left with them, where no bias is in the file */
} chains[] = {
    {{"rotate:stream=0", NULL}, 0},
    {{"rotate-inputs:output=1", NULL}, HT_LEAVES_HADAMARD},
    {{"shift:always=1,grid=4", NULL}, HT_LEAVES_IN_SHIFT | HT_LEAVES_OUT_BIAS},
    {{"shift:grid=4", NULL}, 0},
    {{"order", NULL}, 0},
    {{"order:by=sort,of=inputs", "shift:grid=4", NULL}, 0},
    {{"rotate:stream=0", "order:of=weights", "rotate-inputs", "cluster:k=4"}, HT_LEAVES_HADAMARD | HT_LEAVES_PERM},
    {{"cluster:k=4", NULL}, HT_LEAVES_PERM | HT_LEAVES_CLUSTERS},
    {{"shift:always=1,grid=2", "cluster:k=4", NULL}, HT_LEAVES_IN_SHIFT | HT_LEAVES_PERM},
    {{"shift:always=1,grid=2", "rotate-inputs", "cluster:k=3", NULL}, HT_LEAVES_HADAMARD | HT_LEAVES_PERM},
};

static void walk(const char *path, bool biases) {
    for (size_t i = 0; i < sizeof chains / sizeof chains[0]; i++) {
        struct folded f;
        folded_open(&f, path, biases);
        struct ht_front(*fronts)[HT_ROLES] = ht_mem_calloc(f.n, sizeof *fronts);
        assert_non_null(fronts);
        float *before = folded_logits(&f);
        unsigned left = apply(&f, fronts, chains[i].parts);
        if (!biases) {
            assert_int_equal(left & chains[i].leaves, chains[i].leaves);
        }
        double d = folded_difference(&f, before);
        if (!(d < 1e-4)) {
            fail_msg("%s, %s ...: logits differ by %g of the largest", path, chains[i].parts[0], d);
        }
        for (size_t l = 0; l < f.n; l++) {
            for (int role = 0; role < HT_ROLES; role++) {
                ht_front_deinit(&fronts[l][role]);
            }
        }
        ht_mem_free(fronts);
        ht_mem_free_aligned(before);
        folded_close(&f);
    }
}

static void test_function_stays(void **state) {
    (void)state;
    walk(GOLDEN "llama3rope-rand", false);
    walk(GOLDEN "llama3rope-rand", true);
    walk(GOLDEN "qwen2-rand", false);
    walk(GOLDEN "qwen3-rand", false);
}

/* Squares of a column of ffn_down. */
static double energy(const struct ht_fold_matrix *m, uint64_t col) {
    double sum = 0;
    for (uint64_t r = 0; r < m->rows; r++) {
        sum += (double)m->w[r * m->cols + col] * (double)m->w[r * m->cols + col];
    }
    return sum;
}

/* By weights alone, the order can be seen in them: falling; or every group of 8 starts with one of the first. */
static void test_order(void **state) {
    (void)state;
    static const char *const parts[2][2] = {{"order:by=sort,of=weights", NULL}, {"order:of=weights", NULL}};
    for (int deal = 0; deal < 2; deal++) {
        struct folded f;
        folded_open(&f, GOLDEN "llama3rope-rand", false);
        struct ht_front(*fronts)[HT_ROLES] = ht_mem_calloc(f.n, sizeof *fronts);
        assert_non_null(fronts);
        assert_int_equal(apply(&f, fronts, parts[deal]), 0);
        const struct ht_fold_matrix *m = &f.blocks[0].matrices[HT_ROLE_FFN_DOWN];
        for (uint64_t j = 1; j < m->cols; j++) { /* dealt: falling within a group, and over the first of each */
            uint64_t before = deal != 0 && j % 8 == 0 ? j - 8 : j - 1;
            assert_true(energy(m, before) >= energy(m, j));
        }
        if (deal != 0) { /* no group has more than its share: the least of one turn is above the best of the next */
            for (uint64_t turn = 1; turn < 8; turn++) {
                for (uint64_t hand = 0; hand < m->cols / 8; hand++) {
                    assert_true(energy(m, (turn % 2 != 0 ? m->cols - 8 : 0) + turn - 1) >= energy(m, hand * 8 + turn));
                }
            }
        }
        ht_mem_free(fronts);
        folded_close(&f);
    }
}

/* ---- trials ---- */

#define ALL_ROLES 0
#define ATTENTION (1ull << HT_ROLE_ATTN_Q | 1ull << HT_ROLE_ATTN_K | 1ull << HT_ROLE_ATTN_V)

/* The losses that os+ finds at the norms in front of attention and of the feed-forward part. */
struct found {
    double before[2], taken[2];
};

static struct found losses(const char *place, uint64_t roles, int32_t layer, const char *rule) {
    static struct invented v;
    struct folded f;
    struct ht_recipe recipe;
    struct ht_choice choice;
    struct ht_front fronts[HT_ROLES] = {{.n_clusters = 0}};
    struct found found;
    size_t seen = 0;
    ht_err err = {0};
    folded_open(&f, GOLDEN "llama3rope-rand", false);
    ht_recipe_defaults(&recipe);
    snprintf(recipe.places[HT_PLACE_ACTIVATIONS].format, HT_RECIPE_FORMAT, "%s", place);
    recipe.n_rules = rule != NULL;
    recipe.rules[0] = (struct ht_recipe_rule){
        .roles = roles, .all_layers = layer < 0, .first = (uint32_t)layer, .last = (uint32_t)layer};
    snprintf(recipe.rules[0].activations, HT_RECIPE_FORMAT, "%s", rule != NULL ? rule : "");
    v.block = &f.blocks[1];
    assert_int_equal(f.blocks[1].layer, 1);
    struct ht_fold_job job = {.block = &f.blocks[1], .sites = f.model->arch->folds, .fronts = fronts, .recipe = &recipe,
                              .stats = stats_of, .grid = grid_of, .ctx = &v};
    ASSERT_OK(ht_choice_parse(HT_AXIS_TRANSFORM, "shift:grid=3", &choice, &err), &err);
    ASSERT_OK(choice.part->fold(&job, &choice, &err), &err);
    for (size_t i = 0; i < job.n_notes; i++) {
        if (strcmp(job.notes[i].site, "attn_norm") == 0 || strcmp(job.notes[i].site, "ffn_norm") == 0) {
            assert_true(seen < 2);
            found.before[seen] = job.notes[i].report.loss_before;
            found.taken[seen++] = job.notes[i].report.loss;
        }
    }
    assert_int_equal(seen, 2);
    for (int role = 0; role < HT_ROLES; role++) {
        ht_front_deinit(&fronts[role]);
    }
    ht_mem_free(job.notes);
    folded_close(&f);
    return found;
}

static bool same(const struct found *a, const struct found *b, size_t i) {
    return a->before[i] == b->before[i] && a->taken[i] == b->taken[i];
}

/* Inputs are tried as the rules have them rounded, role by role and layer by layer. */
static void test_rules_of_inputs(void **state) {
    (void)state;
    const struct found four = losses("int4:token", 0, -1, NULL), eight = losses("int8:token", 0, -1, NULL);
    const struct found none = losses("", 0, -1, NULL);
    assert_true(four.before[0] > 1.05 * eight.before[0] && four.before[1] > 1.05 * eight.before[1]);
    assert_false(same(&eight, &none, 0));
    const struct {
        struct found found;
        const struct found *want[2];
    } cases[] = {
        {losses("int8:token", ALL_ROLES, -1, "int4:token"), {&four, &four}},
        {losses("int8:token", ALL_ROLES, 1, "int4:token"), {&four, &four}},
        {losses("int8:token", ALL_ROLES, 2, "int4:token"), {&eight, &eight}},
        {losses("int8:token", ATTENTION, -1, "int4:token"), {&four, &eight}},
        {losses("", ATTENTION, -1, "int4:token"), {&four, &none}},
        {losses("int4:token", ATTENTION, -1, "keep"), {&none, &four}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!same(&cases[i].found, cases[i].want[0], 0) || !same(&cases[i].found, cases[i].want[1], 1)) {
            fail_msg("case %zu: losses %g and %g", i, cases[i].found.before[0], cases[i].found.before[1]);
        }
    }
    const struct found queries = losses("int8:token", 1ull << HT_ROLE_ATTN_Q, -1, "int4:token"); /* one of three */
    assert_true(queries.before[0] > eight.before[0] && queries.before[0] < four.before[0]);
}

/* Parts that are added keep what was there. */
static void test_front(void **state) {
    (void)state;
    struct ht_front front = {0};
    ht_err err = {0};
    ASSERT_OK(ht_front_add(&front, 3, 8, HT_LEAVES_IN_SHIFT, 0, &err), &err);
    front.side.in_shift[7] = 5;
    ASSERT_OK(ht_front_add(&front, 3, 8, HT_LEAVES_HADAMARD, 4, &err), &err);
    ASSERT_OK(ht_front_add(&front, 3, 8, HT_LEAVES_PERM | HT_LEAVES_OUT_BIAS, 0, &err), &err);
    assert_int_equal(front.side.leaves, HT_LEAVES_IN_SHIFT | HT_LEAVES_HADAMARD | HT_LEAVES_PERM | HT_LEAVES_OUT_BIAS);
    assert_true(front.side.in_shift[7] == 5);
    assert_int_equal(front.side.hadamard, 4);
    assert_int_equal(front.side.perm[6], 6);
    assert_int_equal(ht_front_add(&front, 3, 8, HT_LEAVES_HADAMARD, 3, &err), HT_INVAL);
    assert_true(front.side.in_shift[7] == 5);
    ht_front_deinit(&front);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_function_stays),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_rules_of_inputs),
        cmocka_unit_test(test_front),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
