/* CALIBRATION DATA: from sources to whole windows of token ids (docs/calibration.md).
 *
 *     source    text | JSONL of texts, chats or ids | .npy, .safetensors of ids | "self": what the model writes
 *     window    cut one behind the other; filtered: not text, repetitive, seen before, shared with a text that must
 *               stay unseen
 *     share     of each source, by weights
 *     pick      the first ones, at random, or far apart
 *
 * The same windows for any number of threads. What was dropped is counted by reason, in the record. */
#ifndef HT_CALIB_DATA_H
#define HT_CALIB_DATA_H

#include <jansson.h>

#include "calib/calib.h"

#define HT_CALIB_SELF "self"

struct ht_calib_data_options {
    const char *const *sources;
    size_t n_sources;
    const uint32_t *weights; /* [n_weights] share of each source; n_weights 0: all alike */
    size_t n_weights;
    uint64_t tokens;         /* at most so many; 0: all there are */
    uint32_t window;
    const char *sampling;    /* "sequential", "random", "diverse"; NULL: sequential */
    bool no_filters;
    const char *const *not_in; /* texts that no window may share much with */
    size_t n_not_in;
    bool drop_overlap;         /* leave such windows out; else they are an error */
    uint64_t seed;
};

/* *record: a new object: sampling, seed, tokens, each source with its hash, windows, and what was dropped why, and
 * "grams", a sketch of what was taken (sketch.h). HT_INVAL: no window is left, weights that do not fit, a text that
 * overlaps; HT_FORMAT names file, line or offset of what is not what its name says; HT_CANCELLED. Both outputs are the
 * caller's to release. */
ht_status ht_calib_data(struct ht_context *ctx, const struct ht_model *model,
                        const struct ht_calib_data_options *options, struct ht_calib_windows *windows,
                        json_t **record, ht_err *err);

/* ---- parts that are tested by themselves ----------------------------------------------------------------- */

/* Lines of a JSONL text, blank ones skipped, each parsed by itself: fn gets the row and its line number, from 1, and
 * may stop with *stop. Errors name what and the line. */
typedef ht_status ht_jsonl_fn(void *user, const json_t *row, uint64_t line, bool *stop, ht_err *err);
ht_status ht_jsonl_each(const char *data, size_t len, const char *what, ht_jsonl_fn *fn, void *user, ht_err *err);

/* Arrays of token ids in a file: shape [rows, cols] (1-D: one row), integers of 2, 4 or 8 bytes, little-endian. */
struct ht_token_array {
    const unsigned char *data;
    uint64_t rows, cols;
    unsigned bytes; /* of one id */
    bool is_signed;
};
/* NumPy's .npy, versions 1 to 3. Source: NEP 1. */
ht_status ht_token_npy(const void *data, uint64_t size, const char *what, struct ht_token_array *array, ht_err *err);
/* HT_FORMAT when it is not in [0, vocab). */
ht_status ht_token_at(const struct ht_token_array *array, uint64_t i, uint32_t vocab, const char *what, int32_t *id,
                      ht_err *err);

/* Which of n windows [n, window] to take: *picked [k] rising. k <= n. */
ht_status ht_pick_random(uint64_t n, uint64_t k, uint64_t seed, uint64_t *picked, ht_err *err);
/* Far apart: greedy k-center on the Hellinger distance of token counts, from one at random (Gonzalez 1985; as a
 * core-set Sener and Savarese 2018, arXiv 1708.00489): the next is
 * argmax_i min_{j taken} sqrt(1 - sum_t sqrt(p_it p_jt)), of equals the first. */
ht_status ht_pick_diverse(struct ht_pool *pool, const int32_t *windows, uint64_t n, uint32_t window, uint64_t k,
                          uint64_t seed, uint64_t *picked, ht_err *err);

/* Shares of `total` by weights, none beyond what there is: what one cannot give the others do. weights NULL: alike. */
void ht_data_shares(uint64_t total, const uint64_t *there, const uint32_t *weights, size_t n, uint64_t *shares);

#endif
