/* Architectures: const rows that say which tensors a model has, what they are called in each container, and
 * how its layers compute. Adding an architecture is adding a row file. */
#ifndef HT_MODEL_ARCH_H
#define HT_MODEL_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "io/container.h"
#include "tensor/role.h"

struct ht_hparams {
    uint32_t vocab, n_layers, width, n_heads, n_kv_heads, head_dim, ffn, context;
    float rms_eps;
    float rope_base;
    uint32_t rope_dim;
    bool tied; /* output shares token_embd */
    /* rope scaling: "none", "linear" (factor), "llama3" (all), "yarn" is refused in words */
    const char *rope_scaling;
    float rope_factor, rope_low_freq, rope_high_freq;
    uint32_t rope_original_context;
};

enum ht_rope_style {
    HT_ROPE_PAIRS, /* dimensions 2i and 2i+1 turn together (GGUF llama) */
    HT_ROPE_HALVES /* dimensions i and i + D/2 turn together (Hugging Face; "NEOX") */
};

enum ht_tensor_flag {
    HT_TENSOR_REQUIRED = 1,
    HT_TENSOR_LAYER = 2,      /* one per layer; %u in the names is the layer */
    HT_TENSOR_PERMUTE_Q = 4,  /* rows are reordered between HF (halves) and GGUF (pairs), n_heads */
    HT_TENSOR_PERMUTE_K = 8   /* likewise, n_kv_heads */
};

enum ht_dim { HT_DIM_NONE, HT_DIM_WIDTH, HT_DIM_VOCAB, HT_DIM_FFN, HT_DIM_Q, HT_DIM_KV, HT_DIM_HEAD, HT_DIM_ROPE_HALF };

struct ht_arch_tensor {
    enum ht_role role;
    const char *hf, *gguf; /* name patterns; NULL: not in that container */
    enum ht_dim ne[2];     /* expected shape; ne[1] NONE: a vector */
    unsigned flags;
};

struct ht_arch {
    const char *name;     /* general.architecture: "llama" */
    const char *summary;
    const char *hf_model_type; /* config.json model_type */
    const char *hf_class;      /* architectures[0] */
    enum ht_rope_style gguf_rope;
    const struct ht_arch_tensor *tensors; /* role OTHER with hf == gguf == NULL ends the list */
    bool qk_norm, qkv_bias;
};

size_t ht_arch_count(void);
const struct ht_arch *ht_arch_at(size_t i);
const struct ht_arch *ht_arch_find(const char *name);

/* Which architecture a source holds, and its validated hyper-parameters (every count capped, heads divide,
 * shapes of all tensors checked against the table). HT_UNSUPPORTED lists the known ones. */
ht_status ht_arch_read(const struct ht_source *source, const struct ht_arch **arch, struct ht_hparams *hp,
                       ht_err *err);

/* What one tensor of a source is: role, layer (-1: global) and table row (NULL: not in the table). */
struct ht_binding {
    const struct ht_arch_tensor *row;
    enum ht_role role;
    int32_t layer;
};
/* bindings: [source->n_tensors]; every required tensor must be there with the expected shape. */
ht_status ht_arch_bind(const struct ht_source *source, const struct ht_arch *arch, const struct ht_hparams *hp,
                       struct ht_binding *bindings, ht_err *err);
/* GGUF or HF name of a table row for a layer, into buf. */
const char *ht_arch_tensor_name(const struct ht_arch_tensor *row, bool gguf, int32_t layer, char *buf,
                                size_t len);

/* Metadata between containers: GGUF keys from config.json, and config.json from GGUF keys. */
ht_status ht_arch_meta_from_hparams(const struct ht_arch *arch, const struct ht_hparams *hp,
                                    struct ht_meta *meta, ht_err *err);
ht_status ht_arch_config_from_hparams(const struct ht_arch *arch, const struct ht_hparams *hp, json_t **config,
                                      ht_err *err);

#endif
