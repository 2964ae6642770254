/* Formats whose codes pick a level of a fixed table.
 *
 *     nf4     quantiles of the normal distribution, 7 below 0, 0, 8 above (Dettmers et al. 2023, arXiv 2305.14314,
 *             appendix E); ht_levels_normal derives it
 *     fp4     bitsandbytes' own 4-bit float, sign in bit 3: neither E2M1 nor ordered like it
 *     potN    sign and power of two: 0, 1, 2, 4 ... (Zhou et al. 2017, arXiv 1702.03044)
 *     apotN   sign and a sum of two or three powers of two (Li et al. 2020, arXiv 1909.13144, sec. 2.2)
 *     binary, ternary, ternary_b3   Rastegari et al. 2016 (arXiv 1603.05279), Li et al. 2016 (arXiv 1605.04711)
 *
 * pot and apot are scaled so that every level is an integer: a product with one is one to three shifts. */
#include "format/code/rows.h"

HT_CODE_TABLE_ROWS(HT_CODE_FUNCTIONS)

static const float nf4_levels[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
    -0.18477343022823334f, -0.09105003625154495f, 0.0f, 0.07958029955625534f, 0.16093020141124725f,
    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
    0.7229568362236023f, 1.0f,
};

/* By code; codes 0 and 8 are both zero. */
static const float fp4_levels[16] = {
    0.0f / 12.0f, 0.0625f / 12.0f, 8.0f / 12.0f, 12.0f / 12.0f, 4.0f / 12.0f, 6.0f / 12.0f, 2.0f / 12.0f,
    3.0f / 12.0f, 0.0f / 12.0f, -0.0625f / 12.0f, -8.0f / 12.0f, -12.0f / 12.0f, -4.0f / 12.0f,
    -6.0f / 12.0f, -2.0f / 12.0f, -3.0f / 12.0f,
};

/* The codes in ascending order of their levels, and the levels in this order. bitsandbytes sorts so, too, and
 * a value just above 0 takes the second zero. */
static const uint8_t fp4_order[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};
static const float fp4_sorted[16] = {
    -12.0f / 12.0f, -8.0f / 12.0f, -6.0f / 12.0f, -4.0f / 12.0f, -3.0f / 12.0f, -2.0f / 12.0f,
    -0.0625f / 12.0f, 0.0f / 12.0f, 0.0f / 12.0f, 0.0625f / 12.0f, 2.0f / 12.0f, 3.0f / 12.0f,
    4.0f / 12.0f, 6.0f / 12.0f, 8.0f / 12.0f, 12.0f / 12.0f,
};

static int32_t nearest_fp4(const struct ht_code *code, float x) {
    return x == x ? fp4_order[ht_levels_nearest(fp4_sorted, 16, x)] : code->zero;
}

static const float pot3_levels[7] = {
    -4, -2, -1, 0, 1, 2, 4,
};

static const float pot4_levels[15] = {
    -64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8, 16, 32, 64,
};

static const float pot5_levels[31] = {
    -16384, -8192, -4096, -2048, -1024, -512, -256, -128, -64, -32, -16, -8, -4, -2, -1, 0, 1, 2, 4, 8,
    16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384,
};

static const float apot4_levels[15] = {
    -10, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 10,
};

static const float apot5_levels[31] = {
    -48, -36, -33, -32, -24, -18, -16, -12, -9, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 9, 12, 16,
    18, 24, 32, 33, 36, 48,
};

static const float apot6_levels[63] = {
    -100, -96, -76, -72, -69, -68, -65, -64, -52, -48, -38, -36, -34, -32, -28, -24, -21, -20, -17, -16,
    -14, -12, -10, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 20, 21,
    24, 28, 32, 34, 36, 38, 48, 52, 64, 65, 68, 69, 72, 76, 96, 100,
};

static const float apot7_levels[127] = {
    -448, -392, -385, -384, -336, -322, -320, -280, -273, -272, -266, -264, -259, -258, -257, -256, -224,
    -196, -192, -168, -161, -160, -140, -136, -133, -132, -129, -128, -112, -98, -96, -84, -80, -70, -68,
    -66, -64, -56, -49, -48, -42, -40, -35, -34, -33, -32, -28, -24, -21, -20, -17, -16, -14, -12, -10,
    -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 20, 21, 24, 28, 32,
    33, 34, 35, 40, 42, 48, 49, 56, 64, 66, 68, 70, 80, 84, 96, 98, 112, 128, 129, 132, 133, 136, 140,
    160, 161, 168, 192, 196, 224, 256, 257, 258, 259, 264, 266, 272, 273, 280, 320, 322, 336, 384, 385,
    392, 448,
};

static const float signs[2] = {-1, 1};
static const float trits[3] = {-1, 0, 1};

/* Binary has no 0: sign(0) is +1. */
static int32_t nearest_sign(const struct ht_code *code, float x) {
    (void)code;
    return x >= 0 || x != x;
}

static const struct ht_code nf4 = {
    .bits = 4, .lo = 0, .hi = 15, .levels = nf4_levels, .min_level = -1, .max_level = 1, .zero = 7,
    .nearest = ht_code_nearest_level,
};
static const struct ht_code fp4 = {
    .bits = 4, .lo = 0, .hi = 15, .levels = fp4_levels, .min_level = -1, .max_level = 1, .zero = 0,
    .nearest = nearest_fp4,
};
static const struct ht_code binary = {
    .bits = 1, .lo = 0, .hi = 1, .levels = signs, .min_level = -1, .max_level = 1, .zero = 1,
    .nearest = nearest_sign,
};
static const struct ht_code ternary = {
    .bits = 2, .lo = -1, .hi = 1, .levels = trits, .min_level = -1, .max_level = 1,
    .nearest = ht_code_nearest_level,
};
static const struct ht_code ternary_b3 = {
    .bits = 0, .lo = -1, .hi = 1, .levels = trits, .min_level = -1, .max_level = 1,
    .nearest = ht_code_nearest_level,
};

#define QLORA "Dettmers et al. 2023, arXiv 2305.14314"
#define TABLE_ROW(NAME, SUMMARY, SOURCE, E, B)                                                                  \
    const struct ht_format ht_format_##NAME = {                                                                 \
        .name = #NAME, .summary = SUMMARY, .source = SOURCE, .kind = HT_KIND_CODE, .gguf_type = -1,             \
        .block_elems = E, .block_bytes = B, .decode = NAME##_decode, .encode = NAME##_encode, .code = &NAME,    \
    };

TABLE_ROW(nf4, "4-bit normal float: 16 quantiles of the normal distribution", QLORA, 2, 1)
TABLE_ROW(fp4, "4-bit float of bitsandbytes (not E2M1)", "bitsandbytes", 2, 1)
TABLE_ROW(binary, "1 bit: -1 or +1", "Rastegari et al. 2016, arXiv 1603.05279", 8, 1)
TABLE_ROW(ternary, "-1, 0 or +1 in 2 bits", "Li et al. 2016, arXiv 1605.04711", 4, 1)
TABLE_ROW(ternary_b3, "-1, 0 or +1, five to a byte", "Li et al. 2016, arXiv 1605.04711", 5, 1)

/* Levels -MAX..MAX, code = place in the table. */
#define POT_ROW(NAME, N, MAX, SUMMARY, SOURCE, E, B)                                                            \
    static const struct ht_code NAME = {                                                                        \
        .bits = N, .lo = -((1 << (N - 1)) - 1), .hi = (1 << (N - 1)) - 1, .levels = NAME##_levels,              \
        .min_level = -(MAX), .max_level = MAX, .nearest = ht_code_nearest_level,                                \
    };                                                                                                          \
    TABLE_ROW(NAME, SUMMARY, SOURCE, E, B)
#define INQ "Zhou et al. 2017, arXiv 1702.03044"
#define APOT "Li et al. 2020, arXiv 1909.13144"

POT_ROW(pot3, 3, 4, "3-bit powers of two: 0, 1, 2 .. 4 and signs", INQ, 8, 3)
POT_ROW(pot4, 4, 64, "4-bit powers of two: 0, 1, 2 .. 64 and signs", INQ, 2, 1)
POT_ROW(pot5, 5, 16384, "5-bit powers of two: 0, 1, 2 .. 16384 and signs", INQ, 8, 5)
POT_ROW(apot4, 4, 10, "4-bit sums of two powers of two, and signs", APOT, 2, 1)
POT_ROW(apot5, 5, 48, "5-bit sums of two powers of two, and signs", APOT, 8, 5)
POT_ROW(apot6, 6, 100, "6-bit sums of up to three powers of two, and signs", APOT, 4, 3)
POT_ROW(apot7, 7, 448, "7-bit sums of up to three powers of two, and signs", APOT, 8, 7)
