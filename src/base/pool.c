#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"

/* Spins this often before sleeping: about 20 microseconds, so that the layers of a decode step find the
 * workers awake, and a busy neighbour costs little. */
#define SPINS 4000

struct worker {
    struct ht_pool *pool;
    pthread_t thread;
    int index;
};

/* Each thread starts with a range of consecutive tasks of its own, so that it walks through memory without gaps,
 * and then helps with what others have left. On a cache line of its own. */
struct range {
    HT_ALIGNED(64) atomic_llong left; /* tasks not claimed yet; 0 or less: none */
};

/* Only claimed tasks are waited for, never threads: a worker that wakes late, because the machine is busy, finds
 * nothing left and does not hold up the caller, who has done its share meanwhile. */
struct ht_pool {
    int n_threads;
    int n_started;
    struct worker *workers;
    struct range *ranges; /* [n_threads] */
    /* The job. Written by the caller before any `left` grows; read only by who has claimed a task, and a claimed
     * task keeps the caller from returning: so it never changes under a reader. */
    ht_task_fn *fn;
    void *ctx;
    size_t n_tasks;
    atomic_size_t done;     /* tasks finished */
    atomic_uint generation; /* grows per run; workers wait for a change */
    atomic_bool waiting;    /* the caller sleeps until all tasks are done */
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
};

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static size_t range_end(size_t n_tasks, size_t range, size_t n_ranges) {
    return n_tasks / n_ranges * (range + 1) + n_tasks % n_ranges * (range + 1) / n_ranges;
}

/* Claims and runs tasks until none is left; true when these were the last to finish. */
static bool work(struct ht_pool *pool, int index) {
    size_t n = 0, n_tasks = 0, n_ranges = (size_t)pool->n_threads;
    for (size_t i = 0; i < n_ranges; i++) {
        size_t r = ((size_t)index + i) % n_ranges;
        atomic_llong *counter = &pool->ranges[r].left;
        while (atomic_load_explicit(counter, memory_order_relaxed) > 0) {
            long long left = atomic_fetch_sub_explicit(counter, 1, memory_order_acquire);
            if (left > 0) {
                n_tasks = pool->n_tasks;
                pool->fn(pool->ctx, range_end(n_tasks, r, n_ranges) - (size_t)left, index);
                n++;
            }
        }
    }
    return n > 0 && atomic_fetch_add(&pool->done, n) + n == n_tasks;
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct ht_pool *pool = w->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&pool->generation, memory_order_acquire) == seen;
             i++) {
            relax();
        }
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) {
            pthread_mutex_lock(&pool->lock);
            while (atomic_load(&pool->generation) == seen) {
                pthread_cond_wait(&pool->wake, &pool->lock);
            }
            pthread_mutex_unlock(&pool->lock);
        }
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (atomic_load(&pool->stop)) {
            return NULL;
        }
        if (work(pool, w->index) && atomic_load(&pool->waiting)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->idle);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void start_generation(struct ht_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

ht_status ht_pool_new(int n_threads, struct ht_pool **out, ht_err *err) {
    *out = NULL;
    if (n_threads < 1 || n_threads > HT_MAX_THREADS) {
        return ht_fail(err, HT_INVAL, "threads", HT_NO_POS, "expected 1 to %d threads, found %d",
                       HT_MAX_THREADS, n_threads);
    }
    struct ht_pool *pool = ht_mem_calloc(1, sizeof *pool);
    if (pool == NULL) {
        return ht_fail_nomem(err, sizeof *pool);
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->n_threads = n_threads;
    pool->workers = ht_mem_calloc((size_t)n_threads, sizeof *pool->workers);
    pool->ranges = ht_mem_alloc_aligned((size_t)n_threads, sizeof *pool->ranges);
    if (pool->workers == NULL || pool->ranges == NULL) {
        ht_pool_free(pool);
        return ht_fail_nomem(err, (size_t)n_threads * sizeof *pool->workers);
    }
    for (int i = 0; i < n_threads; i++) {
        atomic_init(&pool->ranges[i].left, 0);
    }
    for (int i = 1; i < n_threads; i++) {
        struct worker *w = &pool->workers[i];
        w->pool = pool;
        w->index = i;
        int e = pthread_create(&w->thread, NULL, worker_main, w);
        if (e != 0) {
            ht_pool_free(pool);
            return ht_fail_errno(err, e, "threads", "start a worker thread");
        }
        pool->n_started++;
    }
    *out = pool;
    return HT_OK;
}

void ht_pool_free(struct ht_pool *pool) {
    if (pool == NULL) {
        return;
    }
    if (pool->n_started > 0) {
        atomic_store(&pool->stop, true);
        start_generation(pool);
        for (int i = 1; i <= pool->n_started; i++) {
            pthread_join(pool->workers[i].thread, NULL);
        }
    }
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->idle);
    pthread_mutex_destroy(&pool->lock);
    ht_mem_free(pool->workers);
    ht_mem_free_aligned(pool->ranges);
    ht_mem_free(pool);
}

int ht_pool_threads(const struct ht_pool *pool) {
    return pool != NULL ? pool->n_threads : 1;
}

void ht_pool_run(struct ht_pool *pool, size_t n_tasks, ht_task_fn *fn, void *ctx) {
    if (pool == NULL || pool->n_started == 0 || n_tasks <= 1) {
        for (size_t t = 0; t < n_tasks; t++) {
            fn(ctx, t, 0);
        }
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    pool->n_tasks = n_tasks;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    for (size_t r = 0, n = (size_t)pool->n_threads, from = 0; r < n; r++) {
        size_t end = range_end(n_tasks, r, n);
        atomic_store_explicit(&pool->ranges[r].left, (long long)(end - from), memory_order_release);
        from = end;
    }
    start_generation(pool);
    work(pool, 0);
    for (int i = 0; i < SPINS && atomic_load_explicit(&pool->done, memory_order_acquire) != n_tasks; i++) {
        relax();
    }
    if (atomic_load_explicit(&pool->done, memory_order_acquire) != n_tasks) {
        atomic_store(&pool->waiting, true);
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->done) != n_tasks) {
            pthread_cond_wait(&pool->idle, &pool->lock);
        }
        pthread_mutex_unlock(&pool->lock);
        atomic_store(&pool->waiting, false);
    }
}

/* cgroup v2 CPU quota, rounded up; 0 when there is none. */
static int cgroup_cpus(void) {
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    double quota = 0, period = 0;
    int n = 0;
    if (f != NULL) {
        if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0 && quota > 0) {
            n = (int)((quota + period - 1) / period);
        }
        fclose(f);
    }
    return n;
}

int ht_cpu_count(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = cgroup_cpus();
    if (quota > 0 && quota < n) {
        n = quota;
    }
    return n < 1 ? 1 : n > HT_MAX_THREADS ? HT_MAX_THREADS : n;
}
