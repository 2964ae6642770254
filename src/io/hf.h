/* The JSON files of a Hugging Face folder that decide which weights are read. Internal to src/io and its fuzz
 * targets. */
#ifndef HT_IO_HF_H
#define HT_IO_HF_H

#include <jansson.h>

#include "base/map.h"

#define HT_HF_INDEX "model.safetensors.index.json"

/* {"metadata": {...}, "weight_map": {"TENSOR": "model-00001-of-00002.safetensors", ...}} */
struct ht_hf_index {
    const char **shards; /* [n_shards] plain file names, in order of first mention */
    size_t n_shards;
    const char **names; /* [n_tensors] */
    size_t n_tensors;
    struct ht_map tensors;       /* tensor -> shard */
    struct ht_map shard_numbers; /* file name -> shard */
    struct ht_arena arena;
};

ht_status ht_hf_index_parse(const char *data, size_t len, const char *what, struct ht_hf_index *index,
                            ht_err *err);
void ht_hf_index_deinit(struct ht_hf_index *index);
/* HT_FORMAT when the index does not put the tensor into this shard. */
ht_status ht_hf_index_check(const struct ht_hf_index *index, const char *tensor, uint64_t shard,
                            const char *file, ht_err *err);

/* config.json: strict JSON, an object. */
ht_status ht_hf_config_parse(const char *data, size_t len, const char *what, json_t **config, ht_err *err);

#endif
