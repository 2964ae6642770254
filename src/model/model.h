/* A loaded model: architecture + bound tensors + tokenizer; read-only after load, shared by threads.
 * Weights stay where they are: views into the mapped file, used in their stored form. */
#ifndef HT_MODEL_MODEL_H
#define HT_MODEL_MODEL_H

#include "io/container.h"
#include "kernel/kernel.h"
#include "model/arch.h"
#include "token/tokenizer.h"

struct ht_linear {
    struct ht_mat w;
    const float *bias;  /* [rows] f32 or NULL */
    enum ht_role role;
    int32_t layer;
    const char *name;   /* GGUF name of the weight, "blk.0.attn_q.weight" */
};

struct ht_layer {
    struct ht_linear q, k, v, o, gate, up, down;
    const float *attn_norm, *ffn_norm; /* [width] */
    const float *q_norm, *k_norm;      /* [head_dim] or NULL */
};

struct ht_model {
    struct ht_source *source;
    const struct ht_arch *arch;
    struct ht_hparams hp;
    struct ht_binding *bindings; /* [source->n_tensors] */
    struct ht_tokenizer *tokenizer;
    enum ht_rope_style rope;
    const float *rope_divisors; /* [rope_dim / 2] of llama3 scaling, or NULL */
    const struct ht_tensor *token_embd;
    const float *output_norm; /* [width] */
    struct ht_linear output;
    struct ht_layer *layers;
    struct ht_arena arena; /* small f32 copies of norms and biases */
};

/* The tokenizer of a source, whichever container. pre may be NULL. */
ht_status ht_model_tokenizer(const struct ht_source *source, const char *pre, struct ht_tokenizer **tokenizer,
                             ht_err *err);
ht_status ht_model_load(const char *path, struct ht_model **model, ht_err *err);
void ht_model_unload(struct ht_model *model);

#endif
