/* What the openers of containers share: filling a struct ht_source. Internal to src/io. */
#ifndef HT_IO_SOURCE_H
#define HT_IO_SOURCE_H

#include "io/container.h"

/* Maps path and appends it to source->maps; its index is n_maps - 1. */
ht_status ht_source_map(struct ht_source *source, const char *path, ht_err *err);
/* Appends n tensors whose data lie in map number `map`; names are copied. HT_FORMAT when a name is there
 * already (in another file). */
ht_status ht_source_add(struct ht_source *source, const struct ht_tensor *tensors, size_t n, uint32_t map,
                        ht_err *err);

#endif
