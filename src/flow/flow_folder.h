/* Writes a planned output: one GGUF file (or its splits), or a folder with weights, side files and checksums. Files get
 * their names when all of them are whole, config.json last; what fails leaves nothing new behind. */
#ifndef HT_FLOW_FLOW_FOLDER_H
#define HT_FLOW_FLOW_FOLDER_H

#include "flow/flow_stream.h"

struct ht_folder_options {
    const char *path;     /* of the folder (made when it is not there), or of the file */
    uint64_t shard_bytes; /* 0: one file */
    bool force;           /* replace what is there */
};

/* dtype: f32, f16 or bf16, the type of most plain tensors, for config.json. The plan's sizes are set; target HF or
 * HALFTONE. HT_EXISTS unless force. */
ht_status ht_folder_write(struct ht_context *ctx, struct ht_flow_plan *plan, const struct ht_format *dtype,
                          const struct ht_folder_options *place, const struct ht_stream_options *options, ht_err *err);
/* Target GGUF, metadata with reserved checksums (flow_finish.h). */
ht_status ht_gguf_file_write(struct ht_context *ctx, struct ht_flow_plan *plan, const struct ht_folder_options *place,
                             const struct ht_stream_options *options, ht_err *err);

#endif
