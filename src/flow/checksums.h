/* Checksums of a Hugging Face folder, in a file of their own beside config.json, since the folder's readers would not
 * carry them. A GGUF file holds its own: HT_KEY_CHECKSUMS and HT_GGUF_HEADER_SUM.
 *
 *     {"schema": "halftone.checksums/1", "version": "0.1.0",
 *      "files":   {"config.json": {"bytes": 711, "hashed": 711, "xxh3": "0123456789abcdef"}, ...},
 *      "tensors": {"model.norm.weight": "0123456789abcdef", ...}}
 *
 * A file's sum is XXH3-64 of its first `hashed` bytes: all of a JSON file, the header of a .safetensors file, whose
 * data are the tensors'. */
#ifndef HT_FLOW_CHECKSUMS_H
#define HT_FLOW_CHECKSUMS_H

#include "flow/flow_doc.h"
#include "io/container.h"

#define HT_CHECKSUMS_FILE "halftone.checksums.json"

/* The document in the making; ht_doc_deinit ends it. */
void ht_sums_begin(struct ht_doc *doc);
void ht_sums_add_file(struct ht_doc *doc, const char *name, uint64_t bytes, uint64_t hashed, uint64_t xxh3);
void ht_sums_add_tensor(struct ht_doc *doc, const char *name, uint64_t xxh3);
ht_status ht_sums_write(struct ht_doc *doc, const char *folder, bool overwrite, ht_err *err);

/* Told of each thing that is not as the folder's checksums say; file: a name in the folder. */
typedef void ht_sums_finding(void *user, const char *file, const char *text);

struct ht_sums {
    size_t n_files;  /* files compared; 0: the folder has no checksums */
    uint64_t *want;  /* [n] of ht_source_stored: sums of the tensors; NULL: none. ht_mem_free */
    bool *has;       /* [n] */
};

/* Compares the files of an opened folder and reads the sums of its tensors. A list that is damaged itself is a
 * finding too. HT_NOMEM, HT_IO. */
ht_status ht_sums_check(const struct ht_source *folder, struct ht_sums *sums, ht_sums_finding *fn, void *user,
                        ht_err *err);
void ht_sums_deinit(struct ht_sums *sums);

#endif
