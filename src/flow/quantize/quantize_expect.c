/* The size of the output before any work: with what recipes leave beside the codes, and vectors that are written
 * anew. */
#include "base/mem.h"
#include "flow/flow_finish.h"
#include "flow/quantize/quantize_blocks.h"

static bool folds(const struct ht_recipe *recipe) {
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    bool any = false;
    for (size_t i = 0; i < w->n_transforms; i++) {
        any |= w->transforms[i].part->fold != NULL;
    }
    return any;
}

/* A vector that the plan has, which a transform or a bias that is learned brings to f32. */
static void widen(const struct ht_quant_job *j, enum ht_role role, int32_t layer) {
    uint32_t index;
    struct ht_plan_tensor *t = role != HT_ROLE_OTHER ? ht_blocks_tensor(j, role, layer, &index) : NULL;
    if (t != NULL) {
        t->out.format = t->wanted = ht_format_find("f32");
    }
}

/* The shapes of a layer: matrices and vectors that are there point somewhere. */
static void shapes(const struct ht_quant_job *j, int32_t layer, struct ht_fold_block *block) {
    static float there;
    const struct ht_flow_plan *p = j->plan;
    *block = (struct ht_fold_block){
        .layer = layer, .n_heads = p->hp.n_heads, .n_kv_heads = p->hp.n_kv_heads, .head_dim = p->hp.head_dim};
    for (const struct ht_arch_tensor *row = p->arch->tensors; row->hf != NULL || row->gguf != NULL; row++) {
        if ((row->flags & HT_TENSOR_LAYER) != 0 && row->ne[1] == HT_DIM_NONE) { /* a slot, if not a vector */
            block->vectors[row->role] = (struct ht_fold_vector){&there, ht_arch_dim(&p->hp, row->ne[0]), false};
        }
    }
    for (size_t i = 0; i < p->n_tensors; i++) {
        const struct ht_plan_tensor *t = &p->tensors[i];
        if (t->layer == layer && ht_plan_is_weight(t)) {
            block->matrices[t->role] = (struct ht_fold_matrix){&there, t->out.ne[1], t->out.ne[0]};
        } else if (t->layer == layer) {
            block->vectors[t->role].used = block->vectors[t->role].x != NULL;
        }
    }
}

static ht_status expect_linear(struct ht_quant_job *j, struct ht_plan_tensor *t, const struct ht_front *front,
                               ht_err *err) {
    struct ht_place_recipe how, inputs;
    struct ht_job job;
    unsigned expect;
    uint32_t index;
    const enum ht_role bias = ht_role_bias(t->role);
    bool has_bias = bias != HT_ROLE_OTHER && ht_blocks_tensor(j, bias, t->layer, &index) != NULL;
    ht_blocks_choose(&j->recipe, t, has_bias, &how, &inputs, &job);
    job.front = front;
    HT_TRY(ht_job_expect(&job, &expect, err));
    j->expect |= expect;
    if (job.center == HT_CENTER_BIAS) {
        widen(j, bias, t->layer);
    }
    if (job.side.leaves == HT_LEAVES_NOTHING) {
        return HT_OK;
    }
    t->side = ht_arena_calloc(&j->plan->arena, 1, sizeof *t->side);
    if (t->side == NULL) {
        return ht_fail_nomem(err, sizeof *t->side);
    }
    *t->side = job.side;
    return HT_OK;
}

static ht_status expect_layer(struct ht_quant_job *j, int32_t layer, bool moved, ht_err *err) {
    struct ht_front fronts[HT_ROLES] = {{.n_clusters = 0}};
    struct ht_fold_block block;
    shapes(j, layer, &block);
    j->expect |= ht_fold_expect(&j->recipe, &block, j->plan->arch->folds, fronts);
    for (enum ht_role role = 0; moved && role < HT_ROLES; role++) {
        if (block.vectors[role].used) {
            widen(j, role, layer);
        }
    }
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        struct ht_plan_tensor *t = &j->plan->tensors[i];
        bool linear = t->layer == layer && ht_plan_is_weight(t) && t->in != NULL;
        if (linear && (moved || ht_blocks_is_grid(t))) {
            HT_TRY(expect_linear(j, t, &fronts[t->role], err));
        }
    }
    return HT_OK;
}

ht_status ht_quant_predict(struct ht_quant_job *j, ht_err *err) {
    struct ht_flow_plan *p = j->plan;
    ht_status status = HT_OK;
    j->expect = HT_EXPECT_EXACT;
    if (ht_quant_wants_blocks(j)) {
        bool moved = folds(&j->recipe);
        for (uint32_t layer = 0; layer < p->hp.n_layers; layer++) {
            HT_TRY_DONE(expect_layer(j, (int32_t)layer, moved, err));
        }
        HT_TRY_DONE(ht_flow_plan_sizes(p, err));
    }
    HT_TRY_DONE(ht_flow_predict(p, j->o->shard_bytes, &j->bytes, &j->n_files, err));
done:
    for (size_t i = 0; i < p->n_tensors; i++) { /* they have no contents */
        p->tensors[i].side = NULL;
    }
    return status;
}
