#include "flow/flow_finish.h"

#include <unistd.h> /* defines: rmdir */

#include "base/mem.h"
#include "base/sys.h"
#include "flow/flow_paths.h"

ht_status ht_flow_predict(struct ht_flow_plan *p, uint64_t shard_bytes, uint64_t *bytes, uint32_t *n_files,
                          ht_err *err) {
    struct ht_flow_stored s;
    HT_TRY(ht_flow_plan_stored(p, &s, err));
    struct ht_gguf_plan gguf = {0};
    struct ht_safetensors_plan st = {0};
    ht_status status = p->target == HT_TARGET_GGUF ? ht_gguf_plan(&p->meta, s.tensors, s.n, shard_bytes, &gguf, err)
                                                   : ht_safetensors_plan(s.tensors, s.n, shard_bytes, &st, err);
    ht_flow_stored_free(&s);
    *bytes = p->target == HT_TARGET_GGUF ? gguf.total_bytes : st.total_bytes;
    *n_files = p->target == HT_TARGET_GGUF ? gguf.n_files : st.n_files;
    return status;
}

void ht_flow_drop_provenance(struct ht_flow_plan *p) {
    static const char prefix[] = "halftone.";
    for (size_t i = p->meta.n; i-- > 0;) {
        if (strncmp(p->meta.kv[i].key.s, prefix, sizeof prefix - 1) == 0) {
            ht_meta_remove(&p->meta, p->meta.kv[i].key.s);
        }
    }
}

static ht_status set_checksums(struct ht_flow_plan *p, bool known, ht_err *err) {
    uint64_t *sums = ht_mem_calloc(p->n_tensors, sizeof *sums);
    if (sums == NULL) {
        return ht_fail_nomem(err, p->n_tensors * sizeof *sums);
    }
    for (size_t i = 0; known && i < p->n_tensors; i++) {
        sums[i] = p->tensors[i].hash;
    }
    ht_status status = ht_meta_set_array(&p->meta, HT_KEY_CHECKSUMS, HT_META_U64, sums, p->n_tensors, err);
    ht_mem_free(sums);
    return status;
}

ht_status ht_flow_reserve_checksums(struct ht_flow_plan *p, ht_err *err) {
    HT_TRY(ht_meta_set_u64(&p->meta, HT_GGUF_HEADER_SUM, 0, err)); /* the writer fills it in */
    return set_checksums(p, false, err);
}

ht_status ht_flow_store_checksums(struct ht_flow_plan *p, struct ht_sink *sink, ht_err *err) {
    HT_TRY(set_checksums(p, true, err));
    return ht_gguf_writer_update(sink->gguf, &p->meta, err);
}

void ht_flow_record_input(struct ht_doc *doc, const struct ht_flow_plan *p) {
    char name[256];
    ht_flow_base_name(p->source->path, name, sizeof name);
    json_t *input = ht_doc_object(doc, doc->root, "input");
    ht_doc_set(doc, input, "path", ht_doc_text(name, strlen(name)));
    ht_doc_set(doc, input, "container", json_string(p->source->container->name));
    ht_doc_set(doc, input, "architecture", json_string(p->arch->name));
    ht_doc_set(doc, input, "bytes", json_integer((json_int_t)p->source->file_bytes));
}

void ht_flow_record_output(struct ht_doc *doc, const struct ht_flow_plan *p, const char *output, bool split,
                           uint64_t bytes, uint32_t n_files) {
    bool gguf = p->target == HT_TARGET_GGUF;
    char name[256], *first = gguf && split ? ht_gguf_shard_path(output, 0, n_files) : ht_mem_strdup(output);
    doc->failed |= first == NULL;
    ht_flow_base_name(first != NULL ? first : "", name, sizeof name);
    ht_mem_free(first);
    json_t *o = ht_doc_object(doc, doc->root, "output");
    ht_doc_set(doc, o, "path", ht_doc_text(name, strlen(name)));
    ht_doc_set(doc, o, "container", json_string(gguf ? "gguf" : p->target == HT_TARGET_HF ? "hf" : "halftone"));
    ht_doc_set(doc, o, "bytes", json_integer((json_int_t)bytes));
    ht_doc_set(doc, o, "files", json_integer(n_files));
}

void ht_flow_record_cost(struct ht_doc *doc, const struct ht_context *ctx, double started_s, double started_cpu_s) {
    ht_doc_set(doc, doc->root, "seconds", ht_doc_real(ht_sys_now() - started_s));
    ht_doc_set(doc, doc->root, "cpu_seconds", ht_doc_real(ht_sys_cpu_seconds() - started_cpu_s));
    ht_doc_set(doc, doc->root, "peak_rss_bytes", json_integer((json_int_t)ht_sys_peak_rss_bytes()));
    ht_doc_set(doc, doc->root, "threads", json_integer(ht_pool_threads(ctx->pool)));
}

void ht_flow_remove_folder(const char *path) {
    (void)rmdir(path); /* refuses a folder that is not empty, which is what we want */
}
