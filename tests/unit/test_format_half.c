/* f16 and bf16 against arithmetic that shares nothing with half.h: values from ldexp, and the encoder against
 * the definition of round to nearest even among the neighbouring codes. */
#include "test.h"

#include <math.h>

#include "format/half.h"

struct layout {
    int exp_bits, man_bits;
    float (*to)(uint16_t);
    uint16_t (*from)(float);
};

static const struct layout f16 = {5, 10, ht_f16_to_f32, ht_f16_from_f32};
static const struct layout bf16 = {8, 7, ht_bf16_to_f32, ht_bf16_from_f32};

static double value_of(const struct layout *l, unsigned h) {
    int bias = (1 << (l->exp_bits - 1)) - 1, e = (int)(h >> l->man_bits) & ((1 << l->exp_bits) - 1);
    double m = (double)(h & ((1u << l->man_bits) - 1)), sign = h & 0x8000u ? -1.0 : 1.0;
    if (e == (1 << l->exp_bits) - 1) {
        return m > 0.0 ? (double)NAN : sign * INFINITY;
    }
    return e == 0 ? sign * ldexp(m, 1 - bias - l->man_bits)
                  : sign * ldexp(ldexp(1.0, l->man_bits) + m, e - bias - l->man_bits);
}

static int is_nan(const struct layout *l, unsigned h) {
    unsigned top = ((1u << l->exp_bits) - 1) << l->man_bits;
    return (h & 0x7fffu) > top;
}

static void check_codes(const struct layout *l) {
    for (unsigned h = 0; h < 65536; h++) {
        float x = l->to((uint16_t)h);
        if (is_nan(l, h)) {
            assert_true(x != x);
            uint16_t back = l->from(x);
            assert_true(is_nan(l, back));
            assert_int_equal(back & 0x8000u, h & 0x8000u);
            assert_true(back >> (l->man_bits - 1) & 1); /* quiet */
            continue;
        }
        double want = value_of(l, h);
        assert_true((double)x == want && !signbit(x) == !signbit(want));
        assert_int_equal(l->from(x), h);
    }
}

/* The halfway point between codes h and h + 1 goes to the even one, the floats beside it to the nearer one. The
 * code after the largest finite one is infinity, whose rounding bound is the value it would have. */
static void check_ties(const struct layout *l) {
    unsigned inf = ((1u << l->exp_bits) - 1) << l->man_bits;
    for (unsigned h = 0; h < inf; h++) {
        double low = value_of(l, h), next = h + 1 == inf ? 2.0 * low - value_of(l, h - 1) : value_of(l, h + 1);
        double middle = 0.5 * (low + next);
        float m = (float)middle;
        assert_true((double)m == middle);
        unsigned even = h & 1 ? h + 1 : h;
        for (int sign = 0; sign < 2; sign++) {
            unsigned s = sign ? 0x8000u : 0;
            float v = sign ? -m : m;
            assert_int_equal(l->from(v), even | s);
            assert_int_equal(l->from(nextafterf(v, 0.0f)), h | s);
            assert_int_equal(l->from(nextafterf(v, sign ? -INFINITY : INFINITY)), (h + 1) | s);
        }
    }
    assert_int_equal(l->from(INFINITY), inf);
    assert_int_equal(l->from(-INFINITY), inf | 0x8000u);
    assert_int_equal(l->from(0.0f), 0);
    assert_int_equal(l->from(-0.0f), 0x8000u);
    assert_int_equal(l->from(1e-45f), 0);
}

/* NaNs whose payload lies only in the bits that are cut off must not become infinity. */
static void check_nans(const struct layout *l) {
    uint32_t payloads[] = {1, 0x1000, 0x1fff, 0x7fff, 0x8000, 0xffff, 0x10000, 0x3fffff, 0x400000, 0x7fffff};
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++) {
        for (uint32_t sign = 0; sign < 2; sign++) {
            uint16_t h = l->from(ht_f32_from_bits(sign << 31 | 0x7f800000u | payloads[i]));
            assert_true(is_nan(l, h));
            assert_int_equal(h >> 15, sign);
        }
    }
}

static void f16_codes(void **state) {
    (void)state;
    check_codes(&f16);
    check_ties(&f16);
    check_nans(&f16);
}

static void bf16_codes(void **state) {
    (void)state;
    check_codes(&bf16);
    check_ties(&bf16);
    check_nans(&bf16);
}

/* Random floats: no other code is nearer. */
static void check_nearest(const struct layout *l) {
    uint32_t u = 12345;
    for (int i = 0; i < 300000; i++) {
        u = u * 1664525u + 1013904223u;
        float x = ht_f32_from_bits(u ^ u >> 15);
        uint16_t h = l->from(x);
        if (!isfinite(x) || is_nan(l, h) || is_nan(l, h + 1u) || (h & 0x7fffu) == 0) {
            continue;
        }
        double here = value_of(l, h);
        if (isinf(here)) {
            continue;
        }
        assert_true(fabs(here - (double)x) <= fabs(value_of(l, h - 1u) - (double)x));
        assert_true(fabs(here - (double)x) <= fabs(value_of(l, h + 1u) - (double)x));
    }
}

static void nearest_code(void **state) {
    (void)state;
    check_nearest(&f16);
    check_nearest(&bf16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_codes),
        cmocka_unit_test(bf16_codes),
        cmocka_unit_test(nearest_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
