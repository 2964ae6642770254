#include "token/hf_vocab.h"

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

/* ---- special tokens by name, in the order of trust ---------------------------------------------------- */

enum { N_KINDS = 5 };

static const char *const kind_keys[N_KINDS] = {"bos_token", "eos_token", "unk_token", "pad_token",
                                               "eot_token"};
static const char *const kind_id_keys[N_KINDS] = {"bos_token_id", "eos_token_id", "unk_token_id",
                                                  "pad_token_id", "eot_token_id"};

static int32_t *kind_id(struct ht_hf_vocab *hf, size_t kind) {
    int32_t *ids[N_KINDS] = {&hf->view.bos, &hf->view.eos, &hf->view.unk, &hf->view.pad, &hf->view.eot};
    return ids[kind];
}

/* "bos_token": "<s>" or {"content": "<s>", ...} or null. A text that is no token names none: transformers
 * would add it to the vocabulary, the model has no row for it. */
static ht_status read_names(struct ht_hf_vocab *hf, const json_t *config, const char *what, ht_err *err) {
    for (size_t k = 0; k < N_KINDS; k++) {
        const json_t *v = json_object_get(config, kind_keys[k]);
        const json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
        if (v == NULL || json_is_null(v)) {
            continue;
        }
        if (!json_is_string(text)) {
            return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                           "%s: expected a string or an object with \"content\"", kind_keys[k]);
        }
        int32_t *id = kind_id(hf, k);
        if (*id < 0) {
            *id = ht_hf_find(hf, json_string_value(text), json_string_length(text));
        }
    }
    return HT_OK;
}

static ht_status check_id(const struct ht_hf_vocab *hf, const json_t *v, const char *key, const char *what,
                          int32_t *id, ht_err *err) {
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < -1 || n >= (json_int_t)hf->view.n_tokens) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "%s: expected an id from 0 to %u, or -1 for none",
                       key, hf->view.n_tokens - 1);
    }
    *id = (int32_t)n;
    return HT_OK;
}

/* A list of EOS ids: the first one is EOS unless it is known already; all of them end a text. */
static ht_status read_id_list(struct ht_hf_vocab *hf, const json_t *list, size_t kind, const char *what,
                              ht_err *err) {
    size_t n = json_array_size(list);
    if (n > HT_MAX_END_TOKENS) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS, "%s: %llu ids, more than HT_MAX_END_TOKENS (%u)",
                       kind_id_keys[kind], (unsigned long long)n, HT_MAX_END_TOKENS);
    }
    int32_t *ids = ht_arena_calloc(&hf->arena, n + hf->view.n_ends, sizeof *ids);
    if (ids == NULL) {
        return ht_fail_nomem(err, n * sizeof *ids);
    }
    uint32_t k = 0;
    for (; k < hf->view.n_ends; k++) {
        ids[k] = hf->view.ends[k];
    }
    for (size_t i = 0; i < n; i++) {
        HT_TRY(check_id(hf, json_array_get(list, i), kind_id_keys[kind], what, &ids[k], err));
        k += ids[k] >= 0;
    }
    if (k > hf->view.n_ends && hf->view.eos < 0) {
        hf->view.eos = ids[hf->view.n_ends];
    }
    hf->view.ends = ids;
    hf->view.n_ends = k;
    return HT_OK;
}

static ht_status read_ids(struct ht_hf_vocab *hf, const json_t *config, const char *what, ht_err *err) {
    for (size_t k = 0; k < N_KINDS; k++) {
        const json_t *v = json_object_get(config, kind_id_keys[k]);
        if (v == NULL || json_is_null(v)) {
            continue;
        }
        if (json_is_array(v) && strcmp(kind_id_keys[k], "eos_token_id") == 0) {
            HT_TRY(read_id_list(hf, v, k, what, err));
            continue;
        }
        int32_t id = -1;
        HT_TRY(check_id(hf, v, kind_id_keys[k], what, &id, err));
        int32_t *known = kind_id(hf, k);
        *known = *known < 0 ? id : *known;
    }
    return HT_OK;
}

/* ---- whether BOS and EOS are added -------------------------------------------------------------------- */

/* TemplateProcessing: {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}], "special_tokens":
 * ...}. A leading special token is BOS, a trailing one EOS, also where no file names them. */
static void read_template(struct ht_hf_vocab *hf, const json_t *processor) {
    const json_t *single = json_object_get(processor, "single");
    size_t n = json_array_size(single);
    for (size_t side = 0; side < 2 && n > 1; side++) {
        const json_t *entry = json_array_get(single, side == 0 ? 0 : n - 1);
        const json_t *text = json_object_get(json_object_get(entry, "SpecialToken"), "id");
        int32_t id =
            json_is_string(text) ? ht_hf_find(hf, json_string_value(text), json_string_length(text)) : -1;
        if (id >= 0) {
            int32_t *known = side == 0 ? &hf->view.bos : &hf->view.eos;
            *known = *known < 0 ? id : *known;
            *(side == 0 ? &hf->view.add_bos : &hf->view.add_eos) = *known == id;
        }
    }
}

static void read_post_processor(struct ht_hf_vocab *hf, const json_t *processor) {
    const char *type = json_string_value(json_object_get(processor, "type"));
    if (type != NULL && strcmp(type, "Sequence") == 0) {
        const json_t *steps = json_object_get(processor, "processors");
        for (size_t i = 0; i < json_array_size(steps); i++) {
            const json_t *step = json_array_get(steps, i);
            const char *inner = json_string_value(json_object_get(step, "type"));
            if (inner != NULL && strcmp(inner, "TemplateProcessing") == 0) {
                read_template(hf, step);
            }
        }
    } else if (type != NULL && strcmp(type, "TemplateProcessing") == 0) {
        read_template(hf, processor);
    }
}

/* ---- chat template ------------------------------------------------------------------------------------ */

static ht_status take_template(struct ht_hf_vocab *hf, const char *text, size_t len, const char *what,
                               ht_err *err) {
    if (len > HT_MAX_TEMPLATE_BYTES) {
        return ht_fail(err, HT_LIMIT, what, HT_NO_POS,
                       "chat template of %llu bytes, more than HT_MAX_TEMPLATE_BYTES (%u)",
                       (unsigned long long)len, HT_MAX_TEMPLATE_BYTES);
    }
    if (memchr(text, '\0', len) != NULL) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "the chat template contains a NUL character");
    }
    hf->view.chat_template = ht_arena_strndup(&hf->arena, text, len);
    return hf->view.chat_template != NULL ? HT_OK : ht_fail_nomem(err, len);
}

/* A string, or a list of {"name", "template"}: the one named "default", else the first. */
static ht_status read_chat_template(struct ht_hf_vocab *hf, const json_t *config, const char *what,
                                    ht_err *err) {
    const json_t *v = json_object_get(config, "chat_template");
    if (v == NULL || json_is_null(v)) {
        return HT_OK;
    }
    const json_t *text = v;
    if (json_is_array(v)) {
        text = json_object_get(json_array_get(v, 0), "template");
        for (size_t i = 0; i < json_array_size(v); i++) {
            const char *name = json_string_value(json_object_get(json_array_get(v, i), "name"));
            if (name != NULL && strcmp(name, "default") == 0) {
                text = json_object_get(json_array_get(v, i), "template");
            }
        }
        if (json_array_size(v) == 0) {
            return HT_OK;
        }
    }
    if (!json_is_string(text)) {
        return ht_fail(
            err, HT_FORMAT, what, HT_NO_POS,
            "chat_template: expected a string or a list of objects with \"name\" and \"template\"");
    }
    return take_template(hf, json_string_value(text), json_string_length(text), what, err);
}

static ht_status read_jinja(struct ht_hf_vocab *hf, const char *path, ht_err *err) {
    char *text;
    size_t len;
    HT_TRY(ht_read_file(path, HT_MAX_TEMPLATE_BYTES, &text, &len, err));
    ht_status status = take_template(hf, text, len, path, err);
    ht_mem_free(text);
    return status;
}

/* ---- the files beside tokenizer.json ------------------------------------------------------------------ */

static ht_status read_tokenizer_config(struct ht_hf_vocab *hf, const json_t *config, const char *what,
                                       ht_err *err) {
    HT_TRY(ht_json_get_bool(config, "add_bos_token", what, &hf->view.add_bos, err));
    HT_TRY(ht_json_get_bool(config, "add_eos_token", what, &hf->view.add_eos, err));
    HT_TRY(read_names(hf, config, what, err));
    return read_chat_template(hf, config, what, err);
}

typedef ht_status read_fn(struct ht_hf_vocab *hf, const json_t *config, const char *what, ht_err *err);

static ht_status read_file(struct ht_hf_vocab *hf, const char *folder, const char *name, read_fn *read,
                           ht_err *err) {
    char *path = ht_path_join(folder, name);
    if (path == NULL) {
        return ht_fail_nomem(err, strlen(folder));
    }
    json_t *root = NULL;
    ht_status status = HT_OK;
    if (ht_path_exists(path)) {
        if (read == NULL) {
            status = read_jinja(hf, path, err);
        } else {
            status = ht_json_load_file(path, HT_MAX_JSON_BYTES, &root, err);
            if (status == HT_OK && !json_is_object(root)) {
                status = ht_fail(err, HT_FORMAT, path, 0, "expected a JSON object");
            }
            status = status == HT_OK ? read(hf, root, path, err) : status;
        }
    }
    json_decref(root);
    ht_mem_free(path);
    return status;
}

ht_status ht_hf_load_special(struct ht_hf_vocab *hf, const char *folder, const json_t *post_processor,
                             ht_err *err) {
    /* The names first, since the post-processor is read against them; then it, then what overrules it. */
    HT_TRY(read_file(hf, folder, "tokenizer_config.json", read_names, err));
    HT_TRY(read_file(hf, folder, "special_tokens_map.json", read_names, err));
    read_post_processor(hf, post_processor);
    HT_TRY(read_file(hf, folder, "tokenizer_config.json", read_tokenizer_config, err));
    if (hf->view.chat_template == NULL) {
        HT_TRY(read_file(hf, folder, "chat_template.jinja", NULL, err));
    }
    if (hf->view.chat_template == NULL) {
        HT_TRY(read_file(hf, folder, "chat_template.json", read_chat_template, err));
    }
    HT_TRY(read_file(hf, folder, "generation_config.json", read_ids, err));
    return read_file(hf, folder, "config.json", read_ids, err);
}
