/* The JSON files of a Hugging Face folder, made of what a GGUF file says. transformers builds its fast tokenizer
 * from tokenizer.json alone, so that file states everything: vocabulary, merges, split, special tokens. */
#include "flow/convert.h"

#include <stdio.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/mem.h"
#include "flow/checksums.h"
#include "model/model.h"
#include "token/pretokenizer.h"

static json_t *text_of(const struct ht_vocab *v, int32_t id) {
    return json_stringn(v->tokens[id].text, v->tokens[id].len);
}

/* {"type": "Split", "pattern": {"Regex": ...}} per pass, then the mapping of bytes to characters. */
static json_t *split_json(struct ht_doc *d, const struct ht_pretokenizer *pre) {
    json_t *sequence = json_object();
    ht_doc_set(d, sequence, "type", json_string("Sequence"));
    json_t *steps = ht_doc_array(d, sequence, "pretokenizers");
    for (const char *const *pass = pre->passes; *pass != NULL; pass++) {
        ht_doc_append(d, steps,
                      json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", *pass, "behavior",
                                "Isolated", "invert", 0));
    }
    ht_doc_append(d, steps,
                  json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                            "use_regex", 0));
    return sequence;
}

static bool is_added(const struct ht_token_text *t) {
    return t->type == HT_TOKEN_CONTROL || t->type == HT_TOKEN_USER_DEFINED || t->type == HT_TOKEN_UNKNOWN;
}

static json_t *added_token(struct ht_doc *d, const struct ht_vocab *v, uint32_t id) {
    const struct ht_token_text *t = &v->tokens[id];
    json_t *o = json_object();
    ht_doc_set(d, o, "id", json_integer(id));
    ht_doc_set(d, o, "content", json_stringn(t->text, t->len));
    ht_doc_set(d, o, "single_word", json_boolean(t->single_word));
    ht_doc_set(d, o, "lstrip", json_boolean(t->lstrip));
    ht_doc_set(d, o, "rstrip", json_boolean(t->rstrip));
    ht_doc_set(d, o, "normalized", json_boolean(t->normalized));
    ht_doc_set(d, o, "special", json_boolean(t->type != HT_TOKEN_USER_DEFINED));
    return o;
}

/* Every token stands in the vocabulary, added ones too, so that each keeps its id. Unused ids, which fill up
 * the embedding, stand nowhere: config.json's vocab_size covers them. */
static ht_status vocab_json(struct ht_doc *d, const struct ht_vocab *v, const char *what, json_t *model,
                            ht_err *err) {
    json_t *vocab = ht_doc_object(d, model, "vocab");
    size_t n = 0;
    for (uint32_t i = 0; i < v->n_tokens && !d->failed; i++) {
        const struct ht_token_text *t = &v->tokens[i];
        if (t->type == HT_TOKEN_UNUSED) {
            continue;
        }
        bool has_nul = memchr(t->text, '\0', t->len) != NULL;
        char *key = has_nul ? NULL : ht_mem_strndup(t->text, t->len);
        if (key == NULL && !has_nul) {
            return ht_fail_nomem(err, t->len);
        }
        bool fits = key != NULL && json_object_set_new(vocab, key, json_integer(i)) == 0;
        ht_mem_free(key);
        if (!fits || json_object_size(vocab) != ++n) {
            return ht_fail(err, HT_UNSUPPORTED, what, HT_NO_POS,
                           "token %u is not UTF-8 text or occurs twice; tokenizer.json cannot hold it", i);
        }
    }
    json_t *merges = ht_doc_array(d, model, "merges");
    for (uint32_t i = 0; i < v->n_merges && !d->failed; i++) {
        const struct ht_merge *m = &v->merges[i];
        json_t *pair = json_array();
        ht_doc_append(d, pair, json_stringn(m->left, m->left_len));
        ht_doc_append(d, pair, json_stringn(m->right, m->right_len));
        ht_doc_append(d, merges, pair);
    }
    return HT_OK;
}

/* Puts BOS and EOS around a text where the model wants them. */
static json_t *template_json(struct ht_doc *d, const struct ht_vocab *v) {
    bool bos = v->add_bos && v->bos >= 0, eos = v->add_eos && v->eos >= 0;
    if (!bos && !eos) {
        return json_null();
    }
    json_t *o = json_object();
    ht_doc_set(d, o, "type", json_string("TemplateProcessing"));
    json_t *single = ht_doc_array(d, o, "single"), *pair = ht_doc_array(d, o, "pair");
    json_t *specials = ht_doc_object(d, o, "special_tokens");
    const char *const sequences[] = {"A", "B"};
    for (int s = 0; s < 2; s++) {
        for (int part = 0; part < 3; part++) {
            int32_t id = part == 0 ? v->bos : v->eos;
            if ((part == 0 && !bos) || (part == 2 && !eos)) {
                continue;
            }
            json_t *piece = json_object();
            json_t *body = ht_doc_object(d, piece, part == 1 ? "Sequence" : "SpecialToken");
            ht_doc_set(d, body, "id", part == 1 ? json_string(sequences[s]) : text_of(v, id));
            ht_doc_set(d, body, "type_id", json_integer(s));
            if (s == 0) {
                ht_doc_append(d, single, json_deep_copy(piece));
            }
            ht_doc_append(d, pair, piece);
            if (part != 1) {
                char *name = ht_mem_strndup(v->tokens[id].text, v->tokens[id].len);
                json_t *entry = name != NULL ? ht_doc_object(d, specials, name) : NULL;
                ht_mem_free(name);
                ht_doc_set(d, entry, "id", text_of(v, id));
                ht_doc_append(d, ht_doc_array(d, entry, "ids"), json_integer(id));
                ht_doc_append(d, ht_doc_array(d, entry, "tokens"), text_of(v, id));
            }
        }
    }
    return o;
}

/* Hands the finished document's root over. */
static ht_status take(struct ht_doc *d, ht_status status, json_t **json, ht_err *err) {
    *json = NULL;
    if (status == HT_OK && d->failed) {
        status = ht_fail_nomem(err, 0);
    }
    if (status == HT_OK) {
        *json = d->root;
        d->root = NULL;
    }
    ht_doc_deinit(d);
    return status;
}

ht_status ht_convert_tokenizer_json(const struct ht_vocab *v, const char *what, json_t **json, ht_err *err) {
    const struct ht_pretokenizer *pre;
    HT_TRY(ht_pretokenizer_require(v->pre, what, HT_UNSUPPORTED, &pre, err));
    struct ht_doc d = {json_object(), false};
    ht_doc_set(&d, d.root, "version", json_string("1.0"));
    ht_doc_set(&d, d.root, "truncation", json_null());
    ht_doc_set(&d, d.root, "padding", json_null());
    json_t *added = ht_doc_array(&d, d.root, "added_tokens");
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        if (is_added(&v->tokens[i])) {
            ht_doc_append(&d, added, added_token(&d, v, i));
        }
    }
    bool nfc = pre->nfc != 0;
    ht_doc_set(&d, d.root, "normalizer", nfc ? json_pack("{s:s}", "type", "NFC") : json_null());
    ht_doc_set(&d, d.root, "pre_tokenizer", split_json(&d, pre));
    ht_doc_set(&d, d.root, "post_processor", template_json(&d, v));
    ht_doc_set(&d, d.root, "decoder",
               json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1,
                         "use_regex", 0));
    json_t *model = ht_doc_object(&d, d.root, "model");
    static const char *const nulls[] = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"};
    ht_doc_set(&d, model, "type", json_string("BPE"));
    for (size_t i = 0; i < sizeof nulls / sizeof nulls[0]; i++) {
        bool unk = i == 1 && v->unk_for_bytes && v->unk >= 0;
        ht_doc_set(&d, model, nulls[i], unk ? text_of(v, v->unk) : json_null());
    }
    ht_doc_set(&d, model, "fuse_unk", json_false());
    ht_doc_set(&d, model, "byte_fallback", json_false());
    ht_doc_set(&d, model, "ignore_merges", json_boolean(v->ignore_merges));
    return take(&d, vocab_json(&d, v, what, model, err), json, err);
}

ht_status ht_convert_tokenizer_config(const struct ht_vocab *v, uint32_t context, json_t **json, ht_err *err) {
    const struct {
        const char *key;
        int32_t id;
    } specials[] = {
        {"bos_token", v->bos}, {"eos_token", v->eos}, {"unk_token", v->unk}, {"pad_token", v->pad},
    };
    struct ht_doc d = {json_object(), false};
    json_t *added = ht_doc_object(&d, d.root, "added_tokens_decoder");
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        if (is_added(&v->tokens[i])) {
            char key[16];
            snprintf(key, sizeof key, "%u", i);
            json_t *token = added_token(&d, v, i);
            json_object_del(token, "id");
            ht_doc_set(&d, added, key, token);
        }
    }
    ht_doc_set(&d, d.root, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    ht_doc_set(&d, d.root, "clean_up_tokenization_spaces", json_false());
    ht_doc_set(&d, d.root, "model_max_length", json_integer(context));
    ht_doc_set(&d, d.root, "add_bos_token", json_boolean(v->add_bos));
    ht_doc_set(&d, d.root, "add_eos_token", json_boolean(v->add_eos));
    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        if (specials[i].id >= 0) {
            ht_doc_set(&d, d.root, specials[i].key, text_of(v, specials[i].id));
        }
    }
    if (v->chat_template != NULL) {
        ht_doc_set(&d, d.root, "chat_template", json_string(v->chat_template));
    }
    return take(&d, HT_OK, json, err);
}

/* ---- config.json and generation_config.json ---------------------------------------------------------- */

/* One id, or a list when more than one token ends a text. */
static json_t *end_ids(struct ht_doc *d, const struct ht_vocab *v) {
    json_t *ids = json_array();
    if (v->eos >= 0) {
        ht_doc_append(d, ids, json_integer(v->eos));
    }
    if (v->eot >= 0 && v->eot != v->eos) {
        ht_doc_append(d, ids, json_integer(v->eot));
    }
    for (uint32_t i = 0; i < v->n_ends; i++) {
        if (v->ends[i] != v->eos && v->ends[i] != v->eot) {
            ht_doc_append(d, ids, json_integer(v->ends[i]));
        }
    }
    if (json_array_size(ids) == 1) {
        json_decref(ids);
        return json_integer(v->eos >= 0 ? v->eos : v->eot);
    }
    return ids;
}

static void set_ids(struct ht_doc *d, json_t *object, const struct ht_vocab *v) {
    if (v->bos >= 0) {
        ht_doc_set(d, object, "bos_token_id", json_integer(v->bos));
    }
    if (v->eos >= 0 || v->eot >= 0) {
        ht_doc_set(d, object, "eos_token_id", end_ids(d, v));
    }
    if (v->pad >= 0) {
        ht_doc_set(d, object, "pad_token_id", json_integer(v->pad));
    }
}

static const char *torch_name(const struct ht_format *f) {
    static const struct {
        const char *format, *torch;
    } names[] = {{"f32", "float32"}, {"f16", "float16"}, {"bf16", "bfloat16"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(f->name, names[i].format) == 0) {
            return names[i].torch;
        }
    }
    return "float32";
}

static void set_dtype(struct ht_doc *d, json_t *config, const struct ht_format *dtype) {
    ht_doc_set(d, config, "dtype", json_string(torch_name(dtype))); /* transformers 5; older: torch_dtype */
    ht_doc_set(d, config, "torch_dtype", json_string(torch_name(dtype)));
}

/* A folder of our own says what its weights are made of; any other holds plain ones, whatever it was made from. */
static ht_status set_quantization(struct ht_doc *d, json_t *config, const struct ht_flow_plan *p, ht_err *err) {
    json_object_del(config, "quantization_config");
    if (p->target != HT_TARGET_HALFTONE) {
        return HT_OK;
    }
    json_t *weights;
    HT_TRY(ht_flow_plan_entries(p, &weights, err));
    json_t *q = ht_doc_object(d, config, "quantization_config");
    ht_doc_set(d, q, "quant_method", json_string(HT_HALFTONE_METHOD));
    ht_doc_set(d, q, "version", json_integer(HT_HALFTONE_VERSION));
    if (p->kv.scheme.format != NULL) {
        char text[HT_KV_TEXT];
        ht_doc_set(d, q, "kv_cache", json_string(ht_kv_text(&p->kv, text)));
    }
    ht_doc_set(d, q, "weights", weights);
    return HT_OK;
}

/* ---- the files of the folder ------------------------------------------------------------------------- */

static ht_status add_file(struct ht_side_files *files, const char *name, struct ht_buf *text, ht_err *err) {
    size_t len = text->len;
    char *data = ht_buf_ok(text) ? ht_buf_take(text) : NULL;
    ht_buf_deinit(text);
    if (data == NULL) {
        return ht_fail_nomem(err, len);
    }
    files->rows[files->n++] = (struct ht_side_file){name, data, len};
    return HT_OK;
}

static ht_status add_json(struct ht_side_files *files, const char *name, const json_t *json, ht_err *err) {
    struct ht_buf buf;
    ht_buf_init(&buf, 0);
    ht_status status = ht_doc_dump(json, 2, &buf, err);
    if (status != HT_OK) {
        ht_buf_deinit(&buf);
        return status;
    }
    ht_buf_putc(&buf, '\n');
    return add_file(files, name, &buf, err);
}

static ht_status make_files(const struct ht_flow_plan *p, const struct ht_format *dtype, struct ht_side_files *files,
                            ht_err *err) {
    struct ht_tokenizer *tokenizer = NULL;
    struct ht_doc d = {json_object(), false};
    json_t *config = NULL, *tokens = NULL, *tokens_config = NULL;
    const char *what = p->source->path;
    ht_status status;
    HT_TRY_DONE(ht_model_tokenizer(p->source, NULL, &tokenizer, err));
    const struct ht_vocab *v = ht_tokenizer_vocab(tokenizer);
    HT_TRY_DONE(ht_arch_config_from_hparams(p->arch, &p->hp, &config, err));
    set_ids(&d, config, v);
    set_dtype(&d, config, dtype);
    HT_TRY_DONE(set_quantization(&d, config, p, err));
    set_ids(&d, d.root, v);
    HT_TRY_DONE(ht_convert_tokenizer_json(v, what, &tokens, err));
    HT_TRY_DONE(ht_convert_tokenizer_config(v, p->hp.context, &tokens_config, err));
    const struct ht_meta_kv *prefix = ht_meta_find(&p->source->meta, "tokenizer.ggml.add_space_prefix");
    if (prefix != NULL && prefix->type == HT_META_BOOL) {
        ht_doc_set(&d, tokens_config, "add_prefix_space", json_boolean(prefix->v.u != 0));
    }
    if (d.failed) {
        status = ht_fail_nomem(err, 0);
        goto done;
    }
    HT_TRY_DONE(add_json(files, "generation_config.json", d.root, err));
    HT_TRY_DONE(add_json(files, "tokenizer.json", tokens, err));
    HT_TRY_DONE(add_json(files, "tokenizer_config.json", tokens_config, err));
    HT_TRY_DONE(add_json(files, "config.json", config, err));
done:
    json_decref(config);
    json_decref(tokens);
    json_decref(tokens_config);
    ht_doc_deinit(&d);
    ht_tokenizer_free(tokenizer);
    return status;
}

static ht_status read_side_file(const char *folder, const char *name, struct ht_side_files *files, ht_err *err) {
    char *path = ht_path_join(folder, name), *data = NULL;
    size_t len = 0;
    ht_status status = path == NULL ? ht_fail_nomem(err, strlen(folder)) : HT_OK;
    if (status == HT_OK && ht_path_exists(path)) {
        status = ht_read_file(path, HT_MAX_JSON_BYTES, &data, &len, err);
        if (status == HT_OK) {
            files->rows[files->n++] = (struct ht_side_file){name, data, len};
        }
    }
    ht_mem_free(path);
    return status;
}

/* Between two folders only the numbers' type changes. */
static ht_status copy_files(const struct ht_flow_plan *p, const struct ht_format *dtype, struct ht_side_files *files,
                            ht_err *err) {
    static const char *const names[HT_SIDE_FILES - 1] = {
        "generation_config.json",  "tokenizer.json",   "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json",       "chat_template.jinja", "vocab.json",         "merges.txt"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        HT_TRY(read_side_file(p->source->path, names[i], files, err));
    }
    struct ht_doc d = {json_deep_copy(p->source->config), false};
    set_dtype(&d, d.root, dtype);
    if (p->untied) {
        ht_doc_set(&d, d.root, "tie_word_embeddings", json_false());
    }
    ht_status status = set_quantization(&d, d.root, p, err);
    if (status == HT_OK) {
        status = d.root == NULL || d.failed ? ht_fail_nomem(err, 0) : add_json(files, "config.json", d.root, err);
    }
    ht_doc_deinit(&d);
    return status;
}

ht_status ht_side_files_make(const struct ht_flow_plan *plan, const struct ht_format *dtype,
                             struct ht_side_files *files, ht_err *err) {
    files->n = 0;
    return plan->from_gguf ? make_files(plan, dtype, files, err) : copy_files(plan, dtype, files, err);
}

static ht_status refuse_existing(const char *folder, const char *name, ht_err *err) {
    char *path = ht_path_join(folder, name);
    if (path == NULL) {
        return ht_fail_nomem(err, strlen(folder));
    }
    ht_status status = HT_OK;
    if (ht_path_exists(path)) {
        status = ht_fail(err, HT_EXISTS, path, HT_NO_POS, "the file exists already; --force replaces it");
    }
    ht_mem_free(path);
    return status;
}

ht_status ht_side_files_check(const struct ht_side_files *files, const char *folder, ht_err *err) {
    for (size_t i = 0; i < files->n; i++) {
        HT_TRY(refuse_existing(folder, files->rows[i].name, err));
    }
    return refuse_existing(folder, HT_CHECKSUMS_FILE, err);
}

static ht_status write_one(const struct ht_side_file *file, const char *folder, bool overwrite, ht_err *err) {
    char *path = ht_path_join(folder, file->name);
    ht_status status = path == NULL ? ht_fail_nomem(err, strlen(folder))
                                    : ht_write_file(path, file->data, file->len, overwrite, err);
    ht_mem_free(path);
    return status;
}

ht_status ht_side_files_write(const struct ht_side_files *files, const char *folder, bool overwrite,
                              struct ht_doc *sums, ht_err *err) {
    for (size_t i = 0; i < files->n; i++) {
        const struct ht_side_file *f = &files->rows[i];
        ht_sums_add_file(sums, f->name, f->len, f->len, ht_hash_xxh3(f->data, f->len));
        if (i + 1 == files->n) { /* config.json: without it the folder is no model */
            HT_TRY(ht_sums_write(sums, folder, overwrite, err));
        }
        HT_TRY(write_one(f, folder, overwrite, err));
    }
    return HT_OK;
}

void ht_side_files_deinit(struct ht_side_files *files) {
    for (size_t i = 0; i < files->n; i++) {
        ht_mem_free(files->rows[i].data);
    }
    files->n = 0;
}
