/* Parts of convert that stand in their own files. */
#ifndef HT_FLOW_CONVERT_H
#define HT_FLOW_CONVERT_H

#include "flow/flow_plan.h"

/* The JSON files of a Hugging Face folder: config.json, generation_config.json, tokenizer.json,
 * tokenizer_config.json, made of GGUF metadata; or copies when the source is a folder too. config.json is
 * written last: a folder without it is no model. dtype: format of the weights. */
ht_status ht_convert_write_hf(const struct ht_flow_plan *plan, const struct ht_format *dtype, const char *folder,
                              bool overwrite, ht_err *err);

/* Everything that could make ht_convert_write_hf fail but the disk, before weights are written. */
ht_status ht_convert_check_hf(const struct ht_flow_plan *plan, const struct ht_format *dtype, const char *folder,
                              bool overwrite, ht_err *err);

/* tokenizer.json and tokenizer_config.json of a vocabulary; new objects, released with json_decref. */
ht_status ht_convert_tokenizer_json(const struct ht_vocab *vocab, const char *what, json_t **json, ht_err *err);
ht_status ht_convert_tokenizer_config(const struct ht_vocab *vocab, uint32_t context, json_t **json, ht_err *err);

#endif
