/* int1..int16 and uint1..uint16: the level of a code is the code. */
#include "format/code/rows.h"

HT_CODE_INT_ROWS(HT_CODE_FUNCTIONS)
HT_CODE_UINT_ROWS(HT_CODE_FUNCTIONS)

/* N bits, E codes in B bytes. */
#define SIGNED_ROW(N, E, B)                                                                                     \
    static const struct ht_code signed_##N = {                                                                  \
        .bits = N, .lo = -(1 << (N - 1)), .hi = (1 << (N - 1)) - 1, .min_level = -(1 << (N - 1)),               \
        .max_level = (1 << (N - 1)) - 1, .nearest = ht_code_nearest_int,                                        \
    };                                                                                                          \
    const struct ht_format ht_format_int##N = {                                                                 \
        .name = "int" #N, .summary = #N "-bit signed integer codes, scales apart",                              \
        .source = "offset binary", .kind = HT_KIND_CODE, .gguf_type = -1,                                        \
        .block_elems = E, .block_bytes = B, .decode = int##N##_decode, .encode = int##N##_encode,               \
        .code = &signed_##N,                                                                                    \
    };
#define UNSIGNED_ROW(N, E, B)                                                                                   \
    static const struct ht_code unsigned_##N = {                                                                \
        .bits = N, .lo = 0, .hi = (1 << N) - 1, .min_level = 0, .max_level = (1 << N) - 1,                      \
        .nearest = ht_code_nearest_int,                                                                         \
    };                                                                                                          \
    const struct ht_format ht_format_uint##N = {                                                                \
        .name = "uint" #N, .summary = #N "-bit unsigned integer codes, scales and zero points apart",           \
        .source = "binary", .kind = HT_KIND_CODE, .gguf_type = -1, .block_elems = E, .block_bytes = B,          \
        .decode = uint##N##_decode, .encode = uint##N##_encode, .code = &unsigned_##N,                          \
    };

SIGNED_ROW(1, 8, 1)
SIGNED_ROW(2, 4, 1)
SIGNED_ROW(3, 8, 3)
SIGNED_ROW(4, 2, 1)
SIGNED_ROW(5, 8, 5)
SIGNED_ROW(6, 4, 3)
SIGNED_ROW(7, 8, 7)
SIGNED_ROW(8, 1, 1)
SIGNED_ROW(9, 8, 9)
SIGNED_ROW(10, 4, 5)
SIGNED_ROW(11, 8, 11)
SIGNED_ROW(12, 2, 3)
SIGNED_ROW(13, 8, 13)
SIGNED_ROW(14, 4, 7)
SIGNED_ROW(15, 8, 15)
SIGNED_ROW(16, 1, 2)

UNSIGNED_ROW(1, 8, 1)
UNSIGNED_ROW(2, 4, 1)
UNSIGNED_ROW(3, 8, 3)
UNSIGNED_ROW(4, 2, 1)
UNSIGNED_ROW(5, 8, 5)
UNSIGNED_ROW(6, 4, 3)
UNSIGNED_ROW(7, 8, 7)
UNSIGNED_ROW(8, 1, 1)
UNSIGNED_ROW(9, 8, 9)
UNSIGNED_ROW(10, 4, 5)
UNSIGNED_ROW(11, 8, 11)
UNSIGNED_ROW(12, 2, 3)
UNSIGNED_ROW(13, 8, 13)
UNSIGNED_ROW(14, 4, 7)
UNSIGNED_ROW(15, 8, 15)
UNSIGNED_ROW(16, 1, 2)
