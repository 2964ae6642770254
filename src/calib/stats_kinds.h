/* The tensors of a statistics file: one table for reader, writer and merge. Internal to src/calib. */
#ifndef HT_CALIB_STATS_KINDS_H
#define HT_CALIB_STATS_KINDS_H

#include "calib/stats_file.h"

enum ht_stats_shape { HT_STATS_VECTOR, HT_STATS_TRIANGLE, HT_STATS_ROWS };
enum ht_stats_sign { HT_STATS_ANY, HT_STATS_NOT_NEGATIVE };

struct ht_stats_kind {
    const char *suffix;
    unsigned need; /* enum ht_needs */
    enum ht_stats_shape shape;
    enum ht_stats_sign sign;
    size_t field; /* in struct ht_stats */
};

enum { HT_STATS_KINDS = 8 };
extern const struct ht_stats_kind ht_stats_kinds[HT_STATS_KINDS];

/* Values of one tensor as the file holds it. */
uint64_t ht_stats_kind_elems(const struct ht_stats_kind *kind, const struct ht_stats_group *group);

static inline const float **ht_stats_field(struct ht_stats *s, const struct ht_stats_kind *kind) {
    return (const float **)(void *)((char *)s + kind->field);
}

static inline const float *ht_stats_values_of(const struct ht_stats *s, const struct ht_stats_kind *kind) {
    return *(const float *const *)(const void *)((const char *)s + kind->field);
}

#endif
