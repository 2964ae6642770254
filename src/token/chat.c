#include "token/chat.h"

#include <stdio.h>

#include "base/nearest.h"
#include "token/utf8.h"

static const struct ht_chat rows[] = {
    {"chatml", "ChatML: Qwen, SmolLM2 and many others", "<|im_start|>", "", "<|im_start|>", "\n",
     "<|im_end|>\n", "<|im_end|>", NULL, false},
    {"llama3", "Llama 3 instruct", "<|start_header_id|>", "<|begin_of_text|>", "<|start_header_id|>",
     "<|end_header_id|>\n\n", "<|eot_id|>", "<|eot_id|>", NULL, true},
};

size_t ht_chat_count(void) {
    return sizeof rows / sizeof *rows;
}

const struct ht_chat *ht_chat_at(size_t i) {
    return i < ht_chat_count() ? &rows[i] : NULL;
}

const struct ht_chat *ht_chat_find(const char *name) {
    for (size_t i = 0; i < ht_chat_count(); i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const struct ht_chat *ht_chat_match(const char *chat_template) {
    for (size_t i = 0; i < ht_chat_count(); i++) {
        if (strstr(chat_template, rows[i].marker) != NULL &&
            strstr(chat_template, rows[i].end_token) != NULL) {
            return &rows[i];
        }
    }
    return NULL;
}

/* ---- the default system message ----------------------------------------------------------------------- */

/* Text at s as a Jinja string literal writes it: \n and \\ are escapes. Returns what is behind the token that
 * want spells, or NULL. */
static const char *skip_literal(const char *s, const char *want) {
    for (; *want != '\0'; want++) {
        if (*want == '\n' && s[0] == '\\' && s[1] == 'n') {
            s += 2;
        } else if (*s++ != *want) {
            return NULL;
        }
    }
    return s;
}

/* Copies a literal up to end; false when the string ends before it, so that what follows is computed. */
static bool copy_literal(const char *s, const char *end, struct ht_buf *out) {
    size_t end_len = strlen(end);
    for (; *s != '\0' && *s != '\'' && *s != '"'; s++) {
        if (strncmp(s, end, end_len) == 0) {
            return true;
        }
        if (s[0] == '\\' && s[1] != '\0') {
            s++;
            ht_buf_putc(out, *s == 'n' ? '\n' : *s == 't' ? '\t' : *s);
        } else {
            ht_buf_putc(out, *s);
        }
    }
    return false;
}

/* Templates that bring a system message of their own write its whole turn in one literal:
 * '<|im_start|>system\nYou are ...<|im_end|>\n'. */
static void find_default_system(const char *chat_template, const struct ht_chat *row, struct ht_buf *out) {
    for (const char *s = strstr(chat_template, row->before_role); s != NULL;
         s = strstr(s + 1, row->before_role)) {
        const char *t = skip_literal(s + strlen(row->before_role), "system");
        t = t == NULL ? NULL : skip_literal(t, row->after_role);
        if (t != NULL && copy_literal(t, row->end_token, out) && out->len > 0) {
            return;
        }
        ht_buf_clear(out);
    }
}

static const char *name_at(const void *table, size_t i) {
    return ((const struct ht_chat *)table)[i].name;
}

ht_status ht_chat_resolve(const char *name, const char *chat_template, struct ht_chat *chat,
                          struct ht_buf *text, ht_err *err) {
    const struct ht_chat *row = name != NULL            ? ht_chat_find(name)
                                : chat_template != NULL ? ht_chat_match(chat_template)
                                                        : NULL;
    if (row == NULL && name != NULL) {
        char near[96];
        ht_nearest(name, name_at, rows, ht_chat_count(), near, sizeof near);
        return ht_fail(err, HT_INVAL, "chat format", HT_NO_POS,
                       "unknown format '%.64s'%s%s; known: chatml, llama3", name,
                       near[0] ? ", did you mean " : "", near);
    }
    if (row == NULL) {
        return ht_fail(err, HT_UNSUPPORTED, "chat template", HT_NO_POS,
                       "%s; run takes --chat-format: chatml or llama3",
                       chat_template ? "the model's template writes the markers of no known format"
                                     : "the model has no chat template");
    }
    *chat = *row;
    ht_buf_clear(text);
    if (chat_template != NULL && ht_chat_match(chat_template) == row) {
        find_default_system(chat_template, row, text);
        if (!ht_buf_ok(text)) {
            return ht_fail_nomem(err, text->len);
        }
        chat->default_system = text->len > 0 ? text->data : NULL;
    }
    return HT_OK;
}

/* ---- rendering ---------------------------------------------------------------------------------------- */

/* Where the parts of a conversation go: markers are the format's, plain text is somebody's. */
struct sink {
    void *user;
    ht_status (*marker)(void *user, const char *text, ht_err *err);
    ht_status (*plain)(void *user, const char *text, size_t len, ht_err *err);
};

static bool role_ok(const char *role) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = role != NULL ? strspn(role, letters) : 0;
    return n > 0 && n <= 32 && role[n] == '\0';
}

static ht_status write_turn(const struct ht_chat *chat, const char *role, const char *content,
                            struct sink *sink, ht_err *err) {
    HT_TRY(sink->marker(sink->user, chat->before_role, err));
    HT_TRY(sink->plain(sink->user, role, strlen(role), err));
    HT_TRY(sink->marker(sink->user, chat->after_role, err));
    if (content == NULL) { /* the assistant's turn stays open */
        return HT_OK;
    }
    size_t len = strlen(content);
    if (chat->trim_content) {
        size_t head = ht_utf8_space_head(content, len);
        content += head;
        len -= head;
        len -= ht_utf8_space_tail(content, len);
    }
    HT_TRY(sink->plain(sink->user, content, len, err));
    return sink->marker(sink->user, chat->after_content, err);
}

static ht_status render(const struct ht_chat *chat, const ht_message *messages, size_t n, struct sink *sink,
                        ht_err *err) {
    for (size_t i = 0; i < n; i++) {
        if (!role_ok(messages[i].role)) {
            return ht_fail(
                err, HT_INVAL, "role", i,
                "message %llu: '%.40s' is no role; expected a word such as system, user or assistant",
                (unsigned long long)i, messages[i].role ? messages[i].role : "");
        }
        if (messages[i].content == NULL) {
            return ht_fail(err, HT_INVAL, "content", i, "message %llu has no content", (unsigned long long)i);
        }
    }
    HT_TRY(sink->marker(sink->user, chat->begin, err));
    if (chat->default_system != NULL && (n == 0 || strcmp(messages[0].role, "system") != 0)) {
        HT_TRY(write_turn(chat, "system", chat->default_system, sink, err));
    }
    for (size_t i = 0; i < n; i++) {
        HT_TRY(write_turn(chat, messages[i].role, messages[i].content, sink, err));
    }
    return write_turn(chat, "assistant", NULL, sink, err);
}

static ht_status text_plain(void *user, const char *text, size_t len, ht_err *err) {
    struct ht_buf *out = user;
    ht_buf_append(out, text, len);
    return ht_buf_ok(out) ? HT_OK : ht_fail_nomem(err, out->len + len);
}

static ht_status text_marker(void *user, const char *text, ht_err *err) {
    return text_plain(user, text, strlen(text), err);
}

ht_status ht_chat_write(const struct ht_chat *chat, const ht_message *messages, size_t n, struct ht_buf *out,
                        ht_err *err) {
    struct sink sink = {out, text_marker, text_plain};
    return render(chat, messages, n, &sink, err);
}

/* ---- encoding ----------------------------------------------------------------------------------------- */

struct ids_sink {
    const struct ht_tokenizer *tokenizer;
    struct ht_ids *out;
    uint64_t n_invalid;
    struct ht_buf pending; /* plain text since the last special token: pieces may span markers and contents */
};

static ht_status flush(struct ids_sink *sink, ht_err *err) {
    ht_status status = ht_tokenizer_encode(sink->tokenizer, sink->pending.len ? sink->pending.data : "",
                                           sink->pending.len, false, sink->out, &sink->n_invalid, err);
    ht_buf_clear(&sink->pending);
    return status;
}

static ht_status ids_plain(void *user, const char *text, size_t len, ht_err *err) {
    struct ids_sink *sink = user;
    return text_plain(&sink->pending, text, len, err);
}

/* The formats write their special tokens as <|name|>. */
static ht_status ids_marker(void *user, const char *text, ht_err *err) {
    struct ids_sink *sink = user;
    while (*text != '\0') {
        const char *close = strncmp(text, "<|", 2) == 0 ? strstr(text, "|>") : NULL;
        if (close == NULL) {
            HT_TRY(ids_plain(user, text++, 1, err));
            continue;
        }
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(close + 2 - text), text);
        int32_t id = ht_tokenizer_special(sink->tokenizer, name);
        if (id < 0) {
            return ht_fail(err, HT_UNSUPPORTED, "chat format", HT_NO_POS,
                           "the vocabulary has no special token '%s', which this format needs", name);
        }
        HT_TRY(flush(sink, err));
        HT_TRY(ht_ids_push(sink->out, id, err));
        text = close + 2;
    }
    return HT_OK;
}

ht_status ht_chat_encode(const struct ht_tokenizer *tokenizer, const struct ht_chat *chat,
                         const ht_message *messages, size_t n, struct ht_ids *out, uint64_t *n_invalid,
                         ht_err *err) {
    struct ids_sink ids = {.tokenizer = tokenizer, .out = out};
    struct sink sink = {&ids, ids_marker, ids_plain};
    size_t n_before = out->n;
    ht_buf_init(&ids.pending, 0);
    ht_status status = render(chat, messages, n, &sink, err);
    status = status == HT_OK ? flush(&ids, err) : status;
    if (status != HT_OK) {
        out->n = n_before;
    } else if (n_invalid != NULL) {
        *n_invalid += ids.n_invalid;
    }
    ht_buf_deinit(&ids.pending);
    return status;
}
