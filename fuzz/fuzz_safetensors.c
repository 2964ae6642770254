/* Any bytes as a safetensors file: refused in words, or tensors that fill the data section exactly. */
#include <stdint.h>
#include <stdlib.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_safetensors st;
    ht_err err = {0};
    if (ht_safetensors_parse(data, size, "input", &st, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0') {
            abort();
        }
        return 0;
    }
    uint64_t at = st.data_offset;
    for (size_t i = 0; i < st.n_tensors; i++) {
        const struct ht_tensor *t = &st.tensors[i];
        if ((const uint8_t *)t->data != data + at || t->bytes == 0 || t->bytes > size - at || t->name[0] == '\0') {
            abort();
        }
        volatile unsigned sum = data[at] + data[at + t->bytes - 1];
        (void)sum;
        at += t->bytes;
    }
    if (at != size) {
        abort();
    }
    for (size_t i = 0; i < st.meta.n; i++) {
        if (st.meta.kv[i].type != HT_META_STRING || st.meta.kv[i].v.str.s[st.meta.kv[i].v.str.len] != '\0') {
            abort();
        }
    }
    ht_safetensors_deinit(&st);
    return 0;
}
