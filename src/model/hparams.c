#include "model/hparams.h"

#include <math.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/nearest.h"

#define FIELD(name) offsetof(struct ht_hparams, name)

static const struct ht_hparam table[] = {
    {"vocab_size", "vocab_size", FIELD(vocab), HT_MAX_VOCAB, HT_HPARAM_OPTIONAL},
    {"context_length", "max_position_embeddings", FIELD(context), HT_MAX_CONTEXT, 0},
    {"embedding_length", "hidden_size", FIELD(width), HT_MAX_WIDTH, 0},
    {"block_count", "num_hidden_layers", FIELD(n_layers), HT_MAX_LAYERS, 0},
    {"feed_forward_length", "intermediate_size", FIELD(ffn), HT_MAX_WIDTH, HT_HPARAM_PER_LAYER},
    {"attention.head_count", "num_attention_heads", FIELD(n_heads), HT_MAX_WIDTH, HT_HPARAM_PER_LAYER},
    {"attention.head_count_kv", "num_key_value_heads", FIELD(n_kv_heads), HT_MAX_WIDTH,
     HT_HPARAM_OPTIONAL | HT_HPARAM_PER_LAYER},
    {"attention.key_length", "head_dim", FIELD(head_dim), HT_MAX_WIDTH, HT_HPARAM_OPTIONAL},
    {"rope.dimension_count", NULL, FIELD(rope_dim), HT_MAX_WIDTH, HT_HPARAM_OPTIONAL},
};

size_t ht_hparam_count(void) {
    return sizeof table / sizeof table[0];
}

const struct ht_hparam *ht_hparam_at(size_t i) {
    return &table[i];
}

ht_status ht_arch_known(const char *name, const char *key, const char *(*name_of)(const struct ht_arch *arch),
                        const char *what, const struct ht_arch **arch, ht_err *err) {
    char known[160] = "", near[80];
    size_t used = 0;
    for (size_t i = 0; i < ht_arch_count(); i++) {
        const char *candidate = name_of(ht_arch_at(i));
        if (strcmp(candidate, name) == 0) {
            *arch = ht_arch_at(i);
            return HT_OK;
        }
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", candidate);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    ht_nearest(name, ht_arch_name_at, NULL, ht_arch_count(), near, sizeof near);
    return ht_fail(err, HT_UNSUPPORTED, what, HT_NO_POS, "%s is '%.64s'; known architectures: %s%s%s", key,
                   name, known, near[0] ? "; nearest: " : "", near);
}

/* Every count within its cap; absent ones derived. */
static ht_status counts(const struct ht_arch *arch, struct ht_hparams *hp, bool gguf, const char *what,
                        ht_err *err) {
    hp->n_kv_heads = hp->n_kv_heads ? hp->n_kv_heads : hp->n_heads;
    if (hp->head_dim == 0) {
        if (!gguf && arch->hf_head_dim != 0) {
            hp->head_dim = arch->hf_head_dim;
        } else if (hp->n_heads == 0 || hp->width % hp->n_heads != 0) {
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                           "%u attention heads do not divide a width of %u; such a model must state %s",
                           hp->n_heads, hp->width, gguf ? "attention.key_length" : "head_dim");
        } else {
            hp->head_dim = hp->width / hp->n_heads;
        }
    }
    hp->rope_dim = hp->rope_dim ? hp->rope_dim : hp->head_dim;
    for (size_t i = 0; i < ht_hparam_count(); i++) {
        uint32_t v = ht_hparam_value(hp, &table[i]);
        if (v == 0 || v > table[i].max) {
            return ht_fail(err, v == 0 ? HT_FORMAT : HT_LIMIT, what, HT_NO_POS,
                           "%s%s%s: expected 1 to %u, found %u", gguf ? arch->name : "", gguf ? "." : "",
                           gguf || table[i].hf == NULL ? table[i].gguf : table[i].hf, table[i].max, v);
        }
    }
    return HT_OK;
}

/* What must hold between the numbers, whichever file they came from. */
static ht_status check(const struct ht_arch *arch, struct ht_hparams *hp, bool gguf, const char *what,
                       ht_err *err) {
    HT_TRY(counts(arch, hp, gguf, what, err));
    if (hp->n_heads % hp->n_kv_heads != 0) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "%u attention heads cannot share %u key-value heads; expected a divisor", hp->n_heads,
                       hp->n_kv_heads);
    }
    if ((uint64_t)hp->n_heads * hp->head_dim > HT_MAX_WIDTH) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS,
                       "%u heads of %u dimensions: expected at most %u in all", hp->n_heads, hp->head_dim,
                       HT_MAX_WIDTH);
    }
    if (hp->head_dim % 2 != 0) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "a head of %u dimensions: rope needs an even number",
                       hp->head_dim);
    }
    if (hp->rope_dim != hp->head_dim) {
        return ht_fail(err, HT_UNSUPPORTED, what, HT_NO_POS,
                       "rope over %u of a head's %u dimensions is not supported; expected all of them",
                       hp->rope_dim, hp->head_dim);
    }
    if (!(isfinite(hp->rms_eps) && hp->rms_eps > 0 && hp->rms_eps < 1)) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "%s: expected more than 0 and less than 1, found %g",
                       gguf ? "attention.layer_norm_rms_epsilon" : "rms_norm_eps", (double)hp->rms_eps);
    }
    if (!(isfinite(hp->rope_base) && hp->rope_base > 1)) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "%s: expected a finite number above 1, found %g",
                       gguf ? "rope.freq_base" : "rope_theta", (double)hp->rope_base);
    }
    return HT_OK;
}

static bool has_role(const struct ht_arch *arch, enum ht_role role) {
    for (const struct ht_arch_tensor *t = arch->tensors; t->role != HT_ROLE_OTHER; t++) {
        if (t->role == role) {
            return true;
        }
    }
    return false;
}

static ht_status check_scaling(const struct ht_arch *arch, const struct ht_hparams *hp, const char *what,
                               ht_err *err) {
    enum ht_rope_scaling kind = hp->rope_scaling;
    bool factor_ok = isfinite(hp->rope_factor) && hp->rope_factor > 0;
    if ((kind == HT_ROPE_SCALING_LINEAR || kind == HT_ROPE_SCALING_LLAMA3) && !factor_ok) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "rope scaling factor: expected a finite number above 0, found %g",
                       (double)hp->rope_factor);
    }
    if (kind == HT_ROPE_SCALING_LLAMA3) {
        if (!has_role(arch, HT_ROLE_ROPE_FREQS)) {
            return ht_fail(err, HT_UNSUPPORTED, what, HT_NO_POS,
                           "rope scaling 'llama3' is not supported for architecture %s", arch->name);
        }
        if (!(isfinite(hp->rope_low_freq) && isfinite(hp->rope_high_freq) && hp->rope_low_freq > 0 &&
              hp->rope_high_freq > hp->rope_low_freq && hp->rope_original_context > 0)) {
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                           "rope scaling 'llama3': expected 0 < low_freq_factor < high_freq_factor and "
                           "original_max_position_embeddings > 0, found %g, %g and %u",
                           (double)hp->rope_low_freq, (double)hp->rope_high_freq, hp->rope_original_context);
        }
    }
    return HT_OK;
}

ht_status ht_arch_read(const struct ht_source *source, const struct ht_arch **arch, struct ht_hparams *hp,
                       ht_err *err) {
    bool gguf = source->config == NULL;
    memset(hp, 0, sizeof *hp);
    *arch = NULL;
    if (gguf) {
        HT_TRY(ht_hparams_from_gguf(source, arch, hp, err));
    } else {
        HT_TRY(ht_hparams_from_config(source, arch, hp, err));
    }
    HT_TRY(check(*arch, hp, gguf, source->path, err));
    return check_scaling(*arch, hp, source->path, err);
}
