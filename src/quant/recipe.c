/* Recipes as data: defaults, what applies to one tensor, and what the parts ask for and leave behind. */
#include "quant/recipe.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

void ht_recipe_defaults(struct ht_recipe *recipe) {
    *recipe = (struct ht_recipe){.calibration = {.tokens = 65536, .window = 512, .sequential = true}};
    for (int i = 0; i < HT_PLACES; i++) {
        struct ht_place_recipe *p = &recipe->places[i];
        const char *range = i == HT_PLACE_WEIGHTS ? "own" : "absmax";
        ht_choice_defaults(&p->range, ht_part_find(HT_AXIS_RANGE, range));
        ht_choice_defaults(&p->round, ht_part_find(HT_AXIS_ROUND, "nearest"));
        ht_choice_defaults(&p->outlier, ht_part_find(HT_AXIS_OUTLIER, "none"));
    }
}

bool ht_recipe_rule_applies(const struct ht_recipe_rule *r, enum ht_role role, int32_t layer) {
    bool here = r->all_layers || (layer >= 0 && (uint32_t)layer >= r->first && (uint32_t)layer <= r->last);
    return here && (r->roles == 0 || (r->roles & (1ull << role)) != 0);
}

void ht_recipe_weights(const struct ht_recipe *recipe, enum ht_role role, int32_t layer, struct ht_place_recipe *out) {
    *out = recipe->places[HT_PLACE_WEIGHTS];
    for (size_t i = 0; i < recipe->n_rules; i++) {
        const struct ht_recipe_rule *r = &recipe->rules[i];
        if (!ht_recipe_rule_applies(r, role, layer)) {
            continue;
        }
        if (r->format[0] != '\0') {
            memcpy(out->format, r->format, sizeof out->format);
        }
        out->range = r->range.part != NULL ? r->range : out->range;
        out->round = r->round.part != NULL ? r->round : out->round;
        out->outlier = r->outlier.part != NULL ? r->outlier : out->outlier;
    }
}

void ht_recipe_activations(const struct ht_recipe *recipe, enum ht_role role, int32_t layer,
                           struct ht_place_recipe *out) {
    *out = recipe->places[HT_PLACE_ACTIVATIONS];
    for (size_t i = 0; i < recipe->n_rules; i++) {
        const struct ht_recipe_rule *r = &recipe->rules[i];
        if (r->activations[0] != '\0' && ht_recipe_rule_applies(r, role, layer)) {
            memcpy(out->format, r->activations, sizeof out->format);
        }
    }
    if (strcasecmp(out->format, "keep") == 0) {
        out->format[0] = '\0';
    }
}

/* ---- what the parts ask for ------------------------------------------------------------------------------- */

/* OR of one mask over a place that is quantized at all, and over rules. */
static unsigned mask(const struct ht_recipe *recipe, unsigned (*of)(const struct ht_part *part)) {
    unsigned bits = 0;
    for (int i = 0; i < HT_PLACES; i++) {
        const struct ht_place_recipe *p = &recipe->places[i];
        if (i != HT_PLACE_WEIGHTS && p->format[0] == '\0') {
            continue;
        }
        for (size_t t = 0; t < p->n_transforms; t++) {
            bits |= of(p->transforms[t].part);
        }
        bits |= of(p->range.part) | of(p->round.part) | of(p->outlier.part);
    }
    for (size_t i = 0; i < recipe->n_rules; i++) {
        const struct ht_recipe_rule *r = &recipe->rules[i];
        bits |= r->range.part != NULL ? of(r->range.part) : 0;
        bits |= r->round.part != NULL ? of(r->round.part) : 0;
        bits |= r->outlier.part != NULL ? of(r->outlier.part) : 0;
    }
    return bits;
}

static unsigned needs_of(const struct ht_part *part) {
    return part->needs;
}

static unsigned leaves_of(const struct ht_part *part) {
    return part->leaves;
}

/* Activations with one scale for all: it is fixed beforehand, from what calibration saw. */
static bool fixed(const char *format) {
    struct ht_scheme s;
    return strchr(format, ':') != NULL && ht_scheme_parse(format, &s, NULL) == HT_OK &&
           s.granularity == HT_PER_TENSOR;
}

static bool fixed_activations(const struct ht_recipe *recipe) {
    bool any = fixed(recipe->places[HT_PLACE_ACTIVATIONS].format);
    for (size_t i = 0; i < recipe->n_rules; i++) {
        any |= fixed(recipe->rules[i].activations);
    }
    return any;
}

static bool rounded_activations(const struct ht_recipe *recipe) {
    bool any = recipe->places[HT_PLACE_ACTIVATIONS].format[0] != '\0';
    for (size_t i = 0; i < recipe->n_rules; i++) {
        any |= strchr(recipe->rules[i].activations, ':') != NULL;
    }
    return any;
}

unsigned ht_recipe_needs(const struct ht_recipe *recipe) {
    unsigned needs = mask(recipe, needs_of) | (recipe->calibration.drift > 0 ? HT_NEEDS_CROSS | HT_NEEDS_GRAM : 0);
    if (fixed_activations(recipe)) {
        const char *range = recipe->places[HT_PLACE_ACTIVATIONS].range.part->name;
        bool bounds = strcmp(range, "absmax") == 0 || strcmp(range, "minmax") == 0;
        needs |= bounds ? HT_NEEDS_MINMAX : HT_NEEDS_SAMPLE;
    }
    return needs;
}

unsigned ht_recipe_leaves(const struct ht_recipe *recipe) {
    return mask(recipe, leaves_of) | (fixed_activations(recipe) ? HT_LEAVES_ACT_SCALE : 0) |
           (rounded_activations(recipe) ? HT_LEAVES_ACT : 0) |
           (recipe->places[HT_PLACE_KV].format[0] != '\0' ? HT_LEAVES_KV : 0);
}

/* ---- comparison -------------------------------------------------------------------------------------------- */

static bool same_choice(const struct ht_choice *a, const struct ht_choice *b) {
    if (a->part != b->part) {
        return false;
    }
    for (size_t i = 0; a->part != NULL && i < HT_PART_OPTIONS && a->part->options[i].name != NULL; i++) {
        if (a->options[i] != b->options[i]) {
            return false;
        }
    }
    return true;
}

bool ht_place_recipe_equal(const struct ht_place_recipe *a, const struct ht_place_recipe *b) {
    bool same = a->n_transforms == b->n_transforms && same_choice(&a->range, &b->range) &&
                same_choice(&a->round, &b->round) && same_choice(&a->outlier, &b->outlier) &&
                strcmp(a->format, b->format) == 0;
    for (size_t i = 0; same && i < a->n_transforms; i++) {
        same = same_choice(&a->transforms[i], &b->transforms[i]);
    }
    return same;
}

static bool same_rule(const struct ht_recipe_rule *a, const struct ht_recipe_rule *b) {
    return a->roles == b->roles && a->all_layers == b->all_layers &&
           (a->all_layers || (a->first == b->first && a->last == b->last)) && strcmp(a->format, b->format) == 0 &&
           strcmp(a->activations, b->activations) == 0 && same_choice(&a->range, &b->range) &&
           same_choice(&a->round, &b->round) && same_choice(&a->outlier, &b->outlier);
}

bool ht_recipe_equal(const struct ht_recipe *a, const struct ht_recipe *b) {
    const struct ht_recipe_calibration *x = &a->calibration, *y = &b->calibration;
    bool same = a->n_rules == b->n_rules && x->tokens == y->tokens && x->window == y->window &&
                x->sequential == y->sequential && x->drift == y->drift;
    for (int i = 0; same && i < HT_PLACES; i++) {
        same = ht_place_recipe_equal(&a->places[i], &b->places[i]);
    }
    for (size_t i = 0; same && i < a->n_rules; i++) {
        same = same_rule(&a->rules[i], &b->rules[i]);
    }
    return same;
}
