/* GGUF metadata of a Hugging Face checkpoint: the keys and value types that llama.cpp's converter writes, so
 * that stock tools find all they look for. */
#include <stdio.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "flow/flow_paths.h"
#include "flow/flow_plan.h"

static ht_status set_text(struct ht_meta *m, const char *key, const char *s, ht_err *err) {
    return ht_meta_set_str(m, key, s, strlen(s), err);
}

static ht_status set_general(struct ht_flow_plan *p, ht_err *err) {
    uint64_t n = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        n += ht_tensor_elems(&p->tensors[i].out);
    }
    char label[32], name[256];
    ht_flow_size_label(n, label, sizeof label);
    ht_flow_base_name(p->source->path, name, sizeof name);
    HT_TRY(set_text(&p->meta, "general.architecture", p->arch->name, err));
    HT_TRY(set_text(&p->meta, "general.type", "model", err));
    if (name[0] != '\0') {
        HT_TRY(set_text(&p->meta, "general.name", name, err));
    }
    return set_text(&p->meta, "general.size_label", label, err);
}

static ht_status set_tokens(struct ht_flow_plan *p, const struct ht_vocab *v, ht_err *err) {
    uint64_t n = v->n_tokens;
    struct ht_str *texts = ht_mem_alloc_array(n, sizeof *texts);
    int32_t *types = ht_mem_alloc_array(n, sizeof *types);
    ht_status status = HT_OK;
    if (texts == NULL || types == NULL) {
        status = ht_fail_nomem(err, n * (sizeof *texts + sizeof *types));
        goto done;
    }
    for (uint64_t i = 0; i < n; i++) {
        texts[i] = (struct ht_str){v->tokens[i].text, v->tokens[i].len};
        types[i] = (int32_t)v->tokens[i].type;
    }
    HT_TRY_DONE(ht_meta_set_array(&p->meta, "tokenizer.ggml.tokens", HT_META_STRING, texts, n, err));
    HT_TRY_DONE(ht_meta_set_array(&p->meta, "tokenizer.ggml.token_type", HT_META_I32, types, n, err));
done:
    ht_mem_free(texts);
    ht_mem_free(types);
    return status;
}

static ht_status set_merges(struct ht_flow_plan *p, const struct ht_vocab *v, ht_err *err) {
    struct ht_arena arena; /* the texts are copied into the metadata */
    ht_arena_init(&arena, 1u << 20);
    struct ht_str *texts = ht_arena_calloc(&arena, v->n_merges, sizeof *texts);
    ht_status status = texts == NULL ? ht_fail_nomem(err, v->n_merges * sizeof *texts) : HT_OK;
    for (uint32_t i = 0; status == HT_OK && i < v->n_merges; i++) {
        const struct ht_merge *m = &v->merges[i];
        size_t len = m->left_len + 1 + m->right_len;
        char *s = ht_arena_alloc(&arena, len);
        if (s == NULL) {
            status = ht_fail_nomem(err, len);
            break;
        }
        memcpy(s, m->left, m->left_len);
        s[m->left_len] = ' ';
        memcpy(s + m->left_len + 1, m->right, m->right_len);
        texts[i] = (struct ht_str){s, len};
    }
    if (status == HT_OK) {
        status = ht_meta_set_array(&p->meta, "tokenizer.ggml.merges", HT_META_STRING, texts, v->n_merges, err);
    }
    ht_arena_deinit(&arena);
    return status;
}

static ht_status set_tokenizer(struct ht_flow_plan *p, const struct ht_vocab *v, ht_err *err) {
    const struct {
        const char *key;
        int32_t id;
    } specials[] = {
        {"tokenizer.ggml.bos_token_id", v->bos},     {"tokenizer.ggml.eos_token_id", v->eos},
        {"tokenizer.ggml.eot_token_id", v->eot},     {"tokenizer.ggml.unknown_token_id", v->unk},
        {"tokenizer.ggml.padding_token_id", v->pad},
    };
    HT_TRY(set_text(&p->meta, "tokenizer.ggml.model", "gpt2", err));
    HT_TRY(set_text(&p->meta, "tokenizer.ggml.pre", v->pre, err));
    HT_TRY(set_tokens(p, v, err));
    HT_TRY(set_merges(p, v, err));
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        if (specials[i].id >= 0) {
            HT_TRY(ht_meta_set_u32(&p->meta, specials[i].key, (uint32_t)specials[i].id, err));
        }
    }
    HT_TRY(ht_meta_set_bool(&p->meta, "tokenizer.ggml.add_bos_token", v->add_bos, err));
    if (v->add_eos) {
        HT_TRY(ht_meta_set_bool(&p->meta, "tokenizer.ggml.add_eos_token", true, err));
    }
    if (v->chat_template != NULL) {
        HT_TRY(set_text(&p->meta, "tokenizer.chat_template", v->chat_template, err));
    }
    return HT_OK;
}

/* llama.cpp's converter states the size of heads whenever config.json does, also where it follows from the width. */
static ht_status set_head_dim(struct ht_flow_plan *p, ht_err *err) {
    static const char *const names[] = {"key_length", "value_length"};
    if (!json_is_integer(json_object_get(p->source->config, "head_dim"))) {
        return HT_OK;
    }
    for (size_t i = 0; i < 2; i++) {
        char key[128];
        snprintf(key, sizeof key, "%s.attention.%s", p->arch->name, names[i]);
        HT_TRY(ht_meta_set_u32(&p->meta, key, p->hp.head_dim, err));
    }
    return HT_OK;
}

/* As tokenizer_config.json says it, for llama only: the converter's other architectures do not look. Readers use it
 * with SentencePiece vocabularies. */
static ht_status set_space_prefix(struct ht_flow_plan *p, ht_err *err) {
    if (strcmp(p->arch->name, "llama") != 0) {
        return HT_OK;
    }
    json_t *config = NULL;
    char *path = ht_path_join(p->source->path, "tokenizer_config.json");
    ht_status status = path == NULL ? ht_fail_nomem(err, strlen(p->source->path)) : HT_OK;
    if (status == HT_OK && ht_path_exists(path)) {
        status = ht_json_load_file(path, HT_MAX_JSON_BYTES, &config, err);
    }
    if (status == HT_OK && json_is_boolean(json_object_get(config, "add_prefix_space"))) {
        status = ht_meta_set_bool(&p->meta, "tokenizer.ggml.add_space_prefix",
                                  json_is_true(json_object_get(config, "add_prefix_space")), err);
    }
    json_decref(config);
    ht_mem_free(path);
    return status;
}

ht_status ht_flow_meta_from_hf(struct ht_flow_plan *p, ht_err *err) {
    HT_TRY(set_general(p, err));
    HT_TRY(ht_arch_meta_from_hparams(p->arch, &p->hp, &p->meta, err));
    HT_TRY(set_head_dim(p, err));
    HT_TRY(set_space_prefix(p, err));
    HT_TRY(ht_hf_vocab_pad(p->hf_vocab, p->hp.vocab, p->source->path, err));
    return set_tokenizer(p, ht_hf_vocab_view(p->hf_vocab), err);
}
