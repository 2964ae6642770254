/* Statistics files as other commands want them. */
#ifndef HT_FLOW_FLOW_STATS_H
#define HT_FLOW_FLOW_STATS_H

#include "calib/stats_file.h"
#include "io/imatrix.h"
#include "quant/recipe.h"

/* As ht_stats_file_open; what turns out to be an importance matrix is refused with a hint: `matrix` says who takes
 * it. */
ht_status ht_flow_stats_open(const char *path, const char *matrix, struct ht_stats_file **file, ht_err *err);

/* Whether a file of statistics can serve the recipe at all: HT_UNSUPPORTED when its passes compare with quantized
 * layers, or a transform does to inputs what statistics cannot follow. */
ht_status ht_flow_stats_serve(const struct ht_recipe *recipe, ht_err *err);
/* False: the recipe wants each layer's inputs as the quantized layers before it give them, and a file has those of the
 * unquantized model. What comes of a method's row is then calibrated without; a recipe file means what it says and is
 * refused (HT_INVAL) with these words. */
bool ht_flow_stats_unordered(const struct ht_recipe *recipe);
ht_status ht_flow_stats_refuse_order(const char *path, ht_err *err);

/* The mean squares as an importance matrix. HT_INVAL when the file has none. */
ht_status ht_stats_to_imatrix(const struct ht_stats_file *file, struct ht_imatrix **imatrix, ht_err *err);

#endif
