#include "model/row_order.h"

#include "base/mem.h"
#include "model/rope.h"

bool ht_row_order_begin(struct ht_model *m) {
    bool pairs = m->rope == HT_ROPE_PAIRS;
    m->rope = HT_ROPE_HALVES;
    return pairs;
}

/* dst [rows, row_bytes] = src by halves. */
static void move_rows(const unsigned char *src, uint64_t rows, uint64_t row_bytes, uint64_t head_dim,
                      unsigned char *dst) {
    for (uint64_t r = 0; r < rows; r++) {
        memcpy(dst + r * row_bytes, src + ht_rope_row(HT_ROPE_HALVES, r, head_dim) * row_bytes, (size_t)row_bytes);
    }
}

static ht_status move_matrix(struct ht_row_order *o, struct ht_linear *l, uint64_t head_dim, ht_err *err) {
    unsigned char *rows = ht_mem_alloc_aligned((size_t)l->w.rows, (size_t)l->w.row_bytes);
    if (rows == NULL) {
        return ht_fail_nomem(err, l->w.rows * l->w.row_bytes);
    }
    move_rows(l->w.data, l->w.rows, l->w.row_bytes, head_dim, rows);
    o->rows[l->role] = rows;
    l->w.data = rows;
    return HT_OK;
}

/* The model's own copy; linears point to it. */
static ht_status move_vector(const float *x, uint64_t n, uint64_t head_dim, ht_err *err) {
    float *own = (float *)(uintptr_t)x, *was = ht_mem_alloc_array((size_t)n, sizeof *was);
    if (was == NULL) {
        return ht_fail_nomem(err, n * sizeof *was);
    }
    memcpy(was, x, (size_t)n * sizeof *was);
    move_rows((const unsigned char *)was, n, sizeof *was, head_dim, (unsigned char *)own);
    ht_mem_free(was);
    return HT_OK;
}

ht_status ht_row_order_layer(struct ht_row_order *o, const struct ht_model *m, struct ht_layer *layer, ht_err *err) {
    for (const struct ht_arch_tensor *t = m->arch->tensors; t->hf != NULL || t->gguf != NULL; t++) {
        struct ht_linear *l = layer->linears[t->role];
        const float *x = layer->vectors[t->role];
        if ((t->flags & (HT_TENSOR_PERMUTE_Q | HT_TENSOR_PERMUTE_K)) == 0) {
            continue;
        }
        if (l != NULL) {
            HT_TRY(move_matrix(o, l, m->hp.head_dim, err));
        }
        if (x != NULL) {
            HT_TRY(move_vector(x, ht_arch_dim(&m->hp, t->ne[0]), m->hp.head_dim, err));
        }
    }
    return HT_OK;
}

void ht_row_order_deinit(struct ht_row_order *o) {
    for (int role = 0; role < HT_ROLES; role++) {
        ht_mem_free_aligned(o->rows[role]);
    }
    *o = (struct ht_row_order){0};
}
