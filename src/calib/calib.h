/* Calibration: runs text through a model and collects what recipes need. First: the importance matrix. */
#ifndef HT_CALIB_CALIB_H
#define HT_CALIB_CALIB_H

#include "base/context.h"
#include "io/imatrix.h"
#include "model/model.h"

/* ---- texts, shared with eval ------------------------------------------------------------------------- */

struct ht_calib_text {
    char *data; /* without the last newline, as llama.cpp's tools read a file */
    size_t len;
    uint64_t file_bytes;
    char sha256[65]; /* of the whole file */
};

ht_status ht_calib_text_read(const char *path, struct ht_calib_text *text, ht_err *err);
void ht_calib_text_deinit(struct ht_calib_text *text);
/* Appends the text's ids: BOS first when the model asks for it; special tokens written in the text stay plain
 * text. *n_invalid (may be NULL): bytes that are not UTF-8 and were replaced. */
ht_status ht_calib_text_ids(const struct ht_model *model, const struct ht_calib_text *text, struct ht_ids *ids,
                            uint64_t *n_invalid, ht_err *err);
/* A text file as ids: the three together. */
ht_status ht_calib_tokens(const struct ht_model *model, const char *path, struct ht_ids *ids, ht_err *err);

/* Copies a window of ids; the first one becomes BOS when the model adds BOS. */
void ht_calib_window(const struct ht_model *model, const int32_t *ids, uint32_t n, int32_t *window);

/* ---- importance matrix ------------------------------------------------------------------------------- */

/* Sum over tokens of the square of each input of each linear, all but the output head (as llama-imatrix does
 * by default). Windows of `window` tokens without overlap, at most `tokens` in all (0: all); each text starts
 * a new window and its remainder is left out. HT_INVAL when there is not one full window; HT_NUMERIC names
 * the linear whose inputs are not finite. Sums are kept in double and added in the order of the tokens, so
 * the result does not depend on threads. The file's chunk_size and chunk_count are window and their number. */
ht_status ht_calib_imatrix(struct ht_context *ctx, const struct ht_model *model, const char *const *texts,
                           size_t n_texts, uint64_t tokens, uint32_t window, enum ht_math math,
                           struct ht_imatrix **imatrix, ht_err *err);

#endif
