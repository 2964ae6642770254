#include <stdio.h>
#include <stdlib.h>

#include "model/hparams.h"

struct writer {
    const struct ht_arch *arch;
    const struct ht_hparams *hp;
    struct ht_meta *meta;
    ht_err *err;
};

static const char *key_of(const struct writer *w, const char *suffix, char buf[128]) {
    snprintf(buf, 128, "%s.%s", w->arch->name, suffix);
    return buf;
}

/* Stock derives head sizes from width and heads unless the file states them. */
static bool states_head_dim(const struct ht_hparams *hp) {
    return (uint64_t)hp->head_dim * hp->n_heads != hp->width;
}

static ht_status gguf_counts(const struct writer *w) {
    char key[128];
    for (size_t i = 0; i < ht_hparam_count(); i++) {
        const struct ht_hparam *p = ht_hparam_at(i);
        bool is_head = p->offset == offsetof(struct ht_hparams, head_dim);
        if (!is_head || states_head_dim(w->hp)) {
            HT_TRY(ht_meta_set_u32(w->meta, key_of(w, p->gguf, key), ht_hparam_value(w->hp, p), w->err));
        }
    }
    if (states_head_dim(w->hp)) {
        HT_TRY(ht_meta_set_u32(w->meta, key_of(w, "attention.value_length", key), w->hp->head_dim, w->err));
    }
    return HT_OK;
}

ht_status ht_arch_meta_from_hparams(const struct ht_arch *arch, const struct ht_hparams *hp,
                                    struct ht_meta *meta, ht_err *err) {
    struct writer w = {arch, hp, meta, err};
    char key[128];
    HT_TRY(ht_meta_set_str(meta, "general.architecture", arch->name, strlen(arch->name), err));
    HT_TRY(gguf_counts(&w));
    HT_TRY(ht_meta_set_f32(meta, key_of(&w, "attention.layer_norm_rms_epsilon", key), hp->rms_eps, err));
    HT_TRY(ht_meta_set_f32(meta, key_of(&w, "rope.freq_base", key), hp->rope_base, err));
    if (hp->rope_scaling == HT_ROPE_SCALING_LINEAR) {
        HT_TRY(ht_meta_set_str(meta, key_of(&w, "rope.scaling.type", key), "linear", 6, err));
        HT_TRY(ht_meta_set_f32(meta, key_of(&w, "rope.scaling.factor", key), hp->rope_factor, err));
    }
    return HT_OK;
}

/* The decimal with fewest digits that is this float: 1e-05 rather than 9.99999975e-06. */
static double shortest(float x) {
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x) {
            break;
        }
    }
    return strtod(text, NULL);
}

/* json_object_set_new takes the value, also when it fails; *failed collects. */
static void put(json_t *object, const char *key, json_t *value, bool *failed) {
    *failed |= value == NULL || json_object_set_new(object, key, value) != 0;
}

static json_t *scaling_json(const struct ht_hparams *hp, bool *failed) {
    if (hp->rope_scaling == HT_ROPE_SCALING_NONE) {
        return json_null();
    }
    json_t *s = json_object();
    bool llama3 = hp->rope_scaling == HT_ROPE_SCALING_LLAMA3;
    put(s, "rope_type", json_string(llama3 ? "llama3" : "linear"), failed);
    put(s, "factor", json_real(shortest(hp->rope_factor)), failed);
    if (llama3) {
        put(s, "low_freq_factor", json_real(shortest(hp->rope_low_freq)), failed);
        put(s, "high_freq_factor", json_real(shortest(hp->rope_high_freq)), failed);
        put(s, "original_max_position_embeddings", json_integer(hp->rope_original_context), failed);
    }
    return s;
}

ht_status ht_arch_config_from_hparams(const struct ht_arch *arch, const struct ht_hparams *hp, json_t **out,
                                      ht_err *err) {
    *out = NULL;
    if (hp->rope_scaling == HT_ROPE_SCALING_DIVISORS) {
        return ht_fail(
            err, HT_UNSUPPORTED, "rope_freqs.weight", HT_NO_POS,
            "these rope divisors follow no rule that config.json can state; keep this model as GGUF");
    }
    bool failed = false;
    json_t *c = json_object();
    put(c, "architectures", json_pack("[s]", arch->hf_class), &failed);
    put(c, "model_type", json_string(arch->hf_model_type), &failed);
    for (size_t i = 0; i < ht_hparam_count(); i++) {
        const struct ht_hparam *p = ht_hparam_at(i);
        if (p->hf != NULL) {
            put(c, p->hf, json_integer(ht_hparam_value(hp, p)), &failed);
        }
    }
    put(c, "hidden_act", json_string("silu"), &failed);
    put(c, "rms_norm_eps", json_real(shortest(hp->rms_eps)), &failed);
    put(c, "rope_theta", json_real(shortest(hp->rope_base)), &failed);
    put(c, "rope_scaling", scaling_json(hp, &failed), &failed);
    put(c, "tie_word_embeddings", json_boolean(hp->tied), &failed);
    put(c, "attention_dropout", json_real(0), &failed);
    put(c, "use_cache", json_true(), &failed);
    if (arch->has_bias_choice) {
        put(c, "attention_bias", json_boolean(hp->attn_bias), &failed);
        put(c, "mlp_bias", json_boolean(hp->mlp_bias), &failed);
    }
    if (arch->has_window_key) {
        put(c, "use_sliding_window", json_false(), &failed);
    }
    if (failed) {
        json_decref(c);
        return ht_fail_nomem(err, 4096);
    }
    *out = c;
    return HT_OK;
}
