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

/* A binary floating-point format. Values beyond the layout's own are 0 where the format has none. */
struct ht_real {
    uint8_t sign_bits, exponent_bits, mantissa_bits; /* mantissa without the hidden bit */
    int16_t bias;
    double max, min_normal, min_subnormal; /* largest finite; smallest normal; smallest at all */
    double eps;                            /* distance from 1 to the next larger value */
    bool has_inf, has_nan, has_zero;
};

struct ht_code {
    uint8_t bits;        /* of one field; 0: ternary_b3 */
    bool fitted;         /* the levels belong to the tensor; `levels` are what decode uses without a tensor */
    int32_t lo, hi;      /* codes lo..hi */
    const float *levels; /* [hi - lo + 1] of codes lo..hi in any order, may hold Inf and NaN; NULL: integers */
    const uint8_t *rank; /* [n_rank] codes - lo of the distinct finite levels, ascending; NULL: integers */
    uint16_t n_rank;
    float max_level;     /* largest finite |level|: scale = largest |x| / max_level */
};

/* Bytes of a packed row of n codes, any n. The caller has checked n < 2^56. */
uint64_t ht_code_row_bytes(const struct ht_format *f, uint64_t n);
/* Bits per code on disk: 8 / 5 for ternary_b3. */
double ht_code_bits(const struct ht_format *f);

/* codes [n] <-> packed row. unpack takes any bytes: fields above hi - lo read as the code of level 0. */
void ht_code_pack(const struct ht_format *f, const int32_t *codes, void *dst, size_t n);
void ht_code_unpack(const struct ht_format *f, const void *src, int32_t *codes, size_t n);
/* Codes first..first + n - 1 of a packed row. */
void ht_code_unpack_at(const struct ht_format *f, const void *row, uint64_t first, int32_t *codes, size_t n);

/* Level of a code with the format's own levels. */
float ht_code_level(const struct ht_format *f, int32_t code);
/* The code whose level is nearest to x, saturating; integers round half to even, tables take the smaller level on
 * a tie, small floats round to even mantissas. NaN: level 0, or the format's NaN. */
int32_t ht_code_nearest(const struct ht_format *f, float x);
/* The same with levels [hi - lo + 1] ascending instead of the format's. Returns the code. */
int32_t ht_code_nearest_in(const struct ht_format *f, const float *levels, float x);

#endif
