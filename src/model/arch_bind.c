#include <stdio.h>

#include "model/arch.h"

struct binder {
    const struct ht_source *source;
    const struct ht_hparams *hp;
    struct ht_binding *bindings;
    bool gguf;
    ht_err *err;
};

static bool required(const struct binder *b, const struct ht_arch_tensor *row) {
    if (row->flags & HT_TENSOR_REQUIRED) {
        return true;
    }
    /* transformers makes all biases of a kind or none; GGUF files may leave single ones out. */
    return ((row->flags & HT_TENSOR_IF_UNTIED) && !b->hp->tied) ||
           ((row->flags & HT_TENSOR_IF_ATTN_BIAS) && b->hp->attn_bias && !b->gguf) ||
           ((row->flags & HT_TENSOR_IF_MLP_BIAS) && b->hp->mlp_bias && !b->gguf);
}

/* Whether the model would use this tensor if it is there. */
static bool wanted(const struct binder *b, const struct ht_arch_tensor *row) {
    if (row->flags & HT_TENSOR_IF_UNTIED) {
        return !b->hp->tied;
    }
    if (!b->gguf && (row->flags & HT_TENSOR_IF_ATTN_BIAS)) {
        return b->hp->attn_bias;
    }
    if (!b->gguf && (row->flags & HT_TENSOR_IF_MLP_BIAS)) {
        return b->hp->mlp_bias;
    }
    return true;
}

static ht_status check_shape(const struct binder *b, const struct ht_arch_tensor *row,
                             const struct ht_tensor *t) {
    uint64_t expected[2] = {ht_arch_dim(b->hp, row->ne[0]), ht_arch_dim(b->hp, row->ne[1])};
    if (t->ne[0] == expected[0] && t->ne[1] == expected[1] && t->ne[2] == 1 && t->ne[3] == 1) {
        return HT_OK;
    }
    char shape[96];
    int used = 0;
    for (int i = 0; i < t->n_dims; i++) { /* at most 4 numbers of 20 digits */
        used += snprintf(shape + used, sizeof shape - (size_t)used, "%s%llu", i ? ", " : "",
                         (unsigned long long)t->ne[i]);
    }
    if (row->ne[1] == HT_DIM_NONE) {
        return ht_fail(b->err, HT_FORMAT, b->source->path, HT_NO_POS,
                       "tensor '%s': expected the shape [%llu], found [%s]", t->name,
                       (unsigned long long)expected[0], used ? shape : "");
    }
    return ht_fail(b->err, HT_FORMAT, b->source->path, HT_NO_POS,
                   "tensor '%s': expected the shape [%llu, %llu] (contiguous dimension first), found [%s]",
                   t->name, (unsigned long long)expected[0], (unsigned long long)expected[1],
                   used ? shape : "");
}

/* A factor beside the matrix of this name ("X.weight": "X.scale"). Rows of the embedding are looked up, not
 * multiplied: it has none. */
static ht_status bind_factor(const struct binder *b, const struct ht_arch_tensor *row, int32_t layer,
                             const char *weight) {
    static const char suffix[] = "weight", factor[] = "scale";
    char name[HT_MAX_ST_NAME + 1];
    size_t n = strlen(weight), m = sizeof suffix - 1;
    if (!b->gguf || row->ne[1] == HT_DIM_NONE || row->role == HT_ROLE_TOKEN_EMBD || n < m ||
        strcmp(weight + n - m, suffix) != 0) {
        return HT_OK;
    }
    snprintf(name, sizeof name, "%.*s%s", (int)(n - m), weight, factor);
    const struct ht_tensor *t = ht_source_find(b->source, name);
    if (t == NULL) {
        return HT_OK;
    }
    if (t->format->gguf_type != 0 || ht_tensor_elems(t) != 1) {
        return ht_fail(b->err, HT_FORMAT, b->source->path, HT_NO_POS,
                       "tensor '%s': expected one f32, the factor of '%s', found %llu elements of %s", name, weight,
                       (unsigned long long)ht_tensor_elems(t), t->format->name);
    }
    b->bindings[t - b->source->tensors] = (struct ht_binding){NULL, HT_ROLE_OTHER, layer, false, row};
    return HT_OK;
}

static ht_status bind_one(const struct binder *b, const struct ht_arch_tensor *row, int32_t layer) {
    char name[HT_MAX_ST_NAME + 1];
    if (ht_arch_tensor_name(row, b->gguf, layer, name, sizeof name) == NULL) {
        return HT_OK;
    }
    const struct ht_tensor *t = ht_source_find(b->source, name);
    if (t == NULL) {
        if (!required(b, row)) {
            return HT_OK;
        }
        return ht_fail(b->err, HT_FORMAT, b->source->path, HT_NO_POS, "tensor '%s' is missing%s", name,
                       (row->flags & HT_TENSOR_IF_UNTIED) ? "; config.json says that the output is not tied"
                                                          : "");
    }
    struct ht_binding *binding = &b->bindings[t - b->source->tensors];
    if (!wanted(b, row)) {
        /* transformers leaves the head of a tied checkpoint aside; a bias that config.json does not announce
         * stays unknown. */
        binding->ignored = row->flags & HT_TENSOR_IF_UNTIED;
        return HT_OK;
    }
    HT_TRY(check_shape(b, row, t));
    *binding = (struct ht_binding){row, row->role, layer, false, NULL};
    return bind_factor(b, row, layer, name);
}

/* Buffers that old exporters wrote and that follow from the configuration: "...rotary_emb.inv_freq". */
static bool is_buffer(const char *name) {
    static const char suffix[] = ".rotary_emb.inv_freq";
    size_t n = strlen(name), m = sizeof suffix - 1;
    return n > m && strcmp(name + n - m, suffix) == 0;
}

ht_status ht_arch_bind(const struct ht_source *source, const struct ht_arch *arch,
                       const struct ht_hparams *hp, struct ht_binding *bindings, ht_err *err) {
    struct binder b = {source, hp, bindings, source->config == NULL, err};
    if (hp->n_layers > source->n_tensors) {
        return ht_fail(err, HT_FORMAT, source->path, HT_NO_POS,
                       "%u layers are announced, but there are only %zu tensors", hp->n_layers,
                       source->n_tensors);
    }
    for (size_t i = 0; i < source->n_tensors; i++) {
        bindings[i] = (struct ht_binding){NULL, HT_ROLE_OTHER, -1, is_buffer(source->tensors[i].name), NULL};
    }
    for (const struct ht_arch_tensor *row = arch->tensors; row->role != HT_ROLE_OTHER; row++) {
        bool layered = row->flags & HT_TENSOR_LAYER;
        for (uint32_t l = 0; l < (layered ? hp->n_layers : 1); l++) {
            HT_TRY(bind_one(&b, row, layered ? (int32_t)l : -1));
        }
    }
    return HT_OK;
}

static ht_status refuse(const struct ht_source *source, const struct ht_arch *arch,
                        const struct ht_binding *bindings, bool factors, ht_err *err) {
    for (size_t i = 0; i < source->n_tensors; i++) {
        const struct ht_binding *b = &bindings[i];
        if (b->role == HT_ROLE_OTHER && !b->ignored && (b->factor_of == NULL || !factors)) {
            return ht_fail(
                err, HT_UNSUPPORTED, source->path, HT_NO_POS,
                "tensor '%s' is not part of architecture %s; leaving it out would change the model",
                source->tensors[i].name, arch->name);
        }
    }
    return HT_OK;
}

ht_status ht_arch_refuse_unknown(const struct ht_source *source, const struct ht_arch *arch,
                                 const struct ht_binding *bindings, ht_err *err) {
    return refuse(source, arch, bindings, false, err);
}

ht_status ht_arch_refuse_unusable(const struct ht_source *source, const struct ht_arch *arch,
                                  const struct ht_binding *bindings, ht_err *err) {
    return refuse(source, arch, bindings, true, err);
}
