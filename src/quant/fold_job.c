#include "quant/fold_job.h"

#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "quant/job.h"
#include "quant/mix.h"
#include "quant/range_scheme.h"
#include "quant/transform/transform.h"

/* Factors of one site into s [n]. */
typedef ht_status site_fn(struct ht_fold_job *job, const struct ht_foldsite *site,
                          const struct ht_choice *choice, float *s, struct ht_transform_report *report,
                          ht_err *err);

ht_status ht_fold_note_add(struct ht_fold_job *job, const char *site, const struct ht_choice *choice,
                           const struct ht_transform_report *report, ht_err *err) {
    struct ht_fold_note *notes = ht_mem_realloc_array(job->notes, job->n_notes + 1, sizeof *notes);
    if (notes == NULL) {
        return ht_fail_nomem(err, (job->n_notes + 1) * sizeof *notes);
    }
    job->notes = notes;
    struct ht_fold_note *note = &notes[job->n_notes++];
    memset(note, 0, sizeof *note);
    snprintf(note->site, sizeof note->site, "%s", site);
    snprintf(note->part, sizeof note->part, "%s", choice->part->name);
    note->layer = job->block->layer;
    note->report = *report;
    job->channels += report->channels;
    job->dead += report->dead;
    job->clamped += report->clamped;
    job->cut += report->cut;
    job->trials += report->trials;
    return HT_OK;
}

/* Outputs of the role become y / s. */
static ht_status divide_unit(struct ht_fold_job *job, enum ht_role role, const float *s, ht_err *err) {
    uint64_t rows = job->block->matrices[role].rows;
    struct ht_front *front = &job->fronts[role];
    if (front->unit == NULL) {
        front->unit = ht_mem_alloc_array(rows, sizeof *front->unit);
        if (front->unit == NULL) {
            return ht_fail_nomem(err, rows * sizeof *front->unit);
        }
        for (uint64_t r = 0; r < rows; r++) {
            front->unit[r] = 1;
        }
    }
    for (uint64_t r = 0; r < rows; r++) {
        front->unit[r] *= 1.0f / s[r]; /* as the rows are */
    }
    return HT_OK;
}

void ht_fold_job_changed(struct ht_fold_job *job, const struct ht_foldsite *site) {
    const enum ht_role *members[] = {site->producers, site->along, site->consumers};
    for (int k = 0; k < 3 && job->fronts != NULL; k++) {
        for (const enum ht_role *role = members[k]; *role != HT_ROLE_OTHER; role++) {
            ht_front_forget_cuts(&job->fronts[*role]);
        }
    }
}

ht_status ht_fold_job_scale(struct ht_fold_job *job, const struct ht_foldsite *site, const float *s, ht_err *err) {
    HT_TRY(ht_fold_scale(job->block, site, s, err));
    HT_TRY(ht_fold_trail_scale(job->trail, job->block, site, s, err));
    enum ht_role producer = site->producers[0];
    ht_fold_job_changed(job, site);
    bool matrix = job->block->matrices[producer].w != NULL;
    return matrix && job->fronts != NULL ? divide_unit(job, producer, s, err) : HT_OK;
}

static ht_status scale_site(struct ht_fold_job *job, const struct ht_foldsite *site,
                            const struct ht_choice *choice, site_fn *factors, ht_err *err) {
    uint64_t n = ht_fold_channels(job->block, site);
    struct ht_transform_report report = {0};
    if (n == 0) {
        return HT_OK; /* this layer has no such site */
    }
    uint64_t inputs = ht_fold_inputs(job->block, site);
    float *s = ht_mem_alloc_array(n + inputs, sizeof *s);
    if (s == NULL) {
        return ht_fail_nomem(err, (n + inputs) * sizeof *s);
    }
    ht_status status = factors(job, site, choice, s, &report, err);
    if (status == HT_OK) {
        status = ht_fold_job_scale(job, site, s, err);
    }
    if (status == HT_OK) {
        ht_fold_widen(job->block, site, s, s + n);
        job->stale |= !job->divided(job->ctx, site, s + n);
    }
    ht_mem_free(s);
    job->n_sites++;
    return status == HT_OK ? ht_fold_note_add(job, site->name, choice, &report, err) : status;
}

/* Sites whose producer is a norm, and those behind matrices: values into the output projection, up into down.
 */
static ht_status scale_sites(struct ht_fold_job *job, const struct ht_choice *choice, bool norms,
                             bool matrices, site_fn *factors, ht_err *err) {
    job->stale = false;
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        bool inside = site->span == HT_FOLD_CHANNELS || site->span == HT_FOLD_HEADS;
        bool norm = !ht_role_quantizable(site->producers[0]);
        if ((site->kinds & HT_FOLD_SCALE) != 0 && inside && (norm ? norms : matrices)) {
            HT_TRY(scale_site(job, site, choice, factors, err));
        }
    }
    return HT_OK;
}

static ht_status migrate(struct ht_fold_job *job, const struct ht_foldsite *site,
                         const struct ht_choice *choice, float *s, struct ht_transform_report *report,
                         ht_err *err) {
    double alpha = ht_choice_value(choice, "alpha");
    HT_TRY(ht_transform_migrate(job->block, site, job->stats(job->ctx, site->consumers[0]), alpha, s, report, err));
    report->alpha = alpha;
    return HT_OK;
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

/* ---- trials: what the rest of the recipe makes of a matrix, rounded to nearest ---- */

#define DECODE_ROWS 16u

struct decoding {
    const struct ht_job *job;
    float *out, *scratch; /* scratch [threads, cols] */
};

static void decode_task(void *ctx, size_t task, int thread) {
    const struct decoding *d = ctx;
    uint64_t row = task * DECODE_ROWS, cols = d->job->cols;
    uint64_t n = d->job->rows - row < DECODE_ROWS ? d->job->rows - row : DECODE_ROWS;
    ht_job_decode(d->job, row, n, d->out + row * cols, d->scratch + (uint64_t)thread * cols);
}

/* x [rows, cols] through the grid of the role, by the job of one linear without its feedback; codes by the format's
 * own range, whatever the recipe searches later. */
ht_status ht_fold_try_weights(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols,
                              const float *s, float *out, ht_err *err) {
    struct ht_fold_job *job = ctx;
    const struct ht_stats *seen = job->stats(job->ctx, role);
    struct ht_stats stats = {.cols = cols, .tokens = seen != NULL ? seen->tokens : 0};
    uint64_t threads = (uint64_t)ht_pool_threads(job->pool);
    float *square = ht_mem_alloc_array((1 + threads) * cols, sizeof *square);
    if (square == NULL) {
        return ht_fail_nomem(err, (1 + threads) * cols * sizeof *square);
    }
    if (seen != NULL && (seen->mean_square != NULL || seen->gram != NULL)) {
        for (uint64_t j = 0; j < cols; j++) { /* inputs will be divided by s */
            float v = seen->mean_square != NULL ? seen->mean_square[j] : seen->gram[j * cols + j];
            square[j] = s != NULL ? v / (s[j] * s[j]) : v;
        }
        stats.mean_square = square;
    }
    struct ht_place_recipe how;
    ht_recipe_weights(job->recipe, role, job->block->layer, &how);
    struct ht_job one = {.pool = job->pool,
                         .name = ht_role_name(role),
                         .weights = &how,
                         .w = (float *)(uintptr_t)x,
                         .rows = rows,
                         .cols = cols,
                         .stats = &stats};
    ht_status status = job->grid(job->ctx, role, &one.block, &one.scheme, err);
    if (status == HT_OK && one.block == NULL) { /* a search costs a hundred times as much; trials compare exponents */
        status = ht_choice_parse(HT_AXIS_RANGE, "own", &how.range, err);
    }
    if (status == HT_OK) {
        status = ht_job_round_nearest(&one, NULL, err);
    }
    if (status == HT_OK) {
        struct decoding d = {&one, out, square + cols};
        ht_pool_run(one.pool, (size_t)((rows + DECODE_ROWS - 1) / DECODE_ROWS), decode_task, &d);
    }
    ht_job_release(&one);
    ht_mem_free(square);
    return status;
}

static ht_status search(struct ht_fold_job *job, const struct ht_foldsite *site,
                        const struct ht_choice *choice, float *s, struct ht_transform_report *report,
                        ht_err *err) {
    const struct ht_trial trial = {.weights = ht_fold_try_weights,
                                   .ctx = job,
                                   .pool = job->pool,
                                   .max_rows = (uint64_t)ht_choice_value(choice, "rows")};
    ht_factors_fn *const factors[] = {ht_transform_magnitude, ht_transform_migrate};
    return ht_transform_search(factors[(int)ht_choice_value(choice, "by")], &trial, job->block, site,
                               job->stats(job->ctx, site->consumers[0]),
                               (uint32_t)ht_choice_value(choice, "grid"), s, report, err);
}

ht_status ht_fold_job_search(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    return scale_sites(job, choice, true, true, search, err);
}

/* Columns that share a scale; 0: the row. */
static uint64_t group_of(const struct ht_format *block, const struct ht_scheme *scheme) {
    return block != NULL ? block->block_elems : scheme->group;
}

/* The matrix as it was stays known, by what was cut. */
static ht_status clip_matrix(struct ht_fold_job *job, const struct ht_trial *trial, enum ht_role role, uint64_t group,
                             uint32_t grid, struct ht_transform_report *report, ht_err *err) {
    const struct ht_fold_matrix *m = &job->block->matrices[role];
    uint64_t n = m->rows * m->cols;
    float *was = ht_mem_alloc_aligned(m->rows, m->cols * sizeof *was);
    if (was == NULL) {
        return ht_fail_nomem(err, n * sizeof *was);
    }
    memcpy(was, m->w, n * sizeof *was);
    ht_status status =
        ht_transform_clip(trial, job->block, role, job->stats(job->ctx, role), group, grid, report, err);
    if (status == HT_OK && job->fronts != NULL) {
        status = ht_front_cut(&job->fronts[role], was, m->w, n, err);
    }
    ht_mem_free_aligned(was);
    return status;
}

ht_status ht_fold_job_clip(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    job->stale = false; /* a first step of rounding: statistics are those of the layer before it */
    const struct ht_trial trial = {.weights = ht_fold_try_weights, .ctx = job, .pool = job->pool};
    for (int i = 0; i < HT_ROLES; i++) {
        enum ht_role role = (enum ht_role)i;
        const struct ht_stats *stats = job->stats(job->ctx, role);
        const struct ht_format *block;
        struct ht_scheme scheme;
        struct ht_transform_report report = {0};
        /* Queries and keys meet in a product, which the error of their own outputs says little of: left as
         * they are. */
        if (job->block->matrices[i].w == NULL || stats == NULL || role == HT_ROLE_ATTN_Q ||
            role == HT_ROLE_ATTN_K) {
            continue;
        }
        HT_TRY(job->grid(job->ctx, role, &block, &scheme, err));
        HT_TRY(clip_matrix(job, &trial, role, group_of(block, &scheme), (uint32_t)ht_choice_value(choice, "grid"),
                           &report, err));
        job->n_sites++;
        HT_TRY(ht_fold_note_add(job, ht_role_name(role), choice, &report, err));
    }
    return HT_OK;
}
