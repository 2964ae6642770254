/* Methods: published recipes as rows of presets.c. A row names one part per axis and place, with the options where
 * they differ from the part's defaults; ht_method_recipe gives the recipe it stands for. */
#ifndef HT_QUANT_METHOD_H
#define HT_QUANT_METHOD_H

#include "quant/recipe.h"

struct ht_place_row { /* texts as ht_choice_parse takes them; NULL: none, nearest, or the format's own range */
    const char *transforms[HT_MAX_TRANSFORMS];
    const char *range, *format, *round, *outlier;
};

struct ht_method {
    const char *name, *summary;
    const char *source;  /* paper or project */
    const char *differs; /* where ours differs from the source and why, or NULL */
    struct ht_place_row places[HT_PLACES];
};

size_t ht_method_count(void);
const struct ht_method *ht_method_at(size_t i);
const struct ht_method *ht_method_find(const char *name); /* without case; NULL: none */
const char *ht_method_name_at(const void *unused, size_t i); /* for ht_nearest */

/* The recipe of a row. HT_INTERNAL when the row names a part that does not exist (a test walks all rows). */
ht_status ht_method_recipe(const struct ht_method *method, struct ht_recipe *recipe, ht_err *err);

#endif
