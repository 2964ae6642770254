/* Options of calibration text, the same rows for every command that reads some. The command's struct args has the
 * library's options as `o` and a struct calib_args as `text`. */
#ifndef HT_CLI_CALIB_OPTIONS_H
#define HT_CLI_CALIB_OPTIONS_H

#include "cli.h"

struct calib_args {
    struct strlist calib, not_in;
    struct u32list weights;
};

#define CALIB_AT(field) offsetof(struct args, text.field)

/* who: what stands in front of each line of help, such as "collect: ". */
#define CALIB_SOURCE_ROW(who)                                                                                        \
    {"calib", 0, OPT_LIST, CALIB_AT(calib), "TEXT", "@file",                                                         \
     who "calibration text, .jsonl, token ids (.npy, .safetensors), or self: what the model writes; may be repeated"}

#define CALIB_ROWS(who)                                                                                              \
    {"calib-weights", 0, OPT_U32S, CALIB_AT(weights), "W,W", NULL, who "share of each --calib, such as 3,1 [equal]"}, \
    {"sampling", 0, OPT_STR, offsetof(struct args, o.sampling), "S", "sequential|random|diverse",                    \
     who "which windows of the text [sequential]"},                                                                  \
    {"no-filters", 0, OPT_FLAG, offsetof(struct args, o.no_filters), NULL, NULL,                                     \
     who "keep windows that are no text, repetitive, or seen before, and short rows"},                               \
    {"not-in", 0, OPT_LIST, CALIB_AT(not_in), "TEXT", "@file",                                                       \
     who "refuse calibration text that shares windows with this one; may be repeated"},                              \
    {"drop-overlap", 0, OPT_FLAG, offsetof(struct args, o.drop_overlap), NULL, NULL,                                 \
     who "leave such windows out instead"}

/* What the rows filled, as the library takes it: o is a ht_quantize_options or a ht_stats_options. */
#define CALIB_TAKE(o, text)                                                                                          \
    do {                                                                                                             \
        (o)->calib = (text)->calib.items;                                                                            \
        (o)->n_calib = (text)->calib.n;                                                                              \
        (o)->calib_weights = (text)->weights.items;                                                                  \
        (o)->n_calib_weights = (text)->weights.n;                                                                    \
        (o)->not_in = (text)->not_in.items;                                                                          \
        (o)->n_not_in = (text)->not_in.n;                                                                            \
    } while (0)

#endif
