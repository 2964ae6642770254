/* A rehearsal: what calibration and quantizing layer by layer will take, by the first layer on a few windows. Real
 * steps run, nothing is kept. */
#include <math.h>

#include "base/mem.h"
#include "base/sys.h"
#include "flow/quantize/quantize_blocks.h"

#define REHEARSAL_WINDOWS 3u
#define REHEARSAL_STEPS 3u /* of learning */

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

/* Seconds of one layer. */
struct costs {
    double pass, window; /* of collecting: once, and per window beyond that */
    double moved;        /* hidden states of one window go on */
    double once;         /* transforms and rounding */
    double learned;
    double passes;       /* collections, so many */
};

/* Calibration of n windows; *seconds: of collecting once, the second time. */
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

/* Where no text was read: ids that mean nothing. */
static ht_status rehearse_ids(struct blocks *b, ht_err *err) {
    uint64_t n = (uint64_t)b->job->window * REHEARSAL_WINDOWS;
    if (b->windows.ids != NULL) {
        b->windows.n = b->windows.n < REHEARSAL_WINDOWS ? b->windows.n : REHEARSAL_WINDOWS;
        return HT_OK;
    }
    b->windows = (struct ht_calib_windows){ht_mem_alloc_array(n, sizeof *b->windows.ids), REHEARSAL_WINDOWS,
                                           b->job->window};
    if (b->windows.ids == NULL) {
        return ht_fail_nomem(err, n * sizeof *b->windows.ids);
    }
    for (uint64_t i = 0; i < n; i++) {
        b->windows.ids[i] = (int32_t)(i * 7919 % b->model->hp.vocab);
    }
    return HT_OK;
}

/* A window costs what the third and second cost beyond the first; the rest of a pass is paid once per layer. */
static ht_status time_windows(struct blocks *b, struct costs *c, ht_err *err) {
    double one, some;
    uint64_t n = b->windows.n;
    HT_TRY(rehearse_collect(b, 1, &one, err));
    HT_TRY(rehearse_collect(b, n, &some, err));
    c->window = n > 1 && some > one ? (some - one) / (double)(n - 1) : some / (double)n;
    c->pass = fmax(some - c->window * (double)n, 0);
    return HT_OK;
}

/* Seconds of learning so many steps, from the same start. */
static ht_status time_steps(struct blocks *b, uint32_t steps, double *seconds, ht_err *err) {
    struct ht_choice way = b->way;
    char text[16];
    snprintf(text, sizeof text, "%u", steps);
    HT_TRY(ht_choice_set(&way, "steps", text, err));
    HT_TRY(ht_choice_set(&way, "checks", "1", err));
    struct ht_quant_learner l = {b->ctx, b->model, b->calib, &b->windows, 0, b->job->o->seed, &way, {NULL}, &b->meter,
                                 0};
    for (int role = 0; role < HT_ROLES; role++) {
        l.jobs[role] = b->pending[role].job;
    }
    struct span start = now();
    HT_TRY(ht_quant_learn_layer(&l, err));
    *seconds = since(start);
    return HT_OK;
}

/* A step costs what more of them cost beyond the first; windows that judge are forward passes. */
static ht_status time_learning(struct blocks *b, struct costs *c, ht_err *err) {
    bool any = false;
    double one, some, windows = (double)(b->job->calib_tokens / b->job->window), here = (double)b->windows.n;
    for (int role = 0; role < HT_ROLES; role++) {
        any |= b->pending[role].job != NULL;
    }
    if (!any) {
        return HT_OK;
    }
    ht_meter_init(&b->meter, b->ctx, "rehearse", "weights", 0);
    HT_TRY(time_steps(b, 1, &one, err));
    HT_TRY(time_steps(b, 1 + REHEARSAL_STEPS, &some, err));
    double batch = fmin(ht_choice_value(&b->way, "batch"), windows);
    double step = some > one ? (some - one) / REHEARSAL_STEPS : some / (1 + REHEARSAL_STEPS);
    step *= batch / fmin(batch, here);
    double judges = windows >= 6 ? windows / 6 : windows, checks = 1 + ht_choice_value(&b->way, "checks");
    c->learned = fmax(one - step - 2 * here * c->moved, 0) + step * ht_choice_value(&b->way, "steps") +
                 checks * judges * c->moved;
    return HT_OK;
}

/* The steps of quantize_blocks.c with the first layer. */
static ht_status time_layer(struct blocks *b, struct costs *c, ht_err *err) {
    double n = (double)b->windows.n, streams = 1;
    struct span start = now();
    if (b->calib != NULL && ht_calib_layers_hidden_float(b->calib) != NULL) {
        HT_TRY(ht_calib_layers_advance_float(b->calib, 0, err));
        streams = 2;
    }
    start = now();
    if (b->job->stats != NULL) {
        HT_TRY(ht_quant_stats_layer(b->job->stats, &b->model->layers[0], b->needs, err));
    }
    b->collects = 0;
    HT_TRY(ht_blocks_transform(b, 0, true, err));
    HT_TRY(ht_blocks_nearest(b, 0, err));
    HT_TRY(ht_blocks_transform(b, 0, false, err));
    HT_TRY(ht_blocks_solve(b, NULL, 0, err));
    c->once = fmax(since(start) - (double)b->collects * (c->pass + n * c->window), 0);
    c->passes = (double)(1 + b->collects);
    c->moved = c->window; /* about: learning wants it before the layer is final */
    HT_TRY(time_learning(b, c, err));
    if (b->calib != NULL) {
        start = now();
        HT_TRY(ht_calib_layers_advance(b->calib, 0, err));
        c->moved = since(start) / n;
    }
    c->moved *= streams;
    return HT_OK;
}

/* As the run does it, but for what is not there: NaN and Inf are only looked for where they may be. */
static ht_status load(struct blocks *b, bool blocks, ht_err *err) {
    const struct ht_quant_job *j = b->job;
    bool no_text = j->o->n_calib == 0;
    if (blocks) {
        HT_TRY(ht_blocks_load(b, no_text, err));
    } else {
        HT_TRY(ht_model_load_with(j->o->input, &(struct ht_model_options){.pre = j->o->pre}, &b->model, err));
    }
    if (j->o->allow_nonfinite) {
        HT_TRY(ht_finite_scan(b->ctx, j->plan, true, err));
        HT_TRY(ht_finite_mend(&b->mended, j->plan, b->model, err));
    }
    return no_text ? HT_OK : ht_quant_plan_text(b->ctx, b->job, b->model, &b->windows, err);
}

static ht_status rehearse(struct blocks *b, bool blocks, double *seconds, ht_err *err) {
    struct costs c = {.passes = 1};
    b->needs = blocks ? ht_recipe_needs(&b->job->recipe) : HT_NEEDS_MEAN_SQUARE;
    HT_TRY(rehearse_ids(b, err));
    HT_TRY(ht_blocks_save_layer(b, &b->model->layers[0], err));
    HT_TRY(time_windows(b, &c, err));
    if (blocks) {
        HT_TRY(time_layer(b, &c, err));
    }
    double windows = (double)(b->job->calib_tokens / b->job->window);
    *seconds = b->model->hp.n_layers *
               (c.passes * (c.pass + c.window * windows) + c.moved * windows + c.once + c.learned);
    return HT_OK;
}

ht_status ht_quant_rehearse(struct ht_context *ctx, struct ht_quant_job *job, double *seconds, ht_err *err) {
    bool blocks = ht_quant_wants_blocks(job);
    struct blocks *b = ht_mem_calloc(1, sizeof *b);
    if (b == NULL) {
        return ht_fail_nomem(err, sizeof *b);
    }
    b->ctx = ctx;
    b->job = job;
    ht_status status = load(b, blocks, err);
    struct ht_quant_job copy = *job; /* what transforms count is not the run's */
    b->job = &copy;
    if (status == HT_OK) {
        status = rehearse(b, blocks, seconds, err);
        ht_blocks_restore_layer(b, &b->model->layers[0]);
    }
    ht_blocks_free(b);
    if (status == HT_NUMERIC && !job->o->allow_nonfinite) { /* the run refuses such weights by name */
        ht_err weights = {0};
        if (ht_finite_scan(ctx, job->plan, false, &weights) == HT_NUMERIC && err != NULL) {
            *err = weights;
        }
    }
    return status;
}
