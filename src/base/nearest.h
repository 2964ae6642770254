/* "Did you mean": the names of a table that lie closest to a mistyped one. */
#ifndef HT_BASE_NEAREST_H
#define HT_BASE_NEAREST_H

#include <stddef.h>

/* name_at(table, i) gives the i-th name. Writes up to three close names as "a, b, c" into out (empty when
 * none is close: more than a third of the letters differ) and returns out. Case does not count. */
const char *ht_nearest(const char *name, const char *(*name_at)(const void *table, size_t i),
                       const void *table, size_t n, char *out, size_t out_len);

#endif
