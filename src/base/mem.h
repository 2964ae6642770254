/* Heap memory. The only place that calls malloc; a test can make the n-th allocation fail. */
#ifndef HT_BASE_MEM_H
#define HT_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define HT_CACHE_LINE 64

/* Each returns NULL when memory is out or count * size overflows. Size 0 gives a valid pointer. */
void *ht_mem_alloc(size_t bytes);
void *ht_mem_alloc_array(size_t count, size_t size);
void *ht_mem_calloc(size_t count, size_t size);
void *ht_mem_realloc_array(void *p, size_t count, size_t size); /* the old block stays valid on failure */
char *ht_mem_strdup(const char *s);
char *ht_mem_strndup(const char *s, size_t len);
void ht_mem_free(void *p); /* NULL is fine; for all of the above */

/* 64-byte aligned memory for kernels. Freed by ht_mem_free_aligned. */
void *ht_mem_alloc_aligned(size_t count, size_t size);
void ht_mem_free_aligned(void *p);
/* Hint for a large block that was not written to yet: back it with large pages where the kernel can. */
void ht_mem_large(void *p, size_t bytes);

/* Test hook: the n-th allocation from now on (1 = the next) fails, and every later one too when sticky.
 * 0 switches it off. Not thread safe: set it before threads start. */
void ht_mem_fail_at(uint64_t n, int sticky);
uint64_t ht_mem_alloc_count(void); /* allocations since the last ht_mem_fail_at */

#endif
