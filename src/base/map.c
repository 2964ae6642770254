#include "base/map.h"

#define XXH_INLINE_ALL /* xxhash.h: XXH3_64bits_withSeed without a library to link */
#include <xxhash.h>

#include "base/rng.h"

struct ht_map_slot {
    const char *key; /* NULL: empty */
    uint32_t len;
    uint32_t hash_hi; /* cheap first comparison */
    uint64_t value;
};

void ht_map_init(struct ht_map *map) {
    memset(map, 0, sizeof *map);
    map->seed = ht_rng_entropy();
    ht_arena_init(&map->keys, 0);
}

void ht_map_deinit(struct ht_map *map) {
    ht_mem_free(map->slots);
    ht_arena_deinit(&map->keys);
    map->slots = NULL;
    map->n = map->cap = 0;
}

static struct ht_map_slot *find(const struct ht_map *map, const void *key, size_t len, uint64_t hash) {
    size_t mask = map->cap - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct ht_map_slot *s = &map->slots[i];
        if (s->key == NULL || (s->hash_hi == (uint32_t)(hash >> 32) && s->len == len &&
                               memcmp(s->key, key, len) == 0)) {
            return s;
        }
    }
}

static bool grow(struct ht_map *map) {
    size_t cap = map->cap ? map->cap * 2 : 64;
    struct ht_map_slot *slots = ht_mem_calloc(cap, sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    struct ht_map bigger = *map;
    bigger.slots = slots;
    bigger.cap = cap;
    for (size_t i = 0; i < map->cap; i++) {
        const struct ht_map_slot *s = &map->slots[i];
        if (s->key != NULL) {
            *find(&bigger, s->key, s->len, XXH3_64bits_withSeed(s->key, s->len, map->seed)) = *s;
        }
    }
    ht_mem_free(map->slots);
    map->slots = slots;
    map->cap = cap;
    return true;
}

bool ht_map_put(struct ht_map *map, const void *key, size_t len, uint64_t value, bool *existed) {
    if (len > UINT32_MAX || (map->n * 4 >= map->cap * 3 && !grow(map))) {
        return false;
    }
    uint64_t hash = XXH3_64bits_withSeed(key, len, map->seed);
    struct ht_map_slot *s = find(map, key, len, hash);
    if (existed != NULL) {
        *existed = s->key != NULL;
    }
    if (s->key == NULL) {
        char *copy = ht_arena_strndup(&map->keys, key, len);
        if (copy == NULL) {
            return false;
        }
        *s = (struct ht_map_slot){copy, (uint32_t)len, (uint32_t)(hash >> 32), value};
        map->n++;
    }
    return true;
}

bool ht_map_set(struct ht_map *map, const void *key, size_t len, uint64_t value) {
    if (map->cap != 0) {
        struct ht_map_slot *s = find(map, key, len, XXH3_64bits_withSeed(key, len, map->seed));
        if (s->key != NULL) {
            s->value = value;
            return true;
        }
    }
    return ht_map_put(map, key, len, value, NULL);
}

bool ht_map_get(const struct ht_map *map, const void *key, size_t len, uint64_t *value) {
    if (map->cap == 0) {
        return false;
    }
    const struct ht_map_slot *s = find(map, key, len, XXH3_64bits_withSeed(key, len, map->seed));
    if (s->key == NULL) {
        return false;
    }
    *value = s->value;
    return true;
}

bool ht_map_get_str(const struct ht_map *map, const char *key, uint64_t *value) {
    return ht_map_get(map, key, strlen(key), value);
}
