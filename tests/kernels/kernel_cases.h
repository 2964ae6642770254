/* What the kernel tests share: memory that ends at a guard page, random data, the levels of this machine. */
#ifndef HT_TESTS_KERNEL_CASES_H
#define HT_TESTS_KERNEL_CASES_H

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "format/half.h"
#include "kernel/slots.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* bytes that end right before a page nobody may touch; what comes before them is 0xaa. */
struct guarded {
    char *map;
    size_t map_bytes;
    void *p;
};

static inline struct guarded guarded_new(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + page - 1) / page * page;
    struct guarded g = {.map_bytes = body + page};
    g.map = mmap(NULL, g.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(g.map != MAP_FAILED);
    assert_int_equal(mprotect(g.map + body, page, PROT_NONE), 0);
    memset(g.map, 0xaa, body);
    g.p = g.map + body - bytes;
    return g;
}

static inline void guarded_free(struct guarded g) {
    munmap(g.map, g.map_bytes);
}

static inline void fill_normal(struct ht_rng *rng, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) {
        x[i] = scale * (float)ht_rng_normal(rng);
    }
}

/* Every level of this machine, masked or not. */
#define FOR_LEVELS(level, table)                                                                             \
    for (int level = 0; level < HT_CPU_LEVELS; level++)                                                      \
        for (const struct ht_kernel_table *table = ht_kernel_table_at((enum ht_cpu_level)level);             \
             table != NULL; table = NULL)

#endif
