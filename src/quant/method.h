/* Methods: published recipes as rows of presets.c. In this set: rtn (round to nearest on the format's own searched
 * grid), imatrix (the same search weighted by calibration importance) and gptq (error feedback on those grids). */
#ifndef HT_QUANT_METHOD_H
#define HT_QUANT_METHOD_H

#include <stddef.h>

enum ht_needs {
    HT_NEEDS_NOTHING = 0,
    HT_NEEDS_MEAN_SQUARE = 1, /* of each input */
    HT_NEEDS_GRAM = 2         /* second moments of all pairs of inputs; text only, no importance file holds them */
};

struct ht_method {
    const char *name, *summary;
    const char *transform, *range, *format, *round, *outlier; /* the five choices, in words */
    const char *source;                                      /* paper or project */
    unsigned needs;                                          /* enum ht_needs */
};

size_t ht_method_count(void);
const struct ht_method *ht_method_at(size_t i);
const struct ht_method *ht_method_find(const char *name); /* without case; NULL: none */
const char *ht_method_name_at(const void *unused, size_t i); /* for ht_nearest */

#endif
