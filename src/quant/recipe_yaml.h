/* Recipes as YAML (docs/recipes.md). Strict: a key that means nothing is refused with its line and the nearest name.
 *
 *     name: gptq                      # [a-z0-9+._-]
 *     summary: one line               # may be missing, as all that follows
 *     source: paper
 *     weights:                        # activations, kv: the same keys
 *       transform: [migrate, {part: shift, ...}]
 *       range: mse                    # a part's name; "mse:norm=2.4"; or {part: mse, norm: 2.4}
 *       format: int4:g64              # a format, scheme or preset
 *       round: {part: feedback, damping: 0.01}
 *       outlier: none
 *     rules:                          # later ones win
 *       - {roles: [ffn_down], layers: 0-3, format: q6_k}
 *     calibration: {tokens: 65536, window: 512, sequential: true, drift: 0} */
#ifndef HT_QUANT_RECIPE_YAML_H
#define HT_QUANT_RECIPE_YAML_H

#include "base/buf.h"
#include "quant/recipe.h"

/* Exactly len bytes; what names the source. What is not said has the default. HT_FORMAT and HT_INVAL tell the line; the
 * recipe has passed ht_recipe_check. */
ht_status ht_recipe_parse(const char *data, size_t len, const char *what, struct ht_recipe *recipe, ht_err *err);
ht_status ht_recipe_load(const char *path, struct ht_recipe *recipe, ht_err *err);
/* The recipe as YAML that parses back to the same; only what is not the default is said. */
void ht_recipe_write(const struct ht_recipe *recipe, struct ht_buf *out);

#endif
