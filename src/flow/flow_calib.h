/* Calibration data as the commands' options ask for it. */
#ifndef HT_FLOW_FLOW_CALIB_H
#define HT_FLOW_FLOW_CALIB_H

#include "calib/data.h"
#include "flow/flow_doc.h"
#include "flow/flow_finite.h"

/* The fields that ht_quantize_options and ht_stats_options share. */
#define HT_FLOW_CALIB(o, n_tokens, n_window)                                                                          \
    (struct ht_calib_data_options) {                                                                                  \
        .sources = (o)->calib, .n_sources = (o)->n_calib, .weights = (o)->calib_weights,                              \
        .n_weights = (o)->n_calib_weights, .tokens = (n_tokens), .window = (n_window), .sampling = (o)->sampling,      \
        .no_filters = (o)->no_filters, .not_in = (o)->not_in, .n_not_in = (o)->n_not_in,                              \
        .drop_overlap = (o)->drop_overlap, .seed = (o)->seed                                                          \
    }

/* What stands in place of a text, and what was said of a text all the same. */
struct ht_flow_calib_asked {
    const char *instead; /* "--stats", "--imatrix"; NULL: nothing */
    bool tokens, window; /* options.tokens, options.window are the caller's word and no default */
};

/* Options about a text that is not there would have no effect: HT_INVAL names them. options: of HT_FLOW_CALIB; asked:
 * looked at where there is no text, may be NULL. */
ht_status ht_flow_calib_check(const struct ht_calib_data_options *options, const struct ht_flow_calib_asked *asked,
                              ht_err *err);

/* Words for a record whose text is shorter than what was asked for; false: it is not. */
bool ht_flow_calib_short(const json_t *record, char *words, size_t len);

/* A model that calibration text will run through, and what must be told first: windows beyond its context; NaN and Inf
 * among its weights, which are refused or (allow_nonfinite) made 0, in copies that must outlive the model's use. */
ht_status ht_flow_calib_ready(struct ht_context *ctx, struct ht_model *model, uint32_t window, bool allow_nonfinite,
                              struct ht_finite *mended, struct ht_doc *record, ht_err *err);
/* To the log, and to the record's "warnings", which are there. */
void ht_flow_calib_warn(struct ht_context *ctx, struct ht_doc *record, const char *words);

/* Words for windows that are longer than the context that the model was made for; false: they are not. */
bool ht_flow_calib_beyond(const struct ht_hparams *hp, uint32_t window, char *words, size_t len);

#endif
