/* Transforms of a block that turn it, and those of which something is left to the run time. */
#include "quant/fold_job.h"
#include "quant/transform/transform.h"
#include "tensor/hadamard.h"

/* Norms on the residual stream become ones: their weights do not commute with a rotation. */
static ht_status fold_norms(struct ht_fold_job *job, const struct ht_foldsite *stream, ht_err *err) {
    for (const enum ht_role *norm = stream->along; *norm != HT_ROLE_OTHER; norm++) {
        for (const struct ht_foldsite *site = job->sites; site->name != NULL; site++) {
            bool here = site->span == HT_FOLD_CHANNELS && site->producers[0] == *norm;
            if (here && job->block->vectors[*norm].x != NULL) {
                HT_TRY(ht_fold_norm(job->block, site, err));
            }
        }
    }
    return HT_OK;
}

/* Each head's values by one Q of head_dim. Where the cache turns them by H once more, a second Q keeps the two from
 * meeting: H (H D) v would be v again. */
static ht_status turn_values(struct ht_fold_job *job, const struct ht_foldsite *site, ht_err *err) {
    for (uint64_t i = 0; i < (job->values_turned ? 2u : 1u); i++) {
        struct ht_rotation q;
        uint64_t seed = job->seed + 1 + 2 * (uint64_t)job->block->layer + i;
        HT_TRY(ht_rotation_init(&q, job->block->head_dim, seed, err));
        ht_status status = ht_fold_rotate(job->block, site, &q, job->pool, err);
        ht_rotation_deinit(&q);
        HT_TRY(status);
    }
    return HT_OK;
}

ht_status ht_fold_job_rotate(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        bool can = (site->kinds & HT_FOLD_ROTATE) != 0 && ht_fold_channels(job->block, site) != 0;
        if (can && site->span == HT_FOLD_RESIDUAL && job->stream != NULL) {
            HT_TRY(fold_norms(job, site, err));
            HT_TRY(ht_fold_rotate(job->block, site, job->stream, job->pool, err));
            job->n_sites++;
        }
        if (can && site->span == HT_FOLD_HEADS && ht_choice_value(choice, "values") != 0) {
            HT_TRY(turn_values(job, site, err));
            job->n_sites++;
        }
    }
    return HT_OK;
}

/* Inputs that no weight before can turn: those behind silu. */
ht_status ht_fold_job_rotate_inputs(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    static const enum ht_role roles[] = {HT_ROLE_FFN_DOWN, HT_ROLE_ATTN_OUTPUT};
    size_t n = ht_choice_value(choice, "output") != 0 ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        const struct ht_fold_matrix *m = &job->block->matrices[roles[i]];
        uint64_t block = m->w != NULL ? ht_hadamard_block(m->cols) : 0;
        if (block < 2) {
            continue; /* an odd number of inputs */
        }
        HT_TRY(ht_fold_rotate_inputs(job->block, roles[i], block, err));
        HT_TRY(ht_front_add(&job->fronts[roles[i]], m->rows, m->cols, HT_LEAVES_HADAMARD, (uint32_t)block, err));
        job->n_sites++;
    }
    return HT_OK;
}
