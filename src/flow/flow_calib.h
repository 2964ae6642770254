/* Calibration data as the commands' options ask for it. */
#ifndef HT_FLOW_FLOW_CALIB_H
#define HT_FLOW_FLOW_CALIB_H

#include "calib/data.h"

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

#endif
