#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "model/arch.h"
#include "model/arch/rows.h"

static const struct ht_arch *const rows[] = {&ht_arch_llama, &ht_arch_qwen2, &ht_arch_qwen3};

size_t ht_arch_count(void) {
    return sizeof rows / sizeof rows[0];
}

const struct ht_arch *ht_arch_at(size_t i) {
    return rows[i];
}

const struct ht_arch *ht_arch_find(const char *name) {
    for (size_t i = 0; i < ht_arch_count(); i++) {
        if (strcmp(rows[i]->name, name) == 0) {
            return rows[i];
        }
    }
    return NULL;
}

const char *ht_arch_name_at(const void *unused, size_t i) {
    (void)unused;
    return rows[i]->name;
}

const char *ht_arch_tensor_name(const struct ht_arch_tensor *row, bool gguf, int32_t layer, char *buf,
                                size_t len) {
    const char *pattern = gguf ? row->gguf : row->hf;
    if (pattern == NULL) {
        return NULL;
    }
    const char *hole = strstr(pattern, "%u");
    int n = hole == NULL
                ? snprintf(buf, len, "%s", pattern)
                : snprintf(buf, len, "%.*s%u%s", (int)(hole - pattern), pattern, (unsigned)layer, hole + 2);
    return n < 0 || (size_t)n >= len ? NULL : buf;
}

uint64_t ht_arch_dim(const struct ht_hparams *hp, enum ht_dim dim) {
    const uint64_t dims[] = {
        [HT_DIM_NONE] = 1,
        [HT_DIM_WIDTH] = hp->width,
        [HT_DIM_VOCAB] = hp->vocab,
        [HT_DIM_FFN] = hp->ffn,
        [HT_DIM_Q] = (uint64_t)hp->n_heads * hp->head_dim,
        [HT_DIM_KV] = (uint64_t)hp->n_kv_heads * hp->head_dim,
        [HT_DIM_HEAD] = hp->head_dim,
        [HT_DIM_ROPE_HALF] = hp->rope_dim / 2,
    };
    return dims[dim];
}
