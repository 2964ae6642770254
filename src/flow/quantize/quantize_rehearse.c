/* A rehearsal: what quantizing layer by layer will take, by its first layer on a few windows. Real steps run, nothing
 * is kept. */
#include <math.h>

#include "base/mem.h"
#include "base/sys.h"
#include "flow/quantize/quantize_blocks.h"

#define REHEARSAL_WINDOWS 3u

/* Wall time, or CPU time where that is less: a moment in which others have the processors says little of the whole. */
struct span {
    double wall, cpu;
};

static struct span now(void) {
    return (struct span){ht_sys_now(), ht_sys_cpu_seconds()};
}

static double since(struct span start) {
    double wall = ht_sys_now() - start.wall, cpu = ht_sys_cpu_seconds() - start.cpu;
    return wall < cpu ? wall : cpu;
}

/* Calibration of n windows of ids that mean nothing; *seconds: of collecting once, the second time. */
static ht_status rehearse_collect(struct blocks *b, uint64_t n, double *seconds, ht_err *err) {
    const struct ht_calib_layers_options options = {.needs = b->needs, .math = HT_MATH_EXACT};
    *seconds = 0;
    ht_calib_layers_free(b->calib);
    b->calib = NULL;
    b->windows.n = n;
    if (b->needs == HT_NEEDS_NOTHING || b->job->stats != NULL) {
        return HT_OK;
    }
    HT_TRY(ht_calib_layers_new_with(b->ctx, b->model, &b->windows, &options, &b->calib, err));
    HT_TRY(ht_blocks_collect(b, 0, err));
    struct span start = now();
    HT_TRY(ht_blocks_collect(b, 0, err));
    *seconds = since(start);
    return HT_OK;
}

static ht_status rehearse_window(struct blocks *b, ht_err *err) {
    uint64_t n = (uint64_t)b->job->window * REHEARSAL_WINDOWS;
    b->windows = (struct ht_calib_windows){ht_mem_alloc_array(n, sizeof *b->windows.ids), 0, b->job->window};
    if (b->windows.ids == NULL) {
        return ht_fail_nomem(err, n * sizeof *b->windows.ids);
    }
    for (uint64_t i = 0; i < n; i++) {
        b->windows.ids[i] = (int32_t)(i * 7919 % b->model->hp.vocab);
    }
    return HT_OK;
}

/* A window costs what the third and second cost beyond the first; the rest of a pass, transforms and rounding are paid
 * once per layer. */
static ht_status rehearse(struct blocks *b, double *seconds, ht_err *err) {
    double one, some, moved = 0;
    HT_TRY(ht_blocks_load(b, true, err));
    if (b->job->o->allow_nonfinite) {
        HT_TRY(ht_finite_scan(b->ctx, b->job->plan, true, err));
        HT_TRY(ht_finite_mend(&b->mended, b->job->plan, b->model, err));
    }
    b->needs = ht_recipe_needs(&b->job->recipe);
    HT_TRY(rehearse_window(b, err));
    HT_TRY(ht_blocks_save_layer(b, &b->model->layers[0], err));
    HT_TRY(rehearse_collect(b, 1, &one, err));
    HT_TRY(rehearse_collect(b, REHEARSAL_WINDOWS, &some, err));
    double window = some > one ? (some - one) / (REHEARSAL_WINDOWS - 1) : some / REHEARSAL_WINDOWS;
    double pass = some - window * REHEARSAL_WINDOWS;
    struct span start = now();
    if (b->job->stats != NULL) {
        HT_TRY(ht_quant_stats_layer(b->job->stats, &b->model->layers[0], b->needs, err));
    }
    b->collects = 0;
    HT_TRY(ht_blocks_transform(b, 0, true, err));
    HT_TRY(ht_blocks_transform(b, 0, false, err));
    HT_TRY(ht_blocks_solve(b, NULL, 0, err));
    double once = fmax(since(start) - (double)b->collects * some, 0);
    if (b->calib != NULL) {
        start = now();
        HT_TRY(ht_calib_layers_advance(b->calib, 0, err));
        moved = since(start) / REHEARSAL_WINDOWS;
    }
    moved *= (b->needs & HT_NEEDS_CROSS) != 0 ? 2 : 1;
    double passes = (double)(1 + b->collects), windows = (double)(b->job->tokens / b->job->window);
    *seconds = b->model->hp.n_layers * (passes * (pass + window * windows) + moved * windows + once);
    return HT_OK;
}

ht_status ht_quant_blocks_seconds(struct ht_context *ctx, const struct ht_quant_job *job, double *seconds,
                                  ht_err *err) {
    struct ht_quant_job copy = *job; /* what transforms count is not the run's */
    struct blocks *b = ht_mem_calloc(1, sizeof *b);
    if (b == NULL) {
        return ht_fail_nomem(err, sizeof *b);
    }
    b->ctx = ctx;
    b->job = &copy;
    ht_status status = rehearse(b, seconds, err);
    if (b->model != NULL) {
        ht_blocks_restore_layer(b, &b->model->layers[0]);
    }
    ht_blocks_free(b);
    return status;
}
