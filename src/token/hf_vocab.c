#include "token/hf_vocab.h"

#include <stdio.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "token/pretokenizer.h"

/* What is read now, for messages. */
struct source {
    const char *what; /* path of tokenizer.json */
    const json_t *vocab, *added, *merges;
};

static ht_status wrong(const struct source *src, ht_err *err, const char *key, const char *expected) {
    return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS, "%s: expected %s", key, expected);
}

/* ---- tokens ------------------------------------------------------------------------------------------- */

static ht_status check_token(const struct source *src, const char *text, size_t len, const json_t *id,
                             uint32_t *out, ht_err *err) {
    int shown = (int)(len < 64 ? len : 64);
    if (len > HT_MAX_TOKEN_BYTES) {
        return ht_fail(err, HT_LIMIT, src->what, HT_NO_POS,
                       "token '%.*s...' is %llu bytes long, more than HT_MAX_TOKEN_BYTES (%u)", shown, text,
                       (unsigned long long)len, HT_MAX_TOKEN_BYTES);
    }
    if (!json_is_integer(id)) {
        return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS, "token '%.*s': its id is no integer", shown,
                       text);
    }
    json_int_t n = json_integer_value(id);
    if (n < 0 || n >= HT_MAX_VOCAB) {
        return ht_fail(err, n < 0 ? HT_FORMAT : HT_LIMIT, src->what, HT_NO_POS,
                       "token '%.*s': id %lld; expected 0 to %u (HT_MAX_VOCAB - 1)", shown, text,
                       (long long)n, HT_MAX_VOCAB - 1);
    }
    *out = (uint32_t)n;
    return HT_OK;
}

static ht_status place_token(struct ht_hf_vocab *hf, const struct source *src, uint32_t id,
                             struct ht_token_text token, ht_err *err) {
    struct ht_token_text *at = &hf->tokens[id];
    bool same = at->type != 0 && at->len == token.len && memcmp(at->text, token.text, token.len) == 0;
    if (at->type != 0 && !same) {
        return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS, "id %u stands for both '%.64s' and '%.64s'", id,
                       at->text, token.text);
    }
    token.text = same ? at->text : ht_arena_strndup(&hf->arena, token.text, token.len);
    if (token.text == NULL) {
        return ht_fail_nomem(err, token.len);
    }
    *at = token;
    return HT_OK;
}

static ht_status read_vocab(struct ht_hf_vocab *hf, const struct source *src, ht_err *err) {
    json_t *vocab = (json_t *)src->vocab; /* jansson's iterators are not const */
    for (void *it = json_object_iter(vocab); it != NULL; it = json_object_iter_next(vocab, it)) {
        uint32_t id;
        const char *text = json_object_iter_key(it);
        size_t len = json_object_iter_key_len(it);
        HT_TRY(check_token(src, text, len, json_object_iter_value(it), &id, err));
        struct ht_token_text token = {.text = text, .len = len, .type = HT_TOKEN_NORMAL};
        HT_TRY(place_token(hf, src, id, token, err));
    }
    return HT_OK;
}

/* Some models mark added tokens that steer the model as not special; stock's converter takes these for
 * control tokens by their looks, and so do we: the file is the same, and text cannot write them. */
static bool looks_special(const char *s, size_t len) {
    static const char *const names[] = {"<pad>", "<mask>", "<2mass>", "[@BOS@]"};
    static const struct {
        const char *head, *tail;
    } frames[] = {{"<|", "|>"}, {"<\xEF\xBD\x9C", "\xEF\xBD\x9C>"}, {"<unused", ">"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (len == strlen(names[i]) && memcmp(s, names[i], len) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        size_t head = strlen(frames[i].head), tail = strlen(frames[i].tail);
        if (len >= head + tail && memcmp(s, frames[i].head, head) == 0 &&
            memcmp(s + len - tail, frames[i].tail, tail) == 0) {
            return true;
        }
    }
    return false;
}

static ht_status read_added_token(struct ht_hf_vocab *hf, const struct source *src, const json_t *entry,
                                  ht_err *err) {
    const json_t *content = json_object_get(entry, "content");
    if (!json_is_string(content) || json_string_length(content) == 0) {
        return wrong(src, err, "added_tokens", "objects with a string \"content\" that is not empty");
    }
    const char *text = json_string_value(content);
    struct ht_token_text token = {.text = text, .len = json_string_length(content)};
    uint32_t id;
    bool special = false;
    HT_TRY(check_token(src, text, token.len, json_object_get(entry, "id"), &id, err));
    HT_TRY(ht_json_get_bool(entry, "special", src->what, &special, err));
    token.normalized = !special;
    HT_TRY(ht_json_get_bool(entry, "normalized", src->what, &token.normalized, err));
    HT_TRY(ht_json_get_bool(entry, "lstrip", src->what, &token.lstrip, err));
    HT_TRY(ht_json_get_bool(entry, "rstrip", src->what, &token.rstrip, err));
    HT_TRY(ht_json_get_bool(entry, "single_word", src->what, &token.single_word, err));
    token.type = special || looks_special(text, token.len) ? HT_TOKEN_CONTROL : HT_TOKEN_USER_DEFINED;
    const json_t *in_vocab = json_object_getn(src->vocab, text, token.len);
    if (in_vocab != NULL && json_integer_value(in_vocab) != (json_int_t)id) {
        return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS,
                       "added token '%.64s' has id %u, but %lld in model.vocab", text, id,
                       (long long)json_integer_value(in_vocab));
    }
    if (hf->tokens[id].type == HT_TOKEN_CONTROL || hf->tokens[id].type == HT_TOKEN_USER_DEFINED) {
        return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS,
                       "id %u is given to two added tokens, '%.64s' and '%.64s'", id, hf->tokens[id].text,
                       text);
    }
    return place_token(hf, src, id, token, err);
}

/* Largest id of vocab and added tokens, plus one. Wrong types wait for the reading proper. */
static uint32_t count_ids(const struct source *src) {
    json_int_t max = -1;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)src->vocab, key, value) {
        max = json_integer_value(value) > max ? json_integer_value(value) : max;
    }
    for (size_t i = 0; i < json_array_size(src->added); i++) {
        json_int_t id = json_integer_value(json_object_get(json_array_get(src->added, i), "id"));
        max = id > max ? id : max;
    }
    return max >= HT_MAX_VOCAB ? HT_MAX_VOCAB : (uint32_t)(max + 1);
}

static ht_status name_hole(struct ht_hf_vocab *hf, uint32_t id, ht_err *err) {
    char name[32];
    int len = snprintf(name, sizeof name, "[PAD%u]", id);
    char *text = ht_arena_strndup(&hf->arena, name, (size_t)len);
    if (text == NULL) {
        return ht_fail_nomem(err, (uint64_t)len);
    }
    hf->tokens[id] = (struct ht_token_text){.text = text, .len = (size_t)len, .type = HT_TOKEN_UNUSED};
    return HT_OK;
}

static ht_status read_tokens(struct ht_hf_vocab *hf, const struct source *src, ht_err *err) {
    size_t n_texts = json_object_size(src->vocab) + json_array_size(src->added);
    uint32_t n = count_ids(src);
    if (n == 0) {
        return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS, "model.vocab holds no token");
    }
    if (n > n_texts + HT_MAX_VOCAB_HOLES) {
        return ht_fail(err, HT_LIMIT, src->what, HT_NO_POS,
                       "ids up to %u for %llu tokens leave more than HT_MAX_VOCAB_HOLES (%u) ids unused",
                       n - 1, (unsigned long long)n_texts, HT_MAX_VOCAB_HOLES);
    }
    hf->tokens = ht_mem_calloc(n, sizeof *hf->tokens);
    if (hf->tokens == NULL) {
        return ht_fail_nomem(err, n * sizeof *hf->tokens);
    }
    hf->view.n_tokens = n;
    HT_TRY(read_vocab(hf, src, err));
    for (size_t i = 0; i < json_array_size(src->added); i++) {
        HT_TRY(read_added_token(hf, src, json_array_get(src->added, i), err));
    }
    for (uint32_t i = 0; i < n; i++) {
        if (hf->tokens[i].type == 0) {
            HT_TRY(name_hole(hf, i, err));
        }
    }
    hf->view.tokens = hf->tokens;
    return HT_OK;
}

/* ---- merges ------------------------------------------------------------------------------------------- */

struct side {
    const char *text;
    size_t len;
};

/* "a b" or ["a", "b"] */
static bool merge_sides(const json_t *entry, struct side *left, struct side *right) {
    if (json_is_array(entry)) {
        const json_t *l = json_array_get(entry, 0), *r = json_array_get(entry, 1);
        *left = (struct side){json_string_value(l), json_string_length(l)};
        *right = (struct side){json_string_value(r), json_string_length(r)};
        return json_array_size(entry) == 2 && left->len > 0 && right->len > 0;
    }
    const char *s = json_string_value(entry);
    size_t len = json_string_length(entry);
    const char *space = s == NULL ? NULL : memchr(s, ' ', len);
    if (space == NULL) {
        return false;
    }
    *left = (struct side){s, (size_t)(space - s)};
    *right = (struct side){space + 1, len - left->len - 1};
    return left->len > 0 && right->len > 0 && memchr(right->text, ' ', right->len) == NULL;
}

/* The side as its token's text, which lives as long as the vocabulary. */
static ht_status resolve_side(const struct ht_hf_vocab *hf, const struct source *src, size_t rank,
                              const char *part, struct side *side, ht_err *err) {
    const json_t *id = json_object_getn(src->vocab, side->text, side->len);
    if (id == NULL) {
        return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS,
                       "merge %llu: its %s '%.*s' is not in model.vocab", (unsigned long long)rank, part,
                       (int)(side->len < 64 ? side->len : 64), side->text);
    }
    side->text = hf->tokens[json_integer_value(id)].text;
    return HT_OK;
}

static ht_status read_merges(struct ht_hf_vocab *hf, const struct source *src, ht_err *err) {
    size_t n = json_array_size(src->merges);
    if (n > HT_MAX_ARRAY_ELEMS) {
        return ht_fail(err, HT_LIMIT, src->what, HT_NO_POS, "%llu merges, more than HT_MAX_ARRAY_ELEMS (%u)",
                       (unsigned long long)n, HT_MAX_ARRAY_ELEMS);
    }
    struct ht_merge *merges = ht_arena_calloc(&hf->arena, n, sizeof *merges);
    if (merges == NULL) {
        return ht_fail_nomem(err, n * sizeof *merges);
    }
    for (size_t i = 0; i < n; i++) {
        struct side left, right;
        if (!merge_sides(json_array_get(src->merges, i), &left, &right)) {
            return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS,
                           "merge %llu: expected \"left right\" or [\"left\", \"right\"], neither empty",
                           (unsigned long long)i);
        }
        char both[2 * HT_MAX_TOKEN_BYTES];
        HT_TRY(resolve_side(hf, src, i, "left side", &left, err));
        HT_TRY(resolve_side(hf, src, i, "right side", &right, err));
        memcpy(both, left.text, left.len);
        memcpy(both + left.len, right.text, right.len);
        struct side merged = {both, left.len + right.len};
        HT_TRY(resolve_side(hf, src, i, "result", &merged, err));
        merges[i] = (struct ht_merge){left.text, right.text, left.len, right.len};
    }
    hf->view.merges = merges;
    hf->view.n_merges = (uint32_t)n;
    return HT_OK;
}

/* ---- the model's settings ----------------------------------------------------------------------------- */

static bool is_set(const json_t *v) {
    return v != NULL && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_string(v) && json_string_length(v) == 0) &&
           !(json_is_number(v) && json_number_value(v) == 0);
}

static ht_status read_model(struct ht_hf_vocab *hf, const struct source *src, const json_t *model,
                            ht_err *err) {
    static const char *const unsupported[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                              "byte_fallback", "fuse_unk"};
    const char *type = NULL, *unk = NULL;
    HT_TRY(ht_json_get_str(model, "type", src->what, &type, err));
    if (type != NULL && strcmp(type, "BPE") != 0) {
        return ht_fail(err, HT_UNSUPPORTED, src->what, HT_NO_POS,
                       "tokenizer model '%.32s'; known: BPE (byte-level)", type);
    }
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        if (is_set(json_object_get(model, unsupported[i]))) {
            return ht_fail(
                err, HT_UNSUPPORTED, src->what, HT_NO_POS,
                "model.%s is set; byte-level BPE has no use for it and this reader does not know it",
                unsupported[i]);
        }
    }
    HT_TRY(ht_json_get_bool(model, "ignore_merges", src->what, &hf->view.ignore_merges, err));
    HT_TRY(ht_json_get_str(model, "unk_token", src->what, &unk, err));
    if (unk != NULL) {
        hf->view.unk = ht_hf_find(hf, unk, strlen(unk));
        hf->view.unk_for_bytes = true;
        if (hf->view.unk < 0) {
            return ht_fail(err, HT_FORMAT, src->what, HT_NO_POS, "model.unk_token '%.64s' is not a token",
                           unk);
        }
    }
    return HT_OK;
}

static ht_status find_pre(struct ht_hf_vocab *hf, const struct source *src, const json_t *root,
                          const char *pre, ht_err *err) {
    const struct ht_pretokenizer *row;
    if (pre != NULL) {
        HT_TRY(ht_pretokenizer_require(pre, src->what, HT_INVAL, &row, err));
        hf->view.pre = pre;
    } else {
        const json_t *step = json_object_get(root, "pre_tokenizer");
        row = ht_pretokenizer_match_model(step, json_object_get(root, "normalizer"), hf->view.ignore_merges);
        if (row == NULL) {
            char text[161] = "none"; /* as much of it as fits; the rest is NUL */
            if (step != NULL) {
                json_dumpb(step, text, sizeof text - 1, JSON_COMPACT | JSON_ENCODE_ANY);
            }
            struct ht_buf names;
            ht_buf_init(&names, 256);
            ht_pretokenizer_names(&names);
            ht_status status = ht_fail(
                err, HT_UNSUPPORTED, src->what, HT_NO_POS,
                "no known pre-tokenizer splits like this one%s: %s; known: %s; --pre NAME "
                "overrides",
                hf->view.ignore_merges ? " with ignore_merges" : "", text, names.data ? names.data : "");
            ht_buf_deinit(&names);
            return status;
        }
        hf->view.pre = row->name;
    }
    hf->view.pre = ht_arena_strdup(&hf->arena, hf->view.pre);
    return hf->view.pre != NULL ? HT_OK : ht_fail_nomem(err, 0);
}

int32_t ht_hf_find(const struct ht_hf_vocab *hf, const char *text, size_t len) {
    int32_t found = -1;
    for (uint32_t i = 0; i < hf->view.n_tokens; i++) {
        const struct ht_token_text *t = &hf->tokens[i];
        if (t->len == len && t->type != HT_TOKEN_UNUSED && memcmp(t->text, text, len) == 0) {
            found = (int32_t)i;
            if (t->type != HT_TOKEN_NORMAL) {
                break;
            }
        }
    }
    return found;
}

static ht_status read_root(struct ht_hf_vocab *hf, const char *what, const char *folder, const json_t *root,
                           const char *pre, ht_err *err) {
    const json_t *model = json_object_get(root, "model");
    struct source src = {what, json_object_get(model, "vocab"), json_object_get(root, "added_tokens"),
                         json_object_get(model, "merges")};
    if (!json_is_object(model)) {
        return wrong(&src, err, "model", "an object");
    }
    const char *type = json_string_value(json_object_get(model, "type"));
    if (type == NULL || strcmp(type, "BPE") == 0) { /* else read_model names the type */
        if (!json_is_object(src.vocab)) {
            return wrong(&src, err, "model.vocab", "an object of token to id");
        }
        if (!json_is_array(src.merges)) {
            return wrong(&src, err, "model.merges", "an array");
        }
        if (src.added != NULL && !json_is_null(src.added) && !json_is_array(src.added)) {
            return wrong(&src, err, "added_tokens", "an array");
        }
        HT_TRY(read_tokens(hf, &src, err));
    }
    HT_TRY(read_model(hf, &src, model, err));
    HT_TRY(read_merges(hf, &src, err));
    HT_TRY(find_pre(hf, &src, root, pre, err));
    return ht_hf_load_special(hf, folder, json_object_get(root, "post_processor"), err);
}

ht_status ht_hf_vocab_load(const char *folder, const char *pre, struct ht_hf_vocab **out, ht_err *err) {
    *out = NULL;
    json_t *root = NULL;
    struct ht_hf_vocab *hf = ht_mem_calloc(1, sizeof *hf);
    char *path = ht_path_join(folder, "tokenizer.json");
    ht_status status = HT_OK;
    if (hf == NULL || path == NULL) {
        status = ht_fail_nomem(err, sizeof *hf);
        goto done;
    }
    ht_arena_init(&hf->arena, 1u << 20);
    hf->view = (struct ht_vocab){.model = "bpe", .bos = -1, .eos = -1, .eot = -1, .unk = -1, .pad = -1};
    HT_TRY_DONE(ht_json_load_file(path, HT_MAX_JSON_BYTES, &root, err));
    HT_TRY_DONE(read_root(hf, path, folder, root, pre, err));
    *out = hf;
    hf = NULL;
done:
    json_decref(root);
    ht_mem_free(path);
    ht_hf_vocab_free(hf);
    return status;
}

const struct ht_vocab *ht_hf_vocab_view(const struct ht_hf_vocab *hf) {
    return &hf->view;
}

ht_status ht_hf_vocab_pad(struct ht_hf_vocab *hf, uint32_t n_tokens, const char *what, ht_err *err) {
    uint32_t n = hf->view.n_tokens;
    if (n_tokens < n) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "vocab_size %u, but the tokenizer has ids up to %u",
                       n_tokens, n - 1);
    }
    if (n_tokens > HT_MAX_VOCAB || n_tokens - n > HT_MAX_VOCAB_HOLES) {
        return ht_fail(
            err, HT_LIMIT, what, HT_NO_POS,
            "vocab_size %u leaves more than HT_MAX_VOCAB_HOLES (%u) ids beyond the tokenizer's %u unused",
            n_tokens, HT_MAX_VOCAB_HOLES, n);
    }
    struct ht_token_text *tokens = ht_mem_realloc_array(hf->tokens, n_tokens, sizeof *tokens);
    if (tokens == NULL) {
        return ht_fail_nomem(err, n_tokens * sizeof *tokens);
    }
    hf->tokens = tokens;
    hf->view.tokens = tokens;
    for (; hf->view.n_tokens < n_tokens; hf->view.n_tokens++) {
        HT_TRY(name_hole(hf, hf->view.n_tokens, err));
    }
    return HT_OK;
}

void ht_hf_vocab_free(struct ht_hf_vocab *hf) {
    if (hf != NULL) {
        ht_mem_free(hf->tokens);
        ht_arena_deinit(&hf->arena);
        ht_mem_free(hf);
    }
}
