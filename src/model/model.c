#include "model/model.h"

#include <math.h>

#include "base/json.h"
#include "base/mem.h"
#include "io/halftone.h"
#include "model/rope.h"

static ht_status nomem(const struct ht_model *m, ht_err *err) {
    return ht_fail_nomem(err, m->arena.used_bytes);
}

/* f32 copy of a vector. */
static ht_status load_vector(struct ht_model *m, const struct ht_tensor *t, const float **out, ht_err *err) {
    float *x = ht_arena_alloc(&m->arena, (size_t)t->ne[0] * sizeof *x);
    if (x == NULL) {
        return nomem(m, err);
    }
    if (ht_source_packed(m->source, t) != NULL) {
        return ht_fail(err, HT_UNSUPPORTED, m->source->path, HT_NO_POS,
                       "tensor '%s' is packed; norms and biases are stored plain", t->name);
    }
    t->format->decode(t->data, x, (size_t)t->ne[0]);
    *out = x;
    return HT_OK;
}

/* Kernels read 16- and 32-bit fields in place. Files keep them aligned, except for strange safetensors
 * headers: then the matrix is copied. */
static ht_status aligned_data(struct ht_model *m, const struct ht_tensor *t, const void **data, ht_err *err) {
    uint32_t bytes = t->format->block_bytes, align = bytes & (~bytes + 1u);
    align = align > 8 ? 8 : align;
    *data = t->data;
    if ((uintptr_t)t->data % align != 0) {
        size_t size = (size_t)(ht_tensor_rows(t) * ht_tensor_row_bytes(t)); /* without what a sidecar adds */
        void *copy = ht_arena_alloc(&m->arena, size);
        if (copy == NULL) {
            return nomem(m, err);
        }
        memcpy(copy, t->data, size);
        *data = copy;
    }
    return HT_OK;
}

static ht_status load_linear(struct ht_model *m, const struct ht_tensor *t, const struct ht_binding *b,
                             struct ht_linear **out, ht_err *err) {
    char name[HT_MAX_ST_NAME + 1];
    if (t->format->kind == HT_KIND_INT) {
        return ht_fail(err, HT_UNSUPPORTED, m->source->path, HT_NO_POS,
                       "tensor '%s' has format %s, which cannot hold weights", t->name, t->format->name);
    }
    struct ht_linear *l = ht_arena_calloc(&m->arena, 1, sizeof *l);
    if (l == NULL) {
        return nomem(m, err);
    }
    const struct ht_packed *packed = ht_source_packed(m->source, t);
    l->role = b->role;
    l->layer = b->layer;
    l->side = packed != NULL && packed->has_side ? &packed->side : NULL;
    if (l->side != NULL && b->layer < 0) {
        return ht_fail(err, HT_UNSUPPORTED, m->source->path, HT_NO_POS,
                       "tensor '%s' has more than codes; embedding and head are stored without", t->name);
    }
    if (packed != NULL && packed->has_q) {
        l->q = &packed->q;
        l->w = (struct ht_mat){.rows = t->ne[1], .cols = t->ne[0]};
    } else {
        l->w = (struct ht_mat){t->format, NULL, t->ne[1], t->ne[0], ht_tensor_row_bytes(t)};
        HT_TRY(aligned_data(m, t, &l->w.data, err));
    }
    l->name = ht_arch_tensor_name(b->row, true, b->layer, name, sizeof name);
    l->name = l->name ? ht_arena_strdup(&m->arena, l->name) : NULL;
    if (l->name == NULL) {
        return nomem(m, err);
    }
    *out = l;
    return HT_OK;
}

static ht_status load_factors(struct ht_model *m, ht_err *err) {
    for (size_t i = 0; i < m->source->n_tensors; i++) {
        const struct ht_binding *b = &m->bindings[i];
        const struct ht_tensor *t = &m->source->tensors[i];
        if (b->factor_of != NULL) {
            struct ht_layer *layer = b->layer < 0 ? &m->globals : &m->layers[b->layer];
            const float **scale = &layer->linears[b->factor_of->role]->scale;
            HT_TRY(load_vector(m, t, scale, err));
            if (!isfinite(**scale)) {
                return ht_fail(err, HT_NUMERIC, m->source->path, HT_NO_POS, "tensor '%s' holds %g, which is no factor",
                               t->name, (double)**scale);
            }
        }
    }
    return HT_OK;
}

static ht_status load_tensors(struct ht_model *m, ht_err *err) {
    for (size_t i = 0; i < m->source->n_tensors; i++) {
        const struct ht_binding *b = &m->bindings[i];
        const struct ht_tensor *t = &m->source->tensors[i];
        if (b->row == NULL) {
            continue;
        }
        struct ht_layer *layer = b->layer < 0 ? &m->globals : &m->layers[b->layer];
        m->n_params += ht_tensor_elems(t);
        if (b->row->ne[1] == HT_DIM_NONE) {
            HT_TRY(load_vector(m, t, &layer->vectors[b->role], err));
        } else {
            HT_TRY(load_linear(m, t, b, &layer->linears[b->role], err));
        }
    }
    return load_factors(m, err);
}

/* Biases belong to their linears; a tied output is a view of the embedding. */
static ht_status join(struct ht_model *m, ht_err *err) {
    m->token_embd = m->globals.linears[HT_ROLE_TOKEN_EMBD];
    if (m->hp.tied) {
        struct ht_linear *output = ht_arena_alloc(&m->arena, sizeof *output);
        if (output == NULL) {
            return nomem(m, err);
        }
        *output = *m->globals.linears[HT_ROLE_TOKEN_EMBD];
        output->role = HT_ROLE_OUTPUT;
        m->globals.linears[HT_ROLE_OUTPUT] = output;
    }
    m->weight_bytes = ht_linear_bytes(m->globals.linears[HT_ROLE_OUTPUT]);
    for (uint32_t l = 0; l < m->hp.n_layers; l++) {
        for (int role = 0; role < HT_ROLES; role++) {
            struct ht_linear *linear = m->layers[l].linears[role];
            if (linear != NULL) {
                m->weight_bytes += ht_linear_bytes(linear);
                linear->bias = m->layers[l].vectors[ht_role_bias((enum ht_role)role)];
            }
        }
    }
    return HT_OK;
}

static ht_status load_rope(struct ht_model *m, ht_err *err) {
    size_t half = m->hp.rope_dim / 2;
    const float *divisors = m->globals.vectors[HT_ROLE_ROPE_FREQS];
    float *computed = ht_arena_alloc(&m->arena, half * sizeof *computed);
    double *inv_freq = ht_arena_alloc(&m->arena, half * sizeof *inv_freq);
    if (computed == NULL || inv_freq == NULL) {
        return nomem(m, err);
    }
    if (divisors == NULL && m->hp.rope_scaling == HT_ROPE_SCALING_LLAMA3) {
        ht_rope_llama3_divisors(&m->hp, computed);
        divisors = computed;
    }
    ht_rope_frequencies(&m->hp, divisors, inv_freq);
    m->rope_inv_freq = inv_freq;
    m->rope = m->source->config == NULL ? m->arch->gguf_rope : HT_ROPE_HALVES;
    return HT_OK;
}

/* quantization_config.kv_cache of a folder of our own. */
static ht_status load_kv(struct ht_model *m, ht_err *err) {
    const char *text = NULL;
    const json_t *q = m->source->packed != NULL ? json_object_get(m->source->config, "quantization_config") : NULL;
    if (q != NULL) {
        HT_TRY(ht_json_get_str(q, "kv_cache", m->source->path, &text, err));
    }
    return text != NULL ? ht_kv_parse(text, &m->kv, err) : HT_OK;
}

static ht_status load_tokenizer(struct ht_model *m, const struct ht_model_options *options, ht_err *err) {
    ht_err own = {0};
    ht_status status = ht_model_tokenizer(m->source, options->pre, &m->tokenizer, &own);
    if (status == HT_NOTFOUND && options->tokenizer_optional) {
        return HT_OK;
    }
    if (status != HT_OK && err != NULL && err->code == HT_OK) {
        *err = own;
    }
    if (status == HT_OK && ht_tokenizer_vocab(m->tokenizer)->n_tokens > m->hp.vocab) {
        return ht_fail(err, HT_FORMAT, m->source->path, HT_NO_POS,
                       "the tokenizer has %u tokens, the model only %u embeddings",
                       ht_tokenizer_vocab(m->tokenizer)->n_tokens, m->hp.vocab);
    }
    return status;
}

static ht_status load(struct ht_model *m, const char *path, const struct ht_model_options *options,
                      ht_err *err) {
    HT_TRY(ht_source_open(path, &m->source, err));
    for (size_t i = 0; i < m->source->n_maps; i++) {
        ht_map_keep(&m->source->maps[i]);
    }
    HT_TRY(ht_arch_read(m->source, &m->arch, &m->hp, err));
    m->bindings = ht_arena_calloc(&m->arena, m->source->n_tensors, sizeof *m->bindings);
    m->layers = ht_arena_calloc(&m->arena, m->hp.n_layers, sizeof *m->layers);
    if (m->bindings == NULL || m->layers == NULL) {
        return nomem(m, err);
    }
    HT_TRY(ht_arch_bind(m->source, m->arch, &m->hp, m->bindings, err));
    HT_TRY(ht_arch_refuse_unusable(m->source, m->arch, m->bindings, err));
    HT_TRY(load_tensors(m, err));
    HT_TRY(join(m, err));
    HT_TRY(load_rope(m, err));
    HT_TRY(load_kv(m, err));
    HT_TRY(ht_plan_build(m, &m->arena, &m->plan, err));
    return load_tokenizer(m, options, err);
}

ht_status ht_model_load_with(const char *path, const struct ht_model_options *options, struct ht_model **out,
                             ht_err *err) {
    static const struct ht_model_options defaults = {0};
    *out = NULL;
    struct ht_model *m = ht_mem_calloc(1, sizeof *m);
    if (m == NULL) {
        return ht_fail_nomem(err, sizeof *m);
    }
    ht_arena_init(&m->arena, 0);
    ht_status status = load(m, path, options != NULL ? options : &defaults, err);
    if (status != HT_OK) {
        ht_model_unload(m);
        return status;
    }
    *out = m;
    return HT_OK;
}

ht_status ht_model_load(const char *path, struct ht_model **model, ht_err *err) {
    return ht_model_load_with(path, NULL, model, err);
}

void ht_model_drop_layer(const struct ht_model *m, int32_t layer) {
    for (size_t i = 0; i < m->source->n_tensors; i++) {
        if (m->bindings[i].layer == layer) {
            ht_source_drop(m->source, &m->source->tensors[i]);
        }
    }
}

void ht_model_unload(struct ht_model *m) {
    if (m != NULL) {
        ht_tokenizer_free(m->tokenizer);
        ht_source_close(m->source);
        ht_arena_deinit(&m->arena);
        ht_mem_free(m);
    }
}
