/* Where a job's bytes go: either of the two streaming writers behind one face. Also takes the checksum of each tensor
 * that the files hold on the way. */
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
    struct ht_flow_stored stored;     /* what the files hold */
    uint64_t *hashes;                 /* [stored.n] */
    size_t at;                        /* stored tensor in work */
    uint64_t got;                     /* bytes of it so far */
};

/* path: a GGUF file, or a folder that exists for the other targets. The plan's sizes are set. */
ht_status ht_sink_open(struct ht_flow_plan *plan, const char *path, uint64_t shard_bytes, bool overwrite,
                       struct ht_sink *sink, ht_err *err);
/* Bytes of tensor t, in order, its parts one after the other; complete: the last of them, t->hash is then that of its
 * last stored tensor. */
ht_status ht_sink_write(struct ht_sink *sink, struct ht_plan_tensor *t, const void *data, uint64_t len,
                        bool complete, ht_err *err);
ht_status ht_sink_commit(struct ht_sink *sink, ht_err *err); /* gives the files their final names */
void ht_sink_close(struct ht_sink *sink);                    /* without commit: nothing remains */

#endif
