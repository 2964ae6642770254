/* Hash map from byte strings to uint64 (tensor names, tokens, merges). Keys are copied into the map.
 * No removal. Hashing is XXH3 with a per-map random seed, so hostile keys cannot force collisions. */
#ifndef HT_BASE_MAP_H
#define HT_BASE_MAP_H

#include <stdbool.h>

#include "base/arena.h"

struct ht_map_slot;

struct ht_map {
    struct ht_map_slot *slots;
    size_t n, cap; /* cap: power of two or 0 */
    uint64_t seed;
    struct ht_arena keys;
};

void ht_map_init(struct ht_map *map);
void ht_map_deinit(struct ht_map *map);
/* False when memory is out. *existed (may be NULL) tells whether
 * the key was there already; its value then stays as it was. */
bool ht_map_put(struct ht_map *map, const void *key, size_t len, uint64_t value, bool *existed);
/* As ht_map_put, but an existing key takes the new value; never fails for an existing key. */
bool ht_map_set(struct ht_map *map, const void *key, size_t len, uint64_t value);
bool ht_map_get(const struct ht_map *map, const void *key, size_t len, uint64_t *value);
bool ht_map_get_str(const struct ht_map *map, const char *key, uint64_t *value);

#endif
