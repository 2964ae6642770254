/* Presets against llama-quantize: tests/golden/presets/NAME.json holds the plan of stock's dry run for every preset,
 * with and without an importance matrix (tests/oracle/make_presets.py). */
#include "test.h"

#include <ctype.h>

#include "base/json.h"
#include "model/arch.h"
#include "quant/mix.h"

static const struct golden_model {
    const char *name;
    uint32_t layers, heads, kv_heads;
} models[] = {
    {"ref-135m", 30, 9, 3}, {"ref-57m", 10, 8, 4},    {"llama2-7b", 32, 32, 32},  {"llama3-8b", 32, 32, 8},
    {"llama3-70b", 80, 64, 8}, {"qwen2.5-1.5b", 28, 12, 2}, {"qwen3-0.6b", 28, 16, 8}, {"gemma3-1b", 26, 4, 1},
};

/* The role of a pattern such as "blk.{0-2,5}.ffn_down.weight", through the architecture's table. */
static enum ht_role role_of(const char *pattern) {
    const struct ht_arch_tensor *rows = ht_arch_find("llama")->tensors;
    bool layer = strncmp(pattern, "blk.", 4) == 0;
    const char *tail = layer ? strchr(pattern + 4, '.') : pattern;
    for (const struct ht_arch_tensor *r = rows; r->gguf != NULL || r->hf != NULL; r++) {
        const char *name = r->gguf;
        if (name != NULL && strncmp(name, "blk.%u", 6) == 0) {
            name += 6;
        }
        if (name != NULL && strcmp(name, tail) == 0) {
            return r->role;
        }
    }
    return HT_ROLE_OTHER;
}

/* Whether layer stands in "blk.*." or "blk.{0-2,5}.". */
static bool has_layer(const char *pattern, uint32_t layer) {
    const char *p = pattern + 4;
    if (*p == '*') {
        return true;
    }
    while (*p != '}') {
        p++; /* '{' or ',' */
        char *end;
        unsigned long from = strtoul(p, &end, 10), to = from;
        if (*end == '-') {
            to = strtoul(end + 1, &end, 10);
        }
        if (layer >= from && layer <= to) {
            return true;
        }
        p = end;
    }
    return false;
}

static uint64_t row_length(const json_t *tensors, enum ht_role role) {
    const char *pattern;
    json_t *shape;
    json_object_foreach((json_t *)tensors, pattern, shape) {
        if (role_of(pattern) == role) {
            return (uint64_t)json_integer_value(json_array_get(shape, 1));
        }
    }
    fail_msg("no tensor of role %s", ht_role_name(role));
    return 0;
}

struct counts {
    size_t tensors, fallbacks, needy;
};

static void check_plan(const struct ht_mix *mix, const struct ht_mix_facts *facts, const json_t *golden,
                       const json_t *plan, struct counts *n) {
    const char *type;
    json_t *patterns, *pattern;
    size_t i;
    json_object_foreach((json_t *)plan, type, patterns) {
        json_array_foreach(patterns, i, pattern) {
            const char *text = json_string_value(pattern);
            enum ht_role role = role_of(text);
            if (role == HT_ROLE_OTHER || !ht_role_quantizable(role)) {
                continue;
            }
            bool in_layers = strncmp(text, "blk.", 4) == 0;
            uint64_t row = row_length(json_object_get(golden, "tensors"), role);
            for (uint32_t layer = 0; layer < (in_layers ? facts->n_layers : 1); layer++) {
                if (in_layers && !has_layer(text, layer)) {
                    continue;
                }
                const struct ht_format *wanted, *f = ht_mix_choose(mix, facts, role, layer, row, &wanted);
                if (ht_format_find(type) != f) {
                    fail_msg("%s %s layer %u: stock %s, here %s", ht_mix_name(mix), text, layer, type, f->name);
                }
                n->tensors++;
                n->fallbacks += wanted != f;
                n->needy += ht_mix_needs_importance(mix, role, f);
            }
        }
    }
}

static void check_model(const struct golden_model *m) {
    char path[512];
    snprintf(path, sizeof path, "%s/golden/presets/%s.json", HT_TEST_DIR, m->name);
    json_t *golden;
    ht_err err = {0};
    ASSERT_OK(ht_json_load_file(path, 1u << 20, &golden, &err), &err);
    bool tied = json_object_get(json_object_get(golden, "tensors"), "output.weight") == NULL;
    for (size_t i = 0; i < ht_mix_count(); i++) {
        const struct ht_mix *mix = ht_mix_at(i);
        const char *names[] = {ht_mix_name(mix), ht_mix_alias(mix)};
        for (int k = 0; k < 2 && names[k] != NULL; k++) {
            const json_t *entry = json_object_get(json_object_get(golden, "presets"), names[k]);
            assert_non_null(entry);
            assert_ptr_equal(ht_mix_find(names[k]), mix);
            for (int weighted = 0; weighted < 2; weighted++) {
                const json_t *plan = json_object_get(entry, weighted ? "imatrix" : "plain");
                if (json_is_string(plan)) { /* "same" */
                    plan = json_object_get(entry, "plain");
                }
                const struct ht_mix_facts facts = {m->layers, m->heads, m->kv_heads, tied, weighted != 0, false};
                struct counts n = {0, 0, 0};
                check_plan(mix, &facts, golden, plan, &n);
                assert_int_equal(n.tensors, 7 * m->layers + (tied ? 1 : 2));
                if (!weighted) {
                    assert_int_equal(n.fallbacks, json_integer_value(json_object_get(entry, "fallbacks")));
                    assert_int_equal(n.needy > 0, json_is_true(json_object_get(entry, "needs_imatrix")));
                }
            }
        }
    }
    json_decref(golden);
}

static void presets_equal_stock(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        check_model(&models[i]);
    }
}

static void every_row_resolves(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_mix_count(); i++) {
        const struct ht_mix *mix = ht_mix_at(i);
        assert_non_null(ht_mix_base(mix));
        assert_true(ht_mix_base(mix)->gguf_type >= 0);
        char lower[32] = {0};
        for (size_t k = 0; ht_mix_name(mix)[k] != '\0'; k++) {
            lower[k] = (char)tolower((unsigned char)ht_mix_name(mix)[k]);
        }
        assert_ptr_equal(ht_mix_find(lower), mix);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(ht_mix_file_type(ht_mix_at(k)), ht_mix_file_type(mix));
        }
    }
    assert_null(ht_mix_find("Q9_K"));
}

static void pure_and_fallback(void **state) {
    (void)state;
    const struct ht_mix_facts facts = {32, 32, 8, false, true, true};
    const struct ht_format *wanted, *q4_k = ht_format_find("q4_k");
    const struct ht_mix *mix = ht_mix_find("q4_k_m");
    assert_ptr_equal(ht_mix_choose(mix, &facts, HT_ROLE_OUTPUT, 0, 4096, &wanted), q4_k);
    assert_ptr_equal(ht_mix_choose(mix, &facts, HT_ROLE_ATTN_V, 0, 4096, NULL), q4_k);
    assert_ptr_equal(ht_mix_choose(mix, &facts, HT_ROLE_ATTN_V, 0, 576, &wanted), ht_format_find("q5_0"));
    assert_ptr_equal(wanted, q4_k);
    assert_ptr_equal(ht_format_fallback(q4_k, 48), ht_format_find("f16"));
    assert_ptr_equal(ht_format_fallback(ht_format_find("q8_0"), 100), ht_format_find("f16"));
    assert_ptr_equal(ht_format_fallback(ht_format_find("bf16"), 7), ht_format_find("bf16"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_equal_stock),
        cmocka_unit_test(every_row_resolves),
        cmocka_unit_test(pure_and_fallback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
