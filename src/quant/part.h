/* PARTS: the choices there are on each axis. A method is a row that names one part per axis (method.h, presets.c); a
 * recipe is the same with every option's value (recipe.h). A part is described here by a const row and carried out by
 * the function that its own header declares; who drives them is flow/.
 *
 * The axis FORMAT has no parts of its own: number formats and schemes are its table (format/format.h, scheme.h). */
#ifndef HT_QUANT_PART_H
#define HT_QUANT_PART_H

#include <stddef.h>

#include "base/error.h"
#include "quant/stats.h"
#include "tensor/sidecar.h" /* enum ht_leaves: what a part leaves to be done at run time */

/* X(NAME, text, what is chosen) */
#define HT_AXIS_LIST(X)                                        \
    X(TRANSFORM, "transform", "make the tensor easier")        \
    X(RANGE, "range", "where the grid sits")                   \
    X(ROUND, "round", "which point of the grid")               \
    X(OUTLIER, "outlier", "what leaves the grid")

enum ht_axis {
#define HT_AXIS_ENUM(name, text, what) HT_AXIS_##name,
    HT_AXIS_LIST(HT_AXIS_ENUM)
#undef HT_AXIS_ENUM
    HT_AXES
};

/* X(NAME, key in a recipe, text) */
#define HT_PLACE_LIST(X)                          \
    X(WEIGHTS, "weights", "weights")              \
    X(ACTIVATIONS, "activations", "activations")  \
    X(KV, "kv", "key and value cache")

enum ht_place {
#define HT_PLACE_ENUM(name, key, text) HT_PLACE_##name,
    HT_PLACE_LIST(HT_PLACE_ENUM)
#undef HT_PLACE_ENUM
    HT_PLACES
};

/* Grids that a part works on. */
enum ht_grids {
    HT_GRIDS_BLOCK = 1, /* GGUF types: scales inside of blocks */
    HT_GRIDS_CODE = 2,  /* schemes: codes, and scales apart (int4:g64) */
    HT_GRIDS_VECTOR = 4, /* GGUF types that store vectors of weights */
    HT_GRIDS_SINGLE = 3, /* each weight has a code of its own */
    HT_GRIDS_ALL = 7
};

enum ht_option_type { HT_OPTION_REAL, HT_OPTION_WHOLE, HT_OPTION_FLAG, HT_OPTION_WORD };

struct ht_part_option {
    const char *name; /* NULL ends */
    double value;     /* default; of a word: its place in words */
    double low, high; /* what is allowed, both included */
    const char *help;
    enum ht_option_type type;
    const char *words; /* "a|b|c" of HT_OPTION_WORD */
};

#define HT_PART_OPTIONS 8

struct ht_job;      /* one linear (job.h) */
struct ht_fold_job; /* one block (fold_job.h) */
struct ht_choice;
typedef ht_status ht_part_run(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
typedef ht_status ht_part_fold(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);

struct ht_part {
    const char *name; /* what it does, never a paper's name */
    enum ht_axis axis;
    unsigned places;  /* 1u << enum ht_place, HT_SINGLE */
    unsigned grids;   /* enum ht_grids */
    unsigned needs;   /* enum ht_needs */
    unsigned leaves;  /* enum ht_leaves */
    const char *summary, *formula, *source; /* formula: ASCII, in one line */
    ht_part_run *run;   /* ROUND, OUTLIER: carries it out on one linear; NULL: nothing to do, or who rounds does it.
                         * With HT_NEEDS_GRAD: where learning on the whole block starts from; the driver goes on */
    ht_part_fold *fold; /* TRANSFORM: on one block */
    struct ht_part_option options[HT_PART_OPTIONS + 1];
};

#define HT_ON_WEIGHTS (1u << HT_PLACE_WEIGHTS)
#define HT_ON_ACTIVATIONS (1u << HT_PLACE_ACTIVATIONS)
#define HT_ON_KV (1u << HT_PLACE_KV)
/* Beside one of these in `places`: there it works on many values under one scale, as in int8:tensor. */
#define HT_SINGLE(on) ((on) << 8)

const char *ht_axis_name(enum ht_axis axis);
const char *ht_place_name(enum ht_place place); /* its key in a recipe */
const char *ht_place_text(enum ht_place place);

/* Every row of every axis, in the order of the axes; only what is implemented stands there. */
size_t ht_part_count(void);
const struct ht_part *ht_part_at(size_t i); /* NULL past the end */
const struct ht_part *ht_part_find(enum ht_axis axis, const char *name); /* without case; NULL: none */

/* A part with its options. */
struct ht_choice {
    const struct ht_part *part;
    double options[HT_PART_OPTIONS];
};

#define HT_CHOICE_TEXT 512 /* bytes that hold every ht_choice_text */

void ht_choice_defaults(struct ht_choice *choice, const struct ht_part *part);
/* "feedback", "percentile:99.9", "mse:norm=2.4,grid=128"; a value without name is the first option's. HT_INVAL names
 * what was not understood, what is near and what is allowed. */
ht_status ht_choice_parse(enum ht_axis axis, const char *text, struct ht_choice *choice, ht_err *err);
/* One option by name and text. */
ht_status ht_choice_set(struct ht_choice *choice, const char *name, const char *value, ht_err *err);
/* The options' text alone ("norm=2.4,grid=128"), set in options [HT_PART_OPTIONS]. */
ht_status ht_part_parse_options(const struct ht_part *part, const char *text, double *options, ht_err *err);
/* Value of an option by name; the name is one of the part's. */
double ht_choice_value(const struct ht_choice *choice, const char *name);
/* A number in as few digits as read back the same; snprintf's result. */
int ht_real_text(double value, char *out, size_t len);
/* The shortest text that parses back: options at their defaults are left out. Returns out. */
const char *ht_choice_text(const struct ht_choice *choice, char out[HT_CHOICE_TEXT]);

/* Where it may stand: "weights, activations:tensor" (one scale for all). Returns out. */
const char *ht_part_places_text(const struct ht_part *part, char *out, size_t len);
/* "gram, mean square"; "nothing". Returns out. */
const char *ht_part_needs_text(unsigned needs, char *out, size_t len);
const char *ht_part_leaves_text(unsigned leaves, char *out, size_t len);

#endif
