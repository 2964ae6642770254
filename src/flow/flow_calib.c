#include "flow/flow_calib.h"

#include <stdio.h>

#include "base/error.h"

ht_status ht_flow_calib_check(const struct ht_calib_data_options *o, ht_err *err) {
    bool any = o->n_weights != 0 || o->sampling != NULL || o->no_filters || o->n_not_in != 0 || o->drop_overlap;
    if (any && o->n_sources == 0) {
        return ht_fail(err, HT_INVAL, "calib", HT_NO_POS,
                       "weights, sampling, filters and texts that must stay unseen are about calibration text: give "
                       "--calib TEXT, or leave them away");
    }
    if (o->drop_overlap && o->n_not_in == 0) {
        return ht_fail(err, HT_INVAL, "drop-overlap", HT_NO_POS, "overlap with what? name the text: --not-in TEXT");
    }
    return HT_OK;
}

bool ht_flow_calib_short(const json_t *record, char *words, size_t len) {
    json_int_t asked = json_integer_value(json_object_get(record, "asked_tokens"));
    json_int_t tokens = json_integer_value(json_object_get(record, "tokens"));
    json_int_t window = json_integer_value(json_object_get(record, "window"));
    if (asked == 0 || window == 0 || tokens >= asked / window * window) {
        return false;
    }
    snprintf(words, len, "calibration text is shorter than asked: %lld of %lld tokens", (long long)tokens,
             (long long)asked);
    return true;
}
