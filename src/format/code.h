/* CODE FORMATS: one code per element and no scale of their own. A row of the format table whose `code` is set is
 * described here; a scheme (format/scheme.h) says where its scales come from, a qtensor (tensor/qtensor.h) holds
 * codes and scales together.
 *
 *     int1..int16, uint1..uint16       the level of code c is c
 *     fp8_e4m3 fp8_e5m2 fp6_* fp4_e2m1 e8m0   small floats; the code is the bit pattern
 *     nf4 fp4                          the two tables of bitsandbytes
 *     potN apotN                       powers of two, sums of two or three powers of two
 *     logN powN kmeansN                levels that each tensor brings along (fitted)
 *     binary ternary ternary_b3        -1 +1, -1 0 +1
 *
 * Stored form: the FIELD of a code is code - lo, `bits` wide; fields lie one after the other in a little-endian
 * string of bits, the first in the lowest bits (4 bits: low nibble first). A row of n codes takes
 * ht_code_row_bytes(n); unused bits at its end are 0. ternary_b3 packs five fields t0..t4 into one byte as
 * ceil(256 * (81 t0 + 27 t1 + 9 t2 + 3 t3 + t4) / 243): multiplying by 3 carries out one field after the other.
 * The block of such a format is the smallest run of codes that fills whole bytes.
 *
 * decode of the format gives the level of each code (scale 1), encode the nearest level, saturating; NaN becomes
 * the code of level 0 where the format has no NaN. */
#ifndef HT_FORMAT_CODE_H
#define HT_FORMAT_CODE_H

#include <stdbool.h>

#include "format/format.h"

/* A binary floating-point format. */
struct ht_real {
    uint8_t sign_bits, exponent_bits, mantissa_bits; /* mantissa without the hidden bit */
    int16_t bias;
    uint32_t max_code;       /* pattern of the largest finite value; 0 above 16 bits */
    double max, min_normal;
    double min_subnormal;    /* smallest positive value; min_normal in a format without subnormals */
    double eps;              /* distance from 1 to the next larger value */
    bool has_inf, has_nan, has_zero;
};

extern const struct ht_real ht_real_f64, ht_real_f32, ht_real_tf32, ht_real_f16, ht_real_bf16, ht_real_e4m3,
    ht_real_e5m2, ht_real_e2m3, ht_real_e3m2, ht_real_e2m1, ht_real_e8m0;

/* Formats of at most 16 bits. The pattern nearest to x, ties to even. A value that rounds beyond the largest
 * finite one (Inf too) becomes that one when saturate, else Inf, else NaN, else it saturates all the same. NaN
 * becomes the format's NaN, else 0. e8m0 has no sign and no zero: what is not positive becomes its smallest value; its
 * ties go up. */
uint32_t ht_real_from_f32(const struct ht_real *r, float x, bool saturate);
float ht_real_to_f32(const struct ht_real *r, uint32_t pattern);
/* f32 with its mantissa rounded to 10 bits, ties to even: the precision of TF32. */
float ht_tf32_round(float x);

/* What rounding x [n] to a format does to it; adds to *counts. */
struct ht_real_counts {
    uint64_t n, nan, inf;
    uint64_t overflow;  /* finite, beyond the largest finite value */
    uint64_t underflow; /* not 0, becomes 0 (e8m0: below its smallest) */
    uint64_t subnormal; /* becomes a subnormal value */
};
void ht_real_count(const struct ht_real *r, const float *x, size_t n, struct ht_real_counts *counts);

/* Every tensor brings its own levels, ascending, within [-1, 1]; how they are found (format/levels.h). */
enum ht_fitted { HT_FITTED_NOT, HT_FITTED_LOG, HT_FITTED_POW, HT_FITTED_KMEANS };

struct ht_code {
    uint8_t bits;        /* of one field; 0: ternary_b3 */
    enum ht_fitted fitted;
    int32_t lo, hi;      /* codes lo..hi; one of them has level 0, but for binary and e8m0 */
    const float *levels; /* [hi - lo + 1] levels of codes lo..hi in any order, may hold Inf and NaN; NULL: the
                          * level of a code is the code (integers; fitted formats seen without a tensor) */
    float min_level, max_level; /* finite; -1 and 1 for fitted formats */
    int32_t zero;               /* the code of level 0 (or of the smallest level) */
    /* The code whose level is nearest to x; see ht_code_nearest. */
    int32_t (*nearest)(const struct ht_code *code, float x);
};

/* Bytes of a packed row of n codes, any n. The caller has checked n < 2^56. */
uint64_t ht_code_row_bytes(const struct ht_format *f, uint64_t n);
/* Bits per code on disk: 8 / 5 for ternary_b3. */
double ht_code_bits(const struct ht_format *f);

/* codes [n] <-> packed row. unpack takes any bytes: fields above hi - lo read as the code of level 0. */
void ht_code_pack(const struct ht_format *f, const int32_t *codes, void *dst, size_t n);
void ht_code_unpack(const struct ht_format *f, const void *src, int32_t *codes, size_t n);
/* Code i of a packed row. */
int32_t ht_code_get(const struct ht_format *f, const void *row, uint64_t i);
void ht_code_put(const struct ht_format *f, void *row, uint64_t i, int32_t code);

/* Level of a code with the format's own levels. */
float ht_code_level(const struct ht_format *f, int32_t code);
/* The code whose level is nearest to x, saturating; integers round half to even, tables take the smaller level on
 * a tie, small floats round to even mantissas. NaN: the format's NaN, or level 0. */
int32_t ht_code_nearest(const struct ht_format *f, float x);
/* Index of the nearest of n levels in ascending order; a tie takes the smaller, NaN the first. */
int32_t ht_levels_nearest(const float *levels, int32_t n, float x);

#endif
