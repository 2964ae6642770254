/* Any bytes as an importance file, GGUF or .dat: refused in words, or entries whose importance is finite and not
 * negative where it is given out. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "io/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct ht_imatrix_entry *e) {
    uint64_t n = e->n * e->n_mat;
    float *x = malloc((size_t)n * sizeof *x);
    ht_err err = {0};
    if (x != NULL && ht_imatrix_importance(e, x, "input", &err) == HT_OK) {
        for (uint64_t i = 0; i < n; i++) {
            if (!isfinite(x[i]) || x[i] < 0) {
                abort();
            }
        }
    } else if (x != NULL && (err.code != HT_NUMERIC || err.msg[0] == '\0')) {
        abort();
    }
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_imatrix *m, *sum;
    ht_err err = {0};
    if (ht_imatrix_parse(data, size, "input", &m, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0' || m != NULL) {
            abort();
        }
        return 0;
    }
    for (size_t i = 0; i < m->n; i++) {
        if (ht_imatrix_find(m, m->entries[i].name) != &m->entries[i]) {
            abort();
        }
        use(&m->entries[i]);
    }
    if (ht_imatrix_new(&sum, &err) != HT_OK || ht_imatrix_add(sum, m, &err) != HT_OK ||
        ht_imatrix_add(sum, m, &err) != HT_OK || sum->n != m->n) {
        abort();
    }
    ht_imatrix_free(sum);
    ht_imatrix_free(m);
    return 0;
}
