/* Parts, methods and recipes: every row of every table, texts that come back as they were, and what is refused. */
#include "test.h"

#include "quant/method.h"

static void test_every_part(void **state) {
    (void)state;
    const struct ht_part *p;
    ht_err err = {0};
    bool seen[HT_AXES] = {false};
    for (size_t i = 0; (p = ht_part_at(i)) != NULL; i++) {
        struct ht_choice c, again;
        char text[HT_CHOICE_TEXT];
        assert_ptr_equal(ht_part_find(p->axis, p->name), p);
        assert_true(p->places != 0 && p->grids != 0 && p->summary != NULL && p->formula != NULL && p->source != NULL);
        seen[p->axis] = true;
        ht_choice_defaults(&c, p);
        assert_string_equal(ht_choice_text(&c, text), p->name);
        for (size_t k = 0; k < HT_PART_OPTIONS && p->options[k].name != NULL; k++) {
            const struct ht_part_option *o = &p->options[k];
            assert_true(o->low <= o->value && o->value <= o->high && o->help != NULL);
            assert_true((o->type == HT_OPTION_WORD) == (o->words != NULL));
            c.options[k] = o->high;
        }
        ASSERT_OK(ht_choice_parse(p->axis, ht_choice_text(&c, text), &again, &err), &err);
        assert_ptr_equal(again.part, p);
        assert_memory_equal(again.options, c.options, sizeof c.options);
    }
    for (int a = 0; a < HT_AXES; a++) {
        assert_true(seen[a]);
    }
}

static void test_every_method(void **state) {
    (void)state;
    ht_err err = {0};
    for (size_t i = 0; i < ht_method_count(); i++) {
        const struct ht_method *m = ht_method_at(i);
        struct ht_recipe r, again;
        ASSERT_OK(ht_method_recipe(m, &r, &err), &err);
        ASSERT_OK(ht_recipe_check(&r, &err), &err);
        assert_string_equal(r.name, m->name);
        assert_ptr_equal(ht_method_find(m->name), m);
        again = r;
        assert_true(ht_recipe_equal(&r, &again));
        again.calibration.window++;
        assert_false(ht_recipe_equal(&r, &again));
    }
}

static void test_refused_choices(void **state) {
    (void)state;
    static const struct {
        enum ht_axis axis;
        const char *text, *said;
    } bad[] = {
        {HT_AXIS_ROUND, "feedbak", "did you mean feedback"},
        {HT_AXIS_ROUND, "", "there are nearest"},
        {HT_AXIS_ROUND, "mse", "no round part"},
        {HT_AXIS_ROUND, "feedback:dampng=1", "did you mean damping"},
        {HT_AXIS_ROUND, "feedback:damping=11", "from 0 to 10"},
        {HT_AXIS_ROUND, "feedback:damping=", "found ''"},
        {HT_AXIS_ROUND, "feedback:damping=nan", "found 'nan'"},
        {HT_AXIS_ROUND, "feedback:descents=1.5", "whole number"},
        {HT_AXIS_ROUND, "feedback:dynamic=yes", "false|true"},
        {HT_AXIS_ROUND, "feedback:order=up", "falling|natural|groups"},
        {HT_AXIS_ROUND, "feedback:0.1,0.2", "NAME=VALUE"},
        {HT_AXIS_ROUND, "nearest:1", "it has none"},
        {HT_AXIS_RANGE, "own:", "it has none"},
        {HT_AXIS_OUTLIER, "none,none", "no outlier part"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ht_choice c;
        ht_err err = {0};
        assert_int_equal(ht_choice_parse(bad[i].axis, bad[i].text, &c, &err), HT_INVAL);
        if (strstr(err.msg, bad[i].said) == NULL) {
            fail_msg("'%s': '%s' says nothing of '%s'", bad[i].text, err.msg, bad[i].said);
        }
    }
    struct ht_choice c;
    ht_err err = {0};
    ASSERT_OK(ht_choice_parse(HT_AXIS_ROUND, "Feedback:order=natural,damping=0.5,dynamic=true", &c, &err), &err);
    assert_true(ht_choice_value(&c, "order") == 1 && ht_choice_value(&c, "dynamic") == 1 &&
                 ht_choice_value(&c, "damping") == 0.5);
    assert_true(ht_choice_value(&c, "descents") == 4);
}

static void test_rules(void **state) {
    (void)state;
    struct ht_recipe r;
    struct ht_place_recipe w;
    ht_recipe_defaults(&r);
    r.rules[0] = (struct ht_recipe_rule){.roles = 1ull << HT_ROLE_FFN_DOWN, .first = 2, .last = 3, .format = "q6_k"};
    r.rules[1] = (struct ht_recipe_rule){.first = 3, .last = 3};
    ht_choice_defaults(&r.rules[1].round, ht_part_find(HT_AXIS_ROUND, "feedback"));
    r.n_rules = 2;
    ht_recipe_weights(&r, HT_ROLE_FFN_DOWN, 1, &w);
    assert_string_equal(w.format, "");
    ht_recipe_weights(&r, HT_ROLE_FFN_DOWN, 3, &w);
    assert_string_equal(w.format, "q6_k");
    assert_string_equal(w.round.part->name, "feedback");
    ht_recipe_weights(&r, HT_ROLE_FFN_UP, 3, &w);
    assert_string_equal(w.format, "");
    assert_string_equal(w.round.part->name, "feedback");
    ht_recipe_weights(&r, HT_ROLE_TOKEN_EMBD, -1, &w);
    assert_string_equal(w.round.part->name, "nearest");
    assert_int_equal(ht_recipe_needs(&r), HT_NEEDS_GRAM);
}

static void test_refused_recipes(void **state) {
    (void)state;
    struct ht_recipe r;
    ht_err err = {0};
    ht_recipe_defaults(&r);
    ASSERT_OK(ht_choice_parse(HT_AXIS_RANGE, "mse", &r.places[HT_PLACE_WEIGHTS].range, &err), &err);
    snprintf(r.places[HT_PLACE_WEIGHTS].format, HT_RECIPE_FORMAT, "q4_k");
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_check(&r, &err), HT_UNSUPPORTED);
    ht_recipe_defaults(&r);
    snprintf(r.places[HT_PLACE_ACTIVATIONS].format, HT_RECIPE_FORMAT, "q8_0");
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_check(&r, &err), HT_INVAL);
    ht_recipe_defaults(&r);
    r.calibration.drift = 0.5;
    r.calibration.sequential = false;
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_check(&r, &err), HT_INVAL);
    r.calibration.sequential = true;
    ASSERT_OK(ht_choice_parse(HT_AXIS_TRANSFORM, "order", r.places[HT_PLACE_WEIGHTS].transforms, &err), &err);
    r.places[HT_PLACE_WEIGHTS].n_transforms = 1;
    ht_err_clear(&err);
    assert_int_equal(ht_recipe_check(&r, &err), HT_UNSUPPORTED);
    ht_recipe_defaults(&r);
    snprintf(r.name, sizeof r.name, "llm-int8");
    snprintf(r.places[HT_PLACE_ACTIVATIONS].format, HT_RECIPE_FORMAT, "int8:token");
    ht_err_clear(&err);
    ASSERT_OK(ht_recipe_check(&r, &err), &err);
    ASSERT_OK(ht_recipe_check_container(&r, "GGUF", HT_LEAVES_ACT, &err), &err);
    assert_int_equal(ht_recipe_check_container(&r, "GGUF", HT_LEAVES_NOTHING, &err), HT_UNSUPPORTED);
    assert_string_equal(err.msg, "method llm-int8 leaves behind: activations rounded at run time; GGUF cannot "
                                 "store that: write a halftone folder: -o OUT without .gguf");
}

/* Inputs know no output channels, and the run time has no grids of other kinds for them. */
static void test_refused_inputs(void **state) {
    (void)state;
    static const struct {
        const char *format, *said;
    } bad[] = {
        {"int8:channel", "take int8:token, int8:tensor"},
        {"int8:g64:nested", "nested"},
        {"int8:token:offset", "offset"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct ht_recipe r;
        ht_err err = {0};
        ht_recipe_defaults(&r);
        snprintf(r.places[HT_PLACE_ACTIVATIONS].format, HT_RECIPE_FORMAT, "%s", bad[i].format);
        assert_int_equal(ht_recipe_check(&r, &err), HT_INVAL);
        if (strcmp(err.what, "activations") != 0 || strstr(err.msg, bad[i].said) == NULL) {
            fail_msg("%s: %s: '%s' says nothing of '%s'", bad[i].format, err.what, err.msg, bad[i].said);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_part),      cmocka_unit_test(test_every_method),
        cmocka_unit_test(test_refused_choices), cmocka_unit_test(test_rules),
        cmocka_unit_test(test_refused_recipes), cmocka_unit_test(test_refused_inputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
