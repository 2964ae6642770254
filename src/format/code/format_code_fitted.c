/* Formats whose levels every tensor brings along (tensor/qtensor.h): the format fixes the number of bits and how
 * the levels are found (format/levels.h).
 *
 *     logN      odd; levels alpha * ((1 + 1 / alpha)^(|c| / L) - 1), L = 2^(N-1) - 1: evenly spaced after the
 *               compression log2(1 + |x| / alpha); alpha is searched
 *     powN      odd; levels (|c| / L)^(1 / p): evenly spaced after |x|^p, p is searched
 *     kmeansN   2^N free levels of least squared error (Lloyd 1982, Max 1960)
 *
 * Seen as formats alone, without a tensor, the level of a code is the code. */
#include "format/code/rows.h"

HT_CODE_FITTED_ROWS(HT_CODE_FUNCTIONS)

#define FITTED_ROW(NAME, RULE, N, LO, HI, SUMMARY, SOURCE, E, B)                                                      \
    static const struct ht_code NAME = {                                                                        \
        .bits = N, .fitted = RULE, .lo = LO, .hi = HI, .min_level = -1, .max_level = 1,                         \
        .nearest = ht_code_nearest_int,                                                                         \
    };                                                                                                          \
    const struct ht_format ht_format_##NAME = {                                                                 \
        .name = #NAME, .summary = SUMMARY, .source = SOURCE, .kind = HT_KIND_CODE, .gguf_type = -1,             \
        .block_elems = E, .block_bytes = B, .decode = NAME##_decode, .encode = NAME##_encode, .code = &NAME,    \
    };
#define LOG_ROW(N, E, B)                                                                                        \
    FITTED_ROW(log##N, HT_FITTED_LOG, N, -((1 << (N - 1)) - 1), (1 << (N - 1)) - 1,                             \
               #N "-bit logarithmic levels, fitted to the tensor", "logarithmic companding, ITU-T G.711", E, B)
#define POW_ROW(N, E, B)                                                                                        \
    FITTED_ROW(pow##N, HT_FITTED_POW, N, -((1 << (N - 1)) - 1), (1 << (N - 1)) - 1,                             \
               #N "-bit power-law levels, fitted to the tensor", "companding |x|^p", E, B)
#define KMEANS_ROW(N, E, B)                                                                                     \
    FITTED_ROW(kmeans##N, HT_FITTED_KMEANS, N, 0, (1 << N) - 1, #N "-bit codebook, fitted to the tensor",       \
               "Lloyd 1982, Least squares quantization in PCM", E, B)

LOG_ROW(3, 8, 3)
LOG_ROW(4, 2, 1)
LOG_ROW(5, 8, 5)
LOG_ROW(6, 4, 3)
LOG_ROW(7, 8, 7)
LOG_ROW(8, 1, 1)
POW_ROW(3, 8, 3)
POW_ROW(4, 2, 1)
POW_ROW(5, 8, 5)
POW_ROW(6, 4, 3)
POW_ROW(7, 8, 7)
POW_ROW(8, 1, 1)
KMEANS_ROW(2, 4, 1)
KMEANS_ROW(3, 8, 3)
KMEANS_ROW(4, 2, 1)
KMEANS_ROW(5, 8, 5)
KMEANS_ROW(6, 4, 3)
KMEANS_ROW(7, 8, 7)
KMEANS_ROW(8, 1, 1)
