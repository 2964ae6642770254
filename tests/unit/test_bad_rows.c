/* Rows that no encoder likes, in every format of the table: zeros, equal values, subnormal scales, huge outliers, NaN and
 * Inf, lengths that blocks do not divide. Results are defined and finite, or refused in words. test_format_table.c
 * does the same for blocks with scales inside. */
#include "test.h"

#include <float.h>
#include <math.h>

#include "format/half.h"
#include "quant/mix.h"
#include "tensor/qtensor.h"
#include "flow_test.h"

enum { ROWS = 2, COLS = 75, N = ROWS * COLS }; /* groups of 32 have a tail of 11 */

enum kind { ZEROS, MINUS_ZEROS, EQUAL, EQUAL_BELOW, SUBNORMAL, TINY_ROW, LARGE, LARGEST, OUTLIER, ONE_SIDE, ONE_VALUE, MIXED, KINDS };

static void fill(float *x, enum kind kind) {
    struct ht_rng rng;
    ht_rng_init(&rng, 40 + (uint64_t)kind);
    for (int k = 0; k < N; k++) {
        float v = (float)(0.05 * ht_rng_normal(&rng));
        const float values[KINDS] = {
            [ZEROS] = 0.0f,
            [MINUS_ZEROS] = -0.0f,
            [EQUAL] = 3.7f,
            [EQUAL_BELOW] = -0.01f,
            [SUBNORMAL] = v * 1e-42f,
            [TINY_ROW] = v * 1e-30f,
            [LARGE] = v * 1e37f,
            [LARGEST] = k % 3 ? FLT_MAX : -FLT_MAX,
            [OUTLIER] = k % COLS == 50 ? -1e30f : v,
            [ONE_SIDE] = fabsf(v) + 5.0f,
            [ONE_VALUE] = k % COLS == 7 ? 1.0f : 0.0f,
            [MIXED] = k % 32 == 0 ? 1e38f : 1e-38f,
        };
        x[k] = values[kind];
    }
}

static const char *const parts[] = {":tensor", ":channel", ":token", ":g32", ":g32:scale=f32", ":g32:scale=bf16", ":g32:scale=e8m0",
                                    ":g16:nested", ":g32:asym:scale=f32", ":g32:offset:scale=f32", ":g7:narrow:scale=f32"};

/* All code formats with all the ways to give them scales: calls fn with each. */
static size_t walk_schemes(void (*fn)(const char *text, const struct ht_scheme *s)) {
    size_t n = 0;
    for (size_t f = 0; f < ht_format_count(); f++) {
        for (size_t p = 0; ht_format_at(f)->code != NULL && p < sizeof parts / sizeof parts[0]; p++) {
            char text[64];
            struct ht_scheme s;
            snprintf(text, sizeof text, "%s%s", ht_format_at(f)->name, parts[p]);
            if (ht_scheme_parse(text, &s, NULL) == HT_OK) { /* which go together: test_scheme.c */
                fn(text, &s);
                n++;
            }
        }
    }
    return n;
}

static void check_row(const char *text, const struct ht_scheme *s, enum kind kind) {
    float x[N], y[N];
    double power = 0, error = 0;
    struct ht_qtensor q;
    struct ht_qtensor_counts counts = {0};
    ht_err err = {0};
    fill(x, kind);
    ASSERT_OK(ht_qtensor_init(&q, s, ROWS, COLS, "w", &err), &err);
    ht_status status = ht_qtensor_encode(&q, x, NULL, &counts, &err);
    if (status == HT_NUMERIC) { /* only scales of less range than f32 may be too small for a value */
        bool hard = kind == LARGE || kind == LARGEST || kind == OUTLIER || kind == MIXED;
        if (!hard || strstr(err.msg, "scale=f32") == NULL) {
            fail_msg("%s, row %d: refused: %s", text, (int)kind, err.msg);
        }
        ht_qtensor_deinit(&q);
        return;
    }
    ASSERT_OK(status, &err);
    ht_qtensor_decode(&q, 0, ROWS, y);
    for (int k = 0; k < N; k++) {
        if (!isfinite(y[k])) {
            fail_msg("%s, row %d: %g became %g", text, (int)kind, (double)x[k], (double)y[k]);
        }
        power += (double)x[k] * (double)x[k];
        error += ((double)x[k] - (double)y[k]) * ((double)x[k] - (double)y[k]);
    }
    /* binary codes with e8m0 scales have neither a level nor a scale of zero: 2^-127 */
    bool least = s->format->code->min_level * s->format->code->max_level == -1 && s->scale->real->mantissa_bits == 0;
    if ((kind == ZEROS || kind == MINUS_ZEROS) && (error > (least ? N * 0x1p-254 : 0) || counts.zero_groups == 0)) {
        fail_msg("%s: zeros became %g, %llu groups counted", text, error, (unsigned long long)counts.zero_groups);
    }
    bool reached = s->zero != HT_ZERO_NONE || (kind == EQUAL ? s->format->code->max_level > 0 : s->format->code->min_level < 0);
    bool exact = s->scale->real->mantissa_bits >= 23 && !s->nested && reached;
    if ((kind == EQUAL || kind == EQUAL_BELOW) && exact && !(error <= 2e-5 * power)) {
        fail_msg("%s: equal values, relative error %g", text, error / power);
    }
    /* no worse than zeros, where 0 is a level: offset grids of one or two bits know only the ends of the range */
    if (!least && !(error <= power * 1.01) && counts.flushed == 0 && s->zero != HT_ZERO_OFFSET) {
        fail_msg("%s, row %d: relative error %g", text, (int)kind, error / power);
    }
    ht_qtensor_deinit(&q);
}

static void one_scheme_hard(const char *text, const struct ht_scheme *s) {
    for (int kind = 0; kind < KINDS; kind++) {
        check_row(text, s, (enum kind)kind);
    }
}

static void hard_rows_in_every_scheme(void **state) {
    (void)state;
    assert_true(walk_schemes(one_scheme_hard) > 300);
}

/* NaN and Inf: refused with their number; where they are allowed, counted and what the header says. */
static void one_scheme_not_finite(const char *text, const struct ht_scheme *s) {
    float x[N], clean[N], y[N], z[N];
    struct ht_qtensor q, c;
    struct ht_qtensor_counts counts = {0};
    struct ht_qtensor_options o = {.name = "blk.0.attn_q"};
    ht_err err = {0};
    fill(x, ONE_SIDE);
    for (int k = 0; k < N; k += 2) {
        x[k] = -x[k];
    }
    memcpy(clean, x, sizeof clean);
    x[3] = NAN;
    x[20] = INFINITY;
    x[40] = -INFINITY;
    clean[3] = 0;
    uint64_t run = ht_scheme_run(s, COLS);
    for (uint64_t bad = 20; bad <= 40; bad += 20) {
        uint64_t from = bad / run * run, end = from + run < COLS ? from + run : COLS;
        float largest = 0;
        for (uint64_t k = from; k < end; k++) {
            largest = k != 3 && k != 20 && k != 40 && fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
        }
        clean[bad] = bad == 20 ? largest : -largest;
    }
    ASSERT_OK(ht_qtensor_init(&q, s, ROWS, COLS, "w", &err), &err);
    ASSERT_OK(ht_qtensor_init(&c, s, ROWS, COLS, "w", &err), &err);
    assert_int_equal(ht_qtensor_encode(&q, x, &o, &counts, &err), HT_NUMERIC);
    assert_string_equal(err.what, "blk.0.attn_q");
    assert_non_null(strstr(err.msg, "1 NaN and 2 Inf"));
    o.allow_nonfinite = true;
    memset(&counts, 0, sizeof counts);
    ht_err_clear(&err);
    ASSERT_OK(ht_qtensor_encode(&q, x, &o, &counts, &err), &err);
    ASSERT_OK(ht_qtensor_encode(&c, clean, NULL, NULL, &err), &err);
    assert_true(counts.nan == 1 && counts.inf == 2 && counts.elems == N && isfinite(counts.error));
    ht_qtensor_decode(&q, 0, ROWS, y);
    ht_qtensor_decode(&c, 0, ROWS, z);
    if (memcmp(y, z, sizeof y) != 0) {
        fail_msg("%s: not the values of the row without NaN and Inf", text);
    }
    ht_qtensor_deinit(&q);
    ht_qtensor_deinit(&c);
}

static void not_finite_in_every_scheme(void **state) {
    (void)state;
    assert_true(walk_schemes(one_scheme_not_finite) > 300);
}

/* For every format of GGUF and every length of row there is a format whose blocks divide it, of no fewer bits. */
static void every_length_has_a_format(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *f = ht_format_at(i);
        for (uint64_t n = 1; f->gguf_type >= 0 && f->kind != HT_KIND_INT && n <= 600; n++) {
            const struct ht_format *g = ht_format_fallback(f, n);
            assert_true(g != NULL && g->gguf_type >= 0 && n % g->block_elems == 0);
            assert_true(g == f ? n % f->block_elems == 0 : n % f->block_elems != 0);
            assert_true(ht_format_bits(g) >= ht_format_bits(f));
        }
    }
}

/* One NaN in a model: every format a file can have refuses it, counts it, and with allow_nonfinite writes a file whose
 * values are all finite. */
static void not_finite_in_every_file(void **state) {
    struct fixture *f = *state;
    const char *bad = in_dir(f, "bad.gguf"), *out = in_dir(f, "out.gguf");
    char rule[64];
    ht_err err = {0};
    ht_convert_options c;
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = bad;
    c.dtype = "f32";
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
    struct ht_source *s = open_source(bad);
    const struct ht_tensor *t = ht_source_find(s, "blk.2.attn_k.weight");
    long at = (long)((const unsigned char *)t->data - s->maps[0].data) + 4000;
    ht_source_close(s);
    FILE *file = fopen(bad, "r+b");
    const float nan = NAN;
    assert_true(file != NULL && fseek(file, at, SEEK_SET) == 0 && fwrite(&nan, sizeof nan, 1, file) == 1 && fclose(file) == 0);
    size_t tried = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        const struct ht_format *format = ht_format_at(i);
        if (format->gguf_type < 0 || format->kind == HT_KIND_INT || format->block_bytes / format->block_elems == 8) {
            continue; /* f64 is read and not written */
        }
        const char *rules[] = {rule};
        snprintf(rule, sizeof rule, "attn_k=%s", format->name);
        ht_quantize_options o;
        ht_quantize_options_defaults(&o);
        o.input = bad;
        o.output = out;
        o.format = "f16";
        o.tensor_rules = rules;
        o.n_tensor_rules = 1;
        if (ht_quantize(f->ctx, &o, NULL, &err) != HT_NUMERIC) {
            fail_msg("%s: %s: %s", format->name, err.what, err.msg);
        }
        assert_string_equal(err.what, "blk.2.attn_k.weight");
        assert_non_null(strstr(err.msg, "1 of 32768 values are NaN or Inf"));
        assert_false(ht_path_exists(out));
        o.allow_nonfinite = true;
        char *json = NULL;
        ASSERT_OK(ht_quantize(f->ctx, &o, &json, &err), &err);
        assert_non_null(strstr(json, "\"nonfinite_zeroed\""));
        ht_string_free(json);
        ASSERT_OK(ht_verify(f->ctx, out, NULL, NULL, &err), &err); /* reads every value */
        unlink(out);
        tried++;
    }
    assert_true(tried > 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_rows_in_every_scheme),
        cmocka_unit_test(not_finite_in_every_scheme),
        cmocka_unit_test(every_length_has_a_format),
        cmocka_unit_test_setup_teardown(not_finite_in_every_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
