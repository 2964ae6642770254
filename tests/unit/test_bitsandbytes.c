/* NF4 and FP4 as bitsandbytes stores them, single and double quantization: the same codes, scales and values, bit
 * for bit. Theirs is one flat tensor with the first code of a byte in the high nibble. */
#include "test_format_data.h"

#include <math.h>

#include "tensor/qtensor.h"

#define GOLDEN HT_TEST_DIR "/golden/formats/codes.safetensors"

static struct data_file golden;
static float *x, *y;
static size_t n;

static const void *get(const char *key, const char *suffix, size_t *count) {
    char name[80];
    size_t shape[2] = {0, 0}, bytes = 0;
    snprintf(name, sizeof name, "bnb.%s%s%s", key, suffix[0] ? "." : "", suffix);
    const void *p = data_get(&golden, name, shape, &bytes);
    if (p == NULL) {
        fail_msg("%s is not in %s", name, GOLDEN);
    }
    *count = shape[0] * shape[1];
    return p;
}

static void same_codes(const struct ht_qtensor *q, const char *key) {
    size_t bytes;
    const uint8_t *packed = get(key, "packed", &bytes);
    assert_int_equal(bytes, q->row_bytes);
    for (size_t i = 0; i < n; i++) {
        int want = packed[i / 2] >> (i % 2 ? 0 : 4) & 15;
        if (ht_code_get(q->scheme.format, q->codes, i) != want) {
            fail_msg("%s: element %zu, %a: code %d, bitsandbytes %d", key, i, (double)x[i],
                     ht_code_get(q->scheme.format, q->codes, i), want);
        }
    }
}

static void same_values(const struct ht_qtensor *q, const char *key) {
    size_t count;
    const void *want = get(key, "values", &count);
    ht_qtensor_decode(q, 0, 1, y);
    assert_int_equal(count, n);
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, (const char *)want + 4 * i, 4);
        assert_true(v == y[i]);
    }
}

static void single(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"nf4:g64:scale=f32", "nf4.64"}, {"nf4:g256:scale=f32", "nf4.256"},
        {"fp4:g64:scale=f32", "fp4.64"}, {"fp4:g256:scale=f32", "fp4.256"},
    };
    for (int i = 0; i < 4; i++) {
        struct ht_scheme s;
        struct ht_qtensor q;
        ht_err err = {0};
        size_t count;
        ASSERT_OK(ht_scheme_parse(cases[i][0], &s, &err), &err);
        ASSERT_OK(ht_qtensor_init(&q, &s, 1, n, "w", &err), &err);
        ASSERT_OK(ht_qtensor_encode(&q, x, NULL, NULL, &err), &err);
        const float *absmax = get(cases[i][1], "absmax", &count);
        assert_int_equal(count, q.n_scales);
        assert_memory_equal(absmax, q.scales, count * 4);
        same_codes(&q, cases[i][1]);
        if (i % 2 == 0) {
            same_values(&q, cases[i][1]);
        }
        ht_qtensor_deinit(&q);
    }
}

/* Their offset is a mean in f32 in an order of its own; everything behind it is compared with that very offset. */
static void nested(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"nf4:g64:nested", "nf4.nested"}, {"fp4:g64:nested", "fp4.nested"}};
    for (int i = 0; i < 2; i++) {
        struct ht_scheme s;
        struct ht_qtensor q;
        ht_err err = {0};
        size_t count;
        struct ht_qtensor_options o = {.name = "w", .nested_last = true};
        ASSERT_OK(ht_scheme_parse(cases[i][0], &s, &err), &err);
        ASSERT_OK(ht_qtensor_init(&q, &s, 1, n, "w", &err), &err);
        ASSERT_OK(ht_qtensor_fit_rows(&q, 0, 1, x, &o, NULL, &err), &err);
        ASSERT_OK(ht_qtensor_fit_end(&q, &o, NULL, &err), &err);
        float offset;
        memcpy(&offset, get(cases[i][1], "offset", &count), 4);
        assert_true(fabsf(q.scale_offset[0] - offset) <= 2e-7f * offset);
        ht_qtensor_nest(&q, offset);
        ASSERT_OK(ht_qtensor_round_rows(&q, 0, 1, x, &o, NULL, &err), &err);
        size_t differ = 0;
        const uint8_t *codes = get(cases[i][1], "absmax", &count);
        assert_int_equal(count, q.n_scales);
        for (size_t k = 0; k < count; k++) {
            differ += codes[k] != q.scale_codes[k];
        }
        assert_int_equal(differ, 0);
        const float *second = get(cases[i][1], "nested_absmax", &count);
        assert_int_equal(count, 2);
        for (size_t k = 0; k < count; k++) {
            float v;
            memcpy(&v, second + k, 4);
            assert_true(v == q.scale2[k]);
        }
        same_codes(&q, cases[i][1]);
        same_values(&q, cases[i][1]);
        assert_true(fabs(ht_qtensor_bits(&q) - 4.127) < 0.5); /* the map and offset weigh in so small a tensor */
        ht_qtensor_deinit(&q);
    }
}

static int set_up(void **state) {
    (void)state;
    if (!data_open(GOLDEN, &golden)) {
        return -1;
    }
    const void *p = get("x", "", &n);
    x = malloc(n * sizeof *x);
    y = malloc(n * sizeof *y);
    memcpy(x, p, n * sizeof *x);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(x);
    free(y);
    data_close(&golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(single), cmocka_unit_test(nested)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
