/* Checked size arithmetic: every size that comes from a file goes through these. Each returns true when the
 * result does NOT fit (as C23 stdckdint.h does); *out is then meaningless. */
#ifndef HT_BASE_CKD_H
#define HT_BASE_CKD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool ht_ckd_add(uint64_t *out, uint64_t a, uint64_t b) {
    return __builtin_add_overflow(a, b, out);
}

static inline bool ht_ckd_mul(uint64_t *out, uint64_t a, uint64_t b) {
    return __builtin_mul_overflow(a, b, out);
}

/* Rounds a up to a multiple of align (a power of two). */
static inline bool ht_ckd_align(uint64_t *out, uint64_t a, uint64_t align) {
    uint64_t t;
    if (__builtin_add_overflow(a, align - 1, &t)) {
        return true;
    }
    *out = t & ~(align - 1);
    return false;
}

static inline bool ht_ckd_size(size_t *out, uint64_t a) {
    *out = (size_t)a;
    return (uint64_t)*out != a;
}

#endif
