#include "base/json.h"
#include "io/halftone.h"
#include "model/hparams.h"

struct reader {
    const json_t *config;
    const char *what;
    ht_err *err;
};

static ht_status unsupported(const struct reader *r, const char *text) {
    return ht_fail(r->err, HT_UNSUPPORTED, r->what, HT_NO_POS, "config.json: %s", text);
}

static const char *hf_name(const struct ht_arch *arch) {
    return arch->hf_model_type;
}

static ht_status find_arch(const struct reader *r, const struct ht_arch **arch) {
    const char *type = NULL;
    HT_TRY(ht_json_get_str(r->config, "model_type", r->what, &type, r->err));
    if (type == NULL) {
        return ht_fail(r->err, HT_FORMAT, r->what, HT_NO_POS, "config.json: key 'model_type' is missing");
    }
    HT_TRY(ht_arch_known(type, "config.json's model_type", hf_name, r->what, arch, r->err));
    const json_t *classes = json_object_get(r->config, "architectures");
    const char *cls = json_string_value(json_array_get(classes, 0)); /* NULL when absent or of another type */
    if (cls != NULL && strcmp(cls, (*arch)->hf_class) != 0) {
        return ht_fail(r->err, HT_UNSUPPORTED, r->what, HT_NO_POS,
                       "config.json: architectures[0] is '%.64s', expected '%s'", cls, (*arch)->hf_class);
    }
    return HT_OK;
}

static ht_status read_counts(const struct reader *r, struct ht_hparams *hp) {
    for (size_t i = 0; i < ht_hparam_count(); i++) {
        const struct ht_hparam *p = ht_hparam_at(i);
        if (p->hf == NULL) {
            continue;
        }
        const json_t *j = json_object_get(r->config, p->hf);
        bool absent = j == NULL || json_is_null(j);
        uint64_t v = 0;
        HT_TRY(ht_json_get_u64(r->config, p->hf, p->max, r->what, &v, r->err));
        bool needed = !(p->flags & HT_HPARAM_OPTIONAL) || strcmp(p->hf, "vocab_size") == 0;
        if (absent && needed) {
            return ht_fail(r->err, HT_FORMAT, r->what, HT_NO_POS, "config.json: key '%s' is missing", p->hf);
        }
        if (!absent && v == 0) {
            return ht_fail(r->err, HT_FORMAT, r->what, HT_NO_POS,
                           "config.json: key '%s': expected 1 to %u, found 0", p->hf, p->max);
        }
        *ht_hparam_field(hp, p) = (uint32_t)v;
    }
    return HT_OK;
}

/* Things that transformers would compute and we would not. */
static ht_status refuse(const struct reader *r, const struct ht_arch *arch, const struct ht_hparams *hp) {
    const char *act = "silu";
    HT_TRY(ht_json_get_str(r->config, "hidden_act", r->what, &act, r->err));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) {
        return ht_fail(r->err, HT_UNSUPPORTED, r->what, HT_NO_POS,
                       "config.json: hidden_act is '%.32s', expected 'silu'", act);
    }
    const json_t *quant = json_object_get(r->config, "quantization_config");
    const char *method = json_string_value(json_object_get(quant, "quant_method"));
    bool ours = method != NULL && strcmp(method, HT_HALFTONE_METHOD) == 0; /* read when the folder was opened */
    if (quant != NULL && !json_is_null(quant) && !ours) {
        return ht_fail(r->err, HT_UNSUPPORTED, r->what, HT_NO_POS,
                       "config.json: quantization_config (%.32s): quantized Hugging Face checkpoints are not "
                       "supported; start from the original weights", method ? method : "no quant_method");
    }
    double partial = 1;
    HT_TRY(ht_json_get_f64(r->config, "partial_rotary_factor", r->what, &partial, r->err));
    if (partial != 1) {
        return unsupported(r, "partial_rotary_factor other than 1 is not supported");
    }
    bool window = false;
    HT_TRY(ht_json_get_bool(r->config, "use_sliding_window", r->what, &window, r->err));
    if (window && arch->has_window_key) {
        uint64_t size = 4096, from = 28; /* defaults of transformers' Qwen2Config and Qwen3Config */
        HT_TRY(ht_json_get_u64(r->config, "sliding_window", UINT64_MAX >> 1, r->what, &size, r->err));
        HT_TRY(ht_json_get_u64(r->config, "max_window_layers", UINT64_MAX >> 1, r->what, &from, r->err));
        if (size < hp->context && from < hp->n_layers) {
            return unsupported(r,
                               "use_sliding_window is true and would change results; sliding windows are not "
                               "supported");
        }
    }
    const json_t *kinds = json_object_get(r->config, "layer_types");
    for (size_t i = 0; i < json_array_size(kinds); i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        if (kind == NULL || strcmp(kind, "full_attention") != 0) {
            return unsupported(r, "layer_types other than full_attention are not supported");
        }
    }
    return HT_OK;
}

/* The object that states scaling: transformers 5 writes rope_parameters, older ones rope_scaling. */
static ht_status scaling_object(const struct reader *r, const char *key, const json_t **object) {
    const json_t *j = json_object_get(r->config, key);
    if (j != NULL && !json_is_null(j) && !json_is_object(j)) {
        return ht_fail(r->err, HT_FORMAT, r->what, HT_NO_POS,
                       "config.json: key '%s': expected an object or null", key);
    }
    if (j != NULL && json_is_object(j)) {
        *object = j;
    }
    return HT_OK;
}

static ht_status get_f32(const struct reader *r, const json_t *object, const char *key, float *out) {
    double v = *out;
    HT_TRY(ht_json_get_f64(object, key, r->what, &v, r->err));
    *out = (float)v;
    return HT_OK;
}

static ht_status read_rope(const struct reader *r, struct ht_hparams *hp) {
    const json_t *rope = NULL;
    const char *type = NULL;
    hp->rope_base = 10000; /* default of transformers for all three architectures */
    HT_TRY(scaling_object(r, "rope_scaling", &rope));
    HT_TRY(scaling_object(r, "rope_parameters", &rope));
    HT_TRY(get_f32(r, r->config, "rope_theta", &hp->rope_base));
    if (rope == NULL) {
        return HT_OK;
    }
    HT_TRY(get_f32(r, rope, "rope_theta", &hp->rope_base));
    HT_TRY(ht_json_get_str(rope, "type", r->what, &type, r->err)); /* old name */
    HT_TRY(ht_json_get_str(rope, "rope_type", r->what, &type, r->err));
    HT_TRY(get_f32(r, rope, "factor", &hp->rope_factor));
    float partial = 1;
    HT_TRY(get_f32(r, rope, "partial_rotary_factor", &partial));
    if (partial != 1) {
        return unsupported(r, "partial_rotary_factor other than 1 is not supported");
    }
    if (type == NULL || strcmp(type, "default") == 0) {
        hp->rope_factor = 0;
        return HT_OK;
    }
    if (strcmp(type, "linear") == 0) {
        hp->rope_scaling = HT_ROPE_SCALING_LINEAR;
        return HT_OK;
    }
    if (strcmp(type, "llama3") == 0) {
        uint64_t original = 0;
        hp->rope_scaling = HT_ROPE_SCALING_LLAMA3;
        HT_TRY(get_f32(r, rope, "low_freq_factor", &hp->rope_low_freq));
        HT_TRY(get_f32(r, rope, "high_freq_factor", &hp->rope_high_freq));
        HT_TRY(ht_json_get_u64(rope, "original_max_position_embeddings", UINT32_MAX, r->what, &original,
                               r->err));
        hp->rope_original_context = (uint32_t)original;
        return HT_OK;
    }
    return ht_fail(r->err, HT_UNSUPPORTED, r->what, HT_NO_POS,
                   "config.json: rope scaling of type '%.32s': expected default, linear or llama3", type);
}

ht_status ht_hparams_from_config(const struct ht_source *source, const struct ht_arch **arch,
                                 struct ht_hparams *hp, ht_err *err) {
    struct reader r = {source->config, source->path, err};
    HT_TRY(find_arch(&r, arch));
    HT_TRY(read_counts(&r, hp));
    HT_TRY(refuse(&r, *arch, hp));
    HT_TRY(read_rope(&r, hp));
    hp->rms_eps = 1e-6f; /* default of transformers for all three architectures */
    HT_TRY(get_f32(&r, r.config, "rms_norm_eps", &hp->rms_eps));
    HT_TRY(ht_json_get_bool(r.config, "tie_word_embeddings", r.what, &hp->tied, err));
    if ((*arch)->has_bias_choice) {
        HT_TRY(ht_json_get_bool(r.config, "attention_bias", r.what, &hp->attn_bias, err));
        HT_TRY(ht_json_get_bool(r.config, "mlp_bias", r.what, &hp->mlp_bias, err));
    }
    return HT_OK;
}
