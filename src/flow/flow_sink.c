#include "flow/flow_sink.h"

#include "base/mem.h"

ht_status ht_sink_open(const struct ht_flow_plan *plan, const char *path, uint64_t shard_bytes, bool overwrite,
                       struct ht_sink *sink, ht_err *err) {
    *sink = (struct ht_sink){0};
    struct ht_tensor *shapes = ht_mem_alloc_array(plan->n_tensors, sizeof *shapes);
    if (shapes == NULL) {
        return ht_fail_nomem(err, plan->n_tensors * sizeof *shapes);
    }
    for (size_t i = 0; i < plan->n_tensors; i++) {
        shapes[i] = plan->tensors[i].out;
    }
    ht_status status = ht_xxh3_new(&sink->xxh3, err);
    if (status == HT_OK && plan->target == HT_TARGET_GGUF) {
        status = ht_gguf_writer_new(path, &plan->meta, shapes, plan->n_tensors, shard_bytes, overwrite,
                                    &sink->gguf, err);
    } else if (status == HT_OK) {
        status = ht_safetensors_writer_new(path, shapes, plan->n_tensors, shard_bytes, overwrite, &sink->st, err);
    }
    ht_mem_free(shapes);
    if (status != HT_OK) {
        ht_sink_close(sink);
    }
    return status;
}

ht_status ht_sink_write(struct ht_sink *sink, struct ht_plan_tensor *t, const void *data, uint64_t len,
                        bool complete, ht_err *err) {
    ht_xxh3_update(sink->xxh3, data, len);
    if (complete) {
        t->hash = ht_xxh3_final(sink->xxh3);
    }
    return sink->gguf != NULL ? ht_gguf_writer_tensor(sink->gguf, data, len, err)
                              : ht_safetensors_writer_tensor(sink->st, data, len, err);
}

ht_status ht_sink_commit(struct ht_sink *sink, ht_err *err) {
    struct ht_gguf_writer *gguf = sink->gguf;
    struct ht_safetensors_writer *st = sink->st;
    sink->gguf = NULL; /* commit frees in any case */
    sink->st = NULL;
    return gguf != NULL ? ht_gguf_writer_commit(gguf, err) : ht_safetensors_writer_commit(st, err);
}

void ht_sink_close(struct ht_sink *sink) {
    if (sink->gguf != NULL) {
        ht_gguf_writer_abort(sink->gguf);
    }
    if (sink->st != NULL) {
        ht_safetensors_writer_abort(sink->st);
    }
    ht_xxh3_free(sink->xxh3);
    *sink = (struct ht_sink){0};
}
