/* Any bytes as a GGUF file: refused in words, or tensors that lie inside the file, readable metadata, and a plan
 * for writing it again. */
#include <stdint.h>
#include <stdlib.h>

#include "io/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_meta(const struct ht_meta *meta) {
    for (size_t i = 0; i < meta->n; i++) {
        const struct ht_meta_kv *kv = &meta->kv[i];
        uint64_t u = 0;
        double f = 0;
        bool b = false, found = false;
        const char *s = "";
        if (ht_meta_find(meta, kv->key.s) != kv) {
            abort(); /* keys are unique and hold no NUL */
        }
        (void)ht_meta_get_u64(meta, kv->key.s, UINT64_MAX, &u, &found, NULL);
        (void)ht_meta_get_f64(meta, kv->key.s, &f, &found, NULL);
        (void)ht_meta_get_bool(meta, kv->key.s, &b, &found, NULL);
        (void)ht_meta_get_str(meta, kv->key.s, &s, &found, NULL);
        for (uint64_t k = 0; kv->type == HT_META_ARRAY && k < kv->n; k++) {
            struct ht_str e = ht_meta_elem_str(kv, k);
            volatile double sum = ht_meta_elem_f64(kv, k) + (double)ht_meta_elem_i64(kv, k) + e.s[e.len];
            (void)sum;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_gguf gguf;
    ht_err err = {0};
    if (ht_gguf_parse(data, size, "input", &gguf, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0') {
            abort();
        }
        return 0;
    }
    read_meta(&gguf.meta);
    for (size_t i = 0; i < gguf.n_tensors; i++) {
        const struct ht_tensor *t = &gguf.tensors[i];
        const uint8_t *p = t->data;
        if (p < data || t->bytes == 0 || t->bytes > size || (size_t)(p - data) > size - t->bytes) {
            abort();
        }
        volatile unsigned sum = p[0] + p[t->bytes - 1];
        (void)sum;
        if (ht_tensor_rows(t) * ht_tensor_row_bytes(t) != t->bytes) {
            abort();
        }
    }
    /* What was read can be written: the plan needs at most the file, what stands behind it aside. */
    struct ht_gguf_plan plan;
    if (ht_gguf_plan(&gguf.meta, gguf.tensors, gguf.n_tensors, 0, &plan, &err) != HT_OK ||
        plan.total_bytes > size + gguf.missing_pad_bytes + gguf.alignment) {
        abort();
    }
    ht_gguf_deinit(&gguf);
    return 0;
}
