/* The formats of this program alone, tr2 tr3 tr4 and ovp4: decoding as an independent program has it
 * (tests/oracle/make_trellis.py), paths and pairs that are the best there are, errors that the documents promise. */
#include "test_format_data.h"

#include <ctype.h>
#include <math.h>

#include "base/rng.h"
#include "format/format.h"
#include "format/private/trellis.h"

#define GOLDEN HT_TEST_DIR "/golden/formats/private.safetensors"
#define LEN HT_TRELLIS_LEN

static struct data_file golden;

static void decodes_like_the_oracle(void **state) {
    (void)state;
    int seen = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        if (f->gguf_type < HT_GGUF_PRIVATE) {
            continue;
        }
        char name[2][64];
        size_t shape[2], bytes = 0, want_bytes = 0;
        for (int k = 0; k < 2; k++) {
            snprintf(name[k], sizeof name[k], "%s.codes.%s", f->name, k ? "decoded" : "blocks");
            for (char *c = name[k]; *c != '.'; c++) {
                *c = (char)toupper((unsigned char)*c);
            }
        }
        const void *blocks = data_get(&golden, name[0], shape, &bytes);
        const char *want = data_get(&golden, name[1], shape, &want_bytes);
        assert_true(blocks && want);
        assert_int_equal(bytes, ht_format_row_bytes(f, want_bytes / 4));
        float *x = malloc(want_bytes);
        assert_non_null(x);
        f->decode(blocks, x, want_bytes / 4);
        for (size_t e = 0; e < want_bytes / 4; e++) {
            if (memcmp(&x[e], want + 4 * e, 4) != 0) {
                fail_msg("%s: element %zu: got %a", f->name, e, (double)x[e]);
            }
        }
        free(x);
        seen++;
    }
    assert_int_equal(seen, 4);
}

/* ---- the trellis by its definition, in double and one window after the other ---- */

static const unsigned factors[3] = {0xc27d, 0xa051, 0x105f};

static struct ht_trellis trellis_of(unsigned bits, float *levels) {
    char name[8];
    struct ht_grid grid;
    uint8_t block[2 + 32 * 4] = {0};
    int8_t codes[LEN];
    snprintf(name, sizeof name, "tr%u", bits);
    ht_format_find(name)->unpack(block, &grid, codes);
    assert_int_equal(grid.hi - grid.lo + 1, 16 << bits);
    memcpy(levels, grid.levels, sizeof(float) * (size_t)(16 << bits));
    return (struct ht_trellis){.bits = bits, .factor = factors[bits - 2], .levels = levels};
}

static double level(const struct ht_trellis *t, unsigned window) {
    unsigned head_bits = 12 - t->bits, head = window % (1u << head_bits), digit = window >> head_bits;
    unsigned hash = t->factor * head % 65536u;
    return (double)t->levels[(hash >> (16 - (t->bits + 4))) ^ (digit * 16)];
}

/* Least cost of a free path, or of one that starts and ends with a head (>= 0). */
static double least_cost(const struct ht_trellis *t, const float *x, const float *w, int head) {
    static double cost[1 << 10], next[1 << 10];
    unsigned heads = 1u << (12 - t->bits);
    for (unsigned h = 0; h < heads; h++) {
        cost[h] = head < 0 || (unsigned)head == h ? 0.0 : INFINITY;
    }
    for (int i = 0; i < LEN; i++) {
        for (unsigned h = 0; h < heads; h++) {
            next[h] = INFINITY;
        }
        for (unsigned window = 0; window < 4096; window++) {
            double r = (double)x[i] - level(t, window), c = cost[window % heads] + (double)w[i] * r * r;
            if (c < next[window >> t->bits]) {
                next[window >> t->bits] = c;
            }
        }
        memcpy(cost, next, sizeof cost);
    }
    double best = INFINITY;
    for (unsigned h = 0; h < heads; h++) {
        best = cost[h] < best && (head < 0 || (unsigned)head == h) ? cost[h] : best;
    }
    return best;
}

static double cost_of(const struct ht_trellis *t, const float *x, const float *w, const uint8_t *numbers) {
    double sum = 0.0;
    for (int i = 0; i < LEN; i++) {
        double r = (double)x[i] - (double)t->levels[numbers[i]];
        sum += (double)w[i] * r * r;
    }
    return sum;
}

static void paths_are_the_best(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 3);
    for (unsigned bits = 2; bits <= 4; bits++) {
        float levels[256];
        struct ht_trellis t = trellis_of(bits, levels);
        double free_sum = 0.0, ring_sum = 0.0;
        for (int trial = 0; trial < 4; trial++) {
            float x[LEN], w[LEN];
            uint8_t numbers[LEN], back[LEN], digits[LEN / 2];
            for (int i = 0; i < LEN; i++) {
                x[i] = 45.0f * (float)ht_rng_normal(&rng);
                w[i] = trial % 2 ? (float)exp(ht_rng_normal(&rng)) : 1.0f;
            }
            ht_trellis_path(&t, x, w, 0, numbers);
            double want = least_cost(&t, x, w, -1), got = cost_of(&t, x, w, numbers);
            assert_true(fabs(got - want) <= 1e-4 * want);
            free_sum += want;

            ht_trellis_path(&t, x, w, 1, numbers);
            assert_true(ht_trellis_digits(&t, numbers, digits));
            ht_trellis_numbers(&t, digits, back);
            assert_memory_equal(numbers, back, LEN);
            unsigned head = (digits[0] | (unsigned)digits[1] << 8) & ((1u << (12 - bits)) - 1);
            want = least_cost(&t, x, w, (int)head);
            got = cost_of(&t, x, w, numbers);
            assert_true(fabs(got - want) <= 1e-4 * want); /* of the rings through this head the best */
            ring_sum += got;
        }
        print_message("tr%u: a ring costs %.4f of a free path\n", bits, ring_sum / free_sum);
        assert_true(ring_sum < 1.1 * free_sum);
    }
}

/* Numbers that no ring gives are packed as a ring that is near. */
static void packs_what_exists(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 4);
    for (unsigned bits = 2; bits <= 4; bits++) {
        char name[8];
        snprintf(name, sizeof name, "tr%u", bits);
        const struct ht_format *f = ht_format_find(name);
        uint8_t block[2 + 32 * 4] = {0, 0x3c}; /* 1.0 */
        struct ht_grid grid;
        int8_t codes[LEN], back[LEN];
        double e = 0.0, energy = 0.0;
        f->unpack(block, &grid, codes);
        for (int i = 0; i < LEN; i++) {
            codes[i] = (int8_t)(grid.lo + (int)(ht_rng_u64(&rng) % (uint64_t)(grid.hi - grid.lo + 1)));
        }
        f->pack(&grid, codes, block);
        f->unpack(block, &grid, back);
        for (int i = 0; i < LEN; i++) {
            double want = (double)ht_grid_value(&grid, 0, codes[i]);
            energy += want * want;
            e += pow(want - (double)ht_grid_value(&grid, 0, back[i]), 2.0);
        }
        assert_true(e < pow(0.4, (double)bits) * energy);
    }
}

/* ---- pairs ---- */

static void pairs_are_the_best(void **state) {
    (void)state;
    struct ht_rng rng;
    ht_rng_init(&rng, 5);
    const struct ht_format *f = ht_format_find("ovp4");
    for (int trial = 0; trial < 30; trial++) {
        float x[64], w[64], values[256][2];
        uint8_t block[34] = {0, 0x3c}, stored[34];
        int8_t codes[64], back[64];
        struct ht_grid grid, again;
        for (int b = 0; b < 256; b++) { /* all pairs that there are */
            float y[64];
            block[2] = (uint8_t)b;
            f->decode(block, y, 64);
            memcpy(values[b], y, sizeof values[b]);
        }
        f->unpack(block, &grid, codes);
        for (int i = 0; i < 64; i++) {
            x[i] = (float)ht_rng_normal(&rng) * (i % 7 ? 3.0f : 40.0f);
            w[i] = (float)exp(ht_rng_normal(&rng));
        }
        const float *weight = trial % 2 ? w : NULL;
        f->round(x, weight, &grid, codes);
        for (int i = 0; i < 64; i += 2) {
            double best = INFINITY, w0 = weight ? (double)w[i] : 1.0, w1 = weight ? (double)w[i + 1] : 1.0;
            w0 = fmax(w0, 1e-3 * w1);
            w1 = fmax(w1, 1e-3 * w0);
            for (int b = 0; b < 256; b++) {
                double e = w0 * pow((double)x[i] - (double)values[b][0], 2.0) +
                           w1 * pow((double)x[i + 1] - (double)values[b][1], 2.0);
                best = e < best ? e : best;
            }
            double got = w0 * pow((double)x[i] - (double)ht_grid_value(&grid, 0, codes[i]), 2.0) +
                         w1 * pow((double)x[i + 1] - (double)ht_grid_value(&grid, 0, codes[i + 1]), 2.0);
            assert_true(got <= best * (1.0 + 1e-5));
        }
        f->pack(&grid, codes, stored);
        f->unpack(stored, &again, back);
        assert_memory_equal(codes, back, 64);
    }
}

/* Relative error on normal rows, as docs/measurements/encoders.md gives it, with a little room. */
static void errors_are_as_promised(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double most;
    } want[] = {{"tr2", 0.0725}, {"tr3", 0.0188}, {"tr4", 0.0051}, {"ovp4", 0.0095}};
    enum { N = 16384 };
    static float x[N], y[N];
    static uint8_t blocks[N];
    struct ht_rng rng;
    ht_rng_init(&rng, 6);
    for (int i = 0; i < N; i++) {
        x[i] = 0.02f * (float)ht_rng_normal(&rng);
    }
    for (size_t k = 0; k < sizeof want / sizeof want[0]; k++) {
        const struct ht_format *f = ht_format_find(want[k].name);
        double e = 0.0, energy = 0.0;
        f->encode(x, NULL, blocks, N);
        f->decode(blocks, y, N);
        for (int i = 0; i < N; i++) {
            e += pow((double)x[i] - (double)y[i], 2.0);
            energy += (double)x[i] * (double)x[i];
        }
        print_message("%s: %.5f\n", want[k].name, e / energy);
        assert_true(e < want[k].most * energy);
    }
}

int main(void) {
    if (!data_open(GOLDEN, &golden)) {
        fprintf(stderr, "cannot open %s\n", GOLDEN);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_like_the_oracle), cmocka_unit_test(paths_are_the_best),
        cmocka_unit_test(packs_what_exists),       cmocka_unit_test(pairs_are_the_best),
        cmocka_unit_test(errors_are_as_promised),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    data_close(&golden);
    return rc;
}
