/* Sources of calibration data by what their names end in, and their documents as windows. */
#include <stdio.h>
#include <strings.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "calib/data_impl.h"

/* ---- windows
 * ----------------------------------------------------------------------------------------------- */

ht_status ht_data_window(struct ht_data *d, struct ht_data_source *s, const int32_t *ids, bool *full,
                         ht_err *err) {
    uint32_t window = d->o->window;
    enum ht_drop why;
    *full = false;
    HT_TRY(ht_data_filter(d, ids, &why, err));
    s->windows++;
    if (why != HT_KEPT) {
        s->first_overlap = why == HT_DROP_OVERLAP && s->dropped[why] == 0 ? s->windows - 1 : s->first_overlap;
        s->dropped[why]++;
        return HT_OK;
    }
    if (s->n == s->cap) {
        uint64_t cap = s->cap ? 2 * s->cap : 64;
        int32_t *grown = ht_mem_realloc_array(s->ids, cap * window, sizeof *grown);
        if (grown == NULL) {
            return ht_fail_nomem(err, cap * window * sizeof *grown);
        }
        s->ids = grown;
        s->cap = cap;
    }
    memcpy(s->ids + s->n++ * window, ids, window * sizeof *ids);
    *full = s->n >= d->most;
    return HT_OK;
}

/* Whole windows from the front of ids, which lose them. */
static ht_status cut(struct ht_data *d, struct ht_data_source *s, struct ht_ids *ids, bool *full,
                     ht_err *err) {
    uint32_t window = d->o->window;
    size_t at = 0;
    int32_t *one = ht_mem_alloc_array(window, sizeof *one);
    ht_status status = one != NULL ? HT_OK : ht_fail_nomem(err, window * sizeof *one);
    *full = false;
    for (; status == HT_OK && !*full && ids->n - at >= window; at += window) {
        ht_calib_window(d->model, ids->ids + at, window, one);
        status = ht_data_window(d, s, one, full, err);
    }
    ht_mem_free(one);
    ids->n -= at;
    memmove(ids->ids, ids->ids + at, ids->n * sizeof *ids->ids);
    return status;
}

/* ---- plain text
 * -------------------------------------------------------------------------------------------- */

static ht_status read_text(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map,
                           ht_err *err) {
    struct ht_ids ids = {0};
    bool full;
    HT_TRY(ht_data_check_text(map, s->path, err));
    size_t len = (size_t)map->size - (map->data[map->size - 1] == '\n');
    const struct ht_calib_text text = {.data = (char *)(uintptr_t)map->data, .len = len};
    ht_status status = ht_calib_text_ids(d->model, &text, &ids, &s->invalid, err);
    s->documents = 1;
    s->tokens = ids.n;
    status = status == HT_OK ? cut(d, s, &ids, &full, err) : status;
    s->stopped = status == HT_OK && full && ids.n >= d->o->window;
    s->rest = ids.n % d->o->window;
    ht_mem_free(ids.ids);
    return status;
}

/* ---- JSONL
 * ------------------------------------------------------------------------------------------------- */

/* The parser counts lines of its own, from 1: the file's line takes their place. */
static ht_status at_line(const ht_err *inner, const char *what, uint64_t offset, uint64_t line, ht_err *err) {
    static const char one[] = "not valid JSON, line 1: ";
    const char *msg = inner->msg;
    bool syntax = strncmp(msg, one, sizeof one - 1) == 0;
    return ht_fail(err, inner->code, what, offset, "line %llu: %s%s", (unsigned long long)line,
                   syntax ? "not valid JSON: " : "", syntax ? msg + sizeof one - 1 : msg);
}

ht_status ht_jsonl_each(const char *data, size_t len, const char *what, ht_jsonl_fn *fn, void *user,
                        ht_err *err) {
    uint64_t line = 0;
    bool stop = false;
    for (size_t at = 0; at < len && !stop;) {
        const char *s = data + at, *end = memchr(s, '\n', len - at);
        size_t n = end != NULL ? (size_t)(end - s) : len - at;
        size_t used = n;
        at += n + 1;
        line++;
        while (used > 0 && (s[used - 1] == '\r' || s[used - 1] == ' ' || s[used - 1] == '\t')) {
            used--;
        }
        if (used == 0) {
            continue;
        }
        if (used > HT_MAX_STRING_BYTES) {
            return ht_fail(err, HT_LIMIT, what, at - n - 1,
                           "line %llu has %zu bytes, at most %u (HT_MAX_STRING_BYTES)",
                           (unsigned long long)line, used, HT_MAX_STRING_BYTES);
        }
        json_t *row;
        ht_err inner = {0};
        bool array = s[0] == '[' || s[0] == '{';
        if (!array) { /* a bare string: the parser wants a container around it */
            struct ht_buf boxed;
            ht_buf_init(&boxed, 0);
            ht_buf_putc(&boxed, '[');
            ht_buf_append(&boxed, s, used);
            ht_buf_putc(&boxed, ']');
            ht_status status = ht_buf_ok(&boxed) ? ht_json_parse(boxed.data, boxed.len, 0, what, &row, &inner)
                                                 : ht_fail_nomem(&inner, used);
            ht_buf_deinit(&boxed);
            if (status != HT_OK) {
                return at_line(&inner, what, at - n - 1, line, err);
            }
            json_t *only = json_array_size(row) == 1 ? json_incref(json_array_get(row, 0)) : json_null();
            json_decref(row);
            row = only;
        } else if (ht_json_parse(s, used, 0, what, &row, &inner) != HT_OK) {
            return at_line(&inner, what, at - n - 1, line, err);
        }
        ht_status status = fn(user, row, line, &stop, &inner);
        json_decref(row);
        if (status != HT_OK) {
            return at_line(&inner, what, at - n - 1, line, err);
        }
    }
    return HT_OK;
}

struct rows {
    struct ht_data *d;
    struct ht_data_source *s;
    struct ht_ids ids; /* of no window yet */
    struct ht_ids one; /* of the row */
    uint64_t unread;
};

static ht_status encode(struct rows *r, const char *text, size_t len, ht_err *err) {
    return ht_tokenizer_encode(r->d->model->tokenizer, text, len, false, &r->one, &r->s->invalid, err);
}

static ht_status row_ids(struct rows *r, const json_t *list, ht_err *err) {
    size_t i;
    json_t *v;
    uint32_t vocab = r->d->model->hp.vocab;
    json_array_foreach(list, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= (json_int_t)vocab) {
            return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "token %zu: expected an id from 0 to %u", i,
                           vocab - 1);
        }
        HT_TRY(ht_ids_push(&r->one, (int32_t)json_integer_value(v), err));
    }
    return HT_OK;
}

/* What comes before the assistant's last words is a prompt; then these, as the model itself would write them.
 */
static ht_status encode_chat(struct rows *r, const ht_message *m, size_t n, ht_err *err) {
    struct ht_data *d = r->d;
    const struct ht_tokenizer *t = d->model->tokenizer;
    if (!d->has_chat) {
        HT_TRY(
            ht_chat_resolve(NULL, ht_tokenizer_vocab(t)->chat_template, &d->chat, &d->default_system, err));
        d->has_chat = true;
    }
    bool answered = n > 1 && strcmp(m[n - 1].role, "assistant") == 0;
    HT_TRY(ht_chat_encode(t, &d->chat, m, answered ? n - 1 : n, &r->one, &r->s->invalid, err));
    if (!answered) {
        return HT_OK;
    }
    int32_t end = ht_tokenizer_special(t, d->chat.end_token);
    HT_TRY(encode(r, m[n - 1].content, strlen(m[n - 1].content), err));
    return end >= 0 ? ht_ids_push(&r->one, end, err) : HT_OK;
}

static ht_status row_chat(struct rows *r, const json_t *list, ht_err *err) {
    size_t n = json_array_size(list), i;
    json_t *v;
    ht_message *m = ht_mem_calloc(n, sizeof *m);
    ht_status status = m != NULL ? HT_OK : ht_fail_nomem(err, n * sizeof *m);
    if (status == HT_OK && n == 0) {
        status = ht_fail(err, HT_FORMAT, NULL, HT_NO_POS, "\"messages\" is empty");
    }
    json_array_foreach(list, i, v) {
        const json_t *content = json_object_get(v, "content");
        if (status == HT_OK) {
            m[i] = (ht_message){json_string_value(json_object_get(v, "role")), json_string_value(content)};
            if (m[i].role == NULL || m[i].content == NULL ||
                strlen(m[i].content) != json_string_length(content)) {
                status = ht_fail(err, HT_FORMAT, NULL, HT_NO_POS,
                                 "message %zu: expected {\"role\": TEXT, \"content\": TEXT}", i);
            }
        }
    }
    status = status == HT_OK ? encode_chat(r, m, n, err) : status;
    ht_mem_free(m);
    return status;
}

static ht_status encode_row(struct rows *r, const json_t *row, bool *is_ids, ht_err *err) {
    const json_t *text = json_is_string(row) ? row : json_object_get(row, "text");
    const json_t *chat = json_object_get(row, "messages"), *ids = json_object_get(row, "input_ids");
    const struct ht_vocab *vocab = ht_tokenizer_vocab(r->d->model->tokenizer);
    ids = ids != NULL ? ids : json_is_array(row) ? row : json_object_get(row, "tokens");
    *is_ids = false;
    if (json_is_string(text)) {
        HT_TRY(encode(r, json_string_value(text), json_string_length(text), err));
    } else if (json_is_array(chat)) {
        HT_TRY(row_chat(r, chat, err));
    } else if (json_is_array(ids)) {
        *is_ids = true;
        return row_ids(r, ids, err);
    } else {
        return ht_fail(err, HT_FORMAT, NULL, HT_NO_POS,
                       "expected {\"text\": TEXT}, {\"messages\": [...]} or {\"input_ids\": [...]}");
    }
    return vocab->eos >= 0 && (r->one.n == 0 || r->one.ids[r->one.n - 1] != vocab->eos)
               ? ht_ids_push(&r->one, vocab->eos, err)
               : HT_OK;
}

/* Rows are packed one behind the other, each closed by the end token, as in pretraining. */
static ht_status on_row(void *user, const json_t *row, uint64_t line, bool *stop, ht_err *err) {
    struct rows *r = user;
    const struct ht_vocab *vocab = ht_tokenizer_vocab(r->d->model->tokenizer);
    bool is_ids;
    (void)line;
    r->one.n = 0;
    HT_TRY(encode_row(r, row, &is_ids, err));
    r->s->documents++;
    if (r->one.n < HT_SHORT_TOKENS && !r->d->o->no_filters) {
        r->s->dropped[HT_DROP_SHORT]++;
        return HT_OK;
    }
    if (r->s->tokens == 0 && !is_ids && vocab->add_bos && vocab->bos >= 0) {
        HT_TRY(ht_ids_push(&r->ids, vocab->bos, err));
        r->s->tokens++;
    }
    for (size_t i = 0; i < r->one.n; i++) {
        HT_TRY(ht_ids_push(&r->ids, r->one.ids[i], err));
    }
    r->s->tokens += r->one.n;
    HT_TRY(cut(r->d, r->s, &r->ids, stop, err));
    r->s->stopped = *stop;
    return HT_OK;
}

static ht_status read_jsonl(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map,
                            ht_err *err) {
    struct rows r = {.d = d, .s = s};
    if (map->size == 0) {
        return ht_fail(err, HT_INVAL, s->path, HT_NO_POS, "the file is empty; give rows of JSON");
    }
    ht_status status = ht_jsonl_each((const char *)map->data, (size_t)map->size, s->path, on_row, &r, err);
    s->rest = r.ids.n;
    ht_mem_free(r.ids.ids);
    ht_mem_free(r.one.ids);
    return status;
}

/* ---- which
 * ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *suffix, *kind;
    ht_status (*read)(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map, ht_err *err);
} kinds[] = {
    /* the last one takes every name */
    {".jsonl", "jsonl", read_jsonl},   {".ndjson", "jsonl", read_jsonl},
    {".npy", "npy", ht_data_read_npy}, {".safetensors", "safetensors", ht_data_read_safetensors},
    {"", "text", read_text},
};

static bool ends_in(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcasecmp(s + n - m, suffix) == 0;
}

ht_status ht_data_read(struct ht_data *d, struct ht_data_source *s, ht_err *err) {
    struct ht_mapping map;
    size_t i = 0;
    if (strcmp(s->path, HT_CALIB_SELF) == 0) {
        s->kind = HT_CALIB_SELF;
        HT_TRY(ht_data_write_self(d, s, err));
        return ht_data_hash(s->ids, s->n * d->o->window * sizeof *s->ids, s->sha256, err);
    }
    while (!ends_in(s->path, kinds[i].suffix)) {
        i++;
    }
    s->kind = kinds[i].kind;
    HT_TRY(ht_map_file(s->path, &map, err));
    s->bytes = map.size;
    ht_status status = ht_data_hash(map.data, map.size, s->sha256, err);
    status = status == HT_OK ? kinds[i].read(d, s, &map, err) : status;
    ht_unmap_file(&map);
    return status;
}
