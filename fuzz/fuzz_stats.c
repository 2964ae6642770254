/* Any bytes as a statistics file: refused in words, or groups whose numbers are what statistics can be. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "calib/stats_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct ht_stats_file *f, const struct ht_stats_group *g) {
    struct ht_stats_values v;
    ht_err err = {0};
    if (ht_stats_file_find(f, g->linears[0]) != g) {
        abort();
    }
    if (ht_stats_file_load(f, g, HT_STATS_KEPT, &v, &err) != HT_OK) {
        if ((err.code != HT_NUMERIC && err.code != HT_NOMEM) || err.msg[0] == '\0') {
            abort();
        }
        return;
    }
    for (uint64_t j = 0; j < g->cols; j++) {
        if ((v.stats.mean_square != NULL && !(v.stats.mean_square[j] >= 0)) ||
            (v.stats.gram != NULL && (!(v.stats.gram[j * g->cols + j] >= 0) ||
                                      v.stats.gram[j] != v.stats.gram[j * g->cols]))) {
            abort();
        }
    }
    ht_stats_values_deinit(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_stats_file *f;
    ht_err err = {0};
    if (ht_stats_file_parse(data, size, "input", &f, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0' || f != NULL) {
            abort();
        }
        return 0;
    }
    for (size_t i = 0; i < f->n; i++) {
        use(f, &f->groups[i]);
    }
    ht_stats_file_close(f);
    return 0;
}
