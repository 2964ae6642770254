#include "base/mem.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_uint_fast64_t g_count;
static uint64_t g_fail_at;
static int g_sticky;

void ht_mem_fail_at(uint64_t n, int sticky) {
    atomic_store(&g_count, 0);
    g_fail_at = n;
    g_sticky = sticky;
}

uint64_t ht_mem_alloc_count(void) {
    return atomic_load(&g_count);
}

static bool must_fail(void) {
    uint64_t n = atomic_fetch_add_explicit(&g_count, 1, memory_order_relaxed) + 1;
    return g_fail_at != 0 && (n == g_fail_at || (g_sticky && n > g_fail_at));
}

void *ht_mem_alloc(size_t bytes) {
    return must_fail() ? NULL : malloc(bytes ? bytes : 1);
}

void *ht_mem_alloc_array(size_t count, size_t size) {
    return size != 0 && count > SIZE_MAX / size ? NULL : ht_mem_alloc(count * size);
}

void *ht_mem_calloc(size_t count, size_t size) {
    if (must_fail()) {
        return NULL;
    }
    return calloc(count ? count : 1, size ? size : 1);
}

void *ht_mem_realloc_array(void *p, size_t count, size_t size) {
    if (size != 0 && count > SIZE_MAX / size) {
        return NULL;
    }
    size_t bytes = count * size;
    return must_fail() ? NULL : realloc(p, bytes ? bytes : 1);
}

char *ht_mem_strndup(const char *s, size_t len) {
    char *d = len == SIZE_MAX ? NULL : ht_mem_alloc(len + 1);
    if (d != NULL) {
        memcpy(d, s, len);
        d[len] = '\0';
    }
    return d;
}

char *ht_mem_strdup(const char *s) {
    return ht_mem_strndup(s, strlen(s));
}

void ht_mem_free(void *p) {
    free(p);
}

void *ht_mem_alloc_aligned(size_t count, size_t size) {
    if (must_fail() || (size != 0 && count > (SIZE_MAX - HT_CACHE_LINE) / size)) {
        return NULL;
    }
    size_t bytes = (count * size + HT_CACHE_LINE - 1) & ~(size_t)(HT_CACHE_LINE - 1);
    return aligned_alloc(HT_CACHE_LINE, bytes ? bytes : HT_CACHE_LINE);
}

void ht_mem_free_aligned(void *p) {
    free(p);
}

void ht_mem_large(void *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = ((uintptr_t)p + page - 1) & ~(page - 1),
              end = ((uintptr_t)p + bytes) & ~(page - 1);
    if (begin < end) {
        madvise((void *)begin, end - begin, MADV_HUGEPAGE);
    }
#else
    (void)p;
    (void)bytes;
#endif
}
