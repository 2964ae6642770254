/* Architectures: const rows that say which tensors a model has, what they are called in each container, and
 * how its layers compute. Adding an architecture is adding a row file: see docs/models.md.
 *
 * Everything here reads opened sources and pure data; nothing allocates except the metadata and JSON that the
 * caller asked for. All functions may be called from any thread. */
#ifndef HT_MODEL_ARCH_H
#define HT_MODEL_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "io/container.h"
#include "model/plan.h"
#include "tensor/fold.h"
#include "tensor/role.h"

/* How positions are scaled beyond the trained length. Unknown kinds (yarn, longrope, dynamic ...) are refused
 * in words when a source is read. */
enum ht_rope_scaling {
    HT_ROPE_SCALING_NONE,
    HT_ROPE_SCALING_LINEAR,  /* every angle divided by factor */
    HT_ROPE_SCALING_LLAMA3,  /* by wavelength: see ht_rope_llama3_divisors */
    HT_ROPE_SCALING_DIVISORS /* a rope_freqs tensor that the Llama 3 rule does not explain */
};

struct ht_hparams {
    uint32_t vocab, n_layers, width, n_heads, n_kv_heads, head_dim, ffn, context;
    uint32_t rope_dim; /* dimensions of a head that turn; == head_dim */
    float rms_eps;
    float rope_base;
    bool tied;                /* output shares token_embd */
    bool attn_bias, mlp_bias; /* where the architecture leaves the choice (llama) */
    enum ht_rope_scaling rope_scaling;
    float rope_factor, rope_low_freq, rope_high_freq; /* 0 where the kind has none */
    uint32_t rope_original_context;
};

enum ht_rope_style {
    HT_ROPE_PAIRS, /* dimensions 2i and 2i+1 turn together (GGUF llama) */
    HT_ROPE_HALVES /* dimensions i and i + D/2 turn together (Hugging Face; "NEOX") */
};

enum ht_tensor_flag {
    HT_TENSOR_REQUIRED = 1,
    HT_TENSOR_LAYER = 2,     /* one per layer; %u in the names is the layer */
    HT_TENSOR_PERMUTE_Q = 4, /* rows are reordered between HF (halves) and GGUF (pairs), n_heads */
    HT_TENSOR_PERMUTE_K = 8, /* likewise, n_kv_heads */
    HT_TENSOR_IF_UNTIED = 16,    /* only when the output is its own matrix */
    HT_TENSOR_IF_ATTN_BIAS = 32, /* a choice of the model: attention_bias */
    HT_TENSOR_IF_MLP_BIAS = 64   /* a choice of the model: mlp_bias */
};

enum ht_dim {
    HT_DIM_NONE,
    HT_DIM_WIDTH,
    HT_DIM_VOCAB,
    HT_DIM_FFN,
    HT_DIM_Q,        /* n_heads * head_dim */
    HT_DIM_KV,       /* n_kv_heads * head_dim */
    HT_DIM_HEAD,     /* head_dim */
    HT_DIM_ROPE_HALF /* rope_dim / 2 */
};

struct ht_arch_tensor {
    enum ht_role role;
    const char *hf, *gguf; /* name patterns; NULL: not in that container */
    enum ht_dim ne[2];     /* expected shape; ne[1] NONE: a vector */
    unsigned flags;
};

struct ht_arch {
    const char *name; /* general.architecture: "llama" */
    const char *summary;
    const char *source;        /* paper or report that defines it */
    const char *hf_model_type; /* config.json model_type */
    const char *hf_class;      /* architectures[0] */
    enum ht_rope_style gguf_rope;
    uint32_t hf_head_dim; /* head_dim where config.json has none; 0: width / heads */
    bool has_bias_choice; /* config.json has attention_bias and mlp_bias */
    bool has_window_key;  /* config.json has use_sliding_window */
    const struct ht_arch_tensor *tensors;   /* role OTHER with hf == gguf == NULL ends the list */
    const struct ht_block_step *block;      /* the steps of one layer; kind HT_STEPS ends the list */
    const struct ht_foldsite *folds;        /* where factors can move (tensor/fold.h); name NULL ends the list */
};

size_t ht_arch_count(void);
const struct ht_arch *ht_arch_at(size_t i);
const struct ht_arch *ht_arch_find(const char *name);
const char *ht_arch_name_at(const void *unused, size_t i); /* for ht_nearest */

/* Which architecture a source holds, and its validated hyper-parameters: every count capped, heads divide,
 * floats finite, and nothing that would change the results ignored. Tensor shapes are ht_arch_bind's matter.
 * HT_UNSUPPORTED (unknown architecture: lists the known ones; yarn, sliding window, experts ...), HT_FORMAT
 * and HT_LIMIT name the key, what was expected and what was found. */
ht_status ht_arch_read(const struct ht_source *source, const struct ht_arch **arch, struct ht_hparams *hp,
                       ht_err *err);

/* What one tensor of a source is. */
struct ht_binding {
    const struct ht_arch_tensor *row; /* NULL: not in the table */
    enum ht_role role;
    int32_t layer; /* -1: global */
    bool ignored;  /* role OTHER, known to carry nothing: rotary_emb.inv_freq, lm_head of a tied checkpoint */
    /* Role OTHER in a GGUF file: f32 [1], the factor of this matrix ("blk.0.attn_q.scale"); beside NVFP4, whose own
     * scales reach only so far. Row NULL: not a factor. */
    const struct ht_arch_tensor *factor_of;
};
/* bindings: [source->n_tensors]; every required tensor must be there with the expected shape. Tensors that
 * are not in the table get role OTHER. */
ht_status ht_arch_bind(const struct ht_source *source, const struct ht_arch *arch,
                       const struct ht_hparams *hp, struct ht_binding *bindings, ht_err *err);
/* HT_UNSUPPORTED when a tensor has role OTHER and is not ignored: its model computes something that this
 * architecture does not, and leaving it out would be a silent change. */
ht_status ht_arch_refuse_unknown(const struct ht_source *source, const struct ht_arch *arch,
                                 const struct ht_binding *bindings, ht_err *err);
/* The same, but factors of matrices are welcome: those who run a model apply them. */
ht_status ht_arch_refuse_unusable(const struct ht_source *source, const struct ht_arch *arch,
                                  const struct ht_binding *bindings, ht_err *err);
/* GGUF or HF name of a table row for a layer, into buf; NULL when that container has none or buf is small. */
const char *ht_arch_tensor_name(const struct ht_arch_tensor *row, bool gguf, int32_t layer, char *buf,
                                size_t len);
/* Elements along one dimension of a row's shape. */
uint64_t ht_arch_dim(const struct ht_hparams *hp, enum ht_dim dim);

/* Metadata between containers. meta gets general.architecture and every ARCH.* key. A model with Llama 3
 * scaling also needs the tensor rope_freqs.weight, f32 [rope_dim / 2]: ht_rope_llama3_divisors (rope.h). */
ht_status ht_arch_meta_from_hparams(const struct ht_arch *arch, const struct ht_hparams *hp,
                                    struct ht_meta *meta, ht_err *err);
/* *config: a new object with everything that transformers needs except what hparams do not know: the caller
 * adds torch_dtype, bos_token_id and eos_token_id. Released with json_decref. HT_UNSUPPORTED when the rope
 * divisors of the source follow no rule that config.json can state. */
ht_status ht_arch_config_from_hparams(const struct ht_arch *arch, const struct ht_hparams *hp,
                                      json_t **config, ht_err *err);

#endif
