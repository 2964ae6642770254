/* The record of an evaluation, schema "halftone.eval/1": docs/evaluation.md lists its fields. */
#ifndef HT_EVAL_EVAL_JSON_H
#define HT_EVAL_EVAL_JSON_H

#include <jansson.h>

#include "eval/lockstep.h"

struct ht_eval_text {
    const char *path;
    char sha256[65];
    uint64_t file_bytes, tokens; /* tokens: of the whole text */
    uint64_t n_invalid;          /* bytes that were not UTF-8 */
    size_t first, windows;       /* windows of the tally */
    double calibrated;           /* share that the model's calibration text has too; below 0: not known */
    struct ht_summary summary;
};

struct ht_eval_report {
    const ht_eval_options *options;
    const struct ht_lockstep *lockstep;
    const struct ht_eval_text *texts; /* [options->n_texts] */
    struct ht_summary total;
    double seconds, cpu_seconds;
};

/* How many tensors and weights are stored in each format: an array of objects. */
json_t *ht_eval_formats(const struct ht_source *source);

/* NULL when memory is out. */
json_t *ht_eval_record(const struct ht_eval_report *report);

#endif
