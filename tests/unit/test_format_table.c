/* Walks the table: what holds for every format, with no list of names here. */
#include "test.h"

#include <float.h>
#include <math.h>

#include "base/nearest.h"
#include "format/format.h"
#include "format/half.h"

#define N 1024

static uint32_t seed = 1;

static uint32_t next_bits(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static float uniform(void) {
    return (float)(next_bits() >> 8) * 0x1p-24f;
}

/* About normal: a sum of uniforms has tails short enough for what is tested here. */
static float gauss(void) {
    float s = -6.0f;
    for (int i = 0; i < 12; i++) {
        s += uniform();
    }
    return s;
}

static int same_bits(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], 4) != 0 && !(isnan(a[i]) && isnan(b[i]))) {
            return 0;
        }
    }
    return 1;
}

static double error_of(const float *x, const float *y, const float *w, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        double e = (double)x[i] - (double)y[i];
        sum += e * e * (w ? (double)w[i] : 1.0);
    }
    return sum;
}

/* Encodes and decodes n elements; both buffers end where heap checkers see one byte too many. */
static void round_trip(const struct ht_format *f, const float *x, const float *w, float *y, size_t n) {
    size_t bytes = (size_t)ht_format_row_bytes(f, n);
    uint8_t *p = malloc(bytes);
    float *in = malloc(n * sizeof *in), *out = malloc(n * sizeof *out);
    assert_true(p && in && out);
    memcpy(in, x, n * sizeof *in);
    memset(p, 0xAA, bytes);
    f->encode(in, w, p, n);
    f->decode(p, out, n);
    memcpy(y, out, n * sizeof *out);
    free(p);
    free(in);
    free(out);
}

static void rows_are_complete(void **state) {
    (void)state;
    assert_true(ht_format_count() >= 16);
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        assert_true(f->name && f->summary && f->source && f->decode && f->encode);
        assert_true(f->block_elems > 0 && f->block_elems <= HT_BLOCK_MAX && f->block_bytes > 0);
        assert_true(f->gguf_type >= 0 || f->st_dtype || f->code || f->real);
        assert_true((f->kind == HT_KIND_CODE) == (f->code != NULL));
        assert_true(f->kind != HT_KIND_FLOAT || f->real);
        int grid = f->kind != HT_KIND_FLOAT && f->kind != HT_KIND_INT && f->kind != HT_KIND_CODE;
        assert_true(grid == (f->fit != NULL) && grid == (f->snap != NULL) && grid == (f->round != NULL));
        assert_true(grid == (f->pack != NULL) && grid == (f->unpack != NULL));
        assert_true((f->kind == HT_KIND_LATTICE) == (f->round_vector != NULL));
        assert_true((f->kind == HT_KIND_LATTICE) == (f->vector != 0));
        for (const char *c = f->name; *c; c++) {
            assert_true((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '_');
        }
        assert_ptr_equal(ht_format_find(f->name), f);
        assert_string_equal(ht_format_name_at(NULL, i), f->name);
        if (f->gguf_type >= 0) {
            assert_ptr_equal(ht_format_by_gguf((uint32_t)f->gguf_type), f);
        }
        if (f->st_dtype) {
            assert_ptr_equal(ht_format_by_st(f->st_dtype), f);
        }
    }
    assert_null(ht_format_at(ht_format_count()));
    assert_null(ht_format_name_at(NULL, ht_format_count()));
}

static void look_up(void **state) {
    (void)state;
    assert_string_equal(ht_format_find("Q4_K")->name, "q4_k");
    assert_null(ht_format_find("q4_kk"));
    assert_null(ht_format_by_st("bf16"));
    const uint32_t absent[] = {4, 5, 31, 32, 33, 36, 37, 38, 0x7fffffffu, 0xffffffffu};
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        assert_null(ht_format_by_gguf(absent[i]));
    }
    char near[200];
    assert_non_null(strstr(ht_nearest("q4k", ht_format_name_at, NULL, ht_format_count(), near, sizeof near), "q4_k"));
}

/* unpack's grid and codes are what decode gives, and pack(unpack(bytes)) is bytes again, or, where several bytes
 * stand for the same codes, bytes of the same values that stay. For any bytes. */
static void unpack_is_decode(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        int spare = 0;
        for (int trial = 0; trial < 200 && f->fit; trial++) {
            uint8_t bytes[512], back[512];
            float x[HT_BLOCK_MAX], y[HT_BLOCK_MAX];
            int8_t codes[HT_BLOCK_MAX];
            struct ht_grid grid;
            for (uint32_t k = 0; k < f->block_bytes; k++) {
                bytes[k] = (uint8_t)next_bits();
            }
            f->decode(bytes, x, f->block_elems);
            f->unpack(bytes, &grid, codes);
            assert_int_equal(grid.n_sub * grid.sub_len, f->block_elems);
            for (uint32_t e = 0; e < f->block_elems; e++) {
                assert_true(codes[e] >= grid.lo && codes[e] <= grid.hi);
                y[e] = ht_grid_value(&grid, (int)e / grid.sub_len, codes[e]);
                if (f->vector && (!isfinite(grid.scale[0]) || x[e] == y[e])) {
                    y[e] = x[e]; /* levels that are shifted before they are scaled: src/format/lattice/lattice.c */
                }
            }
            assert_true(same_bits(x, y, f->block_elems));
            memset(back, 0x55, sizeof back);
            f->pack(&grid, codes, back);
            assert_int_equal(back[f->block_bytes], 0x55);
            if (memcmp(back, bytes, f->block_bytes) != 0) {
                f->decode(back, y, f->block_elems);
                assert_true(same_bits(x, y, f->block_elems));
                memcpy(bytes, back, sizeof bytes);
                f->unpack(bytes, &grid, codes);
                f->pack(&grid, codes, back);
                spare++;
            }
            assert_memory_equal(back, bytes, f->block_bytes);
        }
        assert_true(spare == 0 || strcmp(f->name, "tq1_0") == 0); /* 256 values of a byte for 243 */
    }
}

/* round and ht_grid_nearest agree where elements are rounded one by one, and no code is nearer (up to the rounding of
 * one division). */
static void nearest_is_nearest(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        for (int trial = 0; trial < 20 && f->fit && !f->vector; trial++) {
            float x[HT_BLOCK_MAX];
            int8_t codes[HT_BLOCK_MAX];
            struct ht_grid grid;
            for (uint32_t e = 0; e < f->block_elems; e++) {
                x[e] = gauss();
            }
            f->fit(x, NULL, &grid);
            f->snap(&grid);
            x[3] *= 20.0f;
            x[9] *= -1e30f;
            f->round(x, NULL, &grid, codes);
            for (uint32_t e = 0; e < f->block_elems; e++) {
                int s = (int)e / grid.sub_len;
                assert_int_equal(codes[e], ht_grid_nearest(&grid, s, x[e]));
                double got = fabs((double)ht_grid_value(&grid, s, codes[e]) - (double)x[e]);
                for (int c = grid.lo; c <= grid.hi; c++) {
                    double d = fabs((double)ht_grid_value(&grid, s, c) - (double)x[e]);
                    assert_true(got <= d * (1.0 + 1e-5) + 1e-6 * fabs((double)x[e]));
                }
            }
        }
    }
}

/* The largest relative error that the format's way to store a scale makes of scales that are all the same. */
static float scale_error(const struct ht_format *f) {
    float worst = 0.0f, x[HT_BLOCK_MAX];
    for (int k = 0; k < 64; k++) {
        struct ht_grid grid;
        for (uint32_t e = 0; e < f->block_elems; e++) {
            x[e] = gauss();
        }
        f->fit(x, NULL, &grid);
        for (int s = 0; s < grid.n_sub; s++) {
            grid.scale[s] = 1.0f + (float)k / 64.0f;
        }
        f->snap(&grid);
        for (int s = 0; s < grid.n_sub; s++) {
            float error = fabsf(grid.scale[s] / (1.0f + (float)k / 64.0f) - 1.0f);
            worst = error > worst ? error : worst;
        }
    }
    return worst;
}

/* What snap makes of a grid is what the file holds, also when the grid did not come from fit. */
static void snap_is_storable(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        float tolerance = f->fit ? fmaxf(0.06f, 1.1f * scale_error(f)) : 0.0f;
        assert_true(tolerance < 0.4f); /* powers of two, the coarsest: a third */
        for (int trial = 0; trial < 50 && f->fit; trial++) {
            float x[HT_BLOCK_MAX];
            int8_t codes[HT_BLOCK_MAX], back[HT_BLOCK_MAX];
            uint8_t bytes[512];
            struct ht_grid grid, stored;
            for (uint32_t e = 0; e < f->block_elems; e++) {
                x[e] = gauss();
            }
            f->fit(x, NULL, &grid);
            for (int s = 0; s < grid.n_sub && trial % 2; s++) { /* as a method that learns its scales */
                grid.scale[s] *= 1.0f + 0.1f * uniform();
                grid.min[s] *= 1.0f + 0.1f * uniform();
            }
            float wanted[HT_GRID_MAX_SUB];
            memcpy(wanted, grid.scale, sizeof wanted);
            f->snap(&grid);
            f->round(x, NULL, &grid, codes);
            f->pack(&grid, codes, bytes);
            f->unpack(bytes, &stored, back);
            assert_memory_equal(codes, back, f->block_elems);
            for (int s = 0; s < grid.n_sub; s++) {
                assert_memory_equal(&grid.scale[s], &stored.scale[s], 4);
                assert_true(grid.min[s] == stored.min[s]);
                /* test_format_lattice.c knows how far apart the scales of lattices lie */
                assert_true(fabsf(grid.scale[s] - wanted[s]) <= tolerance * fabsf(wanted[s]) || f->block_bytes == 84 ||
                            f->vector);
            }
            struct ht_grid again = grid;
            f->snap(&again);
            assert_memory_equal(again.scale, grid.scale, sizeof(float) * (size_t)grid.n_sub);
        }
    }
}

static void four_steps(const struct ht_format *f, const float *x, const float *w, uint8_t *dst) {
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    f->fit(x, w, &grid);
    f->snap(&grid);
    f->round(x, w, &grid, codes);
    f->pack(&grid, codes, dst);
}

/* encode is fit, snap, round and pack of each block, whatever the row. */
static void encode_is_the_four_steps(void **state) {
    (void)state;
    static float x[N], w[N];
    static uint8_t a[N * 8], b[N * 8];
    for (int scale = 0; scale < 4; scale++) {
        for (size_t k = 0; k < N; k++) {
            const float scales[] = {1.0f, 0.01f, 1e-6f, 1e5f};
            x[k] = gauss() * scales[scale];
            w[k] = 0.01f + uniform() * uniform();
        }
        for (size_t i = 0; i < ht_format_count(); i++) {
            const struct ht_format *f = ht_format_at(i);
            size_t n = N / f->block_elems * f->block_elems;
            f->encode(x, scale % 2 ? w : NULL, a, n);
            for (size_t k = 0; k < n; k += f->block_elems) {
                const float *weight = scale % 2 ? w + k : NULL;
                if (f->fit) {
                    four_steps(f, x + k, weight, b + ht_format_row_bytes(f, k));
                } else {
                    f->encode(x + k, weight, b + ht_format_row_bytes(f, k), f->block_elems);
                }
            }
            assert_memory_equal(a, b, ht_format_row_bytes(f, n));
        }
    }
}

/* A row that a format holds already is encoded again with a small part of the error that encoding it first cost:
 * the search may come by another way to values as near. docs/formats.md gives the figures per format. */
static void decoded_rows_stay(void **state) {
    (void)state;
    static float x[N], y[N], z[N], w[N], zero[N];
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        double first = 0.0, again = 0.0;
        for (int trial = 0; trial < 40 && f->fit; trial++) {
            for (size_t k = 0; k < N; k++) {
                x[k] = gauss() * 0.05f;
                w[k] = 0.1f + uniform();
            }
            round_trip(f, x, w, y, N);
            round_trip(f, y, w, z, N);
            first += error_of(x, y, w, N) / error_of(x, zero, w, N);
            again += error_of(y, z, w, N) / error_of(y, zero, w, N);
        }
        if (f->fit) {
            print_message("%-7s relative squared error %.2e, of encoding again %.2e\n", f->name, first / 40, again / 40);
            assert_true(again <= (f->vector == f->block_elems ? 0.3 : 0.1) * first); /* a path follows from all at once */
        }
    }
}

static float pattern(int kind, size_t k) {
    switch (kind) {
    case 0: return 0.0f;
    case 1: return 3.7f;
    case 2: return -0.0123f;
    case 3: return gauss() * 1e-40f;              /* subnormal */
    case 4: return gauss() * 1e-7f;               /* scales below the smallest f16 */
    case 5: return k % 100 == 7 ? FLT_MAX : gauss();
    case 6: return k % 3 ? FLT_MAX : -FLT_MAX;
    case 7: return k % 256 == 77 ? -2.5f : 0.0f;  /* one element */
    case 8: return fabsf(gauss()) + 5.0f;
    case 9: return -fabsf(gauss()) - 5.0f;
    case 10: return gauss() * 1e30f;
    case 11: return k % 2 ? -0.0f : 0.0f;
    case 12: return gauss() * 5e4f;
    case 13: return k < N / 2 ? gauss() * 1e-30f : gauss();
    case 14: return FLT_MIN;
    case 15: return k % 32 == 0 ? 1e38f : 1e-38f;
    default: return ht_f32_from_bits(next_bits() & 0xbfffffffu) * (k % 2 ? 1.0f : 2.0f); /* any |x| < 4 */
    }
}

/* Defined results on hard rows, with and without importance of every kind: finite values, no larger error than
 * writing zeros (which every grid format can, so a searched one must not do worse where f16 scales reach). */
static void hard_rows(void **state) {
    (void)state;
    static float x[N], y[N], z[N], w[N];
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        double coarse = f->fit ? scale_error(f) : 0.0;
        for (int kind = 0; kind <= 16 && f->fit; kind++) {
            for (int weights = 0; weights < 6; weights++) {
                for (size_t k = 0; k < N; k++) {
                    x[k] = pattern(kind, k);
                    const float choices[] = {0.0f, 0.0f, 1e30f, 1e-38f, k % 5 ? 0.0f : 2.0f, uniform()};
                    w[k] = choices[weights];
                }
                const float *weight = weights == 0 ? NULL : w;
                round_trip(f, x, weight, y, N);
                for (size_t k = 0; k < N; k++) {
                    assert_true(isfinite(y[k]));
                }
                memset(z, 0, sizeof z);
                /* all zero importance counts as none */
                double e = error_of(x, y, NULL, N), zero = error_of(x, z, NULL, N);
                if (weights < 4 && e > zero * 1.05) { /* the encoders weigh elements, this sum does not */
                    fail_msg("%s, row %d, weights %d: error %g, zeros %g", f->name, kind, weights, e, zero);
                }
                if ((kind == 0 || kind == 11) && e != 0.0) {
                    fail_msg("%s: zeros became %g", f->name, e);
                }
                /* 1 %: q6_k holds -0.0123 / 4096 in a subnormal f16. Scales of few bits have few products with levels. */
                if ((kind == 1 || kind == 2) && e > fmax(1e-4, coarse * coarse) * zero) {
                    fail_msg("%s: equal values, relative error %g", f->name, e / zero);
                }
            }
        }
    }
}

static void zero_importance_is_none(void **state) {
    (void)state;
    static float x[N], w[N];
    static uint8_t a[N * 8], b[N * 8];
    for (size_t k = 0; k < N; k++) {
        x[k] = gauss();
        w[k] = 0.0f;
    }
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        size_t n = N / f->block_elems * f->block_elems;
        f->encode(x, NULL, a, n);
        f->encode(x, w, b, n);
        assert_memory_equal(a, b, ht_format_row_bytes(f, n));
    }
}

/* Powers of two scale through: the same codes for 2^k * x and any scale of the importance. */
static void scale_invariant(void **state) {
    (void)state;
    static float x[N], w[N], y[N], z[N];
    for (size_t k = 0; k < N; k++) {
        x[k] = gauss();
        w[k] = 0.01f + uniform();
    }
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (!f->fit) {
            continue;
        }
        round_trip(f, x, w, y, N);
        for (size_t k = 0; k < N; k++) {
            x[k] *= 0.25f;
            w[k] *= 0x1p40f;
        }
        round_trip(f, x, w, z, N);
        for (size_t k = 0; k < N; k++) {
            x[k] *= 4.0f;
            w[k] *= 0x1p-40f;
            assert_true(y[k] == 4.0f * z[k]);
        }
    }
}

/* Importance moves the error where it matters less. */
static void importance_counts(void **state) {
    (void)state;
    static float x[N], w[N], y[N], z[N];
    for (size_t k = 0; k < N; k++) {
        x[k] = gauss();
        w[k] = k % 4 == 0 ? 10.0f : 0.1f;
    }
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->fit) {
            round_trip(f, x, w, y, N);
            round_trip(f, x, NULL, z, N);
            assert_true(error_of(x, y, w, N) < error_of(x, z, w, N));
        }
    }
}

/* Float and integer formats: values they hold come back bit for bit. */
static void plain_formats(void **state) {
    (void)state;
    static float x[N], y[N];
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->kind == HT_KIND_FLOAT) {
            for (size_t k = 0; k < N; k++) {
                x[k] = (float)((int)(next_bits() % 255) - 127) * 0.125f;
            }
        } else if (f->kind == HT_KIND_INT) {
            for (size_t k = 0; k < N; k++) {
                x[k] = (float)(next_bits() % 2);
            }
        } else {
            continue;
        }
        round_trip(f, x, NULL, y, N);
        assert_true(same_bits(x, y, N));
    }
}

static void integer_limits(void **state) {
    (void)state;
    const struct {
        const char *name;
        float x, want;
    } cases[] = {
        {"i8", 200.0f, 127.0f},      {"i8", -200.0f, -128.0f},   {"i8", 2.5f, 2.0f},        {"i8", NAN, 0.0f},
        {"i16", 1e9f, 32767.0f},     {"i16", -1e9f, -32768.0f},  {"i32", -7.0f, -7.0f},     {"i32", 1e30f, 0x1p31f},
        {"i64", -1e30f, -0x1p63f},   {"i64", 1e30f, 0x1p63f},    {"i64", 12345.0f, 12345.0f}, {"u8", -1.0f, 0.0f},
        {"u8", 255.4f, 255.0f},      {"u8", 1e9f, 255.0f},       {"u64", 1e30f, 0x1p64f},   {"u32", NAN, 0.0f},
        {"u16", 65535.0f, 65535.0f}, {"bool", -3.0f, 1.0f},      {"bool", NAN, 0.0f},       {"i32", -INFINITY, -0x1p31f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct ht_format *f = ht_format_find(cases[i].name);
        float y;
        round_trip(f, &cases[i].x, NULL, &y, 1);
        if (y != cases[i].want) {
            fail_msg("%s: %g became %g, want %g", cases[i].name, (double)cases[i].x, (double)y, (double)cases[i].want);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_complete),
        cmocka_unit_test(look_up),
        cmocka_unit_test(unpack_is_decode),
        cmocka_unit_test(nearest_is_nearest),
        cmocka_unit_test(snap_is_storable),
        cmocka_unit_test(encode_is_the_four_steps),
        cmocka_unit_test(decoded_rows_stay),
        cmocka_unit_test(hard_rows),
        cmocka_unit_test(zero_importance_is_none),
        cmocka_unit_test(scale_invariant),
        cmocka_unit_test(importance_counts),
        cmocka_unit_test(plain_formats),
        cmocka_unit_test(integer_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
