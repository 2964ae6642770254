/* Bump allocator for things that die together: a checkpoint's names and metadata, a plan, a job's scratch.
 * Memory comes in blocks and is freed all at once. Not thread safe. */
#ifndef HT_BASE_ARENA_H
#define HT_BASE_ARENA_H

#include "base/mem.h"

struct ht_arena_block;

struct ht_arena {
    struct ht_arena_block *head; /* newest block */
    size_t block_bytes;          /* size of the next ordinary block */
    size_t used_bytes;           /* handed out in total */
};

void ht_arena_init(struct ht_arena *arena, size_t block_bytes); /* 0: 64 KiB */
void ht_arena_deinit(struct ht_arena *arena);

/* 16-byte aligned; NULL when memory is out. */
void *ht_arena_alloc(struct ht_arena *arena, size_t bytes);
void *ht_arena_calloc(struct ht_arena *arena, size_t count, size_t size);
char *ht_arena_strndup(struct ht_arena *arena, const char *s, size_t len);
char *ht_arena_strdup(struct ht_arena *arena, const char *s);

#endif
