/* SCHEME: a code format and where its scales come from. Text, as options and files say it:
 *
 *     FORMAT:GRANULARITY[:OPTION...]      int4:g64   int8:channel   fp8_e4m3:tensor   uint4:g128:scale=f32
 *
 *     gN         a scale per N neighbours of a row; the last group of a row may be shorter
 *     channel    a scale per row of a weight matrix        token    a scale per row of activations
 *     tensor     one scale
 *     sym        value = scale * level(code)               (default but for uintN)
 *     asym       value = scale * (code - zero), zero a code: integers only        (default for uintN)
 *     offset     value = scale * code + min, min real, in the precision of the scales: integers only
 *     narrow     intN without its lowest code: -(2^(N-1) - 1) .. 2^(N-1) - 1
 *     nested     scales in 8 bits: offset + 256-entry dynamic map * one f32 per 256 scales
 *                (double quantization, Dettmers et al. 2023, arXiv 2305.14314, sec. 3)
 *     scale=f16|bf16|f32|e8m0             precision of stored scales (default f16 for groups, else f32)
 *
 * Sources: Jacob et al. 2018 (arXiv 1712.05877) eq. 1 for sym and asym; `offset` is the form of GGUF's q4_1. */
#ifndef HT_FORMAT_SCHEME_H
#define HT_FORMAT_SCHEME_H

#include "base/error.h"
#include "format/code.h"

#define HT_NESTED_BLOCK 256 /* scales that share one second-level scale */
#define HT_MAX_GROUP (1u << 20)
#define HT_SCHEME_TEXT 96   /* bytes that hold every ht_scheme_text */

enum ht_granularity { HT_PER_TENSOR, HT_PER_CHANNEL, HT_PER_TOKEN, HT_PER_GROUP };
enum ht_zero { HT_ZERO_NONE, HT_ZERO_CODE, HT_ZERO_OFFSET }; /* sym, asym, offset */

struct ht_scheme {
    const struct ht_format *format; /* format->code is set */
    enum ht_granularity granularity;
    uint32_t group;                 /* elements; 0 unless HT_PER_GROUP */
    enum ht_zero zero;
    bool narrow, nested;
    const struct ht_format *scale;  /* f16, bf16, f32 or e8m0: how scales (and real mins) are stored */
};

/* HT_INVAL says which part is wrong and what would do. */
ht_status ht_scheme_parse(const char *text, struct ht_scheme *scheme, ht_err *err);
/* Whether the parts go together; parse ends with it. Any values of the fields are fine as input. */
ht_status ht_scheme_check(const struct ht_scheme *scheme, ht_err *err);
/* The shortest text that parses back to the scheme. Returns out. */
const char *ht_scheme_text(const struct ht_scheme *scheme, char out[HT_SCHEME_TEXT]);

/* Codes the scheme uses: narrow leaves the lowest out. */
int32_t ht_scheme_lo(const struct ht_scheme *scheme);
int32_t ht_scheme_hi(const struct ht_scheme *scheme);

/* Elements that share a scale in a row of cols (group, or cols), and how many scales a row has. */
uint64_t ht_scheme_run(const struct ht_scheme *scheme, uint64_t cols);
uint64_t ht_scheme_groups(const struct ht_scheme *scheme, uint64_t cols);

/* ---- the grid of one group ------------------------------------------------------------------------------
 * value(code) = scale * level(code)          sym
 *             = scale * (code - zero)        asym
 *             = scale * code + min           offset                                                       */
struct ht_affine {
    float scale; /* > 0, or 0: every value is 0 (offset: min) */
    float min;   /* offset, else 0 */
    int32_t zero;
};

/* The grid that covers [lo, hi] (finite, lo <= hi) with parameters as they are stored: scales rounded to
 * scheme->scale (but not nested), zero a code.
 *   sym     the smallest scale that reaches both ends: scale = max(hi / level_max, lo / level_min); intN then uses
 *           its lowest code too, narrow intN gets max(|lo|, |hi|) / (2^(N-1) - 1)
 *   asym    the range is widened to hold 0; scale = (hi - lo) / (code_hi - code_lo), zero = round(code_lo - lo / scale)
 *   offset  scale as asym without widening, min = lo - scale * code_lo
 */
struct ht_affine ht_scheme_cover(const struct ht_scheme *scheme, float lo, float hi);
/* x as scheme->scale stores it: nearest; e8m0 the next power of two above, so that nothing saturates. */
float ht_scheme_snap_scale(const struct ht_scheme *scheme, float x);

/* levels: of a fitted format [hi - lo + 1], else NULL. */
float ht_scheme_value(const struct ht_scheme *scheme, const float *levels, const struct ht_affine *a, int32_t code);
/* The code whose value is nearest to x. Integers: the nearest to x / scale, half to even, then + zero; small
 * floats: x / scale; tables: x * (1 / scale), as bitsandbytes computes it. Scale 0: the code of 0. */
int32_t ht_scheme_nearest(const struct ht_scheme *scheme, const float *levels, const struct ht_affine *a, float x);

/* The range that a group shall cover: x [n] finite, n > 0; weight [n] importance or NULL. Gives finite *lo <= *hi.
 * Called from several threads at once. */
typedef ht_status ht_range_fn(const void *ctx, const struct ht_scheme *scheme, const float *x, const float *weight,
                              size_t n, float *lo, float *hi, ht_err *err);
/* Smallest and largest x. */
ht_range_fn ht_range_minmax;
/* -a..a with the a of least squared error: binary a = mean |x|; ternary by exact search over all thresholds. */
ht_range_fn ht_range_binary, ht_range_ternary;
/* What a scheme uses when nobody asks for another: one of the three above. */
ht_range_fn *ht_scheme_range(const struct ht_scheme *scheme);

#endif
