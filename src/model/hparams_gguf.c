#include <math.h>
#include <stdio.h>

#include "base/limits.h"
#include "model/hparams.h"
#include "model/rope.h"

/* Keys that other models use and that would change the results. neutral: the value that changes nothing. */
static const struct refused {
    const char *suffix;
    double neutral;
    const char *what;
} refused[] = {
    {"expert_count", 0, "mixtures of experts are"},
    {"attention.clamp_kqv", 0, "clamped q, k and v are"},
    {"attention.max_alibi_bias", 0, "ALiBi is"},
    {"attention.scale", 0, "an attention scale is"},
    {"attn_logit_softcapping", 0, "soft-capped attention is"},
    {"final_logit_softcapping", 0, "soft-capped logits are"},
    {"logit_scale", 0, "a logit scale is"},
    {"residual_scale", 0, "a residual scale is"},
    {"embedding_scale", 0, "an embedding scale is"},
    {"rope.scaling.attn_factor", 1, "a rope attention factor is"},
};

struct reader {
    const struct ht_source *source;
    const char *arch;
    ht_err *err;
};

static const char *key_of(const struct reader *r, const char *suffix, char buf[128]) {
    snprintf(buf, 128, "%s.%s", r->arch, suffix);
    return buf;
}

/* One value for all layers, given as an array: all elements must be equal. */
static ht_status uniform(const struct reader *r, const char *key, const struct ht_meta_kv *kv, uint64_t max,
                         uint64_t *out) {
    static const char is_int[HT_META_TYPES] = {[HT_META_U8] = 1,  [HT_META_I8] = 1,  [HT_META_U16] = 1,
                                               [HT_META_I16] = 1, [HT_META_U32] = 1, [HT_META_I32] = 1,
                                               [HT_META_U64] = 1, [HT_META_I64] = 1};
    if (!is_int[kv->elem_type] || kv->n == 0) {
        return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS,
                       "key '%s': expected an integer or an array of integers", key);
    }
    int64_t first = ht_meta_elem_i64(kv, 0);
    for (uint64_t i = 1; i < kv->n; i++) {
        if (ht_meta_elem_i64(kv, i) != first) {
            return ht_fail(r->err, HT_UNSUPPORTED, r->source->path, HT_NO_POS,
                           "key '%s': layers of different sizes are not supported (%lld and %lld)", key,
                           (long long)first, (long long)ht_meta_elem_i64(kv, i));
        }
    }
    if (first < 0 || (uint64_t)first > max) {
        return ht_fail(r->err, HT_LIMIT, r->source->path, HT_NO_POS,
                       "key '%s': expected 1 to %llu, found %lld", key, (unsigned long long)max,
                       (long long)first);
    }
    *out = (uint64_t)first;
    return HT_OK;
}

static ht_status read_counts(const struct reader *r, struct ht_hparams *hp) {
    const struct ht_meta *meta = &r->source->meta;
    char key[128];
    for (size_t i = 0; i < ht_hparam_count(); i++) {
        const struct ht_hparam *p = ht_hparam_at(i);
        const struct ht_meta_kv *kv = ht_meta_find(meta, key_of(r, p->gguf, key));
        uint64_t v = 0;
        if (kv == NULL) {
            if (!(p->flags & HT_HPARAM_OPTIONAL)) {
                return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS, "key '%s' is missing", key);
            }
            continue;
        }
        if (kv->type == HT_META_ARRAY && (p->flags & HT_HPARAM_PER_LAYER)) {
            HT_TRY(uniform(r, key, kv, p->max, &v));
        } else {
            HT_TRY(ht_meta_get_u64(meta, key, p->max, &v, NULL, r->err));
        }
        if (v == 0) {
            return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS,
                           "key '%s': expected 1 to %u, found 0", key, p->max);
        }
        *ht_hparam_field(hp, p) = (uint32_t)v;
    }
    return HT_OK;
}

/* The vocabulary's size stands in up to two places; the embedding's rows are checked by ht_arch_bind. */
static ht_status read_vocab(const struct reader *r, struct ht_hparams *hp) {
    const struct ht_meta_kv *tokens = ht_meta_find(&r->source->meta, "tokenizer.ggml.tokens");
    if (tokens != NULL && (tokens->type != HT_META_ARRAY || tokens->n == 0 || tokens->n > HT_MAX_VOCAB)) {
        return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS,
                       "key 'tokenizer.ggml.tokens': expected an array of 1 to %u tokens", HT_MAX_VOCAB);
    }
    if (tokens != NULL && hp->vocab != 0 && tokens->n != hp->vocab) {
        return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS,
                       "key '%s.vocab_size' is %u, but tokenizer.ggml.tokens has %llu tokens", r->arch,
                       hp->vocab, (unsigned long long)tokens->n);
    }
    if (tokens != NULL) {
        hp->vocab = (uint32_t)tokens->n;
    }
    if (hp->vocab == 0) { /* neither: the embedding tells */
        const struct ht_tensor *embd = ht_source_find(r->source, "token_embd.weight");
        if (embd == NULL || embd->ne[1] > HT_MAX_VOCAB) {
            return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS,
                           "the vocabulary's size is unknown: expected the key '%s.vocab_size', "
                           "tokenizer.ggml.tokens or a token_embd.weight of at most %u rows",
                           r->arch, HT_MAX_VOCAB);
        }
        hp->vocab = (uint32_t)embd->ne[1];
    }
    return HT_OK;
}

static ht_status refuse_keys(const struct reader *r, const struct ht_hparams *hp) {
    const struct ht_meta *meta = &r->source->meta;
    char key[128];
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        double v = refused[i].neutral;
        HT_TRY(ht_meta_get_f64(meta, key_of(r, refused[i].suffix, key), &v, NULL, r->err));
        if (v != refused[i].neutral) {
            return ht_fail(r->err, HT_UNSUPPORTED, r->source->path, HT_NO_POS,
                           "key '%s' is %g: %s not supported", key, v, refused[i].what);
        }
    }
    uint64_t window = 0, head = hp->head_dim ? hp->head_dim : hp->width / hp->n_heads, value_dim = head;
    HT_TRY(
        ht_meta_get_u64(meta, key_of(r, "attention.sliding_window", key), UINT64_MAX, &window, NULL, r->err));
    if (window != 0 && window < hp->context) {
        return ht_fail(r->err, HT_UNSUPPORTED, r->source->path, HT_NO_POS,
                       "key '%s' is %llu of a context of %u: sliding windows are not supported", key,
                       (unsigned long long)window, hp->context);
    }
    HT_TRY(ht_meta_get_u64(meta, key_of(r, "attention.value_length", key), UINT32_MAX, &value_dim, NULL,
                           r->err));
    if (value_dim != head) {
        return ht_fail(
            r->err, HT_UNSUPPORTED, r->source->path, HT_NO_POS,
            "key '%s' is %llu, but keys have %llu dimensions: heads of two sizes are not supported", key,
            (unsigned long long)value_dim, (unsigned long long)head);
    }
    return HT_OK;
}

/* Type and factor; a rope_freqs tensor beside them holds Llama 3's divisors. */
static ht_status read_scaling(const struct reader *r, struct ht_hparams *hp) {
    const struct ht_meta *meta = &r->source->meta;
    const char *type = NULL;
    char key[128];
    double factor = 0;
    HT_TRY(ht_meta_get_f64(meta, key_of(r, "rope.scale_linear", key), &factor, NULL, r->err)); /* old name */
    HT_TRY(ht_meta_get_f64(meta, key_of(r, "rope.scaling.factor", key), &factor, NULL, r->err));
    HT_TRY(ht_meta_get_str(meta, key_of(r, "rope.scaling.type", key), &type, NULL, r->err));
    /* Stock: a factor without a type is linear, factor 0 means none. */
    if ((type == NULL || strcmp(type, "linear") == 0) && factor != 0 && factor != 1) {
        hp->rope_scaling = HT_ROPE_SCALING_LINEAR;
        hp->rope_factor = (float)factor;
    } else if (type != NULL && strcmp(type, "none") != 0 && strcmp(type, "linear") != 0) {
        return ht_fail(r->err, HT_UNSUPPORTED, r->source->path, HT_NO_POS,
                       "key '%s' is '%.32s': expected none or linear", key, type);
    }
    const struct ht_tensor *freqs = ht_source_find(r->source, "rope_freqs.weight");
    if (freqs == NULL) {
        return HT_OK;
    }
    if (hp->rope_scaling != HT_ROPE_SCALING_NONE) {
        return ht_fail(r->err, HT_UNSUPPORTED, r->source->path, HT_NO_POS,
                       "linear rope scaling together with rope_freqs.weight is not supported");
    }
    hp->rope_scaling = HT_ROPE_SCALING_DIVISORS;
    return HT_OK;
}

/* Explains the divisors by Llama 3's rule where that holds, so that config.json can state it. */
static ht_status read_divisors(const struct reader *r, struct ht_hparams *hp) {
    const struct ht_tensor *freqs = ht_source_find(r->source, "rope_freqs.weight");
    uint32_t dim = hp->rope_dim ? hp->rope_dim : hp->head_dim;
    dim = dim == 0 && hp->n_heads != 0 ? hp->width / hp->n_heads : dim;
    if (freqs == NULL || freqs->data == NULL) {
        return HT_OK;
    }
    float divisors[512];
    if (freqs->ne[0] != dim / 2 || ht_tensor_rows(freqs) != 1 || freqs->format->decode == NULL ||
        freqs->format->block_elems != 1 || dim / 2 > sizeof divisors / sizeof divisors[0]) {
        return ht_fail(r->err, HT_FORMAT, r->source->path, HT_NO_POS,
                       "tensor 'rope_freqs.weight': expected %u float values (at most 512), found %llu",
                       dim / 2, (unsigned long long)ht_tensor_elems(freqs));
    }
    freqs->format->decode(freqs->data, divisors, dim / 2);
    for (uint32_t i = 0; i < dim / 2; i++) {
        if (!(isfinite(divisors[i]) && divisors[i] > 0)) {
            return ht_fail(r->err, HT_NUMERIC, r->source->path, HT_NO_POS,
                           "tensor 'rope_freqs.weight': element %u is %g, expected a finite number above 0",
                           i, (double)divisors[i]);
        }
    }
    struct ht_hparams fitted = *hp;
    fitted.rope_dim = dim;
    if (ht_rope_llama3_fit(divisors, &fitted)) {
        *hp = fitted;
    }
    return HT_OK;
}

static const char *gguf_name(const struct ht_arch *arch) {
    return arch->name;
}

ht_status ht_hparams_from_gguf(const struct ht_source *source, const struct ht_arch **arch,
                               struct ht_hparams *hp, ht_err *err) {
    const char *name = NULL, *type = NULL;
    HT_TRY(ht_meta_get_str(&source->meta, "general.architecture", &name, NULL, err));
    if (name == NULL) {
        return ht_fail(
            err, HT_UNSUPPORTED, source->path, HT_NO_POS,
            "no architecture: expected the key general.architecture (GGUF) or a config.json beside the "
            "tensors; for a single .safetensors file give its folder");
    }
    HT_TRY(ht_meta_get_str(&source->meta, "general.type", &type, NULL, err));
    if (type != NULL && strcmp(type, "model") != 0) {
        return ht_fail(err, HT_UNSUPPORTED, source->path, HT_NO_POS,
                       "general.type is '%.32s', expected 'model'", type);
    }
    HT_TRY(ht_arch_known(name, "general.architecture", gguf_name, source->path, arch, err));
    struct reader r = {source, name, err};
    HT_TRY(read_counts(&r, hp));
    HT_TRY(read_vocab(&r, hp));
    HT_TRY(refuse_keys(&r, hp));
    char key[128];
    double eps = 0, base = 10000; /* the base that GGUF files leave out */
    bool found = false;
    HT_TRY(ht_meta_get_f64(&source->meta, key_of(&r, "attention.layer_norm_rms_epsilon", key), &eps, &found,
                           err));
    if (!found) {
        return ht_fail(err, HT_FORMAT, source->path, HT_NO_POS, "key '%s' is missing", key);
    }
    HT_TRY(ht_meta_get_f64(&source->meta, key_of(&r, "rope.freq_base", key), &base, NULL, err));
    hp->rms_eps = (float)eps;
    hp->rope_base = (float)base;
    hp->tied = ht_source_find(source, "output.weight") == NULL;
    hp->attn_bias = (*arch)->has_bias_choice && ht_source_find(source, "blk.0.attn_q.bias") != NULL;
    hp->mlp_bias = (*arch)->has_bias_choice && ht_source_find(source, "blk.0.ffn_up.bias") != NULL;
    HT_TRY(read_scaling(&r, hp));
    return read_divisors(&r, hp);
}
