#include <math.h>

#include "flow/errors.h"

json_t *ht_errors_json(struct ht_doc *doc, const struct ht_error_sums *sums, double rate) {
    struct ht_error_figures f;
    json_t *o = json_object();
    ht_error_figures(sums, &f);
    const struct {
        const char *key;
        double value;
    } rows[] = {
        {"mse", f.mse},
        {"relative_error", f.relative},
        {"snr_db", f.snr_db},
        {"gap_bits", f.relative > 0 ? ht_gap_bits(rate, f.relative) : NAN},
        {"law_constant_db", f.snr_db - HT_DB_PER_BIT * rate},
        {"max_error", f.max_error},
        {"max_error_sigmas", f.max_sigmas},
        {"mean_error", f.mean_error},
        {"cosine", f.cosine},
        {"clipped_share", f.clipped_share},
        {"clipped_error_share", f.clipped_error},
        {"model_snr_db", f.model_db},
        {"model_ratio", f.model_ratio},
        {"error_signal_correlation", f.correlation},
        {"error_lag_correlation", f.lag},
        {"error_evenness", f.evenness},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ht_doc_set(doc, o, rows[i].key, ht_doc_real(rows[i].value));
    }
    return o;
}
