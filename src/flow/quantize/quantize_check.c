/* A recipe and the model in sight: what would do nothing is refused or said. */
#include <stdio.h>

#include "flow/quantize/quantize.h"
#include "format/scheme.h"
#include "quant/job.h"

/* A weight of a layer that will have a grid. */
static bool has_grid(const struct ht_plan_tensor *t) {
    return ht_plan_is_weight(t) && t->layer >= 0 && (t->scheme != NULL || t->out.format->fit != NULL);
}

/* Presets, --tensor and blocks that do not divide a row give matrices other formats than the recipe names. */
static ht_status check_matrices(const struct ht_quant_job *j, ht_err *err) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        struct ht_place_recipe how;
        char text[HT_SCHEME_TEXT];
        ht_err inner = {0};
        if (!has_grid(t)) {
            continue;
        }
        ht_recipe_weights(&j->recipe, t->role, t->layer, &how);
        snprintf(how.format, sizeof how.format, "%s",
                 t->scheme != NULL ? ht_scheme_text(t->scheme, text) : t->out.format->name);
        ht_status status = ht_recipe_check_weights(&how, &inner);
        if (status != HT_OK) {
            return ht_fail(err, status, t->out.name, HT_NO_POS, "%s", inner.msg);
        }
        if (how.round.part->run == ht_job_round_greedy && t->out.ne[0] > HT_ROUND_GREEDY_COLS) {
            return ht_fail(err, HT_INVAL, t->out.name, HT_NO_POS,
                           "round part greedy takes the cube of the columns per row: at most %u columns, found %llu; "
                           "take round: feedback, for these by a rule of a recipe",
                           HT_ROUND_GREEDY_COLS, (unsigned long long)t->out.ne[0]);
        }
    }
    return HT_OK;
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

/* ---- rules ---- */

/* What a rule may say. */
enum said { SAYS_FORMAT, SAYS_ACTIVATIONS, SAYS_RANGE, SAYS_ROUND, SAYS_OUTLIER, SAYS };

static bool says(const struct ht_recipe_rule *r, enum said what) {
    const bool all[SAYS] = {[SAYS_FORMAT] = r->format[0] != '\0',
                            [SAYS_ACTIVATIONS] = r->activations[0] != '\0',
                            [SAYS_RANGE] = r->range.part != NULL,
                            [SAYS_ROUND] = r->round.part != NULL,
                            [SAYS_OUTLIER] = r->outlier.part != NULL};
    return all[what];
}

/* A later rule, or an option, says the same thing of this tensor. */
static bool is_overruled(const struct ht_quant_job *j, size_t r, const struct ht_plan_tensor *t, enum said what) {
    bool yes = what == SAYS_FORMAT && ht_quant_override(j, t->role) != NULL;
    for (size_t k = r + 1; k < j->recipe.n_rules && !yes; k++) {
        const struct ht_recipe_rule *later = &j->recipe.rules[k];
        yes = says(later, what) && ht_recipe_rule_applies(later, t->role, t->layer);
    }
    return yes;
}

struct idle {
    bool matches;   /* some matrix */
    bool works;     /* something that it says holds for some matrix */
    bool in_layers; /* it matches matrices of layers */
    bool overruled; /* what could hold is said otherwise by later rules or options */
};

static struct idle look_at(const struct ht_quant_job *j, size_t r) {
    const struct ht_recipe_rule *rule = &j->recipe.rules[r];
    struct idle idle = {0};
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        if (!ht_plan_is_weight(t) || !ht_recipe_rule_applies(rule, t->role, t->layer)) {
            continue;
        }
        idle.matches = true;
        idle.in_layers |= t->layer >= 0;
        for (int what = 0; what < SAYS; what++) {
            bool usable = says(rule, (enum said)what) && (what == SAYS_FORMAT || has_grid(t));
            bool overruled = usable && is_overruled(j, r, t, (enum said)what);
            idle.works |= usable && !overruled;
            idle.overruled |= overruled;
        }
    }
    return idle;
}

/* Why a rule with layers matches nothing. */
static void warn_layers(struct ht_context *ctx, struct ht_quant_job *j, size_t r) {
    const struct ht_recipe_rule *rule = &j->recipe.rules[r];
    uint32_t last = j->plan->hp.n_layers - 1;
    const char *why = rule->first > last ? "the model has layers 0-"
                                         : "no matrix of its roles lies in a layer; layers are 0-";
    ht_quant_warn(ctx, j, "rule %zu of the recipe (layers %u-%u) matches no tensor: %s%u", r + 1, rule->first,
                  rule->last, why, last);
}

static void warn_idle_rules(struct ht_context *ctx, struct ht_quant_job *j) {
    for (size_t r = 0; r < j->recipe.n_rules; r++) {
        const struct ht_recipe_rule *rule = &j->recipe.rules[r];
        struct idle idle = look_at(j, r);
        bool head = rule->roles == 1ull << HT_ROLE_OUTPUT && j->plan->hp.tied;
        if (!idle.matches && !rule->all_layers) {
            warn_layers(ctx, j, r);
        } else if (!idle.matches) {
            ht_quant_warn(ctx, j, "rule %zu of the recipe matches no tensor: the model has no such role%s", r + 1,
                          head ? " (its head is the embedding: token_embd)" : "");
        } else if (!idle.works) {
            ht_quant_warn(ctx, j, "rule %zu of the recipe has no effect: %s", r + 1,
                          idle.overruled   ? "later rules, or options, decide all that it is for"
                          : idle.in_layers ? "the weights that it is for stay floating point"
                                           : "outside of layers matrices have a format, and no other choice");
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
    HT_TRY(check_matrices(j, err));
    return check_activations(j, err);
}
