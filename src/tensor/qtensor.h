/* QTENSOR: a matrix [rows, cols] as codes of a scheme, with its scales. What our own files store as
 * NAME.codes, NAME.scales ... and what kernels multiply with.
 *
 *     codes    [rows, row_bytes]   packed rows (format/code.h); every row starts on a byte
 *     scales   [rows, groups]      scheme.scale; tensor granularity: [1]; absent when nested
 *     zeros    [rows, zero_bytes]  asym: packed codes, one per scale; tensor granularity: [1, zero_bytes]
 *     mins     [rows, groups]      offset: as scales
 *     levels   [n_levels] f32      fitted formats: ascending, within [-1, 1]
 *     scale_codes [n_scales] u8, scale_map [256] f32, scale2 [ceil(n_scales / 256)] f32, scale_offset [1] f32
 *                                  nested: scale i = scale_map[scale_codes[i]] * scale2[i / 256] + scale_offset
 *
 * Group g of a row covers columns g * run .. min(cols, (g + 1) * run) - 1, run = ht_scheme_run(cols).
 *
 * Encoding runs in two passes over chunks of rows, so that a matrix need not be in memory:
 *
 *     ht_qtensor_init                       sizes, memory
 *     ht_qtensor_fit_rows   each chunk      ranges -> scales
 *     ht_qtensor_fit_end                    one scale per tensor; second-level scales
 *     ht_qtensor_round_rows each chunk      codes, nearest to the scales AS STORED
 *
 * ht_qtensor_encode does all of it for a matrix in memory. Formats with fitted levels need the whole matrix
 * (HT_INVAL otherwise). The same bytes for any number of threads. */
#ifndef HT_TENSOR_QTENSOR_H
#define HT_TENSOR_QTENSOR_H

#include "base/pool.h"
#include "base/rng.h"
#include "format/scheme.h"

struct ht_qtensor {
    struct ht_scheme scheme;
    uint64_t rows, cols;
    uint64_t run, groups;           /* elements per scale; scales per row */
    uint64_t n_scales;              /* rows * groups, or 1 */
    uint64_t row_bytes, zero_bytes; /* of a row of codes, of zeros */
    uint32_t n_levels;              /* fitted formats, else 0 */

    uint8_t *codes;
    void *scales;
    uint8_t *zeros;
    void *mins;
    float *levels;
    uint8_t *scale_codes;
    float *scale_map, *scale2, *scale_offset;

    float *exact;  /* not stored. nested: [n_scales] scales before they are nested; tensor: smallest, largest x, seen */
    bool owned;    /* the memory above is the qtensor's */
};

/* Sizes only; every pointer NULL. HT_INVAL names the tensor when a size is 0 or overflows. name may be NULL. */
ht_status ht_qtensor_shape(struct ht_qtensor *q, const struct ht_scheme *scheme, uint64_t rows, uint64_t cols,
                           const char *name, ht_err *err);
/* shape, and zeroed memory, which deinit gives back. */
ht_status ht_qtensor_init(struct ht_qtensor *q, const struct ht_scheme *scheme, uint64_t rows, uint64_t cols,
                          const char *name, ht_err *err);
void ht_qtensor_deinit(struct ht_qtensor *q);

/* Part i as files store it; false past the end. Setting *part.slot makes a view of a file's bytes. */
struct ht_qpart {
    const char *suffix;             /* "codes": stored as NAME.codes */
    const struct ht_format *format; /* u8, f16, f32 ... */
    int n_dims;
    uint64_t ne[2];                 /* ne[0] contiguous */
    uint64_t bytes;
    void **slot;                    /* the pointer in the qtensor */
};
bool ht_qtensor_part(struct ht_qtensor *q, size_t i, struct ht_qpart *part);
/* Bytes of all parts; bits per weight with everything counted. */
uint64_t ht_qtensor_bytes(const struct ht_qtensor *q);
double ht_qtensor_bits(const struct ht_qtensor *q);

/* ---- encoding -------------------------------------------------------------------------------------------- */

enum ht_rounding { HT_ROUND_EVEN, HT_ROUND_AWAY, HT_ROUND_FLOOR, HT_ROUND_STOCHASTIC };

struct ht_qtensor_options {
    const char *name;         /* for messages, may be NULL */
    const float *weight;      /* [cols] importance >= 0 of each column, or NULL */
    ht_range_fn *range;       /* NULL: ht_scheme_range */
    const void *range_ctx;
    enum ht_rounding rounding; /* of integers and tables; EVEN: nearest, ties as format/code.h says */
    uint64_t seed;            /* stochastic rounding: row r of the tensor draws from (seed, r) */
    bool allow_nonfinite;     /* NaN counts as 0, Inf as the largest finite |x| of its group; else HT_NUMERIC */
    bool nested_last;         /* nested: codes are chosen with the exact scales, as bitsandbytes does */
    struct ht_pool *pool;     /* may be NULL */
};

/* What encoding met; added up over calls. */
struct ht_qtensor_counts {
    uint64_t elems;
    uint64_t nan, inf;
    uint64_t saturated;    /* farther out than half a step beyond the last level */
    uint64_t zero_groups;  /* nothing but zeros */
    uint64_t flushed;      /* groups with values whose scale is too small for its format: all become 0 */
    double error;          /* sum of (x - value)^2, of finite x */
    double power;          /* sum of x^2 */
};

ht_status ht_qtensor_fit_rows(struct ht_qtensor *q, uint64_t row0, uint64_t n_rows, const float *x,
                              const struct ht_qtensor_options *o, struct ht_qtensor_counts *counts, ht_err *err);
ht_status ht_qtensor_fit_end(struct ht_qtensor *q, const struct ht_qtensor_options *o,
                             struct ht_qtensor_counts *counts, ht_err *err);
ht_status ht_qtensor_round_rows(struct ht_qtensor *q, uint64_t row0, uint64_t n_rows, const float *x,
                                const struct ht_qtensor_options *o, struct ht_qtensor_counts *counts, ht_err *err);
/* x [rows, cols]. o may be NULL: defaults. counts may be NULL. */
ht_status ht_qtensor_encode(struct ht_qtensor *q, const float *x, const struct ht_qtensor_options *o,
                            struct ht_qtensor_counts *counts, ht_err *err);
/* Nested scales: rounds the scales of fit to 8 bits around an offset, as bitsandbytes' quantize_4bit does. Part of
 * fit_end, whose offset is the mean. */
void ht_qtensor_nest(struct ht_qtensor *q, float offset);
/* In place of fit: the grid of group g of row r, rounded to what is stored (tensor granularity: r = g = 0).
 * With nested scales call ht_qtensor_fit_end afterwards. */
void ht_qtensor_set_grid(struct ht_qtensor *q, uint64_t r, uint64_t g, const struct ht_affine *a);

/* ---- decoding: any bytes are fine ------------------------------------------------------------------------ */

/* The grid of group g of row r as decoding uses it. */
struct ht_affine ht_qtensor_grid(const struct ht_qtensor *q, uint64_t r, uint64_t g);
/* x [n_rows, cols]. */
void ht_qtensor_decode(const struct ht_qtensor *q, uint64_t row0, uint64_t n_rows, float *x);
/* codes [cols] of a row. */
void ht_qtensor_codes(const struct ht_qtensor *q, uint64_t row, int32_t *codes);

#endif
