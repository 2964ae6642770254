#include "flow/flow_calib.h"

#include <stdio.h>

#include "base/error.h"

/* Options of a text, as the caller named them. */
static const char *named(const struct ht_calib_data_options *o, const struct ht_flow_calib_asked *asked, char *out,
                         size_t len) {
    const struct {
        const char *name;
        bool given;
    } rows[] = {
        {"--calib-tokens", asked != NULL && asked->tokens},
        {"--ctx", asked != NULL && asked->window},
        {"--calib-weights", o->n_weights != 0},
        {"--sampling", o->sampling != NULL},
        {"--no-filters", o->no_filters},
        {"--not-in", o->n_not_in != 0},
        {"--drop-overlap", o->drop_overlap},
    };
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && used < len; i++) {
        if (rows[i].given) {
            used += (size_t)snprintf(out + used, len - used, "%s%s", used > 0 ? ", " : "", rows[i].name);
        }
    }
    return out;
}

ht_status ht_flow_calib_check(const struct ht_calib_data_options *o, const struct ht_flow_calib_asked *asked,
                              ht_err *err) {
    char idle[128];
    if (o->n_sources == 0 && named(o, asked, idle, sizeof idle)[0] != '\0') {
        const char *instead = asked != NULL ? asked->instead : NULL;
        return instead == NULL
                   ? ht_fail(err, HT_INVAL, "calib", HT_NO_POS,
                             "no effect without a calibration text: %s; give --calib TEXT, or leave them away", idle)
                   : ht_fail(err, HT_INVAL, "calib", HT_NO_POS,
                             "no effect beside %s, whose text was chosen when it was collected: %s; leave them away, "
                             "or give --calib TEXT in place of %s",
                             instead, idle, instead);
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

bool ht_flow_calib_beyond(const struct ht_hparams *hp, uint32_t window, char *words, size_t len) {
    if (window <= hp->context) {
        return false;
    }
    snprintf(words, len,
             "windows of %u tokens are longer than the context of %u that the model was made for: positions beyond it "
             "give statistics of inputs that it was never trained on; take --ctx %u or less",
             window, hp->context, hp->context);
    return true;
}

void ht_flow_calib_warn(struct ht_context *ctx, struct ht_doc *record, const char *words) {
    ht_log(ctx, HT_LOG_WARN, "%s", words);
    ht_doc_append(record, json_object_get(record->root, "warnings"), json_string(words));
}

ht_status ht_flow_calib_ready(struct ht_context *ctx, struct ht_model *model, uint32_t window, bool allow_nonfinite,
                              struct ht_finite *mended, struct ht_doc *record, ht_err *err) {
    char words[256];
    uint64_t zeroed;
    if (ht_flow_calib_beyond(&model->hp, window, words, sizeof words)) {
        ht_flow_calib_warn(ctx, record, words);
    }
    HT_TRY(ht_finite_model(ctx, model, allow_nonfinite, mended, &zeroed, err));
    if (zeroed != 0) {
        ht_finite_words(zeroed, words, sizeof words);
        ht_flow_calib_warn(ctx, record, words);
    }
    return HT_OK;
}
