#include "flow/flow_sink.h"

#include "base/mem.h"

ht_status ht_sink_open(struct ht_flow_plan *plan, const char *path, uint64_t shard_bytes, bool overwrite,
                       struct ht_sink *sink, ht_err *err) {
    *sink = (struct ht_sink){0};
    HT_TRY(ht_flow_plan_stored(plan, &sink->stored, err));
    const struct ht_flow_stored *s = &sink->stored;
    sink->hashes = ht_mem_calloc(s->n + 1, sizeof *sink->hashes);
    ht_status status =
        sink->hashes != NULL ? ht_xxh3_new(&sink->xxh3, err) : ht_fail_nomem(err, s->n * sizeof *sink->hashes);
    if (status == HT_OK && plan->target == HT_TARGET_GGUF) {
        status = ht_gguf_writer_new(path, &plan->meta, s->tensors, s->n, shard_bytes, overwrite, &sink->gguf, err);
    } else if (status == HT_OK) {
        status = ht_safetensors_writer_new(path, s->tensors, s->n, shard_bytes, overwrite, &sink->st, err);
    }
    if (status != HT_OK) {
        ht_sink_close(sink);
    }
    return status;
}

ht_status ht_sink_write(struct ht_sink *sink, struct ht_plan_tensor *t, const void *data, uint64_t len,
                        bool complete, ht_err *err) {
    const unsigned char *bytes = data;
    for (uint64_t done = 0, n; done < len && sink->at < sink->stored.n; done += n) {
        uint64_t left = sink->stored.tensors[sink->at].bytes - sink->got;
        n = left < len - done ? left : len - done;
        ht_xxh3_update(sink->xxh3, bytes + done, n);
        sink->got += n;
        if (n == left) {
            sink->hashes[sink->at++] = ht_xxh3_final(sink->xxh3);
            sink->got = 0;
        }
    }
    if (complete) {
        t->hash = sink->hashes[sink->at - 1];
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
    ht_flow_stored_free(&sink->stored);
    ht_mem_free(sink->hashes);
    *sink = (struct ht_sink){0};
}
