/* The rows of code formats: format_table.c lists them in this order. X(name) */
#ifndef HT_FORMAT_CODE_ROWS_H
#define HT_FORMAT_CODE_ROWS_H

#include "format/code.h"

#define HT_CODE_INT_ROWS(X)                                                                                     \
    X(int1) X(int2) X(int3) X(int4) X(int5) X(int6) X(int7) X(int8)                                             \
    X(int9) X(int10) X(int11) X(int12) X(int13) X(int14) X(int15) X(int16)
#define HT_CODE_UINT_ROWS(X)                                                                                    \
    X(uint1) X(uint2) X(uint3) X(uint4) X(uint5) X(uint6) X(uint7) X(uint8)                                     \
    X(uint9) X(uint10) X(uint11) X(uint12) X(uint13) X(uint14) X(uint15) X(uint16)
#define HT_CODE_REAL_ROWS(X) X(fp8_e4m3) X(fp8_e5m2) X(fp6_e2m3) X(fp6_e3m2) X(fp4_e2m1) X(e8m0)
#define HT_CODE_TABLE_ROWS(X)                                                                                   \
    X(nf4) X(fp4) X(pot3) X(pot4) X(pot5) X(apot4) X(apot5) X(apot6) X(apot7) X(binary) X(ternary) X(ternary_b3)
#define HT_CODE_FITTED_ROWS(X)                                                                                  \
    X(log3) X(log4) X(log5) X(log6) X(log7) X(log8)                                                             \
    X(pow3) X(pow4) X(pow5) X(pow6) X(pow7) X(pow8)                                                             \
    X(kmeans2) X(kmeans3) X(kmeans4) X(kmeans5) X(kmeans6) X(kmeans7) X(kmeans8)

#define HT_CODE_ROWS(X)                                                                                         \
    HT_CODE_INT_ROWS(X) HT_CODE_UINT_ROWS(X) HT_CODE_REAL_ROWS(X) HT_CODE_TABLE_ROWS(X) HT_CODE_FITTED_ROWS(X)

#define HT_CODE_DECLARE(name) extern const struct ht_format ht_format_##name;
HT_CODE_ROWS(HT_CODE_DECLARE)
#undef HT_CODE_DECLARE

/* decode and encode of every code format: the level of each code, the nearest code. */
void ht_code_decode(const struct ht_format *f, const void *src, float *x, size_t n);
void ht_code_encode(const struct ht_format *f, const float *x, void *dst, size_t n);

/* `nearest` of the three kinds of levels. */
int32_t ht_code_nearest_int(const struct ht_code *code, float x);
int32_t ht_code_nearest_level(const struct ht_code *code, float x); /* levels ascending */

/* The two functions a row needs. */
#define HT_CODE_FUNCTIONS(name)                                                                                 \
    static void name##_decode(const void *src, float *x, size_t n) {                                            \
        ht_code_decode(&ht_format_##name, src, x, n);                                                           \
    }                                                                                                           \
    static void name##_encode(const float *x, const float *weight, void *dst, size_t n) {                       \
        (void)weight; /* the nearest level is the best whatever the element weighs */                           \
        ht_code_encode(&ht_format_##name, x, dst, n);                                                           \
    }

#endif
