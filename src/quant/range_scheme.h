/* Range parts on the grid of a scheme: what ht_qtensor_options.range takes, so that a qtensor's scales come from any
 * part of axis 2. */
#ifndef HT_QUANT_RANGE_SCHEME_H
#define HT_QUANT_RANGE_SCHEME_H

#include "format/levels.h"
#include "format/scheme.h"
#include "quant/range.h"

struct ht_range_scheme {
    struct ht_range_choice choice;
    struct ht_range_grid grid;
    float levels[HT_LEVELS_MAX]; /* finite ones, ascending, no two alike */
};

/* HT_INVAL: fitted formats, which have levels only afterwards; integers of more than 16 bits there are none. */
ht_status ht_range_scheme_init(struct ht_range_scheme *r, const struct ht_range_choice *choice,
                               const struct ht_scheme *scheme, ht_err *err);
/* A ht_range_fn; ctx: struct ht_range_scheme. Importance goes to parts that take it. */
ht_range_fn ht_range_of_scheme;

/* Finite levels of a table format, ascending, each once, and their codes. Returns their number. */
int ht_range_levels(const struct ht_format *format, const float *table, float levels[HT_LEVELS_MAX],
                    int32_t codes[HT_LEVELS_MAX]);

#endif
