#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "model/model.h"
#include "token/pretokenizer.h"

/* The vocabulary of a GGUF file. Strings are views into its metadata; the lists live in the arena. */
struct gguf_vocab {
    const struct ht_meta *meta;
    const char *what;
    struct ht_arena arena;
    struct ht_vocab v;
    int32_t eom;
    ht_err *err;
};

static bool is_integer(enum ht_meta_type type) {
    static const bool table[HT_META_TYPES] = {
        [HT_META_U8] = true,  [HT_META_I8] = true,  [HT_META_U16] = true,
        [HT_META_I16] = true, [HT_META_U32] = true, [HT_META_I32] = true};
    return table[type];
}

/* An array of strings with 0 to max elements; NULL in *out when absent. */
static ht_status strings(const struct gguf_vocab *g, const char *key, uint64_t max,
                         const struct ht_meta_kv **out) {
    const struct ht_meta_kv *kv = ht_meta_find(g->meta, key);
    *out = kv;
    if (kv == NULL) {
        return HT_OK;
    }
    if (kv->type != HT_META_ARRAY || kv->elem_type != HT_META_STRING) {
        return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS, "key '%s': expected an array of strings", key);
    }
    if (kv->n > max) {
        return ht_fail(g->err, HT_LIMIT, g->what, HT_NO_POS,
                       "key '%s': expected at most %llu elements, found %llu", key, (unsigned long long)max,
                       (unsigned long long)kv->n);
    }
    return HT_OK;
}

static ht_status read_types(struct gguf_vocab *g, struct ht_token_text *tokens) {
    static const char key[] = "tokenizer.ggml.token_type";
    const struct ht_meta_kv *kv = ht_meta_find(g->meta, key);
    for (uint32_t i = 0; i < g->v.n_tokens; i++) {
        tokens[i].type = HT_TOKEN_NORMAL;
    }
    if (kv == NULL) {
        return HT_OK;
    }
    if (kv->type != HT_META_ARRAY || !is_integer(kv->elem_type) || kv->n != g->v.n_tokens) {
        return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS, "key '%s': expected an array of %u integers",
                       key, g->v.n_tokens);
    }
    for (uint32_t i = 0; i < g->v.n_tokens; i++) {
        int64_t type = ht_meta_elem_i64(kv, i);
        if (type < 0 || type > HT_TOKEN_BYTE) {
            return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS,
                           "key '%s': token %u has type %lld, expected 1 to %d", key, i, (long long)type,
                           HT_TOKEN_BYTE);
        }
        tokens[i].type =
            type == 0 ? HT_TOKEN_NORMAL : (enum ht_token_type)type; /* 0: undefined, in old files */
    }
    return HT_OK;
}

static ht_status read_tokens(struct gguf_vocab *g) {
    static const char key[] = "tokenizer.ggml.tokens";
    const struct ht_meta_kv *kv;
    HT_TRY(strings(g, key, HT_MAX_VOCAB, &kv));
    if (kv == NULL || kv->n == 0) {
        return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS, "key '%s' is missing or empty", key);
    }
    struct ht_token_text *tokens = ht_arena_calloc(&g->arena, (size_t)kv->n, sizeof *tokens);
    if (tokens == NULL) {
        return ht_fail_nomem(g->err, kv->n * sizeof *tokens);
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        struct ht_str s = ht_meta_elem_str(kv, i);
        if (s.len > HT_MAX_TOKEN_BYTES) {
            return ht_fail(g->err, HT_LIMIT, g->what, HT_NO_POS,
                           "key '%s': token %llu has %llu bytes, expected at most %d", key,
                           (unsigned long long)i, (unsigned long long)s.len, HT_MAX_TOKEN_BYTES);
        }
        tokens[i].text = s.s;
        tokens[i].len = (size_t)s.len;
    }
    g->v.tokens = tokens;
    g->v.n_tokens = (uint32_t)kv->n;
    return read_types(g, tokens);
}

/* "left right", split at the first space behind position 0 (a piece may itself start with a space). */
static ht_status read_merges(struct gguf_vocab *g) {
    static const char key[] = "tokenizer.ggml.merges";
    const struct ht_meta_kv *kv;
    HT_TRY(strings(g, key, HT_MAX_VOCAB * 4ull, &kv));
    if (kv == NULL) {
        return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS, "key '%s' is missing", key);
    }
    struct ht_merge *merges = ht_arena_calloc(&g->arena, (size_t)kv->n, sizeof *merges);
    if (merges == NULL) {
        return ht_fail_nomem(g->err, kv->n * sizeof *merges);
    }
    for (uint64_t i = 0; i < kv->n; i++) {
        struct ht_str s = ht_meta_elem_str(kv, i);
        const char *space = s.len > 2 && s.len <= 2 * HT_MAX_TOKEN_BYTES + 1
                                ? memchr(s.s + 1, ' ', (size_t)s.len - 1) : NULL;
        if (space == NULL || space + 1 == s.s + s.len) {
            return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS,
                           "key '%s': element %llu: expected two pieces with a space between", key,
                           (unsigned long long)i);
        }
        size_t left = (size_t)(space - s.s);
        merges[i] = (struct ht_merge){s.s, space + 1, left, (size_t)s.len - left - 1};
    }
    g->v.merges = merges;
    g->v.n_merges = (uint32_t)kv->n;
    return HT_OK;
}

static ht_status read_ids(struct gguf_vocab *g) {
    struct {
        const char *key;
        int32_t *id;
    } const ids[] = {
        {"tokenizer.ggml.bos_token_id", &g->v.bos},     {"tokenizer.ggml.eos_token_id", &g->v.eos},
        {"tokenizer.ggml.eot_token_id", &g->v.eot},     {"tokenizer.ggml.unknown_token_id", &g->v.unk},
        {"tokenizer.ggml.padding_token_id", &g->v.pad}, {"tokenizer.ggml.eom_token_id", &g->eom},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        uint64_t id = UINT32_MAX; /* also what some files write for "none" */
        HT_TRY(ht_meta_get_u64(g->meta, ids[i].key, UINT32_MAX, &id, NULL, g->err));
        if (id != UINT32_MAX && id >= g->v.n_tokens) {
            return ht_fail(g->err, HT_FORMAT, g->what, HT_NO_POS,
                           "key '%s': expected a token below %u, found %llu", ids[i].key, g->v.n_tokens,
                           (unsigned long long)id);
        }
        *ids[i].id = id == UINT32_MAX ? -1 : (int32_t)id;
    }
    if (g->eom >= 0) {
        g->v.ends = &g->eom;
        g->v.n_ends = 1;
    }
    return HT_OK;
}

static ht_status read_gguf(struct gguf_vocab *g, const char *pre) {
    const char *model = NULL;
    HT_TRY(ht_meta_get_str(g->meta, "tokenizer.ggml.model", &model, NULL, g->err));
    if (model == NULL || strcmp(model, "none") == 0 || strcmp(model, "no_vocab") == 0) {
        return ht_fail(g->err, HT_NOTFOUND, g->what, HT_NO_POS,
                       "no tokenizer: key tokenizer.ggml.model is %s%s", model ? "" : "missing",
                       model ? model : "");
    }
    if (strcmp(model, "gpt2") != 0) {
        return ht_fail(g->err, HT_UNSUPPORTED, g->what, HT_NO_POS,
                       "tokenizer.ggml.model is '%.32s': expected gpt2 (byte-level BPE)", model);
    }
    if (pre == NULL) {
        HT_TRY(ht_meta_get_str(g->meta, "tokenizer.ggml.pre", &pre, NULL, g->err));
    }
    if (pre == NULL) {
        return ht_fail(
            g->err, HT_UNSUPPORTED, g->what, HT_NO_POS,
            "key tokenizer.ggml.pre is missing: how text is split is unknown, and a guess would give "
            "other tokens than the model was trained on; name it with --pre NAME");
    }
    const struct ht_pretokenizer *row;
    HT_TRY(ht_pretokenizer_require(pre, g->what, HT_UNSUPPORTED, &row, g->err));
    g->v.model = "bpe";
    g->v.pre = pre;
    g->v.ignore_merges = row->ignore_merges;
    g->v.add_bos = row->add_bos;
    HT_TRY(ht_meta_get_bool(g->meta, "tokenizer.ggml.add_bos_token", &g->v.add_bos, NULL, g->err));
    HT_TRY(ht_meta_get_bool(g->meta, "tokenizer.ggml.add_eos_token", &g->v.add_eos, NULL, g->err));
    HT_TRY(ht_meta_get_str(g->meta, "tokenizer.chat_template", &g->v.chat_template, NULL, g->err));
    HT_TRY(read_tokens(g));
    HT_TRY(read_merges(g));
    return read_ids(g);
}

static ht_status from_gguf(const struct ht_source *source, const char *pre, struct ht_tokenizer **tokenizer,
                           ht_err *err) {
    struct gguf_vocab g = {.meta = &source->meta, .what = source->path, .err = err};
    ht_arena_init(&g.arena, 0);
    ht_status status = read_gguf(&g, pre);
    if (status == HT_OK) {
        status = ht_tokenizer_new(&g.v, source->path, tokenizer, err);
    }
    ht_arena_deinit(&g.arena);
    return status;
}

static ht_status from_folder(const struct ht_source *source, const char *pre, struct ht_tokenizer **tokenizer,
                             ht_err *err) {
    struct ht_hf_vocab *hf = NULL;
    uint64_t vocab = 0;
    HT_TRY(ht_json_get_u64(source->config, "vocab_size", HT_MAX_VOCAB, source->path, &vocab, err));
    HT_TRY(ht_hf_vocab_load(source->path, pre, &hf, err));
    /* Embeddings beyond the last token exist in many checkpoints; their ids can be sampled. */
    ht_status status = ht_hf_vocab_pad(hf, (uint32_t)vocab, source->path, err);
    if (status == HT_OK) {
        status = ht_tokenizer_new(ht_hf_vocab_view(hf), source->path, tokenizer, err);
    }
    ht_hf_vocab_free(hf);
    return status;
}

ht_status ht_model_tokenizer(const struct ht_source *source, const char *pre, struct ht_tokenizer **tokenizer,
                             ht_err *err) {
    *tokenizer = NULL;
    return source->config == NULL ? from_gguf(source, pre, tokenizer, err)
                                  : from_folder(source, pre, tokenizer, err);
}
