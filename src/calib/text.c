#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/mem.h"
#include "calib/calib.h"

ht_status ht_calib_text_read(const char *path, struct ht_calib_text *text, ht_err *err) {
    *text = (struct ht_calib_text){0};
    HT_TRY(ht_read_file(path, HT_MAX_TEXT_BYTES, &text->data, &text->len, err));
    text->file_bytes = text->len;
    struct ht_sha256 *sha;
    ht_status status = ht_sha256_new(&sha, err);
    if (status != HT_OK) {
        ht_calib_text_deinit(text);
        return status;
    }
    ht_sha256_update(sha, text->data, text->len);
    ht_sha256_final(sha, text->sha256);
    ht_sha256_free(sha);
    if (text->len > 0 && text->data[text->len - 1] == '\n') {
        text->len--;
    }
    return HT_OK;
}

void ht_calib_text_deinit(struct ht_calib_text *text) {
    ht_mem_free(text->data);
    *text = (struct ht_calib_text){0};
}

ht_status ht_calib_text_ids(const struct ht_model *model, const struct ht_calib_text *text, struct ht_ids *ids,
                            uint64_t *n_invalid, ht_err *err) {
    const struct ht_vocab *vocab = ht_tokenizer_vocab(model->tokenizer);
    if (vocab->add_bos && vocab->bos >= 0) {
        HT_TRY(ht_ids_push(ids, vocab->bos, err));
    }
    return ht_tokenizer_encode(model->tokenizer, text->data, text->len, false, ids, n_invalid, err);
}

ht_status ht_calib_tokens(const struct ht_model *model, const char *path, struct ht_ids *ids, ht_err *err) {
    struct ht_calib_text text;
    HT_TRY(ht_calib_text_read(path, &text, err));
    ht_status status = ht_calib_text_ids(model, &text, ids, NULL, err);
    ht_calib_text_deinit(&text);
    return status;
}

void ht_calib_window(const struct ht_model *model, const int32_t *ids, uint32_t n, int32_t *window) {
    const struct ht_vocab *vocab = ht_tokenizer_vocab(model->tokenizer);
    for (uint32_t i = 0; i < n; i++) {
        window[i] = ids[i];
    }
    if (n > 0 && vocab->add_bos && vocab->bos >= 0) {
        window[0] = vocab->bos;
    }
}
