/* safetensors: reader (single file, sharded folder with model.safetensors.index.json) and streaming writer.
 * Source: the format's specification; header of at most 100 MB, strict JSON, contiguous offsets. */
#ifndef HT_IO_SAFETENSORS_H
#define HT_IO_SAFETENSORS_H

#include "io/container.h"

struct ht_safetensors {
    struct ht_meta meta; /* __metadata__ */
    struct ht_arena arena;
    struct ht_tensor *tensors; /* in offset order */
    size_t n_tensors;
    uint64_t data_offset;
};
/* Parses one file in memory; data pointers are set relative to data. */
ht_status ht_safetensors_parse(const void *data, uint64_t size, const char *what, struct ht_safetensors *st,
                               ht_err *err);
void ht_safetensors_deinit(struct ht_safetensors *st);

ht_status ht_safetensors_open(const char *path, struct ht_source *source, ht_err *err);
bool ht_safetensors_probe(const char *path);

/* A Hugging Face folder: config.json beside model.safetensors or its shards. */
ht_status ht_hf_open(const char *path, struct ht_source *source, ht_err *err);
bool ht_hf_probe(const char *path);

/* Writer into a folder that exists: model.safetensors, or shards with an index when shard_bytes > 0.
 * Same protocol as the GGUF writer. */
struct ht_safetensors_writer;

struct ht_safetensors_plan {
    uint64_t total_bytes; /* of all files but the index */
    uint32_t n_files;     /* the same */
};

ht_status ht_safetensors_plan(const struct ht_tensor *tensors, size_t n, uint64_t shard_bytes,
                              struct ht_safetensors_plan *plan, ht_err *err);
ht_status ht_safetensors_writer_new(const char *folder, const struct ht_tensor *tensors, size_t n,
                                    uint64_t shard_bytes, bool overwrite,
                                    struct ht_safetensors_writer **writer, ht_err *err);
/* The same for one file at path, whose __metadata__ also has the strings of meta (NULL: none). */
ht_status ht_safetensors_writer_new_file(const char *path, const struct ht_meta *meta, const struct ht_tensor *tensors,
                                         size_t n, bool overwrite, struct ht_safetensors_writer **writer, ht_err *err);
/* Files of the set, the index first when there is one. */
struct ht_safetensors_file {
    char name[64];
    uint64_t bytes;
    uint64_t head_bytes; /* in front of the data; all of an index */
    uint64_t head_xxh3;  /* XXH3-64 of these */
};
size_t ht_safetensors_writer_files(const struct ht_safetensors_writer *writer);
void ht_safetensors_writer_file(const struct ht_safetensors_writer *writer, size_t i,
                                struct ht_safetensors_file *file);
ht_status ht_safetensors_writer_tensor(struct ht_safetensors_writer *writer, const void *data, uint64_t len,
                                       ht_err *err);
ht_status ht_safetensors_writer_commit(struct ht_safetensors_writer *writer, ht_err *err);
void ht_safetensors_writer_abort(struct ht_safetensors_writer *writer);

#endif
