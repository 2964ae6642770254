/* Models, text and chats: thin wrappers that check arguments and hand over memory. */
#include "api/options.h"
#include "base/buf.h"
#include "model/model.h"
#include "token/chat.h"

ht_status ht_model_open(ht_context *ctx, const char *path, ht_model **model, ht_err *err) {
    ht_err_clear(err);
    HT_TRY(ht_need(model, "model", err));
    *model = NULL;
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(path, "path", err));
    return ht_model_load(path, model, err);
}

void ht_model_close(ht_model *model) {
    ht_model_unload(model);
}

uint32_t ht_model_vocab(const ht_model *model) {
    return model->hp.vocab;
}

uint32_t ht_model_context_length(const ht_model *model) {
    return model->hp.context;
}

/* ---- text -------------------------------------------------------------------------------------------- */

ht_status ht_tokenize(const ht_model *model, const char *text, size_t len, unsigned flags, int32_t **ids,
                      size_t *n, ht_err *err) {
    ht_err_clear(err);
    HT_TRY(ht_need(ids, "ids", err));
    HT_TRY(ht_need(n, "n", err));
    *ids = NULL;
    *n = 0;
    HT_TRY(ht_need(model, "model", err));
    HT_TRY(len == 0 ? HT_OK : ht_need(text, "text", err));
    const struct ht_vocab *v = ht_tokenizer_vocab(model->tokenizer);
    bool special = (flags & HT_TOKENIZE_SPECIAL) != 0, add = (flags & HT_TOKENIZE_ADD) != 0;
    struct ht_ids list = {0};
    ht_status status = HT_OK;
    if (add && v->add_bos && v->bos >= 0) {
        status = ht_ids_push(&list, v->bos, err);
    }
    if (status == HT_OK && len > 0) {
        status = ht_tokenizer_encode(model->tokenizer, text, len, special, &list, NULL, err);
    }
    if (status == HT_OK && add && v->add_eos && v->eos >= 0) {
        status = ht_ids_push(&list, v->eos, err);
    }
    if (status != HT_OK) {
        ht_mem_free(list.ids);
        return status;
    }
    *ids = list.ids;
    *n = list.n;
    return HT_OK;
}

void ht_ids_free(int32_t *ids) {
    ht_mem_free(ids);
}

ht_status ht_detokenize(const ht_model *model, const int32_t *ids, size_t n, bool special, char **text,
                        size_t *len, ht_err *err) {
    ht_err_clear(err);
    HT_TRY(ht_need(text, "text", err));
    *text = NULL;
    HT_TRY(ht_need(model, "model", err));
    HT_TRY(n == 0 ? HT_OK : ht_need(ids, "ids", err));
    struct ht_buf buf;
    ht_buf_init(&buf, 0);
    ht_buf_append(&buf, "", 0);
    for (size_t i = 0; i < n; i++) {
        const char *bytes;
        size_t n_bytes;
        ht_status status = ht_tokenizer_piece(model->tokenizer, ids[i], special, &bytes, &n_bytes, err);
        if (status != HT_OK) {
            ht_buf_deinit(&buf);
            return status;
        }
        ht_buf_append(&buf, bytes, n_bytes);
    }
    size_t total = buf.len;
    *text = ht_buf_take(&buf);
    ht_buf_deinit(&buf);
    if (*text == NULL) {
        return ht_fail_nomem(err, total);
    }
    if (len != NULL) {
        *len = total;
    }
    return HT_OK;
}

/* ---- chats ------------------------------------------------------------------------------------------- */

static ht_status check_messages(const ht_model *model, const ht_message *messages, size_t n, ht_err *err) {
    HT_TRY(ht_need(model, "model", err));
    if (n == 0) {
        return ht_fail(err, HT_INVAL, "messages", HT_NO_POS, "a chat needs at least one message");
    }
    HT_TRY(ht_need(messages, "messages", err));
    for (size_t i = 0; i < n; i++) {
        HT_TRY(ht_need_text(messages[i].role, "role", err));
        HT_TRY(ht_need(messages[i].content, "content", err));
    }
    return HT_OK;
}

ht_status ht_chat_render(const ht_model *model, const char *chat, const ht_message *messages, size_t n,
                         char **text, ht_err *err) {
    ht_err_clear(err);
    HT_TRY(ht_need(text, "text", err));
    *text = NULL;
    HT_TRY(check_messages(model, messages, n, err));
    struct ht_chat row;
    struct ht_buf system, out;
    ht_buf_init(&system, 0);
    ht_buf_init(&out, 0);
    ht_status status =
        ht_chat_resolve(chat, ht_tokenizer_vocab(model->tokenizer)->chat_template, &row, &system, err);
    if (status == HT_OK) {
        status = ht_chat_write(&row, messages, n, &out, err);
    }
    if (status == HT_OK && (*text = ht_buf_take(&out)) == NULL) {
        status = ht_fail_nomem(err, out.len);
    }
    ht_buf_deinit(&out);
    ht_buf_deinit(&system);
    return status;
}

ht_status ht_chat_tokenize(const ht_model *model, const char *chat, const ht_message *messages, size_t n,
                           int32_t **ids, size_t *n_ids, ht_err *err) {
    ht_err_clear(err);
    HT_TRY(ht_need(ids, "ids", err));
    HT_TRY(ht_need(n_ids, "n_ids", err));
    *ids = NULL;
    *n_ids = 0;
    HT_TRY(check_messages(model, messages, n, err));
    struct ht_chat row;
    struct ht_buf system;
    struct ht_ids list = {0};
    ht_buf_init(&system, 0);
    ht_status status =
        ht_chat_resolve(chat, ht_tokenizer_vocab(model->tokenizer)->chat_template, &row, &system, err);
    if (status == HT_OK) {
        status = ht_chat_encode(model->tokenizer, &row, messages, n, &list, NULL, err);
    }
    ht_buf_deinit(&system);
    if (status != HT_OK) {
        ht_mem_free(list.ids);
        return status;
    }
    *ids = list.ids;
    *n_ids = list.n;
    return HT_OK;
}
