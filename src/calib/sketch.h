/* SKETCH: which sequences of 13 tokens a text has, in 2 KiB: the smallest of their hashes (bottom-k, Broder 1997). A
 * quantized file carries that of its calibration text, so that an evaluation can tell when it reads the same text. */
#ifndef HT_CALIB_SKETCH_H
#define HT_CALIB_SKETCH_H

#include <jansson.h>

#include "io/meta.h"

#define HT_GRAM 13u /* tokens in a row: Brown et al. 2020, arXiv 2005.14165, appendix C */
#define HT_SKETCH 256u
#define HT_SKETCH_KEY "halftone.calibration.grams"

struct ht_sketch {
    uint64_t hashes[HT_SKETCH]; /* [n] rising, below 2^63; what is behind them is UINT64_MAX */
    uint32_t n;
};

void ht_sketch_init(struct ht_sketch *sketch);
void ht_sketch_add(struct ht_sketch *sketch, const int32_t *ids, uint64_t n);
void ht_sketch_merge(struct ht_sketch *into, const struct ht_sketch *other);
/* Share of the sequences in ids that the sketched text has, estimated from those whose hash the sketch reaches to:
 * *looked of them, *shared of these were found. With 65,536 tokens in the sketch about one in 250 is looked at. */
double ht_sketch_share(const struct ht_sketch *sketch, const int32_t *ids, uint64_t n, uint64_t *looked,
                       uint64_t *shared);

/* A record's array of whole numbers; false: it is none, or not rising. */
json_t *ht_sketch_json(const struct ht_sketch *sketch);
bool ht_sketch_from_json(const json_t *array, struct ht_sketch *sketch);
/* The key of a GGUF file, always HT_SKETCH numbers; sketch NULL: zeros in its place. */
ht_status ht_sketch_to_meta(const struct ht_sketch *sketch, struct ht_meta *meta, ht_err *err);
bool ht_sketch_from_meta(const struct ht_meta *meta, struct ht_sketch *sketch);

#endif
