#include "base/context.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/sys.h"

#define TELL_EVERY_S 0.05

void ht_context_options_defaults(ht_context_options *options) {
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

ht_status ht_context_new(const ht_context_options *options, ht_context **out, ht_err *err) {
    ht_context_options o;
    ht_context_options_defaults(&o);
    *out = NULL;
    if (options != NULL) {
        if (options->size < sizeof options->size || options->size > sizeof o) {
            return ht_fail(err, HT_INVAL, "options", HT_NO_POS,
                           "size field says %zu bytes; fill options with ht_context_options_defaults",
                           options->size);
        }
        memcpy(&o, options, options->size);
    }
    struct ht_context *ctx = ht_mem_calloc(1, sizeof *ctx);
    if (ctx == NULL) {
        return ht_fail_nomem(err, sizeof *ctx);
    }
    ctx->log = o.log;
    ctx->progress = o.progress;
    ctx->user = o.user;
    ctx->tell_every_s = TELL_EVERY_S;
    ht_status status = ht_pool_new(o.threads != 0 ? o.threads : ht_cpu_count(), &ctx->pool, err);
    if (status != HT_OK) {
        ht_mem_free(ctx);
        return status;
    }
    *out = ctx;
    return HT_OK;
}

void ht_context_free(ht_context *ctx) {
    if (ctx != NULL) {
        ht_pool_free(ctx->pool);
        ht_mem_free(ctx);
    }
}

void ht_log(const struct ht_context *ctx, ht_log_level level, const char *fmt, ...) {
    if (ctx->log != NULL) {
        char text[1024];
        va_list args;
        va_start(args, fmt);
        vsnprintf(text, sizeof text, fmt, args);
        va_end(args);
        ctx->log(ctx->user, level, text);
    }
}

void ht_meter_init(struct ht_meter *meter, const struct ht_context *ctx, const char *stage, const char *unit,
                   uint64_t total) {
    *meter = (struct ht_meter){
        .ctx = ctx, .stage = stage, .unit = unit, .total = total, .started_s = ht_sys_now(), .told_s = -1.0};
}

ht_status ht_meter_again(struct ht_meter *m, ht_err *err) {
    return ht_meter_tell(m, m->done, m->bytes, m->item, err);
}

ht_status ht_meter_tell(struct ht_meter *m, uint64_t done, uint64_t bytes, const char *item, ht_err *err) {
    m->done = done;
    m->bytes = bytes;
    m->item = item;
    if (m->ctx->progress == NULL) {
        return HT_OK;
    }
    double now = ht_sys_now();
    if (done != m->total && m->told_s >= 0 && now - m->told_s < m->ctx->tell_every_s) {
        return HT_OK;
    }
    m->told_s = now;
    double elapsed = now - m->started_s;
    double eta = done == 0 ? -1.0 : elapsed * (double)(m->total - done) / (double)done;
    ht_progress p = {m->stage, item, done, m->total, m->unit, bytes, elapsed, eta};
    if (m->ctx->progress(m->ctx->user, &p) != 0) {
        return ht_fail(err, HT_CANCELLED, NULL, HT_NO_POS, "cancelled during %s", m->stage);
    }
    return HT_OK;
}
