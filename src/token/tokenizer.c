#include "token/tokenizer.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/map.h"
#include "token/added.h"
#include "token/bpe.h"
#include "token/bytelevel.h"
#include "token/normalize.h"
#include "token/splitter.h"
#include "token/utf8.h"

struct raw { /* what a token writes */
    const char *bytes;
    size_t len;
};

struct ht_tokenizer {
    struct ht_arena arena;
    struct ht_vocab vocab; /* copy, owned by arena */
    struct raw *raw;       /* [n_tokens] */
    struct ht_map whole;   /* bytes of NORMAL tokens -> id; for ignore_merges */
    struct ht_bpe bpe;
    struct ht_added added_raw, added_normalized; /* matched before and after the normalizer */
    struct ht_map special;                       /* text of added tokens -> id */
    struct ht_splitter *splitter;
    bool nfc;
    int32_t ends[24]; /* ids of end markers by their text */
    size_t n_ends;
};

/* Control tokens that end an answer in the model families whose chat formats are known. */
static const char *const end_markers[] = {"<|im_end|>",      "<|eot_id|>", "<|eom_id|>", "<|endoftext|>",
                                          "<|end_of_text|>", "<|end|>",    "</s>",       "<end_of_turn>"};

/* ---- building ----------------------------------------------------------------------------------------- */

static void *copy(struct ht_arena *arena, const void *data, size_t bytes) {
    void *p = ht_arena_alloc(arena, bytes);
    if (p != NULL && bytes > 0) {
        memcpy(p, data, bytes);
    }
    return p;
}

static bool is_added(enum ht_token_type type) {
    return type == HT_TOKEN_CONTROL || type == HT_TOKEN_USER_DEFINED || type == HT_TOKEN_UNKNOWN;
}

static ht_status copy_strings(struct ht_tokenizer *t, const struct ht_vocab *v, ht_err *err) {
    struct ht_arena *a = &t->arena;
    t->vocab = *v;
    t->vocab.model = ht_arena_strdup(a, v->model);
    t->vocab.pre = ht_arena_strdup(a, v->pre);
    t->vocab.chat_template = v->chat_template != NULL ? ht_arena_strdup(a, v->chat_template) : NULL;
    t->vocab.ends = v->n_ends > 0 ? copy(a, v->ends, v->n_ends * sizeof *v->ends) : NULL;
    bool ok = t->vocab.model != NULL && t->vocab.pre != NULL && (v->n_ends == 0 || t->vocab.ends != NULL) &&
              (v->chat_template == NULL || t->vocab.chat_template != NULL);
    return ok ? HT_OK : ht_fail_nomem(err, 0);
}

/* Token texts, what they write, and by_text: text -> id for merges. UNUSED tokens fill holes and have no
 * text of their own. */
static ht_status copy_tokens(struct ht_tokenizer *t, const struct ht_vocab *v, const char *what,
                             struct ht_map *by_text, ht_err *err) {
    struct ht_token_text *tokens = ht_arena_calloc(&t->arena, v->n_tokens, sizeof *tokens);
    t->raw = ht_arena_calloc(&t->arena, v->n_tokens, sizeof *t->raw);
    if (tokens == NULL || t->raw == NULL) {
        return ht_fail_nomem(err, (uint64_t)v->n_tokens * sizeof *tokens);
    }
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        const struct ht_token_text *from = &v->tokens[i];
        if (from->len > HT_MAX_TOKEN_BYTES) {
            return ht_fail(err, HT_LIMIT, what, HT_NO_POS,
                           "token %u is %llu bytes long, more than HT_MAX_TOKEN_BYTES (%u)",
                           i, (unsigned long long)from->len, HT_MAX_TOKEN_BYTES);
        }
        /* Added tokens are cut out of text; broken ones would cut characters in two. */
        if (is_added(from->type) && ht_utf8_valid(from->text, from->len) != from->len) {
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "special token %u is not UTF-8", i);
        }
        tokens[i] = *from;
        tokens[i].text = ht_arena_strndup(&t->arena, from->text, from->len);
        char *bytes = ht_arena_alloc(&t->arena, from->len);
        if (tokens[i].text == NULL || bytes == NULL) {
            return ht_fail_nomem(err, from->len);
        }
        t->raw[i] = (struct raw){tokens[i].text, from->len};
        bool existed = false, nomem = false;
        if (!is_added(from->type)) {
            size_t n = ht_bytelevel_decode(from->text, from->len, bytes);
            if (n != SIZE_MAX) {
                t->raw[i] = (struct raw){bytes, n};
                nomem = n > 0 && from->type == HT_TOKEN_NORMAL && !ht_map_put(&t->whole, bytes, n, i, NULL);
            }
        }
        if (from->type != HT_TOKEN_UNUSED && from->len > 0) {
            nomem = nomem || !ht_map_put(by_text, from->text, from->len, i, &existed);
        }
        if (nomem) {
            return ht_fail_nomem(err, from->len);
        }
        if (existed) {
            uint64_t first = 0;
            ht_map_get(by_text, from->text, from->len, &first);
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "tokens %llu and %u have the same text '%.*s'",
                           (unsigned long long)first, i, (int)(from->len < 64 ? from->len : 64), from->text);
        }
    }
    t->vocab.tokens = tokens;
    return HT_OK;
}

static ht_status find_merge_part(const struct ht_map *by_text, const char *s, size_t len, uint32_t rank,
                                 const char *part, const char *what, uint64_t *id, ht_err *err) {
    if (len <= HT_MAX_TOKEN_BYTES * 2 && ht_map_get(by_text, s, len, id)) {
        return HT_OK;
    }
    return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "merge %u: its %s '%.*s' is not a token", rank, part,
                   (int)(len < 64 ? len : 64), s);
}

static ht_status fill_bpe(struct ht_tokenizer *t, const struct ht_vocab *v, const char *what,
                          const struct ht_map *by_text, ht_err *err) {
    HT_TRY(ht_bpe_init(&t->bpe, v->n_merges, err));
    t->bpe.unk = v->unk_for_bytes ? v->unk : -1;
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        uint64_t id;
        if (ht_map_get(&t->whole, &byte, 1, &id)) {
            t->bpe.byte_id[b] = (int32_t)id;
        }
    }
    struct ht_merge *merges = ht_arena_calloc(&t->arena, v->n_merges, sizeof *merges);
    if (merges == NULL) {
        return ht_fail_nomem(err, (uint64_t)v->n_merges * sizeof *merges);
    }
    for (uint32_t i = 0; i < v->n_merges; i++) {
        const struct ht_merge *m = &v->merges[i];
        char both[2 * HT_MAX_TOKEN_BYTES];
        uint64_t left, right, merged;
        HT_TRY(find_merge_part(by_text, m->left, m->left_len, i, "left side", what, &left, err));
        HT_TRY(find_merge_part(by_text, m->right, m->right_len, i, "right side", what, &right, err));
        memcpy(both, m->left, m->left_len);
        memcpy(both + m->left_len, m->right, m->right_len);
        HT_TRY(find_merge_part(by_text, both, m->left_len + m->right_len, i, "result", what, &merged, err));
        ht_bpe_add(&t->bpe, (int32_t)left, (int32_t)right, i, (int32_t)merged);
        merges[i] = (struct ht_merge){t->vocab.tokens[left].text, t->vocab.tokens[right].text, m->left_len,
                                      m->right_len};
    }
    t->vocab.merges = merges;
    return HT_OK;
}

/* The added tokens with this value of normalized, as a table for matching. With a normalizer, the text that
 * is matched behind it is normalized too. */
static ht_status fill_added(struct ht_tokenizer *t, bool normalized, struct ht_added *added, ht_err *err) {
    size_t n = 0;
    for (uint32_t i = 0; i < t->vocab.n_tokens; i++) {
        const struct ht_token_text *x = &t->vocab.tokens[i];
        n += is_added(x->type) && x->normalized == normalized && x->len > 0;
    }
    struct ht_added_token *list = ht_mem_calloc(n, sizeof *list);
    ht_status status = list == NULL ? ht_fail_nomem(err, n * sizeof *list) : HT_OK;
    size_t k = 0;
    for (uint32_t i = 0; status == HT_OK && i < t->vocab.n_tokens; i++) {
        const struct ht_token_text *x = &t->vocab.tokens[i];
        if (!is_added(x->type) || x->normalized != normalized || x->len == 0) {
            continue;
        }
        const char *text = x->text;
        size_t len = x->len;
        if (normalized && t->nfc && !ht_nfc_is_plain(text, len)) {
            struct ht_buf nfc;
            ht_buf_init(&nfc, 0);
            status = ht_nfc(text, len, &nfc, err);
            text = status == HT_OK ? ht_arena_strndup(&t->arena, nfc.data, nfc.len) : NULL;
            len = nfc.len;
            ht_buf_deinit(&nfc);
            status = status == HT_OK && text == NULL ? ht_fail_nomem(err, len) : status;
        }
        list[k++] = (struct ht_added_token){
            text, len, (int32_t)i, x->type != HT_TOKEN_USER_DEFINED, x->lstrip, x->rstrip, x->single_word};
        if (status == HT_OK && !ht_map_put(&t->special, x->text, x->len, i, NULL)) {
            status = ht_fail_nomem(err, x->len);
        }
    }
    if (status != HT_OK) {
        ht_mem_free(list);
        return status;
    }
    ht_added_adopt(added, list, n);
    return HT_OK;
}

static ht_status check_id(const struct ht_vocab *v, int32_t id, const char *name, const char *what,
                          ht_err *err) {
    if (id >= -1 && (id < 0 || (uint32_t)id < v->n_tokens)) {
        return HT_OK;
    }
    return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "%s token id %d: expected 0 to %u, or -1 for none", name,
                   id, v->n_tokens - 1);
}

static ht_status check_ids(const struct ht_vocab *v, const char *what, ht_err *err) {
    if (v->n_tokens == 0 || v->n_tokens > HT_MAX_VOCAB) {
        return ht_fail(err, v->n_tokens ? HT_LIMIT : HT_FORMAT, what, HT_NO_POS,
                       "vocabulary of %u tokens: expected 1 to %u (HT_MAX_VOCAB)", v->n_tokens, HT_MAX_VOCAB);
    }
    if (v->n_merges > HT_MAX_ARRAY_ELEMS) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS, "%u merges, more than HT_MAX_ARRAY_ELEMS (%u)",
                       v->n_merges, HT_MAX_ARRAY_ELEMS);
    }
    HT_TRY(check_id(v, v->bos, "BOS", what, err));
    HT_TRY(check_id(v, v->eos, "EOS", what, err));
    HT_TRY(check_id(v, v->eot, "EOT", what, err));
    HT_TRY(check_id(v, v->unk, "unknown", what, err));
    HT_TRY(check_id(v, v->pad, "padding", what, err));
    for (uint32_t i = 0; i < v->n_ends; i++) {
        HT_TRY(check_id(v, v->ends[i], "end", what, err));
    }
    return HT_OK;
}

static void find_ends(struct ht_tokenizer *t) {
    for (size_t i = 0; i < sizeof end_markers / sizeof *end_markers; i++) {
        int32_t id = ht_tokenizer_special(t, end_markers[i]);
        if (id >= 0 && t->vocab.tokens[id].type == HT_TOKEN_CONTROL) {
            t->ends[t->n_ends++] = id;
        }
    }
}

ht_status ht_tokenizer_new(const struct ht_vocab *v, const char *what, struct ht_tokenizer **out,
                           ht_err *err) {
    *out = NULL;
    if (strcmp(v->model, "bpe") != 0) {
        return ht_fail(err, HT_UNSUPPORTED, what, HT_NO_POS, "tokenizer model '%.32s'; known: bpe", v->model);
    }
    const struct ht_pretokenizer *row;
    HT_TRY(ht_pretokenizer_require(v->pre, what, HT_UNSUPPORTED, &row, err));
    HT_TRY(check_ids(v, what, err));
    struct ht_tokenizer *t = ht_mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return ht_fail_nomem(err, sizeof *t);
    }
    struct ht_map by_text;
    ht_arena_init(&t->arena, 1u << 20);
    ht_map_init(&t->whole);
    ht_map_init(&t->special);
    ht_map_init(&by_text);
    t->nfc = row->nfc;
    ht_status status;
    HT_TRY_DONE(copy_strings(t, v, err));
    HT_TRY_DONE(copy_tokens(t, v, what, &by_text, err));
    HT_TRY_DONE(fill_bpe(t, v, what, &by_text, err));
    HT_TRY_DONE(fill_added(t, false, &t->added_raw, err));
    HT_TRY_DONE(fill_added(t, true, &t->added_normalized, err));
    HT_TRY_DONE(ht_splitter_new(row, &t->splitter, err));
    find_ends(t);
    *out = t;
    t = NULL;
done:
    ht_map_deinit(&by_text);
    ht_tokenizer_free(t);
    return status;
}

void ht_tokenizer_free(struct ht_tokenizer *t) {
    if (t != NULL) {
        ht_splitter_free(t->splitter);
        ht_added_deinit(&t->added_raw);
        ht_added_deinit(&t->added_normalized);
        ht_bpe_deinit(&t->bpe);
        ht_map_deinit(&t->whole);
        ht_map_deinit(&t->special);
        ht_arena_deinit(&t->arena);
        ht_mem_free(t);
    }
}

const struct ht_vocab *ht_tokenizer_vocab(const struct ht_tokenizer *t) {
    return &t->vocab;
}

/* ---- text to ids -------------------------------------------------------------------------------------- */

ht_status ht_ids_push(struct ht_ids *ids, int32_t id, ht_err *err) {
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 64;
        int32_t *bigger = ht_mem_realloc_array(ids->ids, cap, sizeof *bigger);
        if (bigger == NULL) {
            return ht_fail_nomem(err, cap * sizeof *bigger);
        }
        ids->ids = bigger;
        ids->cap = cap;
    }
    ids->ids[ids->n++] = id;
    return HT_OK;
}

struct encoding { /* one call */
    const struct ht_tokenizer *t;
    struct ht_ids *out;
    struct ht_bpe_scratch scratch;
    struct ht_split_run *split;
    bool special;
    uint64_t n_lost;
};

static ht_status encode_piece(void *user, const char *piece, size_t len, ht_err *err) {
    struct encoding *e = user;
    uint64_t id;
    if (e->t->vocab.ignore_merges && ht_map_get(&e->t->whole, piece, len, &id)) {
        return ht_ids_push(e->out, (int32_t)id, err);
    }
    return ht_bpe_encode(&e->t->bpe, &e->scratch, piece, len, e->out, &e->n_lost, err);
}

typedef ht_status between_fn(struct encoding *e, const char *text, size_t len, ht_err *err);

/* Added tokens of one table become ids; the text between them goes to between. Where a token took the white
 * space behind it along, a token within that space still counts (HF), and the text goes on behind it. */
static ht_status cut_added(struct encoding *e, const struct ht_added *added, const char *text, size_t len,
                           between_fn *between, ht_err *err) {
    size_t at = 0;
    struct ht_added_match m = {0};
    while (ht_added_find(added, text, len, m.resume, at, e->special, &m)) {
        if (m.begin > at) {
            HT_TRY(between(e, text + at, m.begin - at, err));
        }
        HT_TRY(ht_ids_push(e->out, m.id, err));
        at = m.end;
    }
    return at < len ? between(e, text + at, len - at, err) : HT_OK;
}

static ht_status encode_plain(struct encoding *e, const char *text, size_t len, ht_err *err) {
    return ht_split_run_text(e->split, text, len, encode_piece, e, err);
}

static ht_status encode_raw(struct encoding *e, const char *text, size_t len, ht_err *err) {
    if (!e->t->nfc || ht_nfc_is_plain(text, len)) {
        return cut_added(e, &e->t->added_normalized, text, len, encode_plain, err);
    }
    struct ht_buf nfc;
    ht_buf_init(&nfc, 0);
    ht_status status = ht_nfc(text, len, &nfc, err);
    if (status == HT_OK) {
        status = cut_added(e, &e->t->added_normalized, nfc.data, nfc.len, encode_plain, err);
    }
    ht_buf_deinit(&nfc);
    return status;
}

ht_status ht_tokenizer_encode(const struct ht_tokenizer *t, const char *text, size_t len, bool special,
                              struct ht_ids *out, uint64_t *n_invalid, ht_err *err) {
    struct encoding e = {.t = t, .out = out, .special = special};
    struct ht_buf repaired;
    size_t n_before = out->n;
    ht_buf_init(&repaired, 0);
    ht_status status = HT_OK;
    if (len > HT_MAX_TEXT_BYTES) {
        return ht_fail(err, HT_LIMIT, "text", HT_NO_POS, "%llu bytes, more than HT_MAX_TEXT_BYTES (%llu)",
                       (unsigned long long)len, HT_MAX_TEXT_BYTES);
    }
    if (ht_utf8_valid(text, len) < len) {
        e.n_lost = ht_utf8_repair(text, len, &repaired);
        if (!ht_buf_ok(&repaired)) {
            status = ht_fail_nomem(err, len);
            goto done;
        }
        text = repaired.data;
        len = repaired.len;
    }
    HT_TRY_DONE(ht_split_run_begin(t->splitter, &e.split, err));
    HT_TRY_DONE(cut_added(&e, &t->added_raw, text, len, encode_raw, err));
    if (n_invalid != NULL) {
        *n_invalid += e.n_lost;
    }
done:
    if (status != HT_OK) {
        out->n = n_before;
    }
    ht_split_run_end(e.split);
    ht_bpe_scratch_deinit(&e.scratch);
    ht_buf_deinit(&repaired);
    return status;
}

/* ---- ids to text -------------------------------------------------------------------------------------- */

ht_status ht_tokenizer_piece(const struct ht_tokenizer *t, int32_t id, bool special, const char **bytes,
                             size_t *len, ht_err *err) {
    if (id < 0 || (uint32_t)id >= t->vocab.n_tokens) {
        return ht_fail(err, HT_INVAL, "token id", HT_NO_POS, "id %d: expected 0 to %u", id,
                       t->vocab.n_tokens - 1);
    }
    enum ht_token_type type = t->vocab.tokens[id].type;
    bool hidden =
        (type == HT_TOKEN_CONTROL || type == HT_TOKEN_UNKNOWN || type == HT_TOKEN_UNUSED) && !special;
    *bytes = hidden ? "" : t->raw[id].bytes;
    *len = hidden ? 0 : t->raw[id].len;
    return HT_OK;
}

bool ht_tokenizer_is_end(const struct ht_tokenizer *t, int32_t id) {
    if (id < 0) {
        return false;
    }
    bool end = id == t->vocab.eos || id == t->vocab.eot;
    for (size_t i = 0; i < t->n_ends; i++) {
        end = end || id == t->ends[i];
    }
    for (uint32_t i = 0; i < t->vocab.n_ends; i++) {
        end = end || id == t->vocab.ends[i];
    }
    return end;
}

int32_t ht_tokenizer_special(const struct ht_tokenizer *t, const char *text) {
    uint64_t id;
    return ht_map_get_str(&t->special, text, &id) ? (int32_t)id : -1;
}
