/* Any bytes as a folder of our own: u32 length and text of config.json, then a safetensors file. Refused in words, or
 * every weight can be decoded and multiplied with. */
#include <jansson.h>
#include <stdlib.h>

#include "base/mem.h"
#include "io/bytes.h"
#include "io/halftone.h"
#include "io/hf.h"
#include "io/safetensors.h"
#include "io/source.h"
#include "model/linear.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_COLS 4096u

static void use(const struct ht_source *s, const struct ht_tensor *t) {
    const struct ht_packed *p = ht_source_packed(s, t);
    uint64_t cols = t->ne[0], rows = t->ne[1];
    if (p == NULL || cols > MAX_COLS || rows > MAX_COLS) {
        return;
    }
    float *x = ht_mem_calloc(2 * cols, sizeof *x), *y = ht_mem_calloc(rows, sizeof *y);
    struct ht_linear l = {.w = {.rows = rows, .cols = cols}, .side = p->has_side ? &p->side : NULL};
    if (p->has_q) {
        l.q = &p->q;
    } else {
        l.w.format = t->format;
        l.w.row_bytes = ht_tensor_row_bytes(t);
        l.w.data = t->data;
    }
    bool aligned = p->has_q || (uintptr_t)t->data % 8 == 0; /* blocks: models copy what is not */
    for (uint64_t r = 0; x != NULL && r < rows; r++) {
        ht_packed_rows(t, p, r, 1, x, x + cols);
    }
    void *scratch = ht_mem_alloc_aligned(ht_linear_scratch_bytes(&l, 1, 1), 1);
    if (x != NULL && y != NULL && scratch != NULL && aligned) {
        for (uint64_t i = 0; i < cols; i++) {
            x[i] = (float)(int)(i % 9) - 4;
        }
        ht_linear_apply(NULL, &l, x, 1, y, rows, HT_MATH_EXACT, scratch);
    }
    ht_mem_free(x);
    ht_mem_free(y);
    ht_mem_free_aligned(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4 || ht_le32(data) > size - 4) {
        return 0;
    }
    size_t n = ht_le32(data);
    struct ht_safetensors st;
    struct ht_source *s = ht_mem_calloc(1, sizeof *s);
    ht_err err = {0};
    if (s == NULL || ht_safetensors_parse(data + 4 + n, size - 4 - n, "input", &st, &err) != HT_OK) {
        ht_mem_free(s);
        return 0;
    }
    ht_map_init(&s->index);
    ht_meta_init(&s->meta);
    ht_arena_init(&s->arena, 0);
    s->path = ht_mem_strdup("input");
    s->map_paths = ht_mem_calloc(1, sizeof *s->map_paths); /* named in messages only */
    s->map_paths[0] = s->path;
    ht_status status = ht_source_add(s, st.tensors, st.n_tensors, 0, &err);
    if (status == HT_OK) {
        status = ht_hf_config_parse((const char *)data + 4, n, "config.json", &s->config, &err);
    }
    if (status == HT_OK) {
        status = ht_halftone_gather(s, &err);
    }
    if (status != HT_OK && (err.code == HT_OK || err.msg[0] == '\0')) {
        abort();
    }
    for (size_t i = 0; status == HT_OK && i < s->n_tensors; i++) {
        use(s, &s->tensors[i]);
    }
    ht_source_close(s);
    ht_safetensors_deinit(&st);
    return 0;
}
