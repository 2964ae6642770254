#include "flow/flow_folder.h"

#include "flow/checksums.h"
#include "flow/convert.h"
#include "flow/flow_finish.h"

/* Streams the weights and gives the files their names. sums: gets what a folder's checksums say of them, or NULL. */
static ht_status write_weights(struct ht_context *ctx, struct ht_flow_plan *p, const struct ht_folder_options *place,
                               const struct ht_stream_options *options, struct ht_doc *sums, ht_err *err) {
    struct ht_sink sink;
    HT_TRY(ht_sink_open(p, place->path, place->shard_bytes, place->force, &sink, err));
    ht_status status = ht_stream_run(ctx, p, &sink, options, err);
    if (status == HT_OK && sums == NULL) {
        status = ht_flow_store_checksums(p, &sink, err);
    }
    for (size_t i = 0; status == HT_OK && sums != NULL && i < ht_safetensors_writer_files(sink.st); i++) {
        struct ht_safetensors_file file;
        ht_safetensors_writer_file(sink.st, i, &file);
        ht_sums_add_file(sums, file.name, file.bytes, file.head_bytes, file.head_xxh3);
    }
    for (size_t i = 0; status == HT_OK && sums != NULL && i < sink.stored.n; i++) {
        ht_sums_add_tensor(sums, sink.stored.tensors[i].name, sink.hashes[i]);
    }
    if (status == HT_OK) {
        status = ht_source_check(p->source, err);
    }
    if (status == HT_OK) {
        status = ht_sink_commit(&sink, err);
    }
    ht_sink_close(&sink);
    return status;
}

ht_status ht_gguf_file_write(struct ht_context *ctx, struct ht_flow_plan *plan, const struct ht_folder_options *place,
                             const struct ht_stream_options *options, ht_err *err) {
    return write_weights(ctx, plan, place, options, NULL, err);
}

ht_status ht_folder_write(struct ht_context *ctx, struct ht_flow_plan *plan, const struct ht_format *dtype,
                          const struct ht_folder_options *place, const struct ht_stream_options *options, ht_err *err) {
    struct ht_side_files files = {.n = 0};
    struct ht_doc sums = {NULL, false};
    bool made = false;
    ht_status status;
    HT_TRY_DONE(ht_side_files_make(plan, dtype, &files, err));
    if (!place->force) {
        HT_TRY_DONE(ht_side_files_check(&files, place->path, err));
    }
    made = !ht_path_exists(place->path);
    HT_TRY_DONE(ht_make_dir(place->path, err));
    ht_sums_begin(&sums);
    HT_TRY_DONE(write_weights(ctx, plan, place, options, &sums, err));
    HT_TRY_DONE(ht_side_files_write(&files, place->path, place->force, &sums, err));
done:
    ht_doc_deinit(&sums);
    ht_side_files_deinit(&files);
    if (status != HT_OK && made) {
        ht_flow_remove_folder(place->path);
    }
    return status;
}
