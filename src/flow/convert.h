/* Parts of convert that stand in their own files. */
#ifndef HT_FLOW_CONVERT_H
#define HT_FLOW_CONVERT_H

#include "flow/flow_doc.h"
#include "flow/flow_plan.h"

/* The files of a Hugging Face folder beside the weights: config.json, generation_config.json, tokenizer.json,
 * tokenizer_config.json, made of GGUF metadata; or copies when the source is a folder too. Made before weights are
 * written, since much of what can fail fails there. */
#define HT_SIDE_FILES 9

struct ht_side_file {
    const char *name;
    char *data;
    size_t len;
};

struct ht_side_files {
    struct ht_side_file rows[HT_SIDE_FILES];
    size_t n; /* the last one is config.json */
};

/* dtype: format of the weights. *files may hold rows also when this fails: deinit always. */
ht_status ht_side_files_make(const struct ht_flow_plan *plan, const struct ht_format *dtype,
                             struct ht_side_files *files, ht_err *err);
/* HT_EXISTS when one of them, or the checksums, is in the folder already. */
ht_status ht_side_files_check(const struct ht_side_files *files, const char *folder, ht_err *err);
/* Writes them and the checksums (sums: what is known of the weights), config.json last: a folder without it is no
 * model. */
ht_status ht_side_files_write(const struct ht_side_files *files, const char *folder, bool overwrite,
                              struct ht_doc *sums, ht_err *err);
void ht_side_files_deinit(struct ht_side_files *files);

/* tokenizer.json and tokenizer_config.json of a vocabulary; new objects, released with json_decref. */
ht_status ht_convert_tokenizer_json(const struct ht_vocab *vocab, const char *what, json_t **json, ht_err *err);
ht_status ht_convert_tokenizer_config(const struct ht_vocab *vocab, uint32_t context, json_t **json, ht_err *err);

#endif
