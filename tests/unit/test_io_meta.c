#include "test.h"

#include <math.h>

#include "base/limits.h"
#include "io/meta.h"
#include "io/name.h"

static void order_and_replacement(void **state) {
    (void)state;
    struct ht_meta m;
    ht_err err = {0};
    uint64_t v = 0;
    bool found = true;
    ht_meta_init(&m);
    char key[32];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "k%u", i);
        ASSERT_OK(ht_meta_set_u32(&m, key, i, &err), &err);
    }
    ASSERT_OK(ht_meta_set_str(&m, "k7", "seven", 5, &err), &err); /* another type, same place */
    assert_string_equal(m.kv[7].v.str.s, "seven");
    assert_int_equal(m.n, 300);
    ht_meta_remove(&m, "k5");
    ht_meta_remove(&m, "k5");
    ht_meta_remove(&m, "none");
    assert_int_equal(m.n, 299);
    assert_string_equal(m.kv[5].key.s, "k6");
    ASSERT_OK(ht_meta_get_u64(&m, "k5", 1000, &v, &found, &err), &err);
    assert_false(found);
    for (unsigned i = 8; i < 300; i++) { /* every key is found behind the gap */
        snprintf(key, sizeof key, "k%u", i);
        ASSERT_OK(ht_meta_get_u64(&m, key, 1000, &v, &found, &err), &err);
        assert_true(found && v == i);
    }
    ASSERT_OK(ht_meta_set_u32(&m, "k5", 55, &err), &err); /* comes back at the end */
    assert_string_equal(m.kv[299].key.s, "k5");
    ASSERT_OK(ht_meta_get_u64(&m, "k5", 1000, &v, &found, &err), &err);
    assert_int_equal(v, 55);
    ht_meta_remove(&m, "k5");
    ht_meta_remove(&m, "k0");
    assert_null(ht_meta_find(&m, "k0"));
    assert_string_equal(ht_meta_find(&m, "k299")->key.s, "k299");
    ht_meta_deinit(&m);
}

static void typed_getters(void **state) {
    (void)state;
    struct ht_meta m;
    ht_err err = {0};
    ht_meta_init(&m);
    const int32_t ints[] = {1, -2};
    ASSERT_OK(ht_meta_set_i32(&m, "neg", -1, &err), &err);
    ASSERT_OK(ht_meta_set_i32(&m, "pos", 9, &err), &err);
    ASSERT_OK(ht_meta_set_u16(&m, "u16", 65535, &err), &err);
    ASSERT_OK(ht_meta_set_u64(&m, "u64", UINT64_MAX, &err), &err);
    ASSERT_OK(ht_meta_set_f32(&m, "half", 0.5f, &err), &err);
    ASSERT_OK(ht_meta_set_f32(&m, "nan", NAN, &err), &err);
    ASSERT_OK(ht_meta_set_bool(&m, "yes", true, &err), &err);
    ASSERT_OK(ht_meta_set_str(&m, "nul", "a\0b", 3, &err), &err);
    ASSERT_OK(ht_meta_set_array(&m, "ints", HT_META_I32, ints, 2, &err), &err);

    uint64_t u = 77;
    double f = 77;
    bool yes = false;
    const char *s = "before";
    ASSERT_OK(ht_meta_get_u64(&m, "pos", 9, &u, NULL, &err), &err);
    assert_int_equal(u, 9);
    ASSERT_OK(ht_meta_get_u64(&m, "absent", 9, &u, NULL, &err), &err);
    assert_int_equal(u, 9);
    ASSERT_OK(ht_meta_get_f64(&m, "u16", &f, NULL, &err), &err);
    assert_true(f == 65535);
    ASSERT_OK(ht_meta_get_bool(&m, "yes", &yes, NULL, &err), &err);
    assert_true(yes);

    const struct {
        const char *key;
        char getter;
        const char *part;
    } wrong[] = {
        {"neg", 'u', "'neg': expected 0 to 100, found -1"},   {"u16", 'u', "'u16': expected 0 to 100, found 65535"},
        {"u64", 'u', "found 18446744073709551615"},           {"half", 'u', "'half': expected an integer, found f32"},
        {"yes", 'u', "expected an integer, found bool"},      {"ints", 'u', "expected an integer, found an array of i32"},
        {"nul", 'u', "expected an integer, found string"},    {"nan", 'f', "'nan': expected a finite number"},
        {"nul", 'f', "expected a number, found string"},      {"yes", 'f', "expected a number, found bool"},
        {"pos", 'b', "expected a bool, found i32"},           {"pos", 's', "expected a string, found i32"},
        {"nul", 's', "'nul': the string holds a NUL"},        {"ints", 's', "expected a string, found an array of i32"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ht_err e = {0};
        ht_status got = wrong[i].getter == 'u'   ? ht_meta_get_u64(&m, wrong[i].key, 100, &u, NULL, &e)
                        : wrong[i].getter == 'f' ? ht_meta_get_f64(&m, wrong[i].key, &f, NULL, &e)
                        : wrong[i].getter == 'b' ? ht_meta_get_bool(&m, wrong[i].key, &yes, NULL, &e)
                                                 : ht_meta_get_str(&m, wrong[i].key, &s, NULL, &e);
        assert_int_equal(got, HT_FORMAT);
        if (strstr(e.msg, wrong[i].part) == NULL) {
            fail_msg("expected \"%s\", found \"%s\"", wrong[i].part, e.msg);
        }
    }
    assert_int_equal(u, 9); /* a refused value leaves the output alone */
    assert_string_equal(s, "before");
    ht_meta_deinit(&m);
}

static void arrays_are_copied(void **state) {
    (void)state;
    struct ht_meta m, copy;
    ht_err err = {0};
    ht_meta_init(&m);
    ht_meta_init(&copy);
    char text[] = "abc";
    struct ht_str strings[] = {{text, 3}, {"", 0}, {NULL, 0}};
    unsigned char raw[] = {0xff, 0xff, 0x34, 0x12, 0xfe, 0xff};
    double doubles[] = {1e300, -1e300, NAN, 2.9};
    ASSERT_OK(ht_meta_set_array(&m, "s", HT_META_STRING, strings, 3, &err), &err);
    ASSERT_OK(ht_meta_set_array(&m, "i", HT_META_I16, raw, 3, &err), &err);
    ASSERT_OK(ht_meta_set_array(&m, "d", HT_META_F64, doubles, 4, &err), &err);
    text[0] = 'x';
    raw[2] = 0;
    for (size_t i = 0; i < m.n; i++) {
        ASSERT_OK(ht_meta_set_kv(&copy, &m.kv[i], &err), &err);
    }
    ht_meta_deinit(&m);
    const struct ht_meta_kv *s = ht_meta_find(&copy, "s"), *i16 = ht_meta_find(&copy, "i"), *d = ht_meta_find(&copy, "d");
    assert_string_equal(ht_meta_elem_str(s, 0).s, "abc");
    assert_string_equal(ht_meta_elem_str(s, 2).s, "");
    assert_int_equal(ht_meta_elem_i64(i16, 0), -1);
    assert_int_equal(ht_meta_elem_i64(i16, 1), 0x1234);
    assert_true(ht_meta_elem_f64(i16, 2) == -2);
    assert_int_equal(ht_meta_elem_i64(i16, 3), 0); /* behind the end */
    assert_true(ht_meta_elem_i64(d, 0) == INT64_MAX && ht_meta_elem_i64(d, 1) == INT64_MIN);
    assert_true(ht_meta_elem_i64(d, 2) == 0 && ht_meta_elem_i64(d, 3) == 2);
    assert_string_equal(ht_meta_elem_str(i16, 0).s, "");
    assert_int_equal(ht_meta_elem_i64(s, 0), 0);
    ht_meta_deinit(&copy);
}

static void limits(void **state) {
    (void)state;
    struct ht_meta m;
    ht_err err = {0};
    ht_meta_init(&m);
    assert_int_equal(ht_meta_set_u32(&m, "", 1, &err), HT_LIMIT);
    char *key = ht_mem_alloc(HT_MAX_KEY_BYTES + 2);
    memset(key, 'k', HT_MAX_KEY_BYTES + 1);
    key[HT_MAX_KEY_BYTES + 1] = '\0';
    ht_err_clear(&err);
    assert_int_equal(ht_meta_set_u32(&m, key, 1, &err), HT_LIMIT);
    key[HT_MAX_KEY_BYTES] = '\0';
    ht_err_clear(&err);
    ASSERT_OK(ht_meta_set_u32(&m, key, 1, &err), &err);
    ht_mem_free(key);
    assert_int_equal(ht_meta_set_array(&m, "a", HT_META_U8, "", HT_MAX_ARRAY_ELEMS + 1, &err), HT_LIMIT);
    ht_err_clear(&err);
    assert_int_equal(ht_meta_set_array(&m, "a", HT_META_ARRAY, "", 1, &err), HT_INVAL);
    ht_err_clear(&err);
    assert_int_equal(ht_meta_set_str(&m, "s", "", (size_t)HT_MAX_STRING_BYTES + 1, &err), HT_LIMIT);
    assert_int_equal(m.n, 1);
    ht_meta_deinit(&m);
}

static void out_of_memory(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct ht_meta m;
        ht_err err = {0};
        ht_meta_init(&m);
        ht_mem_fail_at(n, 0);
        ht_status got = ht_meta_set_str(&m, "key", "value", 5, &err);
        if (got == HT_OK) {
            got = ht_meta_set_array(&m, "list", HT_META_STRING, (struct ht_str[]){{"a", 1}}, 1, &err);
        }
        ht_mem_fail_at(0, 0);
        assert_true(got == HT_OK || got == HT_NOMEM);
        assert_true(m.n == 0 || strcmp(m.kv[0].v.str.s, "value") == 0);
        ht_meta_deinit(&m);
        if (got == HT_OK) {
            assert_true(n > 2);
            return;
        }
    }
}

static void names(void **state) {
    (void)state;
    static const struct {
        const char *s;
        size_t len;
        const char *fault; /* NULL: fit */
    } cases[] = {
        {"blk.0.attn_q.weight", 19, NULL}, {"gr\xc3\xbc\xc3\x9f" "e", 7, NULL}, {"\xf0\x9f\x98\x80", 4, NULL},
        {"", 0, "is empty"},               {"0123456789x", 11, "is too long"},  {"a\0b", 3, "control"},
        {"a\tb", 3, "control"},            {"\x7f", 1, "control"},              {"\xc2\x80", 2, "control"},
        {"\xff", 1, "UTF-8"},              {"\xc0\x80", 2, "UTF-8"},            {"\xed\xa0\x80", 3, "UTF-8"},
        {"\xf4\x90\x80\x80", 4, "UTF-8"},  {"\xe4\xb8", 2, "UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *fault = ht_name_fault(cases[i].s, cases[i].len, i == 4 ? 10 : 30);
        if ((fault == NULL) != (cases[i].fault == NULL) || (fault != NULL && strstr(fault, cases[i].fault) == NULL)) {
            fail_msg("case %zu: expected %s, found %s", i, cases[i].fault ? cases[i].fault : "fit", fault ? fault : "fit");
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_replacement), cmocka_unit_test(typed_getters), cmocka_unit_test(arrays_are_copied),
        cmocka_unit_test(limits),                cmocka_unit_test(out_of_memory), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
