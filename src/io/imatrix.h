/* Importance matrix files: for each linear, the sum over calibration tokens of each input's square.
 * Two layouts of llama.cpp: GGUF (general.type = "imatrix", NAME.in_sum2 and NAME.counts) and the older .dat.
 * Importance of input j = sums[j] / count. */
#ifndef HT_IO_IMATRIX_H
#define HT_IO_IMATRIX_H

#include "base/arena.h"
#include "base/map.h"

struct ht_imatrix_entry {
    const char *name; /* GGUF tensor name, "blk.0.attn_q.weight" */
    uint64_t n;       /* inputs */
    uint64_t n_mat;   /* experts; 1 for plain linears */
    float *sum2;      /* [n_mat, n] sum of x^2 over tokens */
    float *count;     /* [n_mat] tokens */
};

struct ht_imatrix {
    struct ht_imatrix_entry *entries;
    size_t n, cap;
    struct ht_map index;
    struct ht_arena arena;
    uint32_t chunk_size; /* tokens; 0: unknown, counts are then of chunks (old .dat files) */
    uint32_t chunk_count;
    const char **datasets; /* names of texts, for the record; in the arena */
    size_t n_datasets, cap_datasets;
};

ht_status ht_imatrix_load(const char *path, struct ht_imatrix **imatrix, ht_err *err); /* by content */
/* The same from memory: tests and the fuzz target use it. */
ht_status ht_imatrix_parse(const void *data, uint64_t size, const char *what, struct ht_imatrix **imatrix,
                           ht_err *err);
void ht_imatrix_free(struct ht_imatrix *imatrix);
ht_status ht_imatrix_new(struct ht_imatrix **imatrix, ht_err *err);
/* Finds or adds an entry of n inputs (zeroed). HT_INVAL when it exists with another size. */
ht_status ht_imatrix_entry(struct ht_imatrix *imatrix, const char *name, uint64_t n, uint64_t n_mat,
                           struct ht_imatrix_entry **entry, ht_err *err);
const struct ht_imatrix_entry *ht_imatrix_find(const struct ht_imatrix *imatrix, const char *name);
ht_status ht_imatrix_dataset(struct ht_imatrix *imatrix, const char *name, ht_err *err); /* appends a copy */
/* Sums up, entry by entry. HT_INVAL when an entry's size differs, or when one counts tokens and the other
 * chunks: their weights cannot be compared then. */
ht_status ht_imatrix_add(struct ht_imatrix *into, const struct ht_imatrix *other, ht_err *err);
/* A path that ends in .dat gets the old layout, which keeps one count per entry; any other path GGUF. Entries
 * are written in order of their names. */
ht_status ht_imatrix_save(const struct ht_imatrix *imatrix, const char *path, bool overwrite, ht_err *err);
/* importance [n_mat * n]: sum2 / count; an expert without tokens gets ones. HT_NUMERIC on NaN, Inf, negative
 * or all-zero sums, naming the entry. */
ht_status ht_imatrix_importance(const struct ht_imatrix_entry *entry, float *importance, const char *path,
                                ht_err *err);

#endif
