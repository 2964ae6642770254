/* The linear at run time against the formulas of tensor/sidecar.h in double precision, one element at a time. */
#include "test.h"

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "format/half.h"
#include "model/linear.h"
#include "tensor/act.h"
#include "tensor/hadamard.h"

/* More tokens than lie side by side in the sidecar's terms (linear_terms.c), and not a multiple of that. */
#ifdef HT_SANITIZED
enum { ROWS = 61, COLS = 96, TOKENS = 9 };
#else
enum { ROWS = 61, COLS = 96, TOKENS = 35 };
#endif

/* ---- what is tested ---------------------------------------------------------------------------------------- */

struct choice {
    const char *weight;  /* scheme, or a format of the table */
    unsigned leaves;
    const char *act;     /* scheme, with HT_LEAVES_ACT */
};

#define MOVES (HT_LEAVES_IN_SHIFT | HT_LEAVES_IN_SCALE | HT_LEAVES_HADAMARD | HT_LEAVES_PERM)
#define TERMS (HT_LEAVES_COLUMNS | HT_LEAVES_SPARSE | HT_LEAVES_LOWRANK | HT_LEAVES_OUT_BIAS)

static const struct choice choices[] = {
    {"int4:g32", 0, NULL},
    {"uint3:g16", HT_LEAVES_IN_SCALE, NULL},
    {"int8:channel", HT_LEAVES_PERM, NULL},
    {"nf4:g32:nested", HT_LEAVES_HADAMARD, NULL},
    {"binary:g32", HT_LEAVES_COLUMNS, NULL},
    {"int3:g16", HT_LEAVES_SPARSE, NULL},
    {"uint4:g32:offset", HT_LEAVES_LOWRANK, NULL},
    {"kmeans3:channel", MOVES | TERMS, NULL},
    {"q4_0", MOVES | TERMS, NULL},
    {"f16", MOVES | TERMS, NULL},
    {"int8:channel", HT_LEAVES_ACT, "int8:token"},
    {"int8:channel", HT_LEAVES_ACT, "uint8:token"},
    {"int8:tensor", HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE, "int8:tensor"},
    {"uint8:channel", HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE, "uint8:tensor"},
    {"int4:g32", HT_LEAVES_ACT, "int8:g24"},
    {"uint4:g32", HT_LEAVES_ACT, "uint4:g40"},
    {"uint4:channel", HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE | HT_LEAVES_CLUSTERS | HT_LEAVES_PERM, "uint4:tensor"},
    {"int4:g64", HT_LEAVES_ACT | HT_LEAVES_CLUSTERS, "int8:token"},
    {"int8:channel", HT_LEAVES_ACT | HT_LEAVES_THRESHOLD, "int8:token"},
    {"fp8_e4m3:channel", HT_LEAVES_ACT, "fp8_e4m3:token"},
    {"fp8_e5m2:tensor", HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE, "fp8_e4m3:tensor"},
    {"uint4:g32:offset", HT_LEAVES_ACT | HT_LEAVES_THRESHOLD | TERMS, "int8:token"},
    {"nf4:g64", HT_LEAVES_ACT | HT_LEAVES_THRESHOLD | TERMS, "int8:token"},
    {"int4:channel", MOVES | TERMS | HT_LEAVES_ACT | HT_LEAVES_THRESHOLD, "int8:token"},
    {"q8_0", HT_LEAVES_ACT, "int8:token"},
    {"int16:channel", HT_LEAVES_ACT, "uint8:token"},
};

struct fixture {
    struct ht_linear l;
    struct ht_qtensor q;
    struct ht_sidecar s;
    unsigned char *bytes; /* of a weight in a format of the table */
    float w[ROWS * COLS], x[TOKENS * COLS], bias[ROWS];
};

static void fill_side(struct ht_sidecar *s, struct ht_rng *rng) {
    for (uint64_t j = 0; j < s->cols; j++) {
        if (s->in_shift != NULL) {
            s->in_shift[j] = (float)ht_rng_normal(rng);
        }
        if (s->in_scale != NULL) {
            s->in_scale[j] = (float)(ht_rng_uniform(rng) + 0.5) * (j % 3 == 0 ? -1.0f : 1.0f);
        }
        if (s->perm != NULL) {
            s->perm[j] = (uint32_t)((j * 35 + 11) % s->cols);
        }
    }
    for (uint32_t i = 0; i < s->n_out; i++) {
        s->out_idx[i] = 5 + 17 * i;
    }
    for (uint64_t i = 0; i < (uint64_t)s->n_out * s->rows; i++) {
        s->out_val[i] = ht_f16_from_f32((float)ht_rng_normal(rng));
    }
    for (uint64_t r = 0; s->sp_ptr != NULL && r <= s->rows; r++) {
        s->sp_ptr[r] = (uint32_t)(r * s->n_sparse / s->rows);
    }
    for (uint64_t r = 0; s->sp_ptr != NULL && r < s->rows; r++) {
        for (uint32_t i = s->sp_ptr[r]; i < s->sp_ptr[r + 1]; i++) {
            s->sp_idx[i] = (i - s->sp_ptr[r]) * 31 + (uint32_t)r % 30;
            s->sp_val[i] = ht_f16_from_f32((float)ht_rng_normal(rng));
        }
    }
    for (uint64_t i = 0; i < s->rank * s->cols; i++) {
        s->lr_a[i] = ht_f16_from_f32((float)ht_rng_normal(rng) * 0.1f);
    }
    for (uint64_t i = 0; i < s->rank * s->rows; i++) {
        s->lr_b[i] = ht_f16_from_f32((float)ht_rng_normal(rng) * 0.1f);
    }
    for (uint64_t r = 0; s->out_bias != NULL && r < s->rows; r++) {
        s->out_bias[r] = (float)ht_rng_normal(rng);
    }
    for (uint32_t i = 0; i < s->n_clusters; i++) {
        s->act_idx[i] = i * 7 + i * i;
    }
    uint32_t n = s->n_clusters > 0 ? s->n_clusters : 1;
    for (uint32_t i = 0; s->act_scale != NULL && i < n; i++) {
        s->act_scale[i] = 0.02f + 0.01f * (float)i;
        if (s->act_zero != NULL) {
            s->act_zero[i] = ht_scheme_hi(&s->act) / 2 + (int32_t)i;
        }
    }
}

static void make(struct fixture *f, const struct choice *c) {
    ht_err err = {0};
    struct ht_rng rng;
    memset(f, 0, sizeof *f);
    ht_rng_init(&rng, 7);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        f->w[i] = (float)ht_rng_normal(&rng);
    }
    for (size_t i = 0; i < TOKENS * COLS; i++) {
        f->x[i] = (float)ht_rng_normal(&rng) * (i % 29 == 3 ? 8.0f : 1.0f);
    }
    for (size_t r = 0; r < ROWS; r++) {
        f->bias[r] = (float)ht_rng_normal(&rng);
    }
    f->l = (struct ht_linear){.w = {NULL, NULL, ROWS, COLS, 0}, .bias = f->bias, .name = "blk.0.test.weight"};
    const struct ht_format *format = ht_format_find(c->weight);
    if (format != NULL && format->code == NULL) {
        f->l.w.format = format;
        f->l.w.row_bytes = ht_format_row_bytes(format, COLS);
        f->bytes = ht_mem_alloc(ROWS * f->l.w.row_bytes);
        f->l.w.data = f->bytes;
        format->encode(f->w, NULL, f->bytes, ROWS * COLS);
    } else {
        struct ht_scheme scheme;
        ASSERT_OK(ht_scheme_parse(c->weight, &scheme, &err), &err);
        ASSERT_OK(ht_qtensor_init(&f->q, &scheme, ROWS, COLS, NULL, &err), &err);
        ASSERT_OK(ht_qtensor_encode(&f->q, f->w, NULL, NULL, &err), &err);
        f->l.q = &f->q;
    }
    if (c->leaves != 0) {
        f->s = (struct ht_sidecar){.rows = ROWS, .cols = COLS, .leaves = c->leaves};
        f->s.hadamard = (c->leaves & HT_LEAVES_HADAMARD) != 0 ? 32 : 0;
        f->s.n_out = (c->leaves & HT_LEAVES_COLUMNS) != 0 ? 5 : 0;
        f->s.n_sparse = (c->leaves & HT_LEAVES_SPARSE) != 0 ? 2 * ROWS + 3 : 0;
        f->s.rank = (c->leaves & HT_LEAVES_LOWRANK) != 0 ? 6 : 0;
        f->s.n_clusters = (c->leaves & HT_LEAVES_CLUSTERS) != 0 ? 6 : 0;
        f->s.threshold = (c->leaves & HT_LEAVES_THRESHOLD) != 0 ? 3.0f : 0;
        if (c->act != NULL) {
            ASSERT_OK(ht_scheme_parse(c->act, &f->s.act, &err), &err);
        }
        ASSERT_OK(ht_sidecar_init(&f->s, "test", &err), &err);
        fill_side(&f->s, &rng);
        ASSERT_OK(ht_sidecar_check(&f->s, "file", "test", &err), &err);
        f->l.side = &f->s;
    }
}

static void drop(struct fixture *f) {
    ht_qtensor_deinit(&f->q);
    ht_sidecar_deinit(&f->s);
    ht_mem_free(f->bytes);
}

/* ---- the same, written down ---------------------------------------------------------------------------------- */

/* u of one token. H_ij = (-1)^popcount(i & j) / sqrt(n). */
static void slow_inputs(const struct ht_sidecar *s, const float *x, double *u) {
    double v[COLS], w[COLS];
    for (int j = 0; j < COLS; j++) {
        v[j] = (x[j] - (s->in_shift != NULL ? s->in_shift[j] : 0)) / (s->in_scale != NULL ? s->in_scale[j] : 1);
        w[j] = v[j];
    }
    for (int j = 0; s->hadamard > 0 && j < COLS; j++) {
        int n = (int)s->hadamard, base = j / n * n;
        w[j] = 0;
        for (int i = 0; i < n; i++) {
            w[j] += v[base + i] * (__builtin_popcount((unsigned)(i & (j - base))) % 2 ? -1 : 1) / sqrt(n);
        }
    }
    for (int j = 0; j < COLS; j++) {
        u[j] = s->perm != NULL ? w[s->perm[j]] : w[j];
    }
}

static double slow_round(const struct ht_sidecar *s, const double *m, int k) {
    int from = 0, to = COLS, segment = 0;
    if (s->n_clusters > 0) {
        while (segment + 1 < (int)s->n_clusters && (int)s->act_idx[segment + 1] <= k) {
            segment++;
        }
        from = (int)s->act_idx[segment];
        to = segment + 1 < (int)s->n_clusters ? (int)s->act_idx[segment + 1] : COLS;
    } else if (s->act.granularity == HT_PER_GROUP) {
        from = k / (int)s->act.group * (int)s->act.group;
        to = from + (int)s->act.group < COLS ? from + (int)s->act.group : COLS;
    }
    double lo = m[from], hi = m[from];
    for (int i = from; i < to; i++) {
        lo = fmin(lo, m[i]);
        hi = fmax(hi, m[i]);
    }
    bool asym = s->act.zero == HT_ZERO_CODE, small_float = s->act.format->real != NULL;
    double c_lo = ht_scheme_lo(&s->act), c_hi = ht_scheme_hi(&s->act), scale, zero = 0;
    if (s->act_scale != NULL) {
        scale = s->act_scale[segment];
        zero = asym ? s->act_zero[segment] : 0;
    } else if (asym) {
        lo = fmin(lo, 0);
        hi = fmax(hi, 0);
        scale = (float)((hi - lo) / (c_hi - c_lo));
        zero = rint(c_lo - lo / scale);
    } else {
        scale = (float)fmax(hi / (small_float ? s->act.format->code->max_level : c_hi),
                            lo / (small_float ? s->act.format->code->min_level : c_lo));
    }
    /* Groups keep their scales in f16 (format/scheme.h). */
    scale = s->act.granularity == HT_PER_GROUP ? ht_f16_to_f32(ht_f16_from_f32((float)scale)) : scale;
    if (small_float) {
        return scale * ht_real_to_f32(s->act.format->real,
                                      ht_real_from_f32(s->act.format->real, (float)(m[k] / scale), true));
    }
    return scale * (fmin(fmax(rint(m[k] / scale) + zero, c_lo), c_hi) - zero);
}

static bool is_kept(const struct ht_sidecar *s, int k) {
    for (uint32_t i = 0; i < s->n_out; i++) {
        if ((int)s->out_idx[i] == k) {
            return true;
        }
    }
    return false;
}

/* y and, for the tolerance, the sum of magnitudes. */
static double slow_output(const struct fixture *f, const float *w, int r, int t, double *size) {
    static const struct ht_sidecar none = {.rows = ROWS, .cols = COLS};
    const struct ht_sidecar *s = f->l.side != NULL ? f->l.side : &none;
    double u[COLS], m[COLS], y = f->bias[r];
    slow_inputs(s, f->x + t * COLS, u);
    for (int k = 0; k < COLS; k++) {
        m[k] = is_kept(s, k) || (s->threshold > 0 && fabs(u[k]) > s->threshold) ? 0 : u[k];
    }
    *size = fabs(y);
    for (int k = 0; k < COLS; k++) {
        double v = s->act.format != NULL && m[k] != 0 ? slow_round(s, m, k) : m[k];
        v = s->threshold > 0 && fabs(u[k]) > s->threshold && !is_kept(s, k) ? u[k] : v;
        y += v * w[k];
        *size += fabs(v * w[k]);
    }
    for (uint32_t i = 0; i < s->n_out; i++) {
        y += (double)ht_f16_to_f32(s->out_val[(uint32_t)r * s->n_out + i]) * u[s->out_idx[i]];
    }
    for (uint32_t i = s->sp_ptr != NULL ? s->sp_ptr[r] : 0; s->sp_ptr != NULL && i < s->sp_ptr[r + 1]; i++) {
        y += (double)ht_f16_to_f32(s->sp_val[i]) * u[s->sp_idx[i]];
    }
    for (uint32_t i = 0; i < s->rank; i++) {
        double a = 0;
        for (int k = 0; k < COLS; k++) {
            a += ht_f16_to_f32(s->lr_a[i * COLS + (uint32_t)k]) * u[k];
        }
        y += a * ht_f16_to_f32(s->lr_b[(uint32_t)r * s->rank + i]);
    }
    return y + (s->out_bias != NULL ? s->out_bias[r] : 0);
}

/* ---- tests ------------------------------------------------------------------------------------------------- */

static void apply(const struct fixture *f, struct ht_pool *pool, size_t t0, size_t n, float *y) {
    void *scratch = ht_mem_alloc_aligned(ht_linear_scratch_bytes(&f->l, n, ht_pool_threads(pool)), 1);
    assert_non_null(scratch);
    ht_linear_apply(pool, &f->l, f->x + t0 * COLS, n, y, ROWS, HT_MATH_EXACT, scratch);
    ht_mem_free_aligned(scratch);
}

/* A value of x within rounding of the border between two codes may fall on either side: such elements are few and
 * differ by a step. */
static void test_formulas(void **state) {
    (void)state;
    static struct fixture f;
    static float y[TOKENS * ROWS], row[COLS], scratch[COLS];
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        make(&f, &choices[i]);
        apply(&f, NULL, 0, TOKENS, y);
        for (int r = 0; r < ROWS; r++) {
            struct ht_linear codes = f.l;
            codes.side = NULL;
            ht_linear_row(&codes, (uint64_t)r, row, scratch);
            for (int t = 0; t < TOKENS; t++) {
                double size, expect = slow_output(&f, row, r, t, &size);
                if (!(fabs(y[t * ROWS + r] - expect) <= 2e-5 * size)) {
                    fail_msg("%s, choice %zu, row %d, token %d: %.9g, expected %.9g", choices[i].weight, i, r, t,
                             (double)y[t * ROWS + r], expect);
                }
            }
        }
        drop(&f);
    }
}

static void test_threads_and_batches(void **state) {
    (void)state;
    static struct fixture f;
    static float one[TOKENS * ROWS], many[TOKENS * ROWS], single[ROWS];
    struct ht_pool *pool;
    ht_err err = {0};
    ASSERT_OK(ht_pool_new(3, &pool, &err), &err);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        make(&f, &choices[i]);
        apply(&f, NULL, 0, TOKENS, one);
        apply(&f, pool, 0, TOKENS, many);
        assert_memory_equal(one, many, sizeof one);
        for (size_t t = 0; t < TOKENS; t++) {
            apply(&f, pool, t, 1, single);
            for (int r = 0; r < ROWS; r++) {
                assert_true(fabsf(single[r] - one[t * ROWS + (size_t)r]) <= 2e-4f);
            }
        }
        drop(&f);
    }
    ht_pool_free(pool);
}

/* The dense weights make the same output, but for shift, bias and rounding of activations. */
static void test_dense(void **state) {
    (void)state;
    static struct fixture f;
    static float y[TOKENS * ROWS], row[COLS], scratch[COLS];
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        struct choice c = choices[i];
        if ((c.leaves & HT_LEAVES_ACT) != 0) {
            continue;
        }
        c.leaves &= ~(unsigned)(HT_LEAVES_IN_SHIFT | HT_LEAVES_OUT_BIAS);
        make(&f, &c);
        apply(&f, NULL, 0, TOKENS, y);
        for (int r = 0; r < ROWS; r++) {
            ht_linear_row(&f.l, (uint64_t)r, row, scratch);
            if (f.l.q != NULL) {
                float dense[COLS];
                ht_sidecar_dense(f.l.q, f.l.side, (uint64_t)r, 1, dense, scratch);
                assert_memory_equal(dense, row, sizeof row);
            }
            for (int t = 0; t < TOKENS; t++) {
                double sum = f.bias[r], size = 0;
                for (int k = 0; k < COLS; k++) {
                    sum += (double)row[k] * f.x[t * COLS + k];
                    size += fabs((double)row[k] * f.x[t * COLS + k]);
                }
                assert_true(fabs(sum - y[t * ROWS + r]) <= 2e-5 * size);
            }
        }
        drop(&f);
    }
}

/* NaN and Inf in one token stay in that token. */
static void test_nonfinite_activations(void **state) {
    (void)state;
    static struct fixture f;
    static float y[TOKENS * ROWS];
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        make(&f, &choices[i]);
        f.x[2 * COLS + 9] = NAN;
        f.x[4 * COLS + 70] = INFINITY;
        apply(&f, NULL, 0, TOKENS, y);
        for (int t = 0; t < TOKENS; t++) {
            for (int r = 0; r < ROWS; r++) {
                bool finite = isfinite(y[t * ROWS + r]);
                assert_true(finite || t == 2 || t == 4);
                assert_true(t != 2 || !finite);
            }
        }
        drop(&f);
    }
}

static void test_hadamard(void **state) {
    (void)state;
    assert_int_equal(ht_hadamard_block(576), 64);
    assert_int_equal(ht_hadamard_block(1536), 512);
    assert_false(ht_hadamard_fits(1, 8));
    assert_false(ht_hadamard_fits(6, 12));
    assert_false(ht_hadamard_fits(16, 24));
    assert_true(ht_hadamard_fits(8, 24));
    float x[24], y[24];
    for (int i = 0; i < 24; i++) {
        x[i] = y[i] = (float)(i * i % 17) - 5;
    }
    ht_hadamard(y, 24, 8);
    ht_hadamard(y, 24, 8);
    for (int i = 0; i < 24; i++) {
        assert_true(fabsf(x[i] - y[i]) < 1e-5f);
    }
}

/* ---- refusals ---------------------------------------------------------------------------------------------- */

struct damage {
    const char *part;
    void (*change)(struct ht_sidecar *s);
};

static void perm_range(struct ht_sidecar *s) { s->perm[3] = COLS; }
static void perm_twice(struct ht_sidecar *s) { s->perm[3] = s->perm[4]; }
static void idx_range(struct ht_sidecar *s) { s->out_idx[4] = COLS; }
static void idx_order(struct ht_sidecar *s) { s->out_idx[1] = s->out_idx[0]; }
static void ptr_first(struct ht_sidecar *s) { s->sp_ptr[0] = 1; }
static void ptr_last(struct ht_sidecar *s) { s->sp_ptr[ROWS]++; }
static void ptr_falls(struct ht_sidecar *s) { s->sp_ptr[20] = s->sp_ptr[19] - 1; }
static void ptr_beyond(struct ht_sidecar *s) { s->sp_ptr[20] = 4000000000u; }
static void sp_range(struct ht_sidecar *s) { s->sp_idx[7] = COLS; }
static void sp_order(struct ht_sidecar *s) { s->sp_idx[1] = s->sp_idx[0]; }
static void scale_zero(struct ht_sidecar *s) { s->in_scale[9] = 0; }
static void scale_nan(struct ht_sidecar *s) { s->in_scale[9] = NAN; }
static void shift_inf(struct ht_sidecar *s) { s->in_shift[0] = INFINITY; }
static void bias_nan(struct ht_sidecar *s) { s->out_bias[ROWS - 1] = NAN; }
static void cluster_first(struct ht_sidecar *s) { s->act_idx[0] = 1; }
static void cluster_order(struct ht_sidecar *s) { s->act_idx[2] = s->act_idx[1]; }
static void cluster_range(struct ht_sidecar *s) { s->act_idx[5] = COLS; }
static void act_negative(struct ht_sidecar *s) { s->act_scale[1] = -1; }
static void act_zero(struct ht_sidecar *s) { s->act_zero[1] = 16; }

static void test_contents_refused(void **state) {
    (void)state;
    static const struct damage damages[] = {
        {"perm: entry 3", perm_range}, {"perm: entry 4", perm_twice}, {"out_idx: entry 4", idx_range},
        {"out_idx: entry 1", idx_order}, {"sp_ptr: entry 0", ptr_first}, {"sp_ptr: entry 61", ptr_last},
        {"sp_ptr: entry 20", ptr_falls}, {"sp_ptr: entry 20", ptr_beyond}, {"sp_idx: entry 7", sp_range},
        {"sp_idx: entry 1", sp_order}, {"in_scale: entry 9", scale_zero}, {"in_scale: entry 9", scale_nan},
        {"in_shift: entry 0", shift_inf}, {"out_bias: entry 60", bias_nan}, {"act_idx: entry 0", cluster_first},
        {"act_idx: entry 2", cluster_order}, {"act_idx: entry 5", cluster_range}, {"act_scale: entry 1", act_negative},
        {"act_zero: entry 1", act_zero},
    };
    static struct fixture f;
    const struct choice all = {"uint4:channel", MOVES | TERMS | HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE |
                               HT_LEAVES_CLUSTERS, "uint4:tensor"};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        ht_err err = {0};
        make(&f, &all);
        damages[i].change(&f.s);
        assert_int_equal(ht_sidecar_check(&f.s, "file", "NAME", &err), HT_FORMAT);
        if (strstr(err.msg, damages[i].part) == NULL) {
            fail_msg("case %zu: expected '%s' in '%s'", i, damages[i].part, err.msg);
        }
        drop(&f);
    }
}

static void test_shapes_refused(void **state) {
    (void)state;
    struct ht_scheme token, tensor, offset;
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse("int8:token", &token, &err), &err);
    ASSERT_OK(ht_scheme_parse("int8:tensor", &tensor, &err), &err);
    ASSERT_OK(ht_scheme_parse("uint8:token:offset", &offset, &err), &err);
    const struct ht_sidecar cases[] = {
        {.rows = 0, .cols = 8},
        {.rows = 8, .cols = 8, .leaves = 1u << HT_LEAVES_BITS},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_COLUMNS},
        {.rows = 8, .cols = 8, .n_out = 2},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_COLUMNS, .n_out = 9},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_LOWRANK, .rank = 9},
        {.rows = 8, .cols = 12, .leaves = HT_LEAVES_HADAMARD, .hadamard = 8},
        {.rows = 8, .cols = 12, .leaves = HT_LEAVES_HADAMARD, .hadamard = 6},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_ACT},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_ACT, .act = tensor},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_ACT, .act = offset},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE, .act = token},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_THRESHOLD, .threshold = 6},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_ACT | HT_LEAVES_THRESHOLD, .act = token, .threshold = -1},
        {.rows = 8, .cols = 8, .leaves = HT_LEAVES_ACT | HT_LEAVES_CLUSTERS, .act = token, .n_clusters = 9},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_sidecar s = cases[i];
        ht_err_clear(&err);
        assert_int_equal(ht_sidecar_init(&s, "NAME", &err), HT_INVAL);
        assert_true(err.msg[0] != '\0');
    }
}

static void test_bytes_and_names(void **state) {
    (void)state;
    static struct fixture f;
    char text[HT_LEAVES_TEXT];
    const struct choice c = {"int4:g32", HT_LEAVES_COLUMNS | HT_LEAVES_SPARSE | HT_LEAVES_LOWRANK, NULL};
    make(&f, &c);
    uint64_t nnz = f.s.n_sparse;
    assert_int_equal(ht_sidecar_bytes(&f.s), 5 * 4 + 5 * ROWS * 2 + (ROWS + 1) * 4 + nnz * 6 + 6 * (ROWS + COLS) * 2);
    assert_int_equal(ht_linear_bytes(&f.l), ht_qtensor_bytes(&f.q) + ht_sidecar_bytes(&f.s) + ROWS * 4);
    assert_string_equal(ht_leaves_text(c.leaves, text), "columns, sparse, lowrank");
    assert_string_equal(ht_leaves_text(0, text), "nothing");
    ht_leaves_text((1u << HT_LEAVES_BITS) - 1, text);
    assert_non_null(strstr(text, ht_leaves_name(HT_LEAVES_BIT_KV)));
    drop(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formulas),       cmocka_unit_test(test_threads_and_batches),
        cmocka_unit_test(test_dense),          cmocka_unit_test(test_nonfinite_activations),
        cmocka_unit_test(test_hadamard),       cmocka_unit_test(test_contents_refused),
        cmocka_unit_test(test_shapes_refused), cmocka_unit_test(test_bytes_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
