/* STATISTICS FILE: what calibration saw of the inputs of every linear, kept, so that many methods on one model cost one
 * pass (docs/calibration.md). A safetensors file, so that other programs read it too:
 *
 *     __metadata__["halftone.stats"]   JSON: version, model, runs, and groups: which linears read the same inputs
 *     NAME.mean_square [cols] .absmax .min .max .mean_abs .mean   NAME: the group's first linear; f32
 *     NAME.gram [cols (cols + 1) / 2]  rows of the upper triangle of the mean of x x^T
 *     NAME.sample [n_sample, cols]     input vectors spread over the text
 *
 * Means are over the group's tokens, so files of the same model add up by weights: merging is as good as one pass over
 * both texts, but for the last bit of each f32. Statistics are those of the model as it was read. */
#ifndef HT_CALIB_STATS_FILE_H
#define HT_CALIB_STATS_FILE_H

#include <jansson.h>

#include "base/file.h"
#include "base/map.h"
#include "io/safetensors.h"
#include "quant/stats.h"

#define HT_STATS_KEY "halftone.stats"
#define HT_STATS_VERSION 1
#define HT_STATS_SAMPLE 512u        /* vectors of a sample */
#define HT_STATS_MAX_SAMPLE 65536u
/* What a file can hold; the others compare with quantized layers, or belong to passes of their own. */
#define HT_STATS_KEPT                                                                                             \
    (HT_NEEDS_MEAN_SQUARE | HT_NEEDS_GRAM | HT_NEEDS_ABSMAX | HT_NEEDS_MINMAX | HT_NEEDS_MEAN_ABS | HT_NEEDS_MEAN | \
     HT_NEEDS_SAMPLE)

struct ht_stats_group {
    const char *const *linears; /* [n_linears] GGUF names; the first one names the group */
    size_t n_linears;
    uint64_t cols, tokens, n_sample;
};

struct ht_stats_file {
    const char *what;   /* path, for messages */
    struct ht_mapping map;
    struct ht_safetensors st;
    struct ht_stats_group *groups; /* [n] */
    size_t n;
    unsigned has;       /* enum ht_needs, the same for every group */
    json_t *doc;        /* the metadata, without its groups */
    struct ht_map index;   /* linear's name -> group */
    struct ht_map tensors; /* tensor's name -> its number */
    struct ht_arena arena;
};

/* HT_FORMAT, HT_LIMIT, HT_UNSUPPORTED (a newer version) say what is wrong with the file. */
ht_status ht_stats_file_open(const char *path, struct ht_stats_file **file, ht_err *err);
/* The same from memory, which must outlive it: tests and the fuzz target. */
ht_status ht_stats_file_parse(const void *data, uint64_t size, const char *what, struct ht_stats_file **file,
                              ht_err *err);
void ht_stats_file_close(struct ht_stats_file *file); /* NULL is fine */
bool ht_stats_file_probe(const char *path);           /* a safetensors file with the metadata's key */

/* The group of a linear; NULL: the file does not know it. */
const struct ht_stats_group *ht_stats_file_find(const struct ht_stats_file *file, const char *linear);

/* The numbers of one group: {0} at first. */
struct ht_stats_values {
    struct ht_stats stats; /* what the file has; the gram as full matrix */
    float *room[8];        /* owned, 64-byte aligned */
};
/* wanted: enum ht_needs, what is not in the file is left out. HT_NUMERIC: a value that is not finite, or that no
 * statistic can be (a negative square). */
ht_status ht_stats_file_load(const struct ht_stats_file *file, const struct ht_stats_group *group, unsigned wanted,
                             struct ht_stats_values *values, ht_err *err);
void ht_stats_values_deinit(struct ht_stats_values *values);
/* The inputs become x_j / s_j, as after a fold: s [cols], finite and above 0. */
void ht_stats_values_divide(struct ht_stats_values *values, const float *s);

/* Writing, group by group in order. doc: object without "groups" and "version", borrowed. has: enum ht_needs of
 * HT_STATS_KEPT. */
struct ht_stats_writer;
ht_status ht_stats_writer_new(const char *path, const json_t *doc, const struct ht_stats_group *groups, size_t n,
                              unsigned has, bool overwrite, struct ht_stats_writer **writer, ht_err *err);
/* stats: cols, tokens and n_sample as the group said; the gram as full matrix. */
ht_status ht_stats_writer_put(struct ht_stats_writer *writer, const struct ht_stats *stats, ht_err *err);
ht_status ht_stats_writer_commit(struct ht_stats_writer *writer, ht_err *err); /* frees always */
void ht_stats_writer_abort(struct ht_stats_writer *writer);                    /* NULL is fine */

/* One file out of several of the same model (by "model" in their metadata): token-weighted means, extremes, runs one
 * behind the other, samples thinned to HT_STATS_SAMPLE in proportion to tokens. What not all of them hold is left out:
 * *dropped (may be NULL). HT_INVAL: other models, other groups, nothing in common. */
ht_status ht_stats_file_merge(const struct ht_stats_file *const *files, size_t n, const char *output, bool overwrite,
                         unsigned *dropped, ht_err *err);

#endif
