/* A loaded model: architecture + plan + bound tensors + tokenizer; read-only after load, shared by threads.
 * Weights stay where they are: views into the mapped file, used in their stored form. Only norms and biases are
 * copied, as f32. */
#ifndef HT_MODEL_MODEL_H
#define HT_MODEL_MODEL_H

#include "io/container.h"
#include "model/arch.h"
#include "model/linear.h"
#include "tensor/kv.h"
#include "token/tokenizer.h"

struct ht_layer { /* by role; NULL where the architecture has none or the checkpoint leaves it out */
    struct ht_linear *linears[HT_ROLES];
    const float *vectors[HT_ROLES]; /* norms and biases */
};

struct ht_model {
    struct ht_source *source;
    const struct ht_arch *arch;
    struct ht_hparams hp;
    struct ht_binding *bindings; /* [source->n_tensors] */
    struct ht_tokenizer *tokenizer;
    enum ht_rope_style rope;
    const double *rope_inv_freq; /* [rope_dim / 2] radians per position, all scaling applied */
    const struct ht_linear *token_embd; /* [V, C], without sidecar */
    struct ht_layer globals; /* output and output_norm; tied: output is a view of token_embd */
    struct ht_layer *layers; /* [n_layers] */
    struct ht_plan plan;
    struct ht_kv kv;        /* how the file wants keys and values kept; floats where it does not say */
    uint64_t weight_bytes;  /* read by one decode step: all linears */
    uint64_t n_params;      /* elements of all bound tensors */
    struct ht_arena arena;  /* the above, and f32 copies of norms and biases */
};

struct ht_model_options {
    const char *pre;         /* pre-tokenizer name where the source does not tell, or NULL */
    bool tokenizer_optional; /* a source without any tokenizer loads; model->tokenizer is then NULL */
};

/* The tokenizer of a source, whichever container. pre may be NULL. HT_NOTFOUND when it holds none;
 * HT_UNSUPPORTED for other models than byte-level BPE and for an unknown or missing pre-tokenizer name. */
ht_status ht_model_tokenizer(const struct ht_source *source, const char *pre, struct ht_tokenizer **tokenizer,
                             ht_err *err);
/* Opens, reads, binds and checks everything; after HT_OK model->tokenizer is set unless it was optional.
 * options may be NULL. A tensor that the architecture does not know is HT_UNSUPPORTED. */
ht_status ht_model_load(const char *path, struct ht_model **model, ht_err *err);
ht_status ht_model_load_with(const char *path, const struct ht_model_options *options,
                             struct ht_model **model, ht_err *err);
/* Hint: nothing of this layer (-1: outside of layers) is read soon; its mapped pages may go. */
void ht_model_drop_layer(const struct ht_model *model, int32_t layer);
void ht_model_unload(struct ht_model *model); /* NULL is fine */

#endif
