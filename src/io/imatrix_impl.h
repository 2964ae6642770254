/* The two layouts of importance files. Internal to io/imatrix*.c. */
#ifndef HT_IO_IMATRIX_IMPL_H
#define HT_IO_IMATRIX_IMPL_H

#include <stdbool.h>

#include "io/imatrix.h"

ht_status ht_imatrix_parse_gguf(struct ht_imatrix *m, const void *data, uint64_t size, const char *what,
                                ht_err *err);
ht_status ht_imatrix_parse_dat(struct ht_imatrix *m, const void *data, uint64_t size, const char *what,
                               ht_err *err);

/* sorted: [m->n] the entries in order of their names. */
ht_status ht_imatrix_save_gguf(const struct ht_imatrix *m, const struct ht_imatrix_entry **sorted,
                               const char *path, bool overwrite, ht_err *err);
ht_status ht_imatrix_save_dat(const struct ht_imatrix *m, const struct ht_imatrix_entry **sorted,
                              const char *path, bool overwrite, ht_err *err);
const struct ht_imatrix_entry **
ht_imatrix_sorted(const struct ht_imatrix *m); /* ht_mem_free; NULL: no memory */

#endif
