/* Lattice formats: every point is found, rounding is the best there is, scales snap to the nearest stored ones. */
#include "test.h"

#include <math.h>

#include "format/format.h"

#define BLOCK 256
#define POINTS_MAX 2048

static const struct {
    const char *name;
    int points, len; /* of the format's table, elements of a point */
    int even;        /* minus signs of each 8 elements */
    int scales;      /* values of a stored sub-scale */
} lattices[] = {
    {"iq1_s", 2048, 8, 0, 8},   {"iq1_m", 2048, 8, 0, 8},   {"iq2_xxs", 256, 8, 1, 16}, {"iq2_xs", 512, 8, 1, 16},
    {"iq2_s", 1024, 8, 0, 16},  {"iq3_xxs", 256, 4, 1, 16}, {"iq3_s", 512, 4, 0, 16},
};
enum { LATTICES = sizeof lattices / sizeof lattices[0] };

static uint32_t seed = 1;

static uint32_t next_bits(void) {
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static float gauss(void) {
    float s = -6.0f;
    for (int i = 0; i < 12; i++) {
        s += (float)(next_bits() >> 8) * 0x1p-24f;
    }
    return s;
}

static void random_block(const struct ht_format *f, uint8_t *bytes) {
    for (uint32_t k = 0; k < f->block_bytes; k++) {
        bytes[k] = (uint8_t)next_bits();
    }
}

/* The different points of a format as random blocks show them: values of levels, signs taken away where they are
 * stored apart. */
static int collect(int which, float points[][8]) {
    const struct ht_format *f = ht_format_find(lattices[which].name);
    int len = lattices[which].len, n = 0;
    for (int trial = 0; trial < 1500 && n <= lattices[which].points; trial++) {
        uint8_t bytes[128];
        int8_t codes[BLOCK];
        struct ht_grid grid;
        random_block(f, bytes);
        f->unpack(bytes, &grid, codes);
        for (int at = 0; at < BLOCK; at += len) {
            float p[8] = {0};
            int k = 0;
            for (int i = 0; i < len; i++) {
                p[i] = grid.levels[codes[at + i] - grid.lo];
                p[i] = grid.hi == 2 ? p[i] : fabsf(p[i]);
            }
            while (k < n && memcmp(points[k], p, sizeof p) != 0) {
                k++;
            }
            if (k == n) {
                assert_true(n < POINTS_MAX);
                memcpy(points[n++], p, sizeof p);
            }
        }
    }
    return n;
}

static double part_error(const float *x, const float *w, const float *p, int n, double scale, double min, int flip) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        double a = (x[i] < 0.0f) != (i == flip) ? -(double)p[i] : (double)p[i], e = x[i] - (scale * a - min);
        sum += (w ? (double)w[i] : 1.0) * e * e;
    }
    return sum;
}

/* Least error of n elements over all points, one wrong sign at `flip` (-1: none). */
static double best_of(float points[][8], int count, int is_signed, const float *x, const float *w, int n, double scale,
                      double min, int flip) {
    double best = INFINITY;
    for (int k = 0; k < count; k++) {
        double e = 0.0;
        if (is_signed) {
            for (int i = 0; i < n; i++) {
                double r = x[i] - (scale * (double)points[k][i] - min);
                e += (w ? (double)w[i] : 1.0) * r * r;
            }
        } else {
            e = part_error(x, w, points[k], n, scale, min, flip);
        }
        best = e < best ? e : best;
    }
    return best;
}

/* Least error of the vector: all points, and every way to make the number of minus signs even. */
static double brute_force(int which, float points[][8], int count, const float *x, const float *w, double scale, double min) {
    int len = lattices[which].len, vector = lattices[which].even ? 8 : len, minus = 0, is_signed = count == 2048;
    double sum = 0.0, more = INFINITY;
    for (int i = 0; i < vector; i++) {
        minus += x[i] < 0.0f;
    }
    for (int v = 0; v < vector; v += len) {
        const float *wv = w ? w + v : NULL;
        double plain = best_of(points, count, is_signed, x + v, wv, len, scale, min, -1);
        sum += plain;
        for (int flip = 0; flip < len && lattices[which].even && minus % 2; flip++) {
            double e = best_of(points, count, 0, x + v, wv, len, scale, min, flip) - plain;
            more = e < more ? e : more;
        }
    }
    return lattices[which].even && minus % 2 ? sum + more : sum;
}

static void rounds_to_the_best(void **state) {
    (void)state;
    static float points[POINTS_MAX][8];
    for (int which = 0; which < LATTICES; which++) {
        const struct ht_format *f = ht_format_find(lattices[which].name);
        int count = collect(which, points);
        assert_int_equal(count, lattices[which].points);
        assert_int_equal(f->vector, lattices[which].even ? 8 : lattices[which].len);
        for (int trial = 0; trial < 12; trial++) {
            float x[BLOCK], w[BLOCK];
            int8_t codes[BLOCK], back[BLOCK];
            uint8_t bytes[128];
            struct ht_grid grid, stored;
            for (int i = 0; i < BLOCK; i++) {
                x[i] = gauss() * (trial % 3 == 2 ? 3.0f : 1.0f);
                w[i] = expf(gauss());
            }
            const float *weight = trial % 2 ? w : NULL;
            f->fit(x, weight, &grid);
            f->snap(&grid);
            for (uint32_t at = 0; at < BLOCK; at += f->vector) {
                int s = (int)at / grid.sub_len;
                double found = 0.0;
                f->round_vector(x, weight, &grid, at, codes);
                for (uint32_t i = at; i < at + f->vector; i++) {
                    double e = (double)x[i] - (double)ht_grid_value(&grid, s, codes[i]);
                    found += (weight ? (double)w[i] : 1.0) * e * e;
                }
                double best = brute_force(which, points, count, x + at, weight ? w + at : NULL, (double)grid.scale[s],
                                          (double)grid.min[s]);
                if (!(found <= best * (1.0 + 1e-5) + 1e-9)) {
                    fail_msg("%s: vector at %u: error %.9g, best %.9g", f->name, at, found, best);
                }
            }
            f->pack(&grid, codes, bytes);
            f->unpack(bytes, &stored, back);
            assert_memory_equal(codes, back, BLOCK);
        }
    }
}

/* Codes that no block can hold are replaced by the nearest that it can, not by anything else. */
static void packs_what_exists(void **state) {
    (void)state;
    static float points[POINTS_MAX][8];
    for (int which = 0; which < LATTICES; which++) {
        const struct ht_format *f = ht_format_find(lattices[which].name);
        int count = collect(which, points);
        uint8_t bytes[128];
        int8_t codes[BLOCK], back[BLOCK];
        struct ht_grid grid;
        random_block(f, bytes);
        f->unpack(bytes, &grid, codes);
        float level[BLOCK], got[BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            codes[i] = (int8_t)(grid.lo + (int)(next_bits() % (uint32_t)(grid.hi - grid.lo + 1)));
            level[i] = grid.levels[codes[i] - grid.lo];
        }
        f->pack(&grid, codes, bytes);
        f->unpack(bytes, &grid, back);
        for (uint32_t at = 0; at < BLOCK; at += f->vector) {
            double found = 0.0;
            for (uint32_t i = at; i < at + f->vector; i++) {
                got[i] = grid.levels[back[i] - grid.lo];
                found += ((double)level[i] - (double)got[i]) * ((double)level[i] - (double)got[i]);
            }
            assert_true(found <= brute_force(which, points, count, level + at, NULL, 1.0, 0.0) * (1.0 + 1e-5) + 1e-9);
        }
    }
}

/* Scales from elsewhere: each is stored within half a step (the steps are 2 apart, from 1 on). */
static void snaps_scales(void **state) {
    (void)state;
    for (int which = 0; which < LATTICES; which++) {
        const struct ht_format *f = ht_format_find(lattices[which].name);
        for (int trial = 0; trial < 60; trial++) {
            uint8_t bytes[128];
            int8_t codes[BLOCK];
            float wanted[HT_GRID_MAX_SUB], largest = 0.0f;
            struct ht_grid grid;
            random_block(f, bytes);
            f->unpack(bytes, &grid, codes);
            int per_scale = strcmp(f->name, "iq1_m") == 0 ? 2 : 1;
            for (int s = 0; s < grid.n_sub; s++) {
                float v = 0.3f + 0.7f * (float)(next_bits() >> 8) * 0x1p-24f;
                wanted[s] = s % per_scale ? wanted[s - 1] : v * 0.01f;
                largest = wanted[s] > largest ? wanted[s] : largest;
                grid.scale[s] = wanted[s] * (trial % 2 && s % (2 * per_scale) < per_scale ? -1.0f : 1.0f);
                grid.min[s] = grid.hi == 2 ? grid.scale[s] * (s % 3 ? 0.125f : -0.125f) : 0.0f;
            }
            f->snap(&grid);
            float step = largest / (float)(lattices[which].scales - 1) * 0.5f;
            for (int s = 0; s < grid.n_sub; s++) {
                assert_true(fabsf(grid.scale[s] - wanted[s]) <= 1.25f * step);
                if (grid.hi == 2) {
                    assert_int_equal(grid.q_min[s], s % 3 != 0);
                    assert_true(fabsf(grid.min[s]) == 0.125f * grid.scale[s]);
                }
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_to_the_best),
        cmocka_unit_test(packs_what_exists),
        cmocka_unit_test(snaps_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
