/* RECIPE: everything that decides what quantize does to a model: five choices for each of three places, rules that
 * override them for roles and layers, and how much text calibration sees. Comes from a method's row (presets.c) or
 * from a YAML file.
 *
 * One linear goes through six steps:
 *
 *     W, stats --1 transform--> W' --2 split outliers--> W'' + sidecar --3 fit the range of each group--> scale, zero
 *        --4 snap to what the format stores--> scale, zero --5 round--> codes --6 encode--> bytes;  then |XW - XQ|
 *
 * A recipe is plain data: no pointers but to const rows. */
#ifndef HT_QUANT_RECIPE_H
#define HT_QUANT_RECIPE_H

#include <stdbool.h>

#include "quant/part.h"
#include "tensor/role.h"

#define HT_MAX_TRANSFORMS 4
#define HT_MAX_RULES 64
#define HT_RECIPE_NAME 64
#define HT_RECIPE_TEXT 256
#define HT_RECIPE_FORMAT 96

/* The five choices for one place. */
struct ht_place_recipe {
    struct ht_choice transforms[HT_MAX_TRANSFORMS]; /* applied in this order */
    size_t n_transforms;                            /* 0: none */
    struct ht_choice range, round, outlier;
    /* A format, a scheme, or (weights) a preset; "": weights: what --format asks for; else: the place stays float. */
    char format[HT_RECIPE_FORMAT];
};

/* Overrides the choices of some linears: those of their weights, and the format of their inputs; later rules win. */
struct ht_recipe_rule {
    uint64_t roles;              /* 1ull << enum ht_role; 0: every role */
    uint32_t first, last;        /* layers, both included */
    bool all_layers;             /* first and last say nothing, and matrices outside of layers are meant too */
    char format[HT_RECIPE_FORMAT]; /* "": as it was; "keep": the input's own */
    char activations[HT_RECIPE_FORMAT]; /* "": as it was; "keep": these linears' inputs stay float */
    struct ht_choice range, round, outlier; /* part NULL: as it was */
};

struct ht_recipe_calibration {
    uint64_t tokens; /* at most so many; 0: all of the text */
    uint32_t window; /* tokens per window */
    bool sequential; /* a block is calibrated on what the quantized blocks before it give */
    double drift;    /* 0..1: how far targets are corrected for inputs that quantization has changed */
};

struct ht_recipe {
    char name[HT_RECIPE_NAME];
    char summary[HT_RECIPE_TEXT], source[HT_RECIPE_TEXT];
    struct ht_place_recipe places[HT_PLACES];
    struct ht_recipe_rule rules[HT_MAX_RULES];
    size_t n_rules;
    struct ht_recipe_calibration calibration;
};

/* Round to nearest on the format's own grid, everything else left alone. */
void ht_recipe_defaults(struct ht_recipe *recipe);

/* The choices for the weights of one tensor: the place with its rules applied. layer -1: outside of layers. */
void ht_recipe_weights(const struct ht_recipe *recipe, enum ht_role role, int32_t layer, struct ht_place_recipe *out);

/* Likewise for the inputs of one linear; without format they stay float. */
void ht_recipe_activations(const struct ht_recipe *recipe, enum ht_role role, int32_t layer,
                           struct ht_place_recipe *out);
/* Whether the rule is meant for this tensor. */
bool ht_recipe_rule_applies(const struct ht_recipe_rule *rule, enum ht_role role, int32_t layer);

/* OR over all parts that the recipe names. */
unsigned ht_recipe_needs(const struct ht_recipe *recipe); /* enum ht_needs */
unsigned ht_recipe_leaves(const struct ht_recipe *recipe); /* enum ht_leaves */

/* The same choices for one place. */
bool ht_place_recipe_equal(const struct ht_place_recipe *a, const struct ht_place_recipe *b);
/* The same choices, whatever name, summary and source say. */
bool ht_recipe_equal(const struct ht_recipe *a, const struct ht_recipe *b);

/* check.c: refuses what cannot be done, in words, before work starts. */

/* Parts at places and grids they are not made for; formats that are none; options that contradict. HT_INVAL names
 * place, part and what would do. Weights without a format pass: --format may still come. */
ht_status ht_recipe_check(const struct ht_recipe *recipe, ht_err *err);
/* The same for the choices of one matrix, with the format that it gets. */
ht_status ht_recipe_check_weights(const struct ht_place_recipe *weights, ht_err *err);
/* A container stores stores (enum ht_leaves) and its name is what users call it. HT_UNSUPPORTED: the recipe leaves
 * more to the run time; says what, and which container can. */
ht_status ht_recipe_check_container(const struct ht_recipe *recipe, const char *container, unsigned stores,
                                    ht_err *err);

#endif
