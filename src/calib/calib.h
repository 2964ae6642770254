/* Calibration: runs text through a model and collects what recipes need. First: the importance matrix. */
#ifndef HT_CALIB_CALIB_H
#define HT_CALIB_CALIB_H

#include "base/context.h"
#include "io/imatrix.h"
#include "model/model.h"

/* Windows of ctx tokens without overlap, at most tokens in all (0: all). Texts are read from files, tokenized
 * as llama.cpp's tools do (BOS first in each window when the model asks for it). HT_INVAL when there is not one
 * full window. Sums are accumulated in double per window, in fixed order. */
ht_status ht_calib_imatrix(struct ht_context *ctx, const struct ht_model *model, const char *const *texts,
                           size_t n_texts, uint64_t tokens, uint32_t window, enum ht_math math,
                           struct ht_imatrix **imatrix, ht_err *err);

/* A text file as ids; shared with eval. */
ht_status ht_calib_tokens(const struct ht_model *model, const char *path, struct ht_ids *ids, ht_err *err);

#endif
