/* Recipes in YAML: those that ship are their methods' rows, what is written reads back, and every malformed text is
 * refused with its line. */
#include "test.h"

#include "base/rng.h"
#include "quant/method.h"
#include "quant/recipe_yaml.h"

#define RECIPES HT_TEST_DIR "/../recipes/"

static void test_shipped(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_method_count(); i++) {
        struct ht_recipe row, file;
        ht_err err = {0};
        char path[512];
        ASSERT_OK(ht_method_recipe(ht_method_at(i), &row, &err), &err);
        snprintf(path, sizeof path, RECIPES "%s.yaml", row.name);
        ASSERT_OK(ht_recipe_load(path, &file, &err), &err);
        assert_string_equal(file.name, row.name);
        assert_string_equal(file.summary, row.summary);
        assert_string_equal(file.source, row.source);
        if (!ht_recipe_equal(&row, &file)) {
            fail_msg("recipes/%s.yaml makes other choices than its row", row.name);
        }
    }
}

static const char full[] =
    "name: all\n"
    "summary: 'with \"quotes\" and \\'\n"
    "weights:\n"
    "  transform: [none]\n"
    "  range: {part: mse, norm: 2.4}\n"
    "  format: int4:g64\n"
    "activations: {range: percentile:99.9, format: int8:tensor}\n"
    "kv:\n"
    "  format: int8:g64\n"
    "rules:\n"
    "  - roles: [ffn_down, attn_v]\n"
    "    layers: 2-7\n"
    "    format: int8:channel\n"
    "    activations: int4:token\n"
    "  - {roles: token_embd, format: keep}\n"
    "  - {roles: ffn_up, activations: keep}\n"
    "  - {layers: 3, range: {part: percentile, p: 99, tails: 2}}\n"
    "calibration: {tokens: 1e3, window: 128, sequential: false}\n";

static void test_full(void **state) {
    (void)state;
    struct ht_recipe r, again;
    ht_err err = {0};
    struct ht_buf out;
    struct ht_place_recipe w;
    ASSERT_OK(ht_recipe_parse(full, sizeof full - 1, "full", &r, &err), &err);
    assert_string_equal(r.summary, "with \"quotes\" and \\");
    assert_int_equal(r.places[HT_PLACE_WEIGHTS].n_transforms, 1);
    assert_true(ht_choice_value(&r.places[HT_PLACE_WEIGHTS].range, "norm") == 2.4);
    assert_true(ht_choice_value(&r.places[HT_PLACE_ACTIVATIONS].range, "p") == 99.9);
    assert_string_equal(r.places[HT_PLACE_KV].format, "int8:g64");
    assert_int_equal(r.n_rules, 4);
    assert_int_equal(r.calibration.tokens, 1000);
    assert_false(r.calibration.sequential);
    ht_recipe_weights(&r, HT_ROLE_ATTN_V, 3, &w);
    assert_string_equal(w.format, "int8:channel");
    assert_true(ht_choice_value(&w.range, "tails") == 2);
    ht_recipe_weights(&r, HT_ROLE_ATTN_V, 8, &w);
    assert_string_equal(w.format, "int4:g64");
    ht_recipe_weights(&r, HT_ROLE_TOKEN_EMBD, -1, &w);
    assert_string_equal(w.format, "keep");
    ht_recipe_activations(&r, HT_ROLE_ATTN_V, 3, &w);
    assert_string_equal(w.format, "int4:token");
    ht_recipe_activations(&r, HT_ROLE_ATTN_Q, 3, &w);
    assert_string_equal(w.format, "int8:tensor");
    ht_recipe_activations(&r, HT_ROLE_FFN_UP, 3, &w);
    assert_string_equal(w.format, "");
    ht_buf_init(&out, 0);
    ht_recipe_write(&r, &out);
    assert_true(ht_buf_ok(&out));
    ASSERT_OK(ht_recipe_parse(out.data, out.len, "again", &again, &err), &err);
    assert_true(ht_recipe_equal(&r, &again));
    assert_string_equal(r.summary, again.summary);
    ht_buf_deinit(&out);
}

/* What is said of a place without a format, and every digit of a number, is still there when a recipe is written. */
static void test_nothing_lost(void **state) {
    static const char *const texts[] = {
        "name: x\nactivations: {range: {part: percentile, p: 99.9}}\nrules:\n  - {roles: ffn_up, activations: int8:tensor}\n",
        "name: x\nkv: {format: int8:g64, range: minmax}\n",
        "name: x\nactivations: {}\nweights: {range: {part: mse, norm: 2.40000000012345}}\n",
        "name: x\ncalibration: {drift: 0.12345678901234}\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        static struct ht_recipe r, again;
        ht_err err = {0};
        struct ht_buf out;
        ASSERT_OK(ht_recipe_parse(texts[i], strlen(texts[i]), "text", &r, &err), &err);
        ht_buf_init(&out, 0);
        ht_recipe_write(&r, &out);
        ASSERT_OK(ht_recipe_parse(out.data, out.len, "again", &again, &err), &err);
        assert_true(ht_recipe_equal(&r, &again));
        ht_buf_deinit(&out);
    }
}

static const struct {
    const char *text, *said;
} malformed[] = {
    {"", "is empty"},
    {"name", "a mapping"},
    {"- name: x\n", "found a list"},
    {"name: x\nwieghts: {}\n", "line 2: unknown key 'wieghts', did you mean weights"},
    {"name: x\nweights:\n  rnage: mse\n", "line 3: unknown key 'rnage', did you mean range"},
    {"name: x\nweights:\n  range: msee\n", "line 3: no range part is called 'msee', did you mean mse"},
    {"name: x\nweights: {range: {part: mse, nrom: 2}}\n", "did you mean norm"},
    {"name: x\nweights: {range: {part: mse, norm: 9}}\n", "from 1 to 4"},
    {"name: x\nweights: {range: {norm: 2, part: mse}}\n", "starts with 'part: NAME'"},
    {"name: x\nweights: {range: [mse]}\n", "found a list"},
    {"name: x\nweights: {range: {part: [mse]}}\n", "part: NAME"},
    {"name: x\nweights: {range: {part: 'mse:2'}}\n", "a part's name"},
    {"name: x\nweights: {range: {part: mse, norm: {a: 1}}}\n", "expected a value, found a mapping"},
    {"name: x\nweights: {range: moving-average}\n", "moving-average is not for weights"},
    {"name: x\nweights: {range: entropy, format: int4:g64}\n", "too few; take int4:tensor, or another part such as mse"},
    {"name: x\nweights: {format: int4:g64}\nrules: [{layers: 0, range: entropy}]\n", "too few; take int4:tensor"},
    {"name: x\nactivations: {range: wmse, format: int8:tensor}\n", "wmse is not for activations"},
    {"name: x\nactivations: {range: percentile, format: int8:token}\n", "percentile fixes one range beforehand, and int8:token"},
    {"name: x\nactivations: {range: entropy}\nrules: [{layers: 0, activations: int8:g64}]\n", "and int8:g64 is measured"},
    {"name: x\nactivations: {range: percentile}\n", "activations without a format"},
    {"name: x\nkv: {range: minmax}\n", "key and value cache without a format"},
    {"name: x\nkv: {format: int8:token, range: mse}\n", "mse is not for key and value cache"},
    {"name: x\nkv: {format: int8:token, round: stochastic}\n", "stochastic is not for"},
    {"name: x\nweights: {format: q4_9}\n", "did you mean"},
    {"name: x\nweights: {format: q4_0, transform: [clip, order]}\n", "order comes before clip"},
    {"name: x\nweights: {format: q4_0, transform: [search, order]}\n", "order comes before search"},
    {"name: x\nweights: {format: int4}\n", "int4:g64"},
    {"name: x\nweights: {format: 'int4:g64:sideways'}\n", "sideways"},
    {"name: x\nweights: {format: q4_k, range: mse}\n", "works on schemes"},
    {"name: x\nweights: {format: []}\n", "expected a text"},
    {"name: x\nweights: {transform: [none, none, none, none, none]}\n", "more than 4 transforms"},
    {"name: x\nweights: []\n", "expected a mapping, found a list"},
    {"name: x\nactivations: {format: q8_0}\n", "int8:token"},
    {"name: x\nrules: {roles: [ffn_down]}\n", "a list of rules"},
    {"name: x\nrules:\n- {roles: [ffn_donw], format: q4_k}\n", "line 3: 'ffn_donw' is no role of a matrix, did you mean"},
    {"name: x\nrules: [{roles: [attn_norm], format: q4_k}]\n", "no role of a matrix"},
    {"name: x\nrules: [{roles: [], format: q4_k}]\n", "at least one role"},
    {"name: x\nrules: [{roles: [output]}]\n", "changes format, activations, range"},
    {"name: x\nrules: [{layers: 3-, format: q4_k}]\n", "3 or 0-3"},
    {"name: x\nrules: [{layers: 5-3, format: q4_k}]\n", "3 or 0-3"},
    {"name: x\nrules: [{layers: -1, format: q4_k}]\n", "3 or 0-3"},
    {"name: x\nrules: [{layers: 9999999, format: q4_k}]\n", "3 or 0-3"},
    {"name: x\ncalibration: {tokens: -1}\n", "from 0"},
    {"name: x\ncalibration: {tokens: 1.5}\n", "whole number"},
    {"name: x\ncalibration: {window: 0}\n", "from 1"},
    {"name: x\ncalibration: {sequential: perhaps}\n", "true or false"},
    {"name: x\ncalibration: {drift: 2}\n", "from 0 to 1"},
    {"name: x\ncalibration: {drift: .nan}\n", "from 0 to 1"},
    {"name: x\ncalibration: {drift: 0.5, sequential: false}\n", "drift"},
    {"name: X y\n", "lower-case"},
    {"name: ''\n", "expected a text"},
    {"summary: nothing else\n", "has no name"},
    {"name: x\nname: y\n", "line 2: 'name' comes twice, first in line 1"},
    {"name: &a x\n", "anchor"},
    {"name: *a\n", "alias"},
    {"name: !!str x\n", "tag"},
    {"weights: &a {range: mse}\nname: x\n", "anchor"},
    {"? [a]\n: b\n", "key that is no plain name"},
    {"name: x\n---\nname: y\n", "second document"},
    {"name: [x\n", "no YAML"},
    {"name: \"x\n", "no YAML"},
    {"name: x\n\tsummary: y\n", "no YAML"},
    {"name: \xff\xfe\n", "no YAML"},
    {"a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}}}}}}}}}}\n", "nested deeper"},
};

static void test_malformed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct ht_recipe r;
        ht_err err = {0};
        ht_status status = ht_recipe_parse(malformed[i].text, strlen(malformed[i].text), "bad.yaml", &r, &err);
        if (status == HT_OK || strstr(err.msg, malformed[i].said) == NULL) {
            fail_msg("%s: status %d, '%s' says nothing of '%s'", malformed[i].text, status, err.msg, malformed[i].said);
        }
    }
}

static void test_caps(void **state) {
    (void)state;
    struct ht_recipe r;
    struct ht_buf b;
    ht_err err = {0};
    ht_buf_init(&b, 0);
    ht_buf_puts(&b, "name: x\nrules:\n");
    for (int i = 0; i < HT_MAX_RULES + 1; i++) {
        ht_buf_puts(&b, "- {roles: [output], format: keep}\n");
    }
    assert_int_equal(ht_recipe_parse(b.data, b.len, "many", &r, &err), HT_LIMIT);
    for (int i = 0; i < 100000; i++) {
        ht_buf_puts(&b, "- [1,2,3,4]\n");
    }
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_parse(b.data, b.len, "large", &r, &err), HT_LIMIT);
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_parse(b.data, 1000000, "nodes", &r, &err), HT_LIMIT);
    ht_buf_deinit(&b);
    char name[200] = "name: ";
    memset(name + 6, 'a', 100);
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_parse(name, 106, "name", &r, &err), HT_LIMIT);
}

/* Every prefix is refused or is a recipe; so is every text with one byte changed. */
static void test_cut_and_changed(void **state) {
    (void)state;
    struct ht_recipe r;
    char copy[sizeof full];
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    for (size_t n = 0; n < sizeof full; n++) {
        ht_err err = {0};
        assert_true(ht_recipe_parse(full, n, "cut", &r, &err) == HT_OK || err.msg[0] != '\0');
    }
    for (int i = 0; i < 2000; i++) {
        ht_err err = {0};
        memcpy(copy, full, sizeof full);
        copy[ht_rng_u64(&rng) % (sizeof full - 1)] = (char)ht_rng_u64(&rng);
        assert_true(ht_recipe_parse(copy, sizeof full - 1, "changed", &r, &err) == HT_OK || err.msg[0] != '\0');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shipped),   cmocka_unit_test(test_full), cmocka_unit_test(test_nothing_lost),
        cmocka_unit_test(test_malformed), cmocka_unit_test(test_caps), cmocka_unit_test(test_cut_and_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
