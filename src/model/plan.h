/* The plan: what a model computes, as a flat array of steps that one loop executes (session.c). Because it is
 * data, calibration can hook its linears and training can walk it backwards.
 *
 * An architecture states the steps of one layer by role (struct ht_block_step); ht_plan_build repeats them for
 * every layer, puts the embedding before and the head behind, and resolves roles to weights. */
#ifndef HT_MODEL_PLAN_H
#define HT_MODEL_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "tensor/role.h"

struct ht_linear;
struct ht_model;

/* T tokens, C width, H heads, D head_dim, F ffn, V vocab; W is the weight of the step's role.
 * X(NAME, text, what it computes) */
#define HT_STEP_LIST(X)                                                                   \
    X(EMBED, "embed", "out [T, C] = rows of token_embd")                                  \
    X(NORM, "norm", "out [T, C] = in / rms(in) * W")                                      \
    X(HEAD_NORM, "head_norm", "out [T, heads, D] = each head / rms(head) * W [D]")        \
    X(LINEAR, "linear", "out [T, rows] = in [T, cols] * W^T + bias")                      \
    X(ROPE, "rope", "out [T, heads, D] = each head turned by its position")               \
    X(CACHE, "cache", "in (keys) and in2 (values) are appended to the layer's cache")     \
    X(ATTEND, "attend", "out [T, H, D] = softmax(in * keys^T / sqrt(D)) * values, causal") \
    X(GATE, "gate", "out [T, F] = silu(in) * in2")                                        \
    X(ADD, "add", "out [T, C] = in + in2")

enum ht_step_kind {
#define HT_STEP_ENUM(name, text, what) HT_STEP_##name,
    HT_STEP_LIST(HT_STEP_ENUM)
#undef HT_STEP_ENUM
    HT_STEPS
};

/* Activations of the batch in work, each [T, width of the buffer] f32. */
enum ht_act {
    HT_ACT_NONE,
    HT_ACT_RESIDUAL, /* [T, C] */
    HT_ACT_NORMED,   /* [T, C] */
    HT_ACT_DELTA,    /* [T, C] what a branch adds to the residual */
    HT_ACT_Q,        /* [T, H * D] */
    HT_ACT_K,        /* [T, Hkv * D] */
    HT_ACT_V,        /* [T, Hkv * D] */
    HT_ACT_ATTN,     /* [T, H * D] */
    HT_ACT_GATE,     /* [T, F] */
    HT_ACT_UP,       /* [T, F] */
    HT_ACT_LOGITS,   /* [rows wanted, V] */
    HT_ACTS
};

/* One step of a layer as the architecture's table states it. */
struct ht_block_step {
    enum ht_step_kind kind;
    enum ht_act in, in2, out;
    enum ht_role role; /* of the weight; OTHER: none */
};

/* The same, resolved for one layer of one model. */
struct ht_step {
    enum ht_step_kind kind;
    enum ht_act in, in2, out;
    int32_t layer;                  /* -1: global */
    const struct ht_linear *linear; /* LINEAR */
    const float *weight;            /* NORM, HEAD_NORM */
};

struct ht_plan {
    struct ht_step *steps;
    size_t n;      /* all steps */
    size_t n_body; /* steps before the head: the head runs only for rows whose logits are wanted */
};

const char *ht_step_name(enum ht_step_kind kind);
/* Elements of one row of an activation. */
size_t ht_act_width(const struct ht_model *model, enum ht_act act);
/* Steps live in the arena. HT_INTERNAL when an architecture's table names a weight that it does not have. */
ht_status ht_plan_build(const struct ht_model *model, struct ht_arena *arena, struct ht_plan *plan,
                        ht_err *err);

#endif
