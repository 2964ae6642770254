/* GGUF v3: reader (v2 and v3, splits) and streaming writer. Source: ggml's gguf.md specification.
 *
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_kv | kv... | tensor infos... | pad | data, each tensor
 * padded
 *
 * The reader applies every rule of the specification and refuses what it forbids: see gguf_read.c. */
#ifndef HT_IO_GGUF_H
#define HT_IO_GGUF_H

#include "io/container.h"

#define HT_GGUF_ALIGNMENT 32u

/* u64: XXH3-64 of the file from its magic to the padding in front of the data, this value itself taken as 0. A writer
 * whose metadata have the key fills it in, in every file of a split; readers that do not know it ignore it. */
#define HT_GGUF_HEADER_SUM "halftone.header_xxh3"

/* Parses one file in memory (no splits): fuzz target and tests use it. Tensor data pointers are set relative
 * to data. Names and metadata are copied into the given meta and arena. */
struct ht_gguf {
    uint32_t version;
    uint32_t alignment;
    uint64_t data_offset;
    uint64_t header_sum_at; /* where the value of HT_GGUF_HEADER_SUM stands; 0: the file has none */
    struct ht_meta meta;
    struct ht_arena arena;
    struct ht_tensor *tensors;
    size_t n_tensors;
    uint64_t trailing_bytes;    /* behind the last tensor and its padding: no error, worth a warning */
    uint64_t missing_pad_bytes; /* padding that the last tensor lacks: the same */
};
ht_status ht_gguf_parse(const void *data, uint64_t size, const char *what, struct ht_gguf *gguf, ht_err *err);
void ht_gguf_deinit(struct ht_gguf *gguf);

struct ht_gguf_header_sum {
    bool present;
    uint64_t stored, found;
};
/* Hashes the header of one file as it is now. */
ht_status ht_gguf_header_sum(const void *data, uint64_t size, const char *what, struct ht_gguf_header_sum *sum,
                             ht_err *err);

ht_status ht_gguf_open(const char *path, struct ht_source *source, ht_err *err); /* also splits */
bool ht_gguf_probe(const char *path);
/* "dir/NAME.gguf" -> "dir/NAME-00001-of-00003.gguf" for i = 0, n = 3. NULL when path does not end in .gguf or
 * memory is out; free with ht_mem_free. */
char *ht_gguf_shard_path(const char *path, uint32_t i, uint32_t n);

/* Writer: plan first, then tensors in the planned order.
 *   ht_gguf_writer_new(meta, tensors (name, format, shape; data unused), n)
 *   for each tensor in order: ht_gguf_writer_tensor(w, bytes, len)   (may be called in pieces)
 *   ht_gguf_writer_commit
 * Keys "split.*" of meta are left out: the writer makes its own. "general.alignment" is obeyed.
 * With shard_bytes > 0 the output path must end in .gguf and becomes NAME-00001-of-0000N.gguf ...; all
 * shards get their final names only at commit. */
struct ht_gguf_writer;

struct ht_gguf_plan {
    uint64_t total_bytes; /* of all files */
    uint32_t n_files;
    uint64_t largest_bytes; /* of one file: above shard_bytes when one tensor alone is larger */
};

ht_status ht_gguf_plan(const struct ht_meta *meta, const struct ht_tensor *tensors, size_t n,
                       uint64_t shard_bytes, struct ht_gguf_plan *plan, ht_err *err);
ht_status ht_gguf_writer_new(const char *path, const struct ht_meta *meta, const struct ht_tensor *tensors,
                             size_t n, uint64_t shard_bytes, bool overwrite, struct ht_gguf_writer **writer,
                             ht_err *err);
ht_status ht_gguf_writer_tensor(struct ht_gguf_writer *writer, const void *data, uint64_t len, ht_err *err);
/* Writes the first file's header again, with values that were not known at the start (checksums of the data):
 * the same keys and types, arrays and strings of the same lengths; HT_INVAL when the size differs. Before
 * commit. */
ht_status ht_gguf_writer_update(struct ht_gguf_writer *writer, const struct ht_meta *meta, ht_err *err);
ht_status ht_gguf_writer_commit(struct ht_gguf_writer *writer, ht_err *err); /* frees always */
void ht_gguf_writer_abort(struct ht_gguf_writer *writer);

#endif
