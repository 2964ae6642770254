#include "model/fold_view.h"

#include <string.h>

#include "base/mem.h"

struct decode {
    const struct ht_linear *in;
    float *w, *scratch; /* [rows, cols], [threads, cols] */
};

static void decode_task(void *ctx, size_t row, int thread) {
    const struct decode *d = ctx;
    ht_linear_row(d->in, row, d->w + row * d->in->w.cols, d->scratch + (uint64_t)thread * d->in->w.cols);
}

static ht_status take_matrix(struct ht_pool *pool, const struct ht_linear *l, enum ht_role role,
                             struct ht_fold_block *block, ht_err *err) {
    if (l == NULL) {
        return HT_OK;
    }
    HT_TRY(ht_fold_block_matrix(block, role, l->w.rows, l->w.cols, err));
    uint64_t elems = (uint64_t)ht_pool_threads(pool) * l->w.cols;
    struct decode d = {l, block->matrices[role].w, ht_mem_alloc_array(elems, sizeof *d.scratch)};
    if (d.scratch == NULL) {
        return ht_fail_nomem(err, elems * sizeof *d.scratch);
    }
    ht_pool_run(pool, (size_t)l->w.rows, decode_task, &d);
    ht_mem_free(d.scratch);
    return HT_OK;
}

/* A vector of the architecture's table: the model's, or a slot for one. The divisors of rope are not a weight. */
static ht_status take_vector(const struct ht_model *m, const struct ht_arch_tensor *row, const float *x,
                             struct ht_fold_block *block, ht_err *err) {
    if (row->ne[1] != HT_DIM_NONE || row->role == HT_ROLE_ROPE_FREQS) {
        return HT_OK;
    }
    uint64_t n = ht_arch_dim(&m->hp, row->ne[0]);
    HT_TRY(ht_fold_block_vector(block, row->role, n, err));
    if (x != NULL) {
        memcpy(block->vectors[row->role].x, x, n * sizeof *x);
        block->vectors[row->role].used = true;
    }
    return HT_OK;
}

ht_status ht_fold_view_take(struct ht_pool *pool, const struct ht_model *model, int32_t layer,
                            struct ht_fold_block *block, ht_err *err) {
    const struct ht_layer *from = layer < 0 ? &model->globals : &model->layers[layer];
    ht_status status = HT_OK;
    *block = (struct ht_fold_block){.layer = layer,
                                    .n_heads = model->hp.n_heads,
                                    .n_kv_heads = model->hp.n_kv_heads,
                                    .head_dim = model->hp.head_dim,
                                    .rope_halves = model->rope == HT_ROPE_HALVES};
    for (int role = 0; role < HT_ROLES; role++) {
        HT_TRY_DONE(take_matrix(pool, from->linears[role], (enum ht_role)role, block, err));
    }
    for (const struct ht_arch_tensor *row = model->arch->tensors; row->hf != NULL || row->gguf != NULL; row++) {
        if (((row->flags & HT_TENSOR_LAYER) != 0) == (layer >= 0)) {
            HT_TRY_DONE(take_vector(model, row, from->vectors[row->role], block, err));
        }
    }
done:
    if (status != HT_OK) {
        ht_fold_block_deinit(block);
    }
    return status;
}

ht_status ht_fold_view_put(struct ht_model *model, const struct ht_fold_block *block, ht_err *err) {
    struct ht_layer *to = block->layer < 0 ? &model->globals : &model->layers[block->layer];
    for (int role = 0; role < HT_ROLES; role++) {
        const struct ht_fold_matrix *m = &block->matrices[role];
        const struct ht_fold_vector *v = &block->vectors[role];
        if (to->linears[role] != NULL && m->w != NULL) {
            to->linears[role]->w =
                (struct ht_mat){ht_format_find("f32"), m->w, m->rows, m->cols, m->cols * sizeof *m->w};
            to->linears[role]->q = NULL;
            to->linears[role]->side = NULL;
        }
        if (to->vectors[role] != NULL && v->used) {
            /* The model's own copy; steps of the plan point to it. */
            memcpy((float *)(uintptr_t)to->vectors[role], v->x, v->n * sizeof *v->x);
        } else if (v->used) {
            to->vectors[role] = v->x;
        }
    }
    for (int role = 0; role < HT_ROLES && block->layer >= 0; role++) {
        if (to->linears[role] != NULL) {
            to->linears[role]->bias = to->vectors[ht_role_bias((enum ht_role)role)];
        }
    }
    (void)err; /* nothing is allocated */
    model->hp.tied = model->hp.tied && block->layer >= 0; /* the head's linear is one of its own in any case */
    return HT_OK;
}
