/* What leaves the grid of one linear, and what makes up for its errors. */
#include <string.h>

#include "base/mem.h"
#include "quant/job.h"
#include "quant/outlier/outlier.h"

/* ---- marks, before rounding ---- */

static ht_status new_keep(struct ht_job *job, ht_err *err) {
    job->keep = ht_mem_calloc(job->rows, job->cols);
    return job->keep != NULL ? HT_OK : ht_fail_nomem(err, job->rows * job->cols);
}

static struct ht_columns_options columns_options(const struct ht_choice *choice) {
    double fraction = ht_choice_value(choice, "fraction");
    return (struct ht_columns_options){.fraction = fraction,
                                       .bits = fraction > 0 ? 0 : ht_choice_value(choice, "bits")};
}

ht_status ht_job_keep_columns(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    const struct ht_columns_options o = columns_options(choice);
    HT_TRY(new_keep(job, err));
    return ht_keep_columns(job->pool, &job->scheme, job->w, job->rows, job->cols, job->stats->gram, &o,
                           job->keep, &job->report.columns, err);
}

ht_status ht_job_keep_sparse(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    const struct ht_sparse_options o = {.fraction = ht_choice_value(choice, "fraction"),
                                        .tau = ht_choice_value(choice, "tau"),
                                        .damping = ht_choice_value(choice, "damping")};
    HT_TRY(new_keep(job, err));
    return ht_keep_sparse(job->pool, &job->scheme, job->w, job->rows, job->cols, job->stats->gram, &o,
                          job->keep, &job->report.sparse, err);
}

ht_status ht_job_prune(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    double fraction = ht_choice_value(choice, "fraction");
    const struct ht_prune_options o = {.score = (enum ht_prune_score)ht_choice_value(choice, "score"),
                                       .n = (uint32_t)ht_choice_value(choice, "n"),
                                       .m = fraction > 0 ? 0 : (uint32_t)ht_choice_value(choice, "m"),
                                       .fraction = fraction,
                                       .damping = ht_choice_value(choice, "damping")};
    HT_TRY(new_keep(job, err));
    return ht_keep_pruned(job->pool, job->w, job->rows, job->cols, job->stats->gram, &o, job->keep,
                          &job->report.pruned, err);
}

ht_status ht_job_keep_salient(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    HT_TRY(new_keep(job, err));
    return ht_keep_salient(job->stats->mean_abs, job->rows, job->cols, ht_choice_value(choice, "fraction"), job->keep,
                           &job->report.columns, err);
}

/* ---- low rank: room before rounding, factors behind it ---- */

ht_status ht_job_keep_target(struct ht_job *job, ht_err *err) {
    job->target = ht_mem_alloc_aligned(job->rows, job->cols * sizeof *job->target);
    if (job->target == NULL) {
        return ht_fail_nomem(err, job->rows * job->cols * sizeof *job->target);
    }
    memcpy(job->target, job->w, job->rows * job->cols * sizeof *job->target);
    return HT_OK;
}

static unsigned expect_lowrank(struct ht_job *job, const struct ht_choice *choice) {
    uint64_t rank = (uint64_t)ht_choice_value(choice, "rank");
    uint64_t least = job->rows < job->cols ? job->rows : job->cols;
    job->side.leaves |= HT_LEAVES_LOWRANK;
    job->side.rank = (uint32_t)(rank < least ? rank : least);
    return HT_EXPECT_EXACT;
}

static ht_status want_lowrank(struct ht_job *job, const struct ht_choice *choice, enum ht_lowrank by, ht_err *err) {
    job->lowrank = by;
    expect_lowrank(job, choice);
    return ht_job_keep_target(job, err);
}

ht_status ht_job_lowrank(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    return want_lowrank(job, choice, HT_LOWRANK_PLAIN, err);
}

ht_status ht_job_lowrank_scaled(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    return want_lowrank(job, choice, HT_LOWRANK_SCALED, err);
}

ht_status ht_job_lowrank_moments(struct ht_job *job, const struct ht_choice *choice, ht_err *err) {
    return want_lowrank(job, choice, HT_LOWRANK_MOMENTS, err);
}

static ht_status fill_lowrank(struct ht_job *job, const float *values, float *room, ht_err *err) {
    const float *h = job->lowrank == HT_LOWRANK_MOMENTS  ? job->stats->gram
                     : job->lowrank == HT_LOWRANK_SCALED ? ht_job_importance(job, room)
                                                         : NULL;
    double before, after;
    return ht_outlier_lowrank(job->pool, job->target, values, job->rows, job->cols, h,
                              job->lowrank != HT_LOWRANK_MOMENTS, &job->side, &before, &after, err);
}

/* ---- the mean error of each output ---- */

/* Towards W E[x], W the weights as they came, also where drift was corrected for: that fits products without an
 * intercept, which shrinks them, and its mean output is further from the unquantized model's. */
static ht_status fill_bias(struct ht_job *job, const float *original, const float *values, ht_err *err) {
    float *bias = job->side.out_bias;
    if (job->center == HT_CENTER_BIAS) {
        bias = job->bias = ht_mem_calloc(job->rows, sizeof *bias);
        if (bias == NULL) {
            return ht_fail_nomem(err, job->rows * sizeof *bias);
        }
    }
    ht_outlier_bias(original, values, job->rows, job->cols, job->stats->mean, bias);
    return HT_OK;
}

ht_status ht_job_make_up(struct ht_job *job, const float *original, ht_err *err) {
    if (job->lowrank == HT_LOWRANK_NONE && job->center == HT_CENTER_NONE) {
        return HT_OK;
    }
    float *values = ht_mem_alloc_aligned(job->rows, job->cols * sizeof *values);
    float *room = ht_mem_alloc_array(2 * job->cols, sizeof *room);
    ht_status status = HT_OK;
    if (values == NULL || room == NULL) {
        status = ht_fail_nomem(err, (job->rows + 2) * job->cols * sizeof *values);
        goto done;
    }
    if (job->lowrank != HT_LOWRANK_NONE) {
        ht_job_decode(job, 0, job->rows, values, room);
        HT_TRY_DONE(fill_lowrank(job, values, room + job->cols, err));
    }
    if (job->center != HT_CENTER_NONE) {
        ht_job_decode(job, 0, job->rows, values, room);
        HT_TRY_DONE(fill_bias(job, original, values, err));
    }
done:
    ht_mem_free_aligned(values);
    ht_mem_free(room);
    return status;
}

/* ---- what will be left, before any of it is done ---- */

static unsigned expect_columns(struct ht_job *job, const struct ht_choice *choice) {
    const struct ht_columns_options o = columns_options(choice);
    job->side.n_out = (uint32_t)ht_columns_count(&o, job->rows, job->cols);
    job->side.leaves |= job->side.n_out > 0 ? HT_LEAVES_COLUMNS : 0;
    return HT_EXPECT_EXACT;
}

static unsigned expect_salient(struct ht_job *job, const struct ht_choice *choice) {
    job->side.n_out = (uint32_t)ht_salient_count(ht_choice_value(choice, "fraction"), job->cols);
    job->side.leaves |= job->side.n_out > 0 ? HT_LEAVES_COLUMNS : 0;
    return HT_EXPECT_EXACT;
}

/* Above a threshold there may be none or all. */
static unsigned expect_sparse(struct ht_job *job, const struct ht_choice *choice) {
    if (ht_choice_value(choice, "tau") > 0) {
        return HT_EXPECT_MORE;
    }
    job->side.n_sparse = ht_sparse_count(ht_choice_value(choice, "fraction"), job->rows, job->cols);
    job->side.leaves |= job->side.n_sparse > 0 ? HT_LEAVES_SPARSE : 0;
    return HT_EXPECT_EXACT;
}

static const struct {
    ht_part_run *run;
    unsigned (*expect)(struct ht_job *job, const struct ht_choice *choice);
} expected[] = {
    {ht_job_keep_columns, expect_columns},
    {ht_job_keep_salient, expect_salient},
    {ht_job_keep_sparse, expect_sparse},
    {ht_job_lowrank, expect_lowrank},
    {ht_job_lowrank_scaled, expect_lowrank},
    {ht_job_lowrank_moments, expect_lowrank},
};

unsigned ht_job_expect_outliers(struct ht_job *job, const struct ht_choice *choice) {
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        if (choice->part->run == expected[i].run) {
            return expected[i].expect(job, choice);
        }
    }
    return choice->part->leaves != HT_LEAVES_NOTHING ? HT_EXPECT_MORE : HT_EXPECT_EXACT;
}
