#include "tensor/tensor.h"

#include "base/ckd.h"

ht_status ht_tensor_check(struct ht_tensor *t, const char *file, ht_err *err) {
    uint64_t rows = 1, elems = 0;
    if (t->n_dims < 0 || t->n_dims > HT_MAX_DIMS) {
        return ht_fail(err, HT_FORMAT, file, HT_NO_POS, "tensor '%s': expected 0 to %d dimensions, found %d",
                       t->name, HT_MAX_DIMS, t->n_dims);
    }
    for (int i = t->n_dims; i < HT_MAX_DIMS; i++) {
        t->ne[i] = 1;
    }
    for (int i = 0; i < HT_MAX_DIMS; i++) {
        if (t->ne[i] == 0 || t->ne[i] > INT64_MAX) {
            return ht_fail(err, HT_FORMAT, file, HT_NO_POS,
                           "tensor '%s': dimension %d is %lld, expected at least 1", t->name, i,
                           (long long)t->ne[i]);
        }
        if (i > 0 && ht_ckd_mul(&rows, rows, t->ne[i])) {
            return ht_fail(err, HT_FORMAT, file, HT_NO_POS, "tensor '%s': the shape overflows 64 bits",
                           t->name);
        }
    }
    const struct ht_format *f = t->format;
    if (t->ne[0] % f->block_elems != 0) {
        return ht_fail(err, HT_FORMAT, file, HT_NO_POS,
                       "tensor '%s': a row of %llu elements is not a multiple of %s's block of %u", t->name,
                       (unsigned long long)t->ne[0], f->name, f->block_elems);
    }
    if (ht_ckd_mul(&elems, rows, t->ne[0]) || elems > INT64_MAX ||
        ht_ckd_mul(&t->bytes, rows, t->ne[0] / f->block_elems) ||
        ht_ckd_mul(&t->bytes, t->bytes, f->block_bytes) || t->bytes > INT64_MAX) {
        return ht_fail(err, HT_FORMAT, file, HT_NO_POS, "tensor '%s': the size overflows 64 bits", t->name);
    }
    return HT_OK;
}
