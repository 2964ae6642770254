/* Calibration: runs text through a model and collects what recipes need. First: the importance matrix. */
#ifndef HT_CALIB_CALIB_H
#define HT_CALIB_CALIB_H

#include <jansson.h>

#include "base/context.h"
#include "io/imatrix.h"
#include "model/model.h"
#include "quant/stats.h"

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

/* Whole windows of ids from several texts, one behind the other; each text starts a new window and its remainder is
 * left out. At most `tokens` in all (0: all). HT_INVAL when there is not one full window. */
struct ht_calib_windows {
    int32_t *ids; /* [n, window] */
    uint64_t n;
    uint32_t window;
};

ht_status ht_calib_windows(const struct ht_model *model, const char *const *texts, size_t n_texts, uint64_t tokens,
                           uint32_t window, struct ht_calib_windows *windows, ht_err *err);
void ht_calib_windows_deinit(struct ht_calib_windows *windows);

/* ---- importance matrix ------------------------------------------------------------------------------- */

/* Sum over tokens of the square of each input of each linear, all but the output head (as llama-imatrix does
 * by default). Windows of `window` tokens without overlap, at most `tokens` in all (0: all); each text starts
 * a new window and its remainder is left out. HT_INVAL when there is not one full window; HT_NUMERIC names
 * the linear whose inputs are not finite. Sums are kept in double and added in the order of the tokens, so
 * the result does not depend on threads. The file's chunk_size and chunk_count are window and their number. */
ht_status ht_calib_imatrix(struct ht_context *ctx, const struct ht_model *model, const char *const *texts,
                           size_t n_texts, uint64_t tokens, uint32_t window, enum ht_math math,
                           struct ht_imatrix **imatrix, ht_err *err);

/* The same on windows that are there already; texts: their names, for the file. */
ht_status ht_calib_imatrix_of(struct ht_context *ctx, const struct ht_model *model,
                              const struct ht_calib_windows *windows, const char *const *texts, size_t n_texts,
                              enum ht_math math, struct ht_imatrix **imatrix, ht_err *err);

/* ---- layer by layer ---------------------------------------------------------------------------------- */

/* All calibration text on its way through a model, one layer at a time, so that weights of earlier layers can be
 * replaced by their quantized form and later layers are calibrated on what they will really see. */
struct ht_calib_gram {
    uint64_t cols, tokens;
    float *h; /* [cols, cols] mean of x x^T over the tokens */
};

struct ht_calib_layers;

struct ht_calib_layers_options {
    unsigned needs;    /* enum ht_needs: what collect sums up. HT_NEEDS_CROSS, HT_NEEDS_GRAD: a second stream of hidden
                        * states, of the unquantized model, goes beside the first */
    uint64_t n_sample; /* HT_NEEDS_SAMPLE: at most so many vectors */
    enum ht_math math;
    const char *spill; /* hidden states lie in a file beside this path instead of in memory; NULL: memory */
};

/* model's linears may be changed between calls: their data and format. Hidden states start as the embedding. */
ht_status ht_calib_layers_new_with(struct ht_context *ctx, struct ht_model *model,
                                   const struct ht_calib_windows *windows,
                                   const struct ht_calib_layers_options *options, struct ht_calib_layers **layers,
                                   ht_err *err);
/* The same for HT_NEEDS_GRAM. */
ht_status ht_calib_layers_new(struct ht_context *ctx, struct ht_model *model, const struct ht_calib_windows *windows,
                              enum ht_math math, struct ht_calib_layers **layers, ht_err *err);
void ht_calib_layers_free(struct ht_calib_layers *layers);
/* Hidden states before the layer in work: [tokens, C]. */
float *ht_calib_layers_hidden(struct ht_calib_layers *layers, uint64_t *tokens);
/* The same of the unquantized stream; NULL: there is none. Behind ht_calib_layers_advance_float that is the layer's
 * output, which learning takes for its target. */
float *ht_calib_layers_hidden_float(struct ht_calib_layers *layers);
/* A window of both streams is not needed soon: where they lie in a file, their pages may go. */
void ht_calib_layers_drop(const struct ht_calib_layers *layers, uint64_t window);
/* Runs the layer in work on all windows and collects the inputs of its linears, as their codes see them (behind what a
 * sidecar does in front); hidden states stay. HT_NUMERIC names
 * the linear whose inputs are not finite. */
ht_status ht_calib_layers_collect(struct ht_calib_layers *layers, int32_t layer, ht_err *err);
/* What collect saw of this linear: linears that read the same vectors share it. */
const struct ht_calib_gram *ht_calib_layers_gram(const struct ht_calib_layers *layers, const struct ht_linear *linear);
/* The same with everything that options.needs asked for; NULL: collect saw no such linear. */
const struct ht_stats *ht_calib_layers_stats(const struct ht_calib_layers *layers, const struct ht_linear *linear);
/* The input of this linear, and of those that share it, was divided by s [cols], none of them 0: all that collect saw
 * becomes what it would see now. */
void ht_calib_layers_divide(struct ht_calib_layers *layers, const struct ht_linear *linear, const float *s);
/* The unquantized stream goes on behind the layer, with its present weights: before they are replaced. Nothing where
 * there is no such stream. */
ht_status ht_calib_layers_advance_float(struct ht_calib_layers *layers, int32_t layer, ht_err *err);
/* Hidden states become those behind the layer, with its present weights. */
ht_status ht_calib_layers_advance(struct ht_calib_layers *layers, int32_t layer, ht_err *err);
/* The inputs of every linear of the unquantized model, in f32, as a statistics file (stats_file.h). needs:
 * enum ht_needs of HT_STATS_KEPT. doc: what the file says of model and text. Sums of one layer are in memory; spill as
 * above. */
ht_status ht_calib_stats(struct ht_context *ctx, struct ht_model *model, const struct ht_calib_windows *windows,
                         unsigned needs, const char *spill, const json_t *doc, const char *output, bool overwrite,
                         uint64_t *n_groups, ht_err *err);
/* Bytes that calibration of this many tokens will take. */
uint64_t ht_calib_layers_memory(const struct ht_model *model, uint64_t tokens, uint32_t window, int threads);

#endif
