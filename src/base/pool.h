/* Thread pool. Work is cut into numbered tasks; which thread runs a task varies, so a task must write only
 * its own outputs, and reductions are done by the caller in task order: then results do not depend on the
 * number of threads. The calling thread works too. One run at a time per pool. */
#ifndef HT_BASE_POOL_H
#define HT_BASE_POOL_H

#include "base/error.h"

struct ht_pool;

/* n_threads includes the caller; 1 starts no thread. */
ht_status ht_pool_new(int n_threads, struct ht_pool **pool, ht_err *err);
void ht_pool_free(struct ht_pool *pool);
int ht_pool_threads(const struct ht_pool *pool);

/* thread is in [0, ht_pool_threads): index for per-thread scratch. */
typedef void ht_task_fn(void *ctx, size_t task, int thread);
/* Runs fn for task = 0..n_tasks-1 and returns when all are done. pool NULL: runs in the caller. */
void ht_pool_run(struct ht_pool *pool, size_t n_tasks, ht_task_fn *fn, void *ctx);

int ht_cpu_count(void); /* CPUs this process may use: affinity and cgroup quota, at least 1 */

#endif
