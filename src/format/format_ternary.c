/* GGUF's formats for weights of three values, blocks of 256, one f16 scale, y = d * q with q = -1, 0, 1:
 *
 *     tq1_0  qs[48] | qh[4] | d     five digits of base 3 in a byte (the last four bytes: four)
 *     tq2_0  qs[64] | d             two bits each; decoding also gives the fourth code its value, 2 d
 *
 * Bit layouts are drawn in docs/formats.md.
 *
 * The best scale. For a given d the element x is not 0 iff abs(x) > d / 2, whatever it weighs. So the best codes
 * are those of a threshold t; with A the sum of w * abs(x) and B the sum of w over the elements above it, their
 * best scale is A / B and the error that they take away is A * A / B. All thresholds are tried, to 1/32 of an octave
 * (bins by the leading bits of abs(x)); two rounds of "scale of the codes, codes of the scale" finish the best. */
#include "format/fit.h"

#define LEN 256
#define SOURCE "GGUF: ggml ternary formats"
#define BINS 288          /* 9 octaves below the largest element, 32 bins each */
#define BIN_SHIFT 18      /* 5 bits of the mantissa stay */
#define BIN_BASE (0x3f800000 - 8 * 0x00800000) /* normalized: elements below 2; bits of 2^-8 */

static const struct ht_grid_spec ternary_spec = {.n_sub = 1, .sub_len = LEN, .lo = -1, .hi = 1, .q_scale_lo = 1,
    .q_scale_hi = 1, .q_min_hi = 0, .plain_error = 1};
/* What two bits can hold. */
static const struct ht_grid_spec tq2_0_spec = {.n_sub = 1, .sub_len = LEN, .lo = -1, .hi = 2, .q_scale_lo = 1,
    .q_scale_hi = 1, .q_min_hi = 0, .plain_error = 1};

/* ---- the search ---- */

HT_INLINE float magnitude(float x) {
    return ht_f32_from_bits(ht_f32_bits(x) & 0x7fffffffu);
}

/* Scale of the best threshold. */
static float best_threshold(const struct ht_work *work) {
    float a[BINS] = {0}, b[BINS] = {0};
    for (int i = 0; i < LEN; i++) {
        float v = magnitude(work->x[i]);
        int32_t bin = ((int32_t)ht_f32_bits(v) - BIN_BASE) >> BIN_SHIFT;
        bin = bin > 0 ? bin : 0;
        bin = bin < BINS ? bin : BINS - 1;
        a[bin] += work->w[i] * v;
        b[bin] += work->w[i];
    }
    float sum_a = 0.0f, sum_b = 0.0f, best_a = 0.0f, best_b = 1.0f;
    for (int k = BINS - 1; k >= 0; k--) {
        sum_a += a[k];
        sum_b += b[k];
        if (sum_a * sum_a * best_b > best_a * best_a * sum_b) {
            best_a = sum_a;
            best_b = sum_b;
        }
    }
    return best_a / best_b;
}

HT_INLINE float add_up(const float *s) {
    float v[8];
    for (int l = 0; l < 8; l++) {
        v[l] = s[l] + s[l + 8];
    }
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* The best scale for the codes that d gives. */
HT_CLONES
static float refit(const struct ht_work *work, float d) {
    float a[HT_LANES] = {0}, b[HT_LANES] = {0}, half = 0.5f * d;
    for (int i = 0; i < LEN; i += HT_LANES) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float v = magnitude(work->x[i + l]), w = v > half ? work->w[i + l] : 0.0f;
            a[l] += w * v;
            b[l] += w;
        }
    }
    float sum = add_up(b);
    return sum > 0.0f ? add_up(a) / sum : d;
}

/* Error with scale d. */
static float error_at(const struct ht_work *work, float d) {
    float err = 0.0f;
    for (int i = 0; i < LEN; i++) {
        float v = magnitude(work->x[i]), r = v > 0.5f * d ? v - d : v;
        err += work->w[i] * r * r;
    }
    return err;
}

static void ternary_fit(const float *x, const float *weight, struct ht_grid *grid) {
    struct ht_work work;
    ht_grid_shape(&ternary_spec, grid);
    ht_search_load(&work, x, weight, LEN, &ternary_spec, ht_fit_limit(&ternary_spec));
    grid->d = grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    if (work.amax > 0.0f) {
        float d = refit(&work, refit(&work, best_threshold(&work)));
        d = ht_fit_storable(&work, d, &grid->d);
        ht_fit_or_zero(&work, LEN, error_at(&work, d), grid);
    }
    ht_grid_restore(grid);
}

static void ternary_snap(struct ht_grid *grid) {
    ht_fit_snap(&ternary_spec, grid);
}

static void get_scale(const struct ht_grid_spec *spec, const uint8_t *p, struct ht_grid *grid) {
    ht_grid_shape(spec, grid);
    grid->d = ht_get_u16(p);
    grid->dmin = 0;
    grid->q_scale[0] = 1;
    grid->q_min[0] = 0;
    ht_grid_restore(grid);
}

/* ---- tq1_0: a byte is the fraction digits / 243 in 1/256, rounded up; multiplying by 3 brings out a digit ---- */

static const struct {
    uint8_t first, bytes, digits; /* byte, number of bytes, digits of each */
} tq1_0_parts[3] = {{0, 32, 5}, {32, 16, 5}, {48, 4, 4}};

static void tq1_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    for (int k = 0; k < 3; k++) {
        unsigned bytes = tq1_0_parts[k].bytes, digits = tq1_0_parts[k].digits;
        for (unsigned m = 0; m < bytes; m++) {
            unsigned q = 0;
            for (unsigned n = 0; n < 5; n++) {
                q = 3 * q + (n < digits ? (unsigned)(codes[bytes * n + m] + 1) : 0);
            }
            p[tq1_0_parts[k].first + m] = (uint8_t)((q * 256 + 242) / 243);
        }
        codes += bytes * digits;
    }
    ht_put_u16(p + 52, grid->d);
}

static void tq1_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    for (int k = 0; k < 3; k++) {
        unsigned bytes = tq1_0_parts[k].bytes, power = 1;
        for (unsigned n = 0; n < tq1_0_parts[k].digits; n++, power *= 3) {
            for (unsigned m = 0; m < bytes; m++) {
                unsigned q = p[tq1_0_parts[k].first + m] * power & 255;
                codes[bytes * n + m] = (int8_t)((int)(q * 3 >> 8) - 1);
            }
        }
        codes += bytes * tq1_0_parts[k].digits;
    }
    get_scale(&ternary_spec, p + 52, grid);
}

static void tq1_0_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_tq1_0, src, x, n);
}

static void tq1_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_tq1_0, x, weight, dst, n);
}

const struct ht_format ht_format_tq1_0 = {
    .name = "tq1_0", .summary = "-1, 0, 1 in 1.6 bits, blocks of 256, scale; for models trained so",
    .source = SOURCE, .kind = HT_KIND_BLOCK, .gguf_type = 34, .block_elems = LEN, .block_bytes = 54,
    .decode = tq1_0_decode, .encode = tq1_0_encode, .fit = ternary_fit, .snap = ternary_snap,
    .round = ht_grid_round, .pack = tq1_0_pack, .unpack = tq1_0_unpack,
};

/* ---- tq2_0: bit pairs as in q2_k ---- */

static void tq2_0_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {
    uint8_t *p = dst;
    for (int half = 0; half < 2; half++) {
        const int8_t *c = codes + 128 * half;
        for (int l = 0; l < 32; l++) {
            unsigned q = 0;
            for (int k = 0; k < 4; k++) {
                q |= (unsigned)(c[32 * k + l] + 1) << 2 * k;
            }
            p[32 * half + l] = (uint8_t)q;
        }
    }
    ht_put_u16(p + 64, grid->d);
}

static void tq2_0_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {
    const uint8_t *p = src;
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k < 4; k++) {
            for (int l = 0; l < 32; l++) {
                codes[128 * half + 32 * k + l] = (int8_t)((p[32 * half + l] >> 2 * k & 3) - 1);
            }
        }
    }
    get_scale(&tq2_0_spec, p + 64, grid);
}

static void tq2_0_decode(const void *src, float *x, size_t n) {
    ht_grid_decode(&ht_format_tq2_0, src, x, n);
}

static void tq2_0_encode(const float *x, const float *weight, void *dst, size_t n) {
    ht_grid_encode(&ht_format_tq2_0, x, weight, dst, n);
}

const struct ht_format ht_format_tq2_0 = {
    .name = "tq2_0", .summary = "-1, 0, 1 in 2 bits, blocks of 256, scale; for models trained so",
    .source = SOURCE, .kind = HT_KIND_BLOCK, .gguf_type = 35, .block_elems = LEN, .block_bytes = 66,
    .decode = tq2_0_decode, .encode = tq2_0_encode, .fit = ternary_fit, .snap = ternary_snap,
    .round = ht_grid_round, .pack = tq2_0_pack, .unpack = tq2_0_unpack,
};
