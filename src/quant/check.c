/* What a recipe asks for that nobody can do, told before any work. */
#include <stdio.h>
#include <strings.h>

#include "base/nearest.h"
#include "format/levels.h"
#include "format/scheme.h"
#include "quant/mix.h"
#include "quant/recipe.h"
#include "tensor/kv.h"

/* Presets, then formats: what may stand for a format. Storage types of integers hold no weights. */
static const char *name_at(const void *unused, size_t i) {
    (void)unused;
    if (i < ht_mix_count()) {
        return ht_mix_name(ht_mix_at(i));
    }
    const struct ht_format *f = ht_format_at(i - ht_mix_count());
    return f->kind == HT_KIND_INT ? "int8:channel" : f->name;
}

/* Which grids a format text stands for: a preset and a GGUF type have block grids, a scheme has codes. */
static ht_status grids_of(const char *what, const char *format, unsigned *grids, ht_err *err) {
    struct ht_scheme scheme;
    const struct ht_format *f = ht_format_find(format);
    *grids = HT_GRIDS_ALL;
    if (format[0] == '\0' || strcasecmp(format, "keep") == 0) {
        return HT_OK;
    }
    if (strchr(format, ':') != NULL) {
        *grids = HT_GRIDS_CODE;
        return ht_scheme_parse(format, &scheme, err);
    }
    const struct ht_mix *mix = ht_mix_find(format);
    if (mix != NULL) {
        *grids = ht_mix_base(mix)->round_vector != NULL ? HT_GRIDS_VECTOR : HT_GRIDS_BLOCK;
        return HT_OK;
    }
    if (f != NULL && f->kind == HT_KIND_CODE) {
        return ht_fail(err, HT_INVAL, what, HT_NO_POS,
                       "%s has no scales of its own: say which values share one, as in %s:g64 or %s:channel", f->name,
                       f->name, f->name);
    }
    if (f != NULL && f->kind == HT_KIND_INT) {
        return ht_fail(err, HT_INVAL, what, HT_NO_POS,
                       "%s stores integers and no weights; codes with a scale are int%u:channel or int%u:g64", f->name,
                       f->block_bytes >= 2 ? 16u : 8u, f->block_bytes >= 2 ? 16u : 8u);
    }
    if (f == NULL) {
        char near[128];
        ht_nearest(format, name_at, NULL, ht_mix_count() + ht_format_count(), near, sizeof near);
        return ht_fail(err, HT_INVAL, what, HT_NO_POS, "no format or preset is called '%s'%s%s", format,
                       near[0] != '\0' ? "; did you mean " : "", near);
    }
    *grids = f->kind == HT_KIND_FLOAT ? HT_GRIDS_ALL : f->round_vector != NULL ? HT_GRIDS_VECTOR : HT_GRIDS_BLOCK;
    return HT_OK;
}

static ht_status check_part(enum ht_place place, const struct ht_choice *choice, const char *format, unsigned grids,
                            ht_err *err) {
    const struct ht_part *part = choice->part;
    if (part == NULL) {
        return HT_OK;
    }
    if ((part->places & (1u << place)) == 0) {
        return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS, "%s part %s is not for %s",
                       ht_axis_name(part->axis), part->name, ht_place_text(place));
    }
    if (grids == HT_GRIDS_VECTOR && (part->grids & grids) == 0) {
        return ht_fail(err, HT_UNSUPPORTED, ht_place_name(place), HT_NO_POS,
                       "%s part %s decides each weight by itself, and %s stores vectors of weights; take a format such "
                       "as q4_k or int4:g64, or round: feedback",
                       ht_axis_name(part->axis), part->name, format);
    }
    if ((part->grids & grids) == 0) {
        bool code = grids == HT_GRIDS_CODE;
        return ht_fail(err, HT_UNSUPPORTED, ht_place_name(place), HT_NO_POS,
                       "%s part %s works on %s, and %s is %s; take a format such as %s, or another part",
                       ht_axis_name(part->axis), part->name,
                       code ? "GGUF types, whose scales lie inside of blocks" : "schemes, whose scales lie apart",
                       format, code ? "a scheme" : "a GGUF type", code ? "q4_k" : "int4:g64");
    }
    return HT_OK;
}

/* Transforms have an order: what turns the stream is first, then channels change places, since factors and cuts are
 * kept by place; what folds away comes before what is left to the run time, and that in the order in which the run
 * time does it. */
static int stage_of(const struct ht_part *part) {
    return strcmp(part->name, "rotate") == 0           ? 0
           : strcmp(part->name, "order") == 0          ? 1
           : part->leaves == HT_LEAVES_NOTHING         ? 2
           : (part->leaves & HT_LEAVES_IN_SHIFT) != 0  ? 3
           : (part->leaves & HT_LEAVES_HADAMARD) != 0  ? 4
           : (part->leaves & HT_LEAVES_PERM) != 0      ? 5
                                                       : 6;
}

static ht_status check_order(enum ht_place place, const struct ht_place_recipe *p, ht_err *err) {
    for (size_t i = 1; i < p->n_transforms; i++) {
        const struct ht_part *before = p->transforms[i - 1].part, *part = p->transforms[i].part;
        if (stage_of(before) > stage_of(part)) {
            return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS,
                           "transform %s comes before %s: first rotate, then order, then what folds away, then shift, "
                           "rotate-inputs, cluster and center",
                           part->name, before->name);
        }
        if (before == part) {
            return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS, "transform %s stands there twice",
                           part->name);
        }
    }
    return HT_OK;
}

/* What the run time can round inputs to (tensor/sidecar.h). */
static ht_status check_inputs(const char *format, ht_err *err) {
    const char *what = ht_place_name(HT_PLACE_ACTIVATIONS);
    struct ht_scheme s;
    if (format[0] == '\0') {
        return HT_OK;
    }
    HT_TRY(ht_scheme_parse(format, &s, err));
    const struct ht_code *c = s.format->code;
    if (s.granularity == HT_PER_CHANNEL) {
        return ht_fail(err, HT_INVAL, what, HT_NO_POS,
                       "%s gives each output channel of a weight a scale, and inputs have none: take %s:token, "
                       "%s:tensor (fixed by calibration), or groups as in %s:g64",
                       format, s.format->name, s.format->name, s.format->name);
    }
    if (s.zero == HT_ZERO_OFFSET || s.nested || c->fitted != HT_FITTED_NOT || c->hi - c->lo > 65535) {
        return ht_fail(err, HT_INVAL, what, HT_NO_POS,
                       "inputs are rounded to formats of at most 16 bits, without offset, nested scales and fitted "
                       "levels, as in int8:token; found %s",
                       format);
    }
    return HT_OK;
}

/* ---- options, and what a scheme cannot carry ---- */

static bool is(const struct ht_choice *choice, const char *name) {
    return choice->part != NULL && strcmp(choice->part->name, name) == 0;
}

/* Whether 0 is a value of every grid: fitted levels of means and a real minimum have it only by chance. */
static bool has_zero(const struct ht_scheme *s) {
    const struct ht_code *c = s->format->code;
    bool level = c->fitted != HT_FITTED_NOT ? c->fitted != HT_FITTED_KMEANS
                                            : ht_code_level(s->format, c->zero) == 0.0f;
    return level && s->zero != HT_ZERO_OFFSET;
}

static ht_status check_prune(const struct ht_choice *prune, const struct ht_scheme *s, const char *format,
                             ht_err *err) {
    double n = ht_choice_value(prune, "n"), m = ht_choice_value(prune, "m");
    if (ht_choice_value(prune, "fraction") == 0 && n > m) {
        return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                       "outlier part prune keeps n of every m weights, and %g of %g cannot stay; take n up to m", n, m);
    }
    if (s != NULL && !has_zero(s)) {
        return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                       "outlier part prune makes weights 0, and 0 is no value of %s; take a format with a code for 0, "
                       "as %s",
                       format, s->zero == HT_ZERO_OFFSET ? "the same without offset" : "int4:g64 or nf4:g64");
    }
    return HT_OK;
}

/* Grids that are fitted when feedback reaches them. s NULL: blocks of a GGUF type. */
static ht_status check_dynamic(const struct ht_choice *round, const struct ht_scheme *s, const char *format,
                               ht_err *err) {
    bool one = s != NULL && s->granularity != HT_PER_GROUP;
    if (ht_choice_value(round, "order") == 0 && !one) {
        return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                       "round part feedback: dynamic grids are fitted where their group begins, and order: falling "
                       "mixes the groups of %s; take order: natural or order: groups, or leave dynamic away",
                       format);
    }
    const char *fixed = s == NULL                               ? NULL
                        : s->nested                             ? "nests its scales"
                        : s->granularity == HT_PER_TENSOR       ? "has one scale for the whole tensor"
                        : s->format->code->fitted != HT_FITTED_NOT ? "fits its levels to the whole tensor"
                                                                   : NULL;
    if (fixed != NULL) {
        return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                       "round part feedback: dynamic grids need scales of their own, and %s %s; leave dynamic away",
                       format, fixed);
    }
    return HT_OK;
}

static ht_status check_fitted(const struct ht_place_recipe *p, bool solves, ht_err *err) {
    if (is(&p->range, "own") || (solves && is(&p->range, "weighted"))) {
        return HT_OK;
    }
    return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                   "range part %s needs levels that are there before the scales, and those of %s are fitted to the "
                   "tensor behind them; take range: own",
                   p->range.part->name, p->format);
}

/* Options against each other and against the format; the parts are known to be for its kind of grid. */
static ht_status check_options(const struct ht_place_recipe *p, unsigned grids, ht_err *err) {
    struct ht_scheme scheme;
    const struct ht_scheme *s = NULL;
    bool solves = is(&p->round, "feedback") || is(&p->round, "greedy") ||
                  (is(&p->round, "learn") && ht_choice_value(&p->round, "start") == 0);
    if (grids == HT_GRIDS_CODE) {
        HT_TRY(ht_scheme_parse(p->format, &scheme, err));
        s = &scheme;
    }
    if (is(&p->outlier, "prune")) {
        HT_TRY(check_prune(&p->outlier, s, p->format, err));
    }
    if (is(&p->round, "feedback") && ht_choice_value(&p->round, "dynamic") != 0 && grids != HT_GRIDS_ALL) {
        HT_TRY(check_dynamic(&p->round, s, p->format, err));
    }
    if (s != NULL && s->format->code->fitted != HT_FITTED_NOT) {
        HT_TRY(check_fitted(p, solves, err));
    }
    if (s != NULL && solves && s->format->code->hi - s->format->code->lo >= HT_LEVELS_MAX) {
        return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                       "round part %s serves codes of at most 8 bits, and %s has more; take round: nearest",
                       p->round.part->name, p->format);
    }
    return HT_OK;
}

/* ---- where a range works ---- */

static bool is_single(const char *format) {
    struct ht_scheme s;
    return strchr(format, ':') != NULL && ht_scheme_parse(format, &s, NULL) == HT_OK && s.granularity == HT_PER_TENSOR;
}

/* A histogram of the values under one scale of many says nothing: thresholds come out far too small. */
static ht_status check_single(const struct ht_place_recipe *w, ht_err *err) {
    const struct ht_part *range = w->range.part;
    if ((range->places & HT_SINGLE(HT_ON_WEIGHTS)) == 0 || strchr(w->format, ':') == NULL || is_single(w->format)) {
        return HT_OK;
    }
    struct ht_scheme s;
    HT_TRY(ht_scheme_parse(w->format, &s, err));
    return ht_fail(err, HT_INVAL, ht_place_name(HT_PLACE_WEIGHTS), HT_NO_POS,
                   "range part %s takes its threshold from a histogram, for which the values of one channel or group "
                   "are too few; take %s:tensor, or another part such as mse",
                   range->name, s.format->name);
}

/* Inputs that are measured token by token take their bounds as they come; other parts fix a range beforehand. And what
 * is said of a place where nothing is rounded would do nothing. */
static ht_status check_rounded_place(const struct ht_recipe *recipe, enum ht_place place, ht_err *err) {
    const struct ht_place_recipe *p = &recipe->places[place];
    struct ht_recipe plain;
    bool any = p->format[0] != '\0', single = is_single(p->format);
    const char *format = p->format;
    for (size_t i = 0; i < recipe->n_rules && place == HT_PLACE_ACTIVATIONS; i++) {
        const char *own = recipe->rules[i].activations;
        if (strchr(own, ':') != NULL) {
            format = any ? format : own;
            any = true;
            single |= is_single(own);
        }
    }
    ht_recipe_defaults(&plain);
    if (!any && !ht_place_recipe_equal(p, &plain.places[place])) {
        return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS,
                       "%s without a format: floats stay as they are and nothing of this would be done; say one, as in "
                       "int8:token, or leave the place away",
                       ht_place_text(place));
    }
    if (any && !single && (p->range.part->places & HT_SINGLE(1u << place)) != 0) {
        return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS,
                       "range part %s fixes one range beforehand, and %s is measured as inputs come; take a format "
                       "with one scale for all, as in int8:tensor, or leave the range away",
                       p->range.part->name, format);
    }
    return HT_OK;
}

static ht_status check_place(enum ht_place place, const struct ht_place_recipe *p, ht_err *err) {
    unsigned grids = HT_GRIDS_CODE;
    struct ht_kv kv;
    if (place == HT_PLACE_KV && p->format[0] != '\0') {
        HT_TRY(ht_kv_parse(p->format, &kv, err));
    } else {
        HT_TRY(grids_of(ht_place_name(place), p->format, &grids, err));
    }
    if (place != HT_PLACE_WEIGHTS && p->format[0] != '\0' && grids != HT_GRIDS_CODE) {
        return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS,
                       "%s are quantized to schemes, as in int8:token; found %s", ht_place_text(place), p->format);
    }
    HT_TRY(check_order(place, p, err));
    for (size_t i = 0; i < p->n_transforms; i++) {
        HT_TRY(check_part(place, &p->transforms[i], p->format, grids, err));
    }
    /* What is kept apart goes where only the others are rounded; terms that are added go with any rounding. */
    bool apart = p->outlier.part->run != NULL && p->outlier.part->grids == HT_GRIDS_CODE;
    bool rounds = strcmp(p->round.part->name, "feedback") == 0 || strcmp(p->round.part->name, "nearest") == 0;
    if (place == HT_PLACE_WEIGHTS && apart && !rounds) {
        return ht_fail(err, HT_INVAL, ht_place_name(place), HT_NO_POS,
                       "outlier part %s goes with round: feedback or nearest, which round the other weights; found %s",
                       p->outlier.part->name, p->round.part->name);
    }
    HT_TRY(check_part(place, &p->range, p->format, grids, err));
    HT_TRY(place == HT_PLACE_WEIGHTS ? check_single(p, err) : HT_OK);
    HT_TRY(check_part(place, &p->round, p->format, grids, err));
    HT_TRY(check_part(place, &p->outlier, p->format, grids, err));
    return place == HT_PLACE_WEIGHTS ? check_options(p, grids, err) : HT_OK;
}

ht_status ht_recipe_check_weights(const struct ht_place_recipe *weights, ht_err *err) {
    return check_place(HT_PLACE_WEIGHTS, weights, err);
}

static bool learns(const struct ht_choice *round) {
    return round->part != NULL && (round->part->needs & HT_NEEDS_GRAD) != 0;
}

/* A layer learns as a whole: in one way, and with everything in sight that the run time will do to its matrices. */
static ht_status check_learning(const struct ht_recipe *recipe, ht_err *err) {
    const unsigned seen = HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE | HT_LEAVES_THRESHOLD | HT_LEAVES_KV;
    const struct ht_choice *first = learns(&recipe->places[HT_PLACE_WEIGHTS].round)
                                        ? &recipe->places[HT_PLACE_WEIGHTS].round : NULL;
    char text[HT_CHOICE_TEXT], other[HT_CHOICE_TEXT], more[HT_LEAVES_TEXT];
    for (size_t i = 0; i < recipe->n_rules; i++) {
        const struct ht_choice *c = &recipe->rules[i].round;
        if (!learns(c)) {
            continue;
        }
        first = first != NULL ? first : c;
        if (strcmp(ht_choice_text(first, text), ht_choice_text(c, other)) != 0) {
            return ht_fail(err, HT_INVAL, "rules", HT_NO_POS,
                           "the matrices of a layer learn together: found round: %s and round: %s; let rules leave "
                           "matrices out (round: nearest), or learn all in one way",
                           text, other);
        }
    }
    unsigned leaves = ht_recipe_leaves(recipe) & ~seen;
    if (first != NULL && leaves != 0) {
        return ht_fail(err, HT_UNSUPPORTED, "weights", HT_NO_POS,
                       "round part %s sees the inputs' rounding but not: %s; take round: feedback for such a recipe",
                       first->part->name, ht_leaves_text(leaves, more));
    }
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    for (size_t i = 0; i < w->n_transforms && first != NULL; i++) {
        if (strcmp(w->transforms[i].part->name, "center-biases") == 0) {
            return ht_fail(err, HT_UNSUPPORTED, "weights", HT_NO_POS,
                           "round part %s is done behind the layer, and transform center-biases before that; take "
                           "round: feedback for such a recipe",
                           first->part->name);
        }
    }
    return HT_OK;
}

/* Clusters are ranges of activations: there must be activations that are rounded, and no other ranges. */
static ht_status check_clusters(const struct ht_recipe *recipe, ht_err *err) {
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    const char *format = recipe->places[HT_PLACE_ACTIVATIONS].format;
    struct ht_scheme scheme = {.granularity = HT_PER_GROUP};
    bool clusters = false;
    for (size_t i = 0; i < w->n_transforms; i++) {
        clusters |= (w->transforms[i].part->leaves & HT_LEAVES_CLUSTERS) != 0;
    }
    if (clusters && format[0] != '\0') {
        HT_TRY(ht_scheme_parse(format, &scheme, err));
    }
    if (clusters && scheme.granularity == HT_PER_GROUP) {
        return ht_fail(err, HT_INVAL, "activations", HT_NO_POS,
                       "transform cluster gives activations their ranges: it wants a format with one scale for all or "
                       "per token, as in int8:tensor; found %s",
                       format[0] != '\0' ? format : "none");
    }
    return HT_OK;
}

/* Moments between both streams are of inputs as they were: only scales can be followed. */
static ht_status check_drift(const struct ht_recipe *recipe, ht_err *err) {
    const struct ht_recipe_calibration *c = &recipe->calibration;
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    if (c->drift > 0 && !c->sequential) {
        return ht_fail(err, HT_INVAL, "calibration", HT_NO_POS,
                       "drift %g corrects for changed inputs, and sequential: false calibrates on unchanged ones; take "
                       "one of them",
                       c->drift);
    }
    for (size_t i = 0; i < w->n_transforms && c->drift > 0; i++) {
        const struct ht_choice *t = &w->transforms[i];
        if (is(t, "shift") || is(t, "order") || is(t, "cluster")) {
            return ht_fail(err, HT_UNSUPPORTED, "calibration", HT_NO_POS,
                           "drift %g takes the unquantized model's inputs, and they cannot follow transform %s; leave "
                           "one of them away",
                           c->drift, t->part->name);
        }
    }
    return HT_OK;
}

ht_status ht_recipe_check(const struct ht_recipe *recipe, ht_err *err) {
    for (int i = 0; i < HT_PLACES; i++) {
        HT_TRY(check_place((enum ht_place)i, &recipe->places[i], err));
    }
    HT_TRY(check_inputs(recipe->places[HT_PLACE_ACTIVATIONS].format, err));
    HT_TRY(check_rounded_place(recipe, HT_PLACE_ACTIVATIONS, err));
    HT_TRY(check_rounded_place(recipe, HT_PLACE_KV, err));
    for (size_t i = 0; i < recipe->n_rules; i++) {
        const struct ht_recipe_rule *r = &recipe->rules[i];
        struct ht_place_recipe p = recipe->places[HT_PLACE_WEIGHTS];
        p.range = r->range.part != NULL ? r->range : p.range;
        p.round = r->round.part != NULL ? r->round : p.round;
        p.outlier = r->outlier.part != NULL ? r->outlier : p.outlier;
        if (r->format[0] != '\0') {
            snprintf(p.format, sizeof p.format, "%s", r->format);
        }
        HT_TRY(check_place(HT_PLACE_WEIGHTS, &p, err));
        p = recipe->places[HT_PLACE_ACTIVATIONS];
        if (r->activations[0] != '\0' && strcasecmp(r->activations, "keep") != 0) {
            snprintf(p.format, sizeof p.format, "%s", r->activations);
            HT_TRY(check_place(HT_PLACE_ACTIVATIONS, &p, err));
            HT_TRY(check_inputs(p.format, err));
        }
    }
    HT_TRY(check_learning(recipe, err));
    HT_TRY(check_clusters(recipe, err));
    return check_drift(recipe, err);
}

ht_status ht_recipe_check_container(const struct ht_recipe *recipe, const char *container, unsigned stores,
                                    ht_err *err) {
    unsigned more = ht_recipe_leaves(recipe) & ~stores;
    char text[320];
    if (more == 0) {
        return HT_OK;
    }
    return ht_fail(err, HT_UNSUPPORTED, recipe->name, HT_NO_POS,
                   "method %s leaves behind: %s; %s cannot store that: write a halftone folder: -o OUT without "
                   ".gguf",
                   recipe->name, ht_part_leaves_text(more, text, sizeof text), container);
}
