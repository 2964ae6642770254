/* Any bytes as rows of JSON and as an array of token ids: refused with a place, or rows that are JSON and ids that lie
 * in the vocabulary and the file. */
#include <stdint.h>
#include <stdlib.h>

#include "calib/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ht_status on_row(void *user, const json_t *row, uint64_t line, bool *stop, ht_err *err) {
    uint64_t *last = user;
    (void)err;
    if (row == NULL || line <= *last || *stop) {
        abort();
    }
    *last = line;
    return HT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_token_array a;
    ht_err err = {0};
    uint64_t line = 0;
    if (ht_jsonl_each((const char *)data, size, "input", on_row, &line, &err) != HT_OK &&
        (err.code == HT_OK || strstr(err.msg, "line ") == NULL)) {
        abort();
    }
    ht_err_clear(&err);
    if (ht_token_npy(data, size, "input", &a, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0') {
            abort();
        }
        return 0;
    }
    for (uint64_t i = 0; i < a.rows * a.cols; i++) {
        int32_t id;
        if (ht_token_at(&a, i, 1000, "input", &id, NULL) == HT_OK && (id < 0 || id >= 1000)) {
            abort();
        }
    }
    return 0;
}
