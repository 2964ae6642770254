/* fp8, fp6, fp4_e2m1, e8m0: the code is the bit pattern, the level its value. The tables are constant expressions
 * of the definition (real.c), which the tests compare with the conversion. */
#include <math.h>

#include "format/code/rows.h"

HT_CODE_REAL_ROWS(HT_CODE_FUNCTIONS)

/* 2^k as a constant expression, -127 <= k <= 127. */
#define BIT(k, b, v) (((k) & (b)) != 0 ? (v) : 1.0)
#define EXP2(k)                                                                                                 \
    (BIT((k) + 127, 1, 0x1p1) * BIT((k) + 127, 2, 0x1p2) * BIT((k) + 127, 4, 0x1p4) * BIT((k) + 127, 8, 0x1p8) * \
     BIT((k) + 127, 16, 0x1p16) * BIT((k) + 127, 32, 0x1p32) * BIT((k) + 127, 64, 0x1p64) *                     \
     BIT((k) + 127, 128, 0x1p128) * 0x1p-127)
/* Pattern u of a format of E exponent and M mantissa bits with bias B. */
#define EXPONENT(u, E, M) ((u) >> (M) & ((1 << (E)) - 1))
#define MANTISSA(u, M) ((double)((u) & ((1 << (M)) - 1)) / (1 << (M)))
#define SIGN(u, E, M) (((u) >> ((E) + (M)) & 1) != 0 ? -1.0 : 1.0)
#define VALUE(u, E, M, B)                                                                                       \
    (float)(SIGN(u, E, M) * (EXPONENT(u, E, M) != 0 ? EXP2(EXPONENT(u, E, M) - (B)) * (1 + MANTISSA(u, M))      \
                                                    : EXP2(1 - (B)) * MANTISSA(u, M)))

#define E4M3(u) (((u) & 127) == 127 ? NAN : VALUE(u, 4, 3, 7))
#define E5M2(u) (((u) & 127) > 124 ? NAN : ((u) & 127) == 124 ? (float)SIGN(u, 5, 2) * INFINITY : VALUE(u, 5, 2, 15))
#define E2M3(u) VALUE(u, 2, 3, 1)
#define E3M2(u) VALUE(u, 3, 2, 3)
#define E2M1(u) VALUE(u, 2, 1, 1)
#define E8M0(u) ((u) == 255 ? NAN : (float)EXP2((u) - 127))

#define ROW8(F, u) F(u), F(u + 1), F(u + 2), F(u + 3), F(u + 4), F(u + 5), F(u + 6), F(u + 7)
#define ROW64(F, u)                                                                                             \
    ROW8(F, u), ROW8(F, u + 8), ROW8(F, u + 16), ROW8(F, u + 24), ROW8(F, u + 32), ROW8(F, u + 40),             \
        ROW8(F, u + 48), ROW8(F, u + 56)
#define ROW256(F) ROW64(F, 0), ROW64(F, 64), ROW64(F, 128), ROW64(F, 192)

static const float e4m3_levels[256] = {ROW256(E4M3)};
static const float e5m2_levels[256] = {ROW256(E5M2)};
static const float e2m3_levels[64] = {ROW64(E2M3, 0)};
static const float e3m2_levels[64] = {ROW64(E3M2, 0)};
static const float e2m1_levels[16] = {ROW8(E2M1, 0), ROW8(E2M1, 8)};
static const float e8m0_levels[256] = {ROW256(E8M0)};

#define OCP8 "OCP 8-bit Floating Point Specification 1.0"
#define MX "OCP Microscaling Formats Specification 1.0"
#define REAL_ROW(NAME, R, N, LO, HI, SUMMARY, SOURCE, E, B)                                                     \
    static int32_t nearest_##R(const struct ht_code *code, float x) {                                           \
        (void)code;                                                                                             \
        return (int32_t)ht_real_from_f32(&ht_real_##R, x, true);                                                \
    }                                                                                                           \
    static const struct ht_code code_##R = {                                                                    \
        .bits = N, .lo = 0, .hi = (1 << N) - 1, .levels = R##_levels, .min_level = LO, .max_level = HI,         \
        .nearest = nearest_##R,                                                                                 \
    };                                                                                                          \
    const struct ht_format ht_format_##NAME = {                                                                 \
        .name = #NAME, .summary = SUMMARY, .source = SOURCE, .kind = HT_KIND_CODE, .gguf_type = -1,             \
        .block_elems = E, .block_bytes = B, .decode = NAME##_decode, .encode = NAME##_encode,                   \
        .real = &ht_real_##R, .code = &code_##R,                                                                \
    };

REAL_ROW(fp8_e4m3, e4m3, 8, -448, 448, "8-bit float, 4 exponent bits: up to 448, no Inf", OCP8, 1, 1)
REAL_ROW(fp8_e5m2, e5m2, 8, -57344, 57344, "8-bit float, 5 exponent bits: up to 57,344", OCP8, 1, 1)
REAL_ROW(fp6_e2m3, e2m3, 6, -7.5f, 7.5f, "6-bit float, 2 exponent bits: up to 7.5", MX, 4, 3)
REAL_ROW(fp6_e3m2, e3m2, 6, -28, 28, "6-bit float, 3 exponent bits: up to 28", MX, 4, 3)
REAL_ROW(fp4_e2m1, e2m1, 4, -6, 6, "4-bit float: 0 0.5 1 1.5 2 3 4 6 and signs", MX, 2, 1)
REAL_ROW(e8m0, e8m0, 8, 0x1p-127f, 0x1p127f, "power of two from 2^-127 to 2^127: scales of the MX formats", MX,
         1, 1)
