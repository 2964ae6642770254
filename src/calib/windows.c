/* Texts as whole windows of token ids. */
#include <string.h>

#include "base/mem.h"
#include "calib/calib.h"

void ht_calib_windows_deinit(struct ht_calib_windows *w) {
    ht_mem_free(w->ids);
    *w = (struct ht_calib_windows){0};
}

static ht_status append(const struct ht_model *model, const struct ht_ids *ids, uint64_t most,
                        struct ht_calib_windows *w, ht_err *err) {
    uint64_t n = ids->n / w->window;
    n = n < most ? n : most;
    int32_t *grown = ht_mem_realloc_array(w->ids, (w->n + n) * w->window + 1, sizeof *grown);
    if (grown == NULL) {
        return ht_fail_nomem(err, (w->n + n) * w->window * sizeof *grown);
    }
    w->ids = grown;
    for (uint64_t i = 0; i < n; i++, w->n++) {
        ht_calib_window(model, ids->ids + i * w->window, w->window, w->ids + w->n * w->window);
    }
    return HT_OK;
}

ht_status ht_calib_windows(const struct ht_model *model, const char *const *texts, size_t n_texts, uint64_t tokens,
                           uint32_t window, struct ht_calib_windows *w, ht_err *err) {
    *w = (struct ht_calib_windows){.window = window};
    if (n_texts == 0 || window == 0) {
        return ht_fail(err, HT_INVAL, n_texts ? "ctx" : "texts", HT_NO_POS,
                       "calibration needs at least one text and a window of at least one token");
    }
    uint64_t most = tokens ? tokens / window : UINT64_MAX, longest = 0;
    ht_status status = HT_OK;
    for (size_t i = 0; i < n_texts && status == HT_OK; i++) {
        struct ht_ids ids = {0};
        status = ht_calib_tokens(model, texts[i], &ids, err);
        if (status == HT_OK) {
            longest = ids.n > longest ? ids.n : longest;
            status = append(model, &ids, most - w->n, w, err);
        }
        ht_mem_free(ids.ids);
    }
    if (status == HT_OK && w->n == 0 && longest >= window) {
        status = ht_fail(err, HT_INVAL, "tokens", HT_NO_POS,
                         "%llu tokens do not fill one window of %u; ask for more tokens or a smaller window",
                         (unsigned long long)tokens, window);
    } else if (status == HT_OK && w->n == 0) {
        status = ht_fail(err, HT_INVAL, texts[0], HT_NO_POS,
                         "the text has %llu tokens, one window needs %u; use a longer text or a smaller window",
                         (unsigned long long)longest, window);
    }
    if (status != HT_OK) {
        ht_calib_windows_deinit(w);
    }
    return status;
}
