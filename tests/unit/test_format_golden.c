/* Decoding bit for bit as ggml; encoding with no more error than ggml on the same rows. */
#include "test_format_data.h"

#include <ctype.h>
#include <math.h>

#include "format/format.h"

#define GOLDEN HT_TEST_DIR "/golden/formats/ggml.safetensors"
#define LATTICE HT_TEST_DIR "/golden/formats/lattice.safetensors"

static struct data_file golden, lattice;

static const void *get(const struct ht_format *f, const char *suffix, size_t shape[2], size_t *bytes) {
    char name[64];
    size_t n = strlen(f->name);
    for (size_t i = 0; i <= n; i++) {
        name[i] = (char)toupper((unsigned char)f->name[i]);
    }
    snprintf(name + n, sizeof name - n, ".%s", suffix);
    return data_get(f->kind == HT_KIND_LATTICE ? &lattice : &golden, name, shape, bytes);
}

/* ggml does not encode these without importance. */
static int needs_importance(const struct ht_format *f) {
    return strncmp(f->name, "iq1_", 4) == 0 || strncmp(f->name, "iq2_x", 5) == 0;
}

static void expect_same_bits(const struct ht_format *f, const float *got, const void *want, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, (const char *)want + 4 * i, 4);
        if (memcmp(&v, &got[i], 4) != 0) {
            fail_msg("%s.%s: element %zu: got %a, want %a", f->name, what, i, (double)got[i], (double)v);
        }
    }
}

static void decodes_like_ggml(void **state) {
    (void)state;
    const char *what[] = {"plain", "weighted", "codes"};
    size_t seen = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        for (int k = 0; k < 3 && f->fit && f->gguf_type < HT_GGUF_PRIVATE; k++) {
            char key[32];
            size_t shape[2], want_shape[2], bytes = 0, want_bytes = 0;
            snprintf(key, sizeof key, "%s.blocks", what[k]);
            const void *blocks = get(f, key, shape, &bytes);
            snprintf(key, sizeof key, "%s.decoded", what[k]);
            const void *want = get(f, key, want_shape, &want_bytes);
            if (k == 0 && needs_importance(f)) {
                continue;
            }
            if (!blocks || !want) {
                fail_msg("%s has no golden vectors %s in %s", f->name, what[k], GOLDEN);
            }
            size_t n = want_bytes / 4;
            assert_int_equal(bytes, ht_format_row_bytes(f, n));
            float *x = malloc(n * sizeof *x);
            assert_non_null(x);
            f->decode(blocks, x, n);
            expect_same_bits(f, x, want, n, what[k]);
            free(x);
            seen++;
        }
    }
    assert_true(seen >= 70);
}

static double row_error(const float *x, const float *y, const float *weight, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        double e = (double)x[i] - (double)y[i];
        sum += e * e * (weight ? (double)weight[i] : 1.0);
    }
    return sum;
}

/* The sum over the rows is dominated by those with large values, so each row is also held relative to its own
 * energy: neither sum may exceed ggml's. */
static void encodes_no_worse_than_ggml(void **state) {
    (void)state;
    size_t shape[2], bytes = 0;
    const float *input = data_get(&golden, "input", shape, &bytes);
    assert_non_null(input);
    size_t rows = shape[0], n = shape[1];
    const float *importance = data_get(&golden, "importance", shape, &bytes);
    assert_non_null(importance);
    float *x = malloc(rows * n * sizeof *x), *y = malloc(n * sizeof *y), *w = malloc(n * sizeof *w);
    int worse = 0;
    assert_true(x && y && w);
    memcpy(x, input, rows * n * sizeof *x); /* the file's bytes are not aligned for certain */
    memcpy(w, importance, n * sizeof *w);
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        for (int weighted = needs_importance(f); weighted < 2 && f->fit && f->gguf_type < HT_GGUF_PRIVATE; weighted++) {
            const char *their = get(f, weighted ? "weighted.decoded" : "plain.decoded", shape, &bytes);
            assert_non_null(their);
            uint8_t *blocks = malloc((size_t)ht_format_row_bytes(f, n));
            assert_non_null(blocks);
            double ours = 0.0, ggml = 0.0, ours_rel = 0.0, ggml_rel = 0.0;
            for (size_t r = 0; r < rows; r++) {
                const float *weight = weighted ? w : NULL, *row = x + r * n;
                double energy = 0.0;
                for (size_t k = 0; k < n; k++) {
                    energy += (double)row[k] * row[k] * (weight ? (double)w[k] : 1.0);
                }
                energy = energy > 0.0 ? energy : 1.0;
                f->encode(row, weight, blocks, n);
                f->decode(blocks, y, n);
                double e = row_error(row, y, weight, n);
                ours += e;
                ours_rel += e / energy;
                memcpy(y, their + 4 * r * n, 4 * n);
                e = row_error(row, y, weight, n);
                ggml += e;
                ggml_rel += e / energy;
            }
            print_message("%-7s %-8s error / ggml's %.4f, relative to each row's energy %.4f\n", f->name,
                          weighted ? "weighted" : "plain", ours / ggml, ours_rel / ggml_rel);
            if (!(ours <= ggml) || !(ours_rel <= ggml_rel)) {
                print_error("%s %s: error %g, ggml %g; relative %g, ggml %g\n", f->name,
                            weighted ? "weighted" : "plain", ours, ggml, ours_rel, ggml_rel);
                worse++;
            }
            free(blocks);
        }
    }
    free(x);
    free(y);
    free(w);
    assert_int_equal(worse, 0);
}

int main(void) {
    if (!data_open(GOLDEN, &golden) || !data_open(LATTICE, &lattice)) {
        fprintf(stderr, "cannot open %s or %s\n", GOLDEN, LATTICE);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_like_ggml),
        cmocka_unit_test(encodes_no_worse_than_ggml),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    data_close(&golden);
    data_close(&lattice);
    return rc;
}
