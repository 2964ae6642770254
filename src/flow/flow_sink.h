/* Where a job's bytes go: either of the two streaming writers behind one face. Also takes each tensor's
 * checksum on the way. */
#ifndef HT_FLOW_FLOW_SINK_H
#define HT_FLOW_FLOW_SINK_H

#include "base/hash.h"
#include "flow/flow_plan.h"
#include "io/gguf.h"
#include "io/safetensors.h"

struct ht_sink {
    struct ht_gguf_writer *gguf;      /* one of the two */
    struct ht_safetensors_writer *st;
    struct ht_xxh3 *xxh3;
};

/* path: a GGUF file, or a folder that exists for a Hugging Face target. The plan's sizes are set. */
ht_status ht_sink_open(const struct ht_flow_plan *plan, const char *path, uint64_t shard_bytes, bool overwrite,
                       struct ht_sink *sink, ht_err *err);
/* Bytes of tensor t, in order; complete: the last of them. */
ht_status ht_sink_write(struct ht_sink *sink, struct ht_plan_tensor *t, const void *data, uint64_t len,
                        bool complete, ht_err *err);
ht_status ht_sink_commit(struct ht_sink *sink, ht_err *err); /* gives the files their final names */
void ht_sink_close(struct ht_sink *sink);                    /* without commit: nothing remains */

#endif
