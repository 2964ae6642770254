/* What the kernel tests share: memory between guard pages, random data, the levels of this machine. */
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

/* Which end of the bytes lies at a page nobody may touch. The other end is a canary of 0xaa up to the guard
 * page there, looked at when the memory is given back. */
enum guard_side {
    GUARD_AFTER, /* also the odd alignments: the address is whatever the length makes it */
    GUARD_BEFORE
};
static enum guard_side guard_side;

struct guarded {
    unsigned char *map;
    size_t body, page, bytes;
    void *p;
};

static inline struct guarded guarded_new_shifted(size_t bytes, size_t shift) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (bytes + shift + page - 1) / page * page;
    struct guarded g = {.body = body, .page = page, .bytes = bytes};
    void *map = mmap(NULL, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    g.map = map;
    assert_int_equal(mprotect(g.map + page, body, PROT_READ | PROT_WRITE), 0);
    size_t before = guard_side == GUARD_AFTER ? body - bytes - shift : shift;
    g.p = g.map + page + before;
    memset(g.map + page, 0xaa, before);
    memset((char *)g.p + bytes, 0xaa, body - bytes - before);
    return g;
}

static inline struct guarded guarded_new(size_t bytes) {
    return guarded_new_shifted(bytes, 0);
}

static inline void guarded_free(struct guarded g) {
    const unsigned char *p = g.p, *end = g.map + g.page + g.body;
    for (const unsigned char *c = g.map + g.page; c < end; c++) {
        c = c == p ? c + g.bytes : c;
        if (c < end && *c != 0xaa) {
            fail_msg("a byte %td before the start of %zu bytes was written", p - c, g.bytes);
        }
    }
    munmap(g.map, g.body + 2 * g.page);
}

/* Setup functions, for tests that run once per side. */
static inline int guard_after(void **state) {
    (void)state;
    guard_side = GUARD_AFTER;
    return 0;
}

static inline int guard_before(void **state) {
    (void)state;
    guard_side = GUARD_BEFORE;
    return 0;
}

#define ON_BOTH_SIDES(test)                                                                                  \
    {#test ", guard page after", test, guard_after, NULL, NULL},                                             \
        {#test ", guard page before", test, guard_before, NULL, NULL}

static inline void fill_normal(struct ht_rng *rng, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) {
        x[i] = scale * (float)ht_rng_normal(rng);
    }
}

/* Codes without scales of their own are multiplied as qtensors (test_qtensor_matmul). */
static inline bool is_weight_format(const struct ht_format *f) {
    return f->kind != HT_KIND_INT && f->kind != HT_KIND_CODE;
}

/* The table of a level of this machine, masked or not; NULL also for one that serves nothing of its own. */
static inline const struct ht_kernel_table *level_table(int level) {
    const struct ht_kernel_table *table = ht_kernel_table_at((enum ht_cpu_level)level), *below = NULL;
    for (int l = level - 1; l >= 0 && table != NULL && below == NULL; l--) {
        below = ht_kernel_table_at((enum ht_cpu_level)l);
    }
    return below != NULL && memcmp(table, below, sizeof *table) == 0 ? NULL : table;
}

#define FOR_LEVELS(level, table)                                                                             \
    for (int level = 0; level < HT_CPU_LEVELS; level++)                                                      \
        for (const struct ht_kernel_table *table = level_table(level); table != NULL; table = NULL)

#endif
