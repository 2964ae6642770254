/* Rounded activations and a rounded cache in the forward pass, against NumPy (tests/oracle/make_runtime.py); and what
 * the cache costs. */
#include "test.h"

#include <math.h>

#include "flow_test.h"
#include "model/session.h"

#define GOLDEN HT_TEST_DIR "/golden/runtime/tiny.json"

enum { MAX_IDS = 64 };

struct golden {
    json_t *json;
    int32_t ids[MAX_IDS];
    size_t n_ids;
};

static void load_golden(struct golden *g) {
    ht_err err = {0};
    ASSERT_OK(ht_json_load_file(GOLDEN, 1u << 20, &g->json, &err), &err);
    const json_t *ids = json_object_get(g->json, "ids");
    g->n_ids = json_array_size(ids);
    assert_true(g->n_ids > 0 && g->n_ids <= MAX_IDS);
    for (size_t i = 0; i < g->n_ids; i++) {
        g->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    }
}

/* "act SCHEME [threshold X]" gives every linear of a layer a sidecar. */
static void set_activations(struct ht_model *m, const char *text, struct ht_sidecar *sides) {
    char scheme[64];
    float threshold = 0;
    size_t n = 0;
    ht_err err = {0};
    int read = sscanf(text, "act %63s threshold %f", scheme, &threshold);
    for (uint32_t l = 0; read >= 1 && l < m->hp.n_layers; l++) {
        for (int role = 0; role < HT_ROLES; role++) {
            struct ht_linear *linear = m->layers[l].linears[role];
            if (linear == NULL) {
                continue;
            }
            struct ht_sidecar *s = &sides[n++];
            *s = (struct ht_sidecar){.rows = linear->w.rows, .cols = linear->w.cols, .leaves = HT_LEAVES_ACT,
                                     .threshold = threshold};
            s->leaves |= threshold > 0 ? HT_LEAVES_THRESHOLD : 0;
            ASSERT_OK(ht_scheme_parse(scheme, &s->act, &err), &err);
            ASSERT_OK(ht_sidecar_check(s, NULL, linear->name, &err), &err);
            linear->side = s;
        }
    }
}

static void run_case(struct fixture *f, const struct golden *g, const char *name, float *logits, bool one_by_one) {
    static struct ht_sidecar sides[256];
    struct ht_model *m;
    struct ht_run *run;
    struct ht_kv kv = {.hadamard = false};
    ht_err err = {0};
    ASSERT_OK(ht_model_load(TINY, &m, &err), &err);
    set_activations(m, name, sides);
    if (strncmp(name, "kv ", 3) == 0) {
        ASSERT_OK(ht_kv_parse(name + 3, &kv, &err), &err);
    }
    const struct ht_run_options o = {.ctx = MAX_IDS, .math = HT_MATH_EXACT, .f32_cache = true, .kv = &kv};
    ASSERT_OK(ht_run_new(f->ctx->pool, m, &o, &run, &err), &err);
    for (size_t i = 0; one_by_one && i + 1 < g->n_ids; i++) {
        ASSERT_OK(ht_run_feed(run, g->ids + i, 1, 0, NULL, &err), &err);
    }
    size_t first = one_by_one ? g->n_ids - 1 : 0;
    ASSERT_OK(ht_run_feed(run, g->ids + first, g->n_ids - first, 1, logits, &err), &err);
    ht_run_free(run);
    ht_model_unload(m);
}

static double compare(const struct golden *g, const float *logits, const json_t *want) {
    const json_t *columns = json_object_get(g->json, "columns");
    double worst = 0;
    for (size_t i = 0; i < json_array_size(columns); i++) {
        size_t c = (size_t)json_integer_value(json_array_get(columns, i));
        worst = fmax(worst, fabs(logits[c] - json_real_value(json_array_get(want, i))));
    }
    return worst;
}

/* A value within float rounding of the border between two codes may fall on either side, and then later layers round
 * other values. So: all tokens at once or token by token, one of the two agrees with NumPy to float precision; the other
 * at least to what the rounding itself changes. */
static void test_against_numpy(void **state) {
    struct fixture *f = *state;
    struct golden g;
    load_golden(&g);
    const json_t *cases = json_object_get(g.json, "cases"), *plain = json_object_get(cases, "none");
    float *logits = ht_mem_alloc_array(4096, sizeof *logits);
    const char *name;
    json_t *want;
    assert_int_equal(json_object_size(cases), 10);
    json_object_foreach((json_t *)(uintptr_t)cases, name, want) {
        double effect = 0, both[2];
        for (size_t i = 0; i < json_array_size(plain); i++) {
            effect = fmax(effect, fabs(json_real_value(json_array_get(want, i)) -
                                       json_real_value(json_array_get(plain, i))));
        }
        for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
            run_case(f, &g, name, logits, one_by_one);
            both[one_by_one] = compare(&g, logits, want);
        }
        if (!(fmin(both[0], both[1]) <= 2e-5 && fmax(both[0], both[1]) <= effect + 2e-5)) {
            fail_msg("%s: differs by %g and %g; the rounding changes logits by %g", name, both[0], both[1], effect);
        }
    }
    ht_mem_free(logits);
    json_decref(g.json);
}

static void test_cache_bytes(void **state) {
    (void)state;
    struct ht_model *m;
    ht_err err = {0};
    ASSERT_OK(ht_model_load(TINY, &m, &err), &err);
    static const struct {
        const char *text;
        double bits;
    } cases[] = {{"none", 16}, {"int8", 8 + 0.5}, {"int4:token", 4 + 0.5}, {"uint4:g32", 4 + 0.5 + 0.125}};
    uint64_t values = 2ull * m->hp.n_layers * m->hp.n_kv_heads * m->hp.head_dim * 256;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_kv kv;
        uint64_t bytes;
        ASSERT_OK(ht_kv_parse(cases[i].text, &kv, &err), &err);
        const struct ht_run_options o = {.ctx = 256, .kv = &kv};
        assert_true(ht_run_bytes(&bytes, m, &o, 2) != UINT64_MAX);
        assert_true(fabs(8.0 * (double)bytes / (double)values - cases[i].bits) < 0.01);
    }
    ht_model_unload(m);
}

static void test_parse(void **state) {
    (void)state;
    static const struct {
        const char *text, *back; /* back NULL: refused */
    } cases[] = {
        {"none", "none"}, {"int8", "int8:token"}, {"INT4:G32+Hadamard", "int4:g32+hadamard"}, {"fp8_e4m3", "fp8_e4m3:token"},
        {"uint4:token:scale=f16", "uint4:token:scale=f16"}, {"", NULL}, {"+hadamard", NULL}, {"int8:tensor", NULL},
        {"int8:channel", NULL}, {"int16", NULL}, {"q8_0", NULL}, {"kmeans4:token", NULL}, {"int4:g0", NULL},
        {"nf4:token:nested", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_kv kv;
        char text[HT_KV_TEXT];
        ht_err err = {0};
        ht_status status = ht_kv_parse(cases[i].text, &kv, &err);
        assert_int_equal(status == HT_OK, cases[i].back != NULL);
        if (status == HT_OK) {
            assert_string_equal(ht_kv_text(&kv, text), cases[i].back);
        } else {
            assert_true(err.msg[0] != '\0');
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_numpy),
        cmocka_unit_test(test_cache_bytes),
        cmocka_unit_test(test_parse),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
