#include "base/arena.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#define RED_ZONE 16u /* poisoned bytes behind each allocation */
#else
#define POISON(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
#define RED_ZONE 0u
#endif

struct ht_arena_block {
    struct ht_arena_block *next;
    size_t cap, used; /* bytes of data[] */
    _Alignas(16) unsigned char data[];
};

void ht_arena_init(struct ht_arena *arena, size_t block_bytes) {
    memset(arena, 0, sizeof *arena);
    arena->block_bytes = block_bytes ? block_bytes : 64u << 10;
}

void ht_arena_deinit(struct ht_arena *arena) {
    for (struct ht_arena_block *b = arena->head; b != NULL;) {
        struct ht_arena_block *next = b->next;
        UNPOISON(b->data, b->cap);
        ht_mem_free(b);
        b = next;
    }
    arena->head = NULL;
    arena->used_bytes = 0;
}

void *ht_arena_alloc(struct ht_arena *arena, size_t bytes) {
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    size_t need = ((bytes + 15) & ~(size_t)15) + RED_ZONE;
    struct ht_arena_block *b = arena->head;
    if (b == NULL || b->cap - b->used < need) {
        size_t cap = need > arena->block_bytes / 4 ? need : arena->block_bytes;
        struct ht_arena_block *nb = ht_mem_alloc(sizeof *nb + cap);
        if (nb == NULL) {
            return NULL;
        }
        nb->cap = cap;
        nb->used = 0;
        POISON(nb->data, cap);
        if (b != NULL && cap != arena->block_bytes) {
            nb->next = b->next; /* a big one goes behind, so the open block keeps serving small ones */
            b->next = nb;
        } else {
            nb->next = b;
            arena->head = nb;
        }
        b = nb;
    }
    void *p = b->data + b->used;
    UNPOISON(p, bytes);
    b->used += need;
    arena->used_bytes += bytes;
    return p;
}

void *ht_arena_calloc(struct ht_arena *arena, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        return NULL;
    }
    void *p = ht_arena_alloc(arena, count * size);
    if (p != NULL) {
        memset(p, 0, count * size);
    }
    return p;
}

char *ht_arena_strndup(struct ht_arena *arena, const char *s, size_t len) {
    char *d = len == SIZE_MAX ? NULL : ht_arena_alloc(arena, len + 1);
    if (d != NULL) {
        memcpy(d, s, len);
        d[len] = '\0';
    }
    return d;
}

char *ht_arena_strdup(struct ht_arena *arena, const char *s) {
    return ht_arena_strndup(arena, s, strlen(s));
}
