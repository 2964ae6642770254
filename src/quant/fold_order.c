/* Channels in an order that folds away: those that matter dealt over the groups of a row, or sorted into them. */
#include "base/mem.h"
#include "quant/fold_job.h"

/* Words of the option "of", in their order. */
enum { OF_INPUTS, OF_WEIGHTS, OF_OUTPUTS };

/* Columns of the role that share a scale: a group, of GGUF types a sub-block. 0: the row. */
static ht_status group_of(struct ht_fold_job *job, enum ht_role role, uint64_t *group, ht_err *err) {
    const struct ht_format *block;
    struct ht_scheme scheme;
    HT_TRY(job->grid(job->ctx, role, &block, &scheme, err));
    *group = block == NULL ? scheme.group : 0;
    if (block != NULL && block->fit != NULL) {
        struct ht_grid shape = {0};
        float zeros[HT_BLOCK_MAX] = {0};
        block->fit(zeros, NULL, &shape); /* the shape does not depend on the weights */
        *group = (uint64_t)shape.sub_len;
    }
    return HT_OK;
}

/* sum [inputs] gains the squares of the weights that each input meets. */
static void add_squares(const struct ht_fold_block *b, const struct ht_foldsite *site, double *sum) {
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        const struct ht_fold_matrix *m = &b->matrices[*role];
        for (uint64_t i = 0; i < m->rows * m->cols; i++) {
            sum[i % m->cols] += (double)m->w[i] * (double)m->w[i];
        }
    }
}

/* importance [n]: of each channel, over the heads that share it, E[x^2], the sum of w^2, or their product. */
static ht_status weigh(struct ht_fold_job *job, const struct ht_foldsite *site, const struct ht_choice *choice,
                       float *importance, ht_err *err) {
    const struct ht_fold_block *b = job->block;
    const struct ht_stats *stats = job->stats(job->ctx, site->consumers[0]);
    uint64_t inputs = ht_fold_inputs(b, site), segment = site->span == HT_FOLD_HEADS ? b->head_dim : inputs;
    uint64_t share = inputs / ht_fold_channels(b, site);
    int of = (int)ht_choice_value(choice, "of");
    if (stats == NULL || (stats->mean_square == NULL && stats->gram == NULL)) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "no token reached the inputs of layer %d", (int)b->layer);
    }
    double *sum = ht_mem_calloc(inputs, sizeof *sum);
    if (sum == NULL) {
        return ht_fail_nomem(err, inputs * sizeof *sum);
    }
    add_squares(b, site, sum);
    for (uint64_t j = 0; j < inputs; j++) {
        double square = stats->mean_square != NULL ? stats->mean_square[j] : stats->gram[j * inputs + j];
        importance[j / segment / share * segment + j % segment] +=
            (float)((of != OF_WEIGHTS ? square : 1) * (of != OF_INPUTS ? sum[j] : 1));
    }
    ht_mem_free(sum);
    return HT_OK;
}

/* Within each head, or over all channels: order [n]. */
static ht_status choose_order(const float *importance, uint64_t n, uint64_t segment, uint64_t group, bool deal,
                              uint32_t *order, ht_err *err) {
    for (uint64_t at = 0; at < n; at += segment) {
        HT_TRY(deal ? ht_order_deal(importance + at, (uint32_t)segment, (uint32_t)group, order + at, err)
                    : ht_order_sort(importance + at, (uint32_t)segment, order + at, err));
        for (uint64_t i = 0; i < segment; i++) {
            order[at + i] += (uint32_t)at;
        }
    }
    return HT_OK;
}

static ht_status order_site(struct ht_fold_job *job, const struct ht_foldsite *site, const struct ht_choice *choice,
                            ht_err *err) {
    uint64_t n = ht_fold_channels(job->block, site), group;
    uint64_t segment = site->span == HT_FOLD_HEADS ? job->block->head_dim : n;
    bool deal = ht_choice_value(choice, "by") == 0;
    struct ht_transform_report report = {.channels = n};
    HT_TRY(group_of(job, site->consumers[0], &group, err));
    /* Nothing before can take it; or each row, or head, lies in one group, which any order leaves as it is. */
    report.left_out = (site->kinds & HT_FOLD_PERMUTE) == 0 || group == 0 || group >= segment ||
                      (deal && segment % group != 0);
    if (report.left_out) {
        return ht_fold_note_add(job, site->name, choice, &report, err);
    }
    float *importance = ht_mem_calloc(n, sizeof *importance);
    uint32_t *order = ht_mem_alloc_array(n, sizeof *order);
    ht_status status = HT_OK;
    if (importance == NULL || order == NULL) {
        status = ht_fail_nomem(err, n * (sizeof *importance + sizeof *order));
        goto done;
    }
    HT_TRY_DONE(weigh(job, site, choice, importance, err));
    HT_TRY_DONE(choose_order(importance, n, segment, group, deal, order, err));
    ht_fold_job_changed(job, site);
    HT_TRY_DONE(ht_fold_permute(job->block, site, order, err));
    job->n_sites++;
    HT_TRY_DONE(ht_fold_note_add(job, site->name, choice, &report, err));
done:
    ht_mem_free(importance);
    ht_mem_free(order);
    return status;
}

ht_status ht_fold_job_order(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        bool inside = site->span == HT_FOLD_CHANNELS || site->span == HT_FOLD_HEADS;
        if (inside && ht_fold_channels(job->block, site) != 0) {
            HT_TRY(order_site(job, site, choice, err));
        }
    }
    return HT_OK;
}
