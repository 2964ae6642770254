/* The context behind halftone.h's ht_context: one pool and the callbacks. Flows take it as first argument. */
#ifndef HT_BASE_CONTEXT_H
#define HT_BASE_CONTEXT_H

#include "base/error.h"
#include "base/pool.h"

struct ht_context {
    struct ht_pool *pool;
    ht_log_fn *log;
    ht_progress_fn *progress;
    void *user;
    double tell_every_s; /* progress: pause between two calls; 0: each tell calls */
};

void ht_log(const struct ht_context *ctx, ht_log_level level, const char *fmt, ...) HT_PRINTF(3, 4);

/* Tells the progress callback, at most every ctx->tell_every_s seconds (always at done == total).
 * HT_CANCELLED when it says so. */
struct ht_meter {
    const struct ht_context *ctx;
    const char *stage, *unit;
    uint64_t total;
    double started_s, told_s;
    uint64_t done, bytes; /* as told last */
    const char *item;
};

void ht_meter_init(struct ht_meter *meter, const struct ht_context *ctx, const char *stage, const char *unit,
                   uint64_t total);
ht_status ht_meter_tell(struct ht_meter *meter, uint64_t done, uint64_t bytes, const char *item, ht_err *err);
/* Tells the last figures again, from inside of a long unit of work: so that it can be cancelled there. item of the
 * last tell must still be alive. */
ht_status ht_meter_again(struct ht_meter *meter, ht_err *err);

#endif
