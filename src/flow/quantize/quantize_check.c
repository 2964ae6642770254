/* A recipe and the model in sight: what would do nothing is refused or said. */
#include "flow/quantize/quantize.h"

/* A weight of a layer that will have a grid. */
static bool has_grid(const struct ht_plan_tensor *t) {
    return ht_plan_is_weight(t) && t->layer >= 0 && (t->scheme != NULL || t->out.format->fit != NULL);
}

static ht_status check_activations(const struct ht_quant_job *j, ht_err *err) {
    const char *format = j->recipe.places[HT_PLACE_ACTIVATIONS].format;
    bool grids = false;
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        struct ht_place_recipe inputs;
        ht_recipe_activations(&j->recipe, t->role, t->layer, &inputs);
        if (has_grid(t) && inputs.format[0] != '\0') {
            return HT_OK;
        }
        grids |= has_grid(t);
    }
    if ((ht_recipe_leaves(&j->recipe) & HT_LEAVES_ACT) == 0) {
        return HT_OK;
    }
    if (grids) {
        return ht_fail(err, HT_INVAL, "activations", HT_NO_POS,
                       "the recipe's rules leave the inputs of every weight float; leave the place away instead");
    }
    return ht_fail(err, HT_INVAL, "activations", HT_NO_POS,
                   "%s would round nothing: inputs are rounded in front of weights that have a grid, and every weight "
                   "stays floating point; give the weights a format, as in int8:channel",
                   format[0] != '\0' ? format : "a rule's format");
}

static void warn_idle_rules(struct ht_context *ctx, struct ht_quant_job *j) {
    for (size_t r = 0; r < j->recipe.n_rules; r++) {
        const struct ht_recipe_rule *rule = &j->recipe.rules[r];
        bool any = false;
        for (size_t i = 0; i < j->plan->n_tensors && !any; i++) {
            const struct ht_plan_tensor *t = &j->plan->tensors[i];
            any = ht_plan_is_weight(t) && ht_recipe_rule_applies(rule, t->role, t->layer);
        }
        if (!any && rule->all_layers) {
            ht_quant_warn(ctx, j, "rule %zu of the recipe matches no tensor: the model has no such role", r + 1);
        } else if (!any) {
            ht_quant_warn(ctx, j, "rule %zu of the recipe (layers %u-%u) matches no tensor: the model has layers 0-%u",
                          r + 1, rule->first, rule->last, j->plan->hp.n_layers - 1);
        }
    }
}

ht_status ht_quant_check_recipe(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    warn_idle_rules(ctx, j);
    if (j->o->imatrix != NULL && ht_recipe_needs(&j->recipe) != HT_NEEDS_NOTHING && ht_quant_wants_blocks(j)) {
        return ht_fail(err, HT_INVAL, "imatrix", HT_NO_POS,
                       "what goes layer by layer, as codes with their scales apart do, takes importance from a text or "
                       "a statistics file: give --calib TEXT or --stats FILE in place of --imatrix");
    }
    return check_activations(j, err);
}
