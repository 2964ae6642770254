/* AXIS 2, where the grid sits: parts that turn values into the scale and zero of a code grid.
 *
 *     q = nearest level to x / scale + zero,      x' = scale * (q - zero)
 *
 * A part sees the values of one group, row or tensor, or the state of a stream of activations; the caller loops
 * over its groups. Parts are rows of range/range_table.c; nothing here knows how scales are stored. All functions
 * may be called from any thread. */
#ifndef HT_QUANT_RANGE_H
#define HT_QUANT_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "quant/part.h"

/* What the codes can say. Integers lo..hi when levels is NULL, else the table. */
struct ht_range_grid {
    const float *levels; /* [hi - lo + 1], ascending, or NULL */
    int lo, hi;          /* lo < hi */
    bool symmetric;      /* zero is 0; else zero is fitted */
    bool integer_zero;   /* asymmetric integers: zero is one of lo..hi, so that 0 is stored exactly */
};

struct ht_range {
    float scale; /* >= 0; 0: every code stands for 0 */
    float zero;  /* in codes, real; 0 when symmetric */
};

/* ---- streams: a state of fixed size that batches are added to -------------------------------------------- */

#define HT_RANGE_BINS 4096

/* Histogram of both signs over [0, 2^exponent), whose width doubles when a larger value comes: bin i of width w
 * becomes bin i / 2 of width 2 w, which is exact, so counts depend on the values only, not on their order or on
 * how they were cut into batches. The moving averages depend on the order of batches:
 *     average = sum_i m^(k - i) x_i / sum_i m^(k - i),   m = momentum, x_i the minimum (maximum) of batch i of k,
 * the exponential moving average of Jacob et al. 2017 section 3.1 without the weight of an initial value. */
struct ht_range_state {
    uint64_t count[2][HT_RANGE_BINS]; /* [negative][bin of |x|], zeros apart */
    uint64_t n, n_zero;
    int exponent;           /* meaningful when n > n_zero */
    float min, max;         /* meaningful when n > 0 */
    uint64_t n_batches;
    double momentum;        /* in [0, 1) */
    double sum_min, sum_max, sum_weight; /* of the averages */
};

/* HT_INVAL for a momentum outside [0, 1). 0.9 forgets half of a batch after 7 more. */
ht_status ht_range_state_init(struct ht_range_state *state, double momentum, ht_err *err);
/* One batch. HT_NUMERIC when a value is NaN or infinite; the state is then as it was. n 0: nothing happens. */
ht_status ht_range_state_add(struct ht_range_state *state, const float *x, size_t n, ht_err *err);
/* Adds the batches of `later` behind those of state. HT_INVAL when the momenta differ. */
ht_status ht_range_state_merge(struct ht_range_state *state, const struct ht_range_state *later, ht_err *err);

/* ---- parts ----------------------------------------------------------------------------------------------- */

/* Values, or (x NULL) a stream. */
struct ht_range_input {
    const float *x;      /* [n] */
    const float *weight; /* [n] importance >= 0, or NULL; all zero counts as NULL */
    size_t n;
    const struct ht_range_state *state;
};

struct ht_range_part {
    struct ht_part part; /* needs: the importance of each value */
    bool streams;        /* for batches of activations; of values alone it is minmax */
    ht_status (*fit)(const struct ht_range_input *in, const struct ht_range_grid *grid, const double *options,
                     struct ht_range *out, ht_err *err);
};

size_t ht_range_count(void);
const struct ht_range_part *ht_range_at(size_t i);
const struct ht_range_part *ht_range_find(const char *name); /* without case; NULL: none */
const char *ht_range_name_at(const void *unused, size_t i);  /* for ht_nearest */

/* A part with its options. */
struct ht_range_choice {
    const struct ht_range_part *part;
    double options[HT_PART_OPTIONS];
};

/* "mse", "percentile:99.9", "mse:norm=2.4,grid=128"; a value without name is the first option's. HT_INVAL names
 * what was not understood. */
ht_status ht_range_parse(const char *text, struct ht_range_choice *choice, ht_err *err);

/* Of how many of n values without importance the choice's trials take their errors: all, or a sample
 * (range/range_sorted.c). Searches for the least squared error see up to HT_RANGE_SORTED of them, others 16,384. */
#define HT_RANGE_SORTED (1u << 18)
size_t ht_range_searched(const struct ht_range_choice *choice, const struct ht_range_grid *grid, size_t n);

/* HT_NUMERIC: NaN or Inf among values or weights. HT_INVAL: no values, a grid without two levels, importance
 * missing where the part needs it, or negative. Zeros give scale 0; a constant is met exactly by asymmetric grids
 * with a real zero. */
ht_status ht_range_fit(const struct ht_range_choice *choice, const struct ht_range_input *in,
                       const struct ht_range_grid *grid, struct ht_range *out, ht_err *err);

/* ---- use of a grid --------------------------------------------------------------------------------------- */

/* The smallest range whose first level lies at or below `low` and whose last at or above `high`; symmetric grids:
 * the smallest scale for which both are inside. integer_zero widens to contain 0. low <= high, both finite. */
struct ht_range ht_range_bounds(const struct ht_range_grid *grid, float low, float high);
/* Lowest and highest value that the grid reaches. */
void ht_range_reach(const struct ht_range_grid *grid, const struct ht_range *range, float *low, float *high);
/* Nearest value of the grid; ties to even for integers, to the upper for tables. */
float ht_range_nearest(const struct ht_range_grid *grid, const struct ht_range *range, float x);

#endif
