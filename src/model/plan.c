#include "model/plan.h"

#include "model/model.h"

static const char *const step_names[HT_STEPS] = {
#define STEP_NAME(name, text, what) text,
    HT_STEP_LIST(STEP_NAME)
#undef STEP_NAME
};

static const struct ht_block_step head[] = {
    {HT_STEP_NORM, HT_ACT_RESIDUAL, HT_ACT_NONE, HT_ACT_NORMED, HT_ROLE_OUTPUT_NORM},
    {HT_STEP_LINEAR, HT_ACT_NORMED, HT_ACT_NONE, HT_ACT_LOGITS, HT_ROLE_OUTPUT},
    {HT_STEPS, HT_ACT_NONE, HT_ACT_NONE, HT_ACT_NONE, HT_ROLE_OTHER},
};

const char *ht_step_name(enum ht_step_kind kind) {
    return step_names[kind];
}

size_t ht_act_width(const struct ht_model *model, enum ht_act act) {
    static const enum ht_dim dims[HT_ACTS] = {
        [HT_ACT_NONE] = HT_DIM_NONE,   [HT_ACT_RESIDUAL] = HT_DIM_WIDTH, [HT_ACT_NORMED] = HT_DIM_WIDTH,
        [HT_ACT_DELTA] = HT_DIM_WIDTH, [HT_ACT_Q] = HT_DIM_Q,            [HT_ACT_K] = HT_DIM_KV,
        [HT_ACT_V] = HT_DIM_KV,        [HT_ACT_ATTN] = HT_DIM_Q,         [HT_ACT_GATE] = HT_DIM_FFN,
        [HT_ACT_UP] = HT_DIM_FFN,      [HT_ACT_LOGITS] = HT_DIM_VOCAB,
    };
    return act == HT_ACT_NONE ? 0 : (size_t)ht_arch_dim(&model->hp, dims[act]);
}

static size_t count(const struct ht_block_step *s) {
    size_t n = 0;
    while (s[n].kind != HT_STEPS) {
        n++;
    }
    return n;
}

/* A linear must fit its buffers: in holds cols, out holds rows. Catches a wrong table, not a wrong file. */
static ht_status resolve(const struct ht_model *m, const struct ht_block_step *b, int32_t layer,
                         struct ht_step *s, ht_err *err) {
    const struct ht_layer *weights = layer < 0 ? &m->globals : &m->layers[layer];
    *s = (struct ht_step){b->kind, b->in, b->in2, b->out, layer, NULL, NULL};
    if (b->kind == HT_STEP_LINEAR) {
        s->linear = weights->linears[b->role];
        if (s->linear != NULL && s->linear->w.cols == ht_act_width(m, b->in) &&
            s->linear->w.rows == ht_act_width(m, b->out)) {
            return HT_OK;
        }
    } else if (b->kind == HT_STEP_NORM || b->kind == HT_STEP_HEAD_NORM) {
        s->weight = weights->vectors[b->role];
        if (s->weight != NULL) {
            return HT_OK;
        }
    } else {
        return HT_OK;
    }
    return ht_fail(err, HT_INTERNAL, m->arch->name, HT_NO_POS, "step %s: no weight %s of the right shape",
                   ht_step_name(b->kind), ht_role_name(b->role));
}

static ht_status append(const struct ht_model *m, const struct ht_block_step *steps, int32_t layer,
                        struct ht_plan *plan, ht_err *err) {
    for (const struct ht_block_step *b = steps; b->kind != HT_STEPS; b++) {
        HT_TRY(resolve(m, b, layer, &plan->steps[plan->n], err));
        plan->n++;
    }
    return HT_OK;
}

ht_status ht_plan_build(const struct ht_model *m, struct ht_arena *arena, struct ht_plan *plan, ht_err *err) {
    size_t n = 1 + (size_t)m->hp.n_layers * count(m->arch->block) + count(head);
    *plan = (struct ht_plan){ht_arena_alloc(arena, n * sizeof *plan->steps), 0, 0};
    if (plan->steps == NULL) {
        return ht_fail_nomem(err, n * sizeof *plan->steps);
    }
    plan->steps[plan->n++] =
        (struct ht_step){HT_STEP_EMBED, HT_ACT_NONE, HT_ACT_NONE, HT_ACT_RESIDUAL, -1, NULL, NULL};
    for (uint32_t l = 0; l < m->hp.n_layers; l++) {
        HT_TRY(append(m, m->arch->block, (int32_t)l, plan, err));
    }
    plan->n_body = plan->n;
    return append(m, head, -1, plan, err);
}
