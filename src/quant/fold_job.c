#include "quant/fold_job.h"

#include "base/mem.h"
#include "quant/transform/transform.h"

/* Factors of one site into s [n]; *fold: whether to use them. */
typedef ht_status site_fn(struct ht_fold_job *job, const struct ht_foldsite *site,
                          const struct ht_choice *choice, float *s, struct ht_transform_report *report,
                          ht_err *err);

static ht_status scale_site(struct ht_fold_job *job, const struct ht_foldsite *site,
                            const struct ht_choice *choice, site_fn *factors, ht_err *err) {
    uint64_t n = ht_fold_channels(job->block, site);
    struct ht_transform_report report = {0};
    if (n == 0) {
        return HT_OK; /* this layer has no such site */
    }
    float *s = ht_mem_alloc_array(n, sizeof *s);
    if (s == NULL) {
        return ht_fail_nomem(err, n * sizeof *s);
    }
    ht_status status = factors(job, site, choice, s, &report, err);
    if (status == HT_OK) {
        status = ht_fold_scale(job->block, site, s, err);
    }
    ht_mem_free(s);
    job->n_sites++;
    job->channels += report.channels;
    job->dead += report.dead;
    job->clamped += report.clamped;
    return status;
}

/* Sites whose producer is a norm, and with `all` those behind matrices: values into the output projection, up
 * into down. */
static ht_status scale_sites(struct ht_fold_job *job, const struct ht_choice *choice, bool norms,
                             bool matrices, site_fn *factors, ht_err *err) {
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        bool scales = (site->kinds & HT_FOLD_SCALE) != 0 && site->span != HT_FOLD_RESIDUAL &&
                      site->span != HT_FOLD_PAIRS;
        bool norm = !ht_role_quantizable(site->producers[0]);
        if (scales && (norm ? norms : matrices)) {
            HT_TRY(scale_site(job, site, choice, factors, err));
        }
    }
    return HT_OK;
}

static ht_status migrate(struct ht_fold_job *job, const struct ht_foldsite *site,
                         const struct ht_choice *choice, float *s, struct ht_transform_report *report,
                         ht_err *err) {
    const struct ht_stats *seen = job->stats(job->ctx, site->consumers[0]);
    const struct ht_fold_stats stats = {.inputs = seen->cols, .tokens = seen->tokens, .absmax = seen->absmax};
    return ht_transform_migrate(job->block, site, &stats, ht_choice_value(choice, "alpha"), s, report, err);
}

ht_status ht_fold_job_migrate(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    return scale_sites(job, choice, true, ht_choice_value(choice, "all") != 0, migrate, err);
}

static ht_status equalize(struct ht_fold_job *job, const struct ht_foldsite *site,
                          const struct ht_choice *choice, float *s, struct ht_transform_report *report,
                          ht_err *err) {
    (void)choice;
    return ht_transform_equalize(job->block, site, s, report, err);
}

ht_status ht_fold_job_equalize(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    return scale_sites(job, choice, false, true, equalize, err);
}
