/* What convert and quantize share at both ends of a job: predicted size, stored checksums, parts of records. */
#ifndef HT_FLOW_FLOW_FINISH_H
#define HT_FLOW_FLOW_FINISH_H

#include "base/context.h"
#include "flow/flow_doc.h"
#include "flow/flow_plan.h"
#include "flow/flow_sink.h"

#define HT_KEY_CHECKSUMS "halftone.checksums" /* XXH3-64 of each tensor's bytes, u64 array in file order */

/* Exact bytes and number of the files that hold tensors (a Hugging Face folder's JSON files come on top). */
ht_status ht_flow_predict(struct ht_flow_plan *plan, uint64_t shard_bytes, uint64_t *bytes,
                          uint32_t *n_files, ht_err *err);

/* Removes what a former run of this program said about the input. */
void ht_flow_drop_provenance(struct ht_flow_plan *plan);

/* Puts zeros in the place of the checksums, so that the header has its final size; store fills them in. */
ht_status ht_flow_reserve_checksums(struct ht_flow_plan *plan, ht_err *err);
ht_status ht_flow_store_checksums(struct ht_flow_plan *plan, struct ht_sink *sink, ht_err *err);

/* "output": path (of a split GGUF its first file, which readers open), container, bytes, files. HT_NOMEM marks doc. */
void ht_flow_record_output(struct ht_doc *doc, const struct ht_flow_plan *plan, const char *output, bool split,
                           uint64_t bytes, uint32_t n_files);
void ht_flow_record_input(struct ht_doc *doc, const struct ht_flow_plan *plan);
/* seconds, cpu_seconds, peak_rss_bytes, threads. */
void ht_flow_record_cost(struct ht_doc *doc, const struct ht_context *ctx, double started_s, double started_cpu_s);

/* Removes a folder that a failed job made, if it is still empty. */
void ht_flow_remove_folder(const char *path);

#endif
