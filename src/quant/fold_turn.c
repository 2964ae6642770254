/* Transforms of a block that turn it, and those of which something is left to the run time. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "quant/fold_job.h"
#include "quant/transform/transform.h"
#include "tensor/act.h"
#include "tensor/hadamard.h"

/* Norms on the residual stream become ones: their weights do not commute with a rotation. */
static ht_status fold_norms(struct ht_fold_job *job, const struct ht_foldsite *stream, ht_err *err) {
    for (const enum ht_role *norm = stream->along; *norm != HT_ROLE_OTHER; norm++) {
        for (const struct ht_foldsite *site = job->sites; site->name != NULL; site++) {
            bool here = site->span == HT_FOLD_CHANNELS && site->producers[0] == *norm;
            if (here && job->block->vectors[*norm].x != NULL) {
                HT_TRY(ht_fold_trail_scale(job->trail, job->block, site, job->block->vectors[*norm].x, err));
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
        HT_TRY(ht_fold_trail_rotate(job->trail, site, job->block->head_dim, seed, err));
    }
    return HT_OK;
}

ht_status ht_fold_job_rotate(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        bool can = (site->kinds & HT_FOLD_ROTATE) != 0 && ht_fold_channels(job->block, site) != 0;
        if (can && site->span == HT_FOLD_RESIDUAL && job->stream != NULL) {
            HT_TRY(fold_norms(job, site, err));
            HT_TRY(ht_fold_rotate(job->block, site, job->stream, job->pool, err));
            HT_TRY(ht_fold_trail_stream(job->trail, site, job->stream, err));
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
uint32_t ht_fold_turned_inputs(const struct ht_fold_block *b, enum ht_role role, const struct ht_choice *choice) {
    bool wanted = role == HT_ROLE_FFN_DOWN || (role == HT_ROLE_ATTN_OUTPUT && ht_choice_value(choice, "output") != 0);
    uint64_t block = wanted && b->matrices[role].w != NULL ? ht_hadamard_block(b->matrices[role].cols) : 0;
    return block < 2 ? 0 : (uint32_t)block;
}

ht_status ht_fold_job_rotate_inputs(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    for (enum ht_role role = 0; role < HT_ROLES; role++) {
        const struct ht_fold_matrix *m = &job->block->matrices[role];
        uint32_t block = ht_fold_turned_inputs(job->block, role, choice);
        if (block != 0) {
            ht_front_forget_cuts(&job->fronts[role]);
            HT_TRY(ht_fold_rotate_inputs(job->block, role, block, err));
            HT_TRY(ht_fold_trail_hadamard(job->trail, role, block, err));
            HT_TRY(ht_front_add(&job->fronts[role], m->rows, m->cols, HT_LEAVES_HADAMARD, block, err));
            job->n_sites++;
        }
    }
    return HT_OK;
}

/* ---- shift ------------------------------------------------------------------------------------------------- */

/* The grid of a linear's inputs; false: they stay as they are, as quantize's rounding will leave them. */
static ht_status inputs_grid(const struct ht_fold_job *job, enum ht_role role, struct ht_scheme *act, bool *rounded,
                             ht_err *err) {
    struct ht_place_recipe inputs;
    const struct ht_format *block;
    struct ht_scheme weights;
    ht_recipe_activations(job->recipe, role, job->block->layer, &inputs);
    HT_TRY(job->grid(job->ctx, role, &block, &weights, err));
    *rounded = inputs.format[0] != '\0' && (block == NULL || block->kind != HT_KIND_FLOAT);
    return *rounded ? ht_scheme_parse(inputs.format, act, err) : HT_OK;
}

/* Some consumer of the site gets rounded inputs. */
static ht_status rounds_inputs(const struct ht_fold_job *job, const struct ht_foldsite *site, bool *any, ht_err *err) {
    struct ht_scheme act;
    *any = false;
    for (const enum ht_role *role = site->consumers; !*any && *role != HT_ROLE_OTHER; role++) {
        HT_TRY(inputs_grid(job, *role, &act, any, err));
    }
    return HT_OK;
}

/* Tokens through the grid of activations. A fixed scale is taken from these tokens. */
ht_status ht_fold_try_inputs(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols, const float *s,
                             float *out, ht_err *err) {
    struct ht_sidecar side = {.rows = 1, .cols = cols, .leaves = HT_LEAVES_ACT};
    float scale, lo = 0, hi = 0;
    int32_t zero = 0;
    bool rounded;
    (void)s;
    HT_TRY(inputs_grid(ctx, role, &side.act, &rounded, err));
    memcpy(out, x, rows * cols * sizeof *out);
    if (!rounded) {
        return HT_OK;
    }
    struct ht_affine *grids = ht_mem_alloc_array(ht_act_segments(&side), sizeof *grids);
    if (grids == NULL) {
        return ht_fail_nomem(err, ht_act_segments(&side) * sizeof *grids);
    }
    if (side.act.granularity == HT_PER_TENSOR) {
        for (uint64_t i = 0; i < rows * cols; i++) {
            lo = fminf(lo, x[i]);
            hi = fmaxf(hi, x[i]);
        }
        struct ht_affine grid = ht_scheme_cover(&side.act, lo, hi);
        scale = grid.scale > 0 ? grid.scale : 1;
        zero = grid.zero;
        side.leaves |= HT_LEAVES_ACT_SCALE;
        side.act_scale = &scale;
        side.act_zero = &zero;
    }
    for (uint64_t i = 0; i < rows; i++) {
        ht_act_fit(&side, out + i * cols, grids);
        ht_act_values(&side, out + i * cols, grids);
    }
    ht_mem_free(grids);
    return HT_OK;
}

static bool has_bias(const struct ht_fold_block *b, enum ht_role role) {
    enum ht_role bias = ht_role_bias(role);
    return bias != HT_ROLE_OTHER && b->vectors[bias].x != NULL && b->vectors[bias].used;
}

bool ht_fold_shift_folds(const struct ht_fold_block *b, const struct ht_foldsite *site) {
    bool all = (site->kinds & HT_FOLD_SHIFT) != 0 && has_bias(b, site->producers[0]);
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        all = all && has_bias(b, *role);
    }
    return all;
}

/* W z into the consumers' biases, or beside them. z [n], in units of the input before any scale. */
static ht_status leave_bias(struct ht_fold_job *job, const struct ht_foldsite *site, enum ht_role role, const float *z,
                            ht_err *err) {
    const struct ht_fold_matrix *m = &job->block->matrices[role];
    float *more = ht_mem_alloc_array(m->rows, sizeof *more);
    if (more == NULL) {
        return ht_fail_nomem(err, m->rows * sizeof *more);
    }
    ht_status status = HT_OK;
    ht_fold_shift_bias(job->block, site, role, z, more);
    float *bias = has_bias(job->block, role) ? job->block->vectors[ht_role_bias(role)].x : NULL;
    if (bias == NULL) {
        status = ht_front_add(&job->fronts[role], m->rows, m->cols, HT_LEAVES_OUT_BIAS, 0, err);
        bias = job->fronts[role].side.out_bias;
    }
    for (uint64_t r = 0; status == HT_OK && r < m->rows; r++) {
        bias[r] += more[r];
    }
    ht_mem_free(more);
    return status;
}

/* x / s - z / s at run time. z, s [n]; the block still has the weights for x. */
static ht_status leave_shift(struct ht_fold_job *job, const struct ht_foldsite *site, const float *z, const float *s,
                             ht_err *err) {
    uint64_t n = ht_fold_channels(job->block, site), cols = ht_fold_inputs(job->block, site);
    float *moved = ht_mem_alloc_array(n, sizeof *moved);
    if (moved == NULL) {
        return ht_fail_nomem(err, n * sizeof *moved);
    }
    ht_status status = HT_OK;
    for (uint64_t j = 0; j < n; j++) {
        moved[j] = z[j] / s[j];
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        struct ht_front *front = &job->fronts[*role];
        HT_TRY_DONE(leave_bias(job, site, *role, z, err));
        HT_TRY_DONE(
            ht_front_add(front, job->block->matrices[*role].rows, cols, HT_LEAVES_IN_SHIFT, 0, err));
        ht_fold_widen(job->block, site, moved, front->side.in_shift);
    }
done:
    ht_mem_free(moved);
    return status;
}

/* Shift and threshold together, and a threshold alone: whichever loses less. Inputs that rest at 0 and reach far to one
 * side now and then would rest far from 0 when moved. z, s, room [n]; taken->shifted: z is taken. */
static ht_status find_shift(struct ht_fold_job *job, const struct ht_foldsite *site, const struct ht_choice *choice,
                            float *z, float *s, float *room, struct ht_transform_report *taken, ht_err *err) {
    bool rounded;
    HT_TRY(rounds_inputs(job, site, &rounded, err));
    const struct ht_trial trial = {.weights = ht_fold_try_weights,
                                   .inputs = rounded ? ht_fold_try_inputs : NULL,
                                   .ctx = job,
                                   .pool = job->pool,
                                   .relative = ht_choice_value(choice, "relative") != 0,
                                   .max_rows = (uint64_t)ht_choice_value(choice, "rows")};
    const struct ht_stats *stats = job->stats(job->ctx, site->consumers[0]);
    uint32_t grid = (uint32_t)ht_choice_value(choice, "grid");
    struct ht_transform_report moved, with, without;
    if (stats == NULL) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "no token reached the inputs of layer %d",
                       (int)job->block->layer);
    }
    HT_TRY(ht_transform_shift(job->block, site, stats, z, &moved, err));
    HT_TRY(ht_transform_threshold(&trial, job->block, site, stats, z, grid, s, &with, err));
    HT_TRY(ht_transform_threshold(&trial, job->block, site, stats, NULL, grid, room, &without, err));
    bool shifted = with.loss < without.loss || ht_choice_value(choice, "always") != 0;
    if (!shifted) {
        memcpy(s, room, with.channels * sizeof *s);
    }
    *taken = shifted ? with : without;
    taken->shifted = shifted;
    taken->loss_other = shifted ? without.loss : with.loss;
    taken->loss_before = without.loss_before; /* neither moved nor scaled */
    taken->trials = with.trials + without.trials;
    if (shifted) {
        taken->least_shift = moved.least;
        taken->most_shift = moved.most;
        taken->run_time = !ht_fold_shift_folds(job->block, site);
    }
    return HT_OK;
}

static ht_status shift_site(struct ht_fold_job *job, const struct ht_foldsite *site, const struct ht_choice *choice,
                            ht_err *err) {
    uint64_t n = ht_fold_channels(job->block, site);
    float *z = ht_mem_alloc_array(3 * n, sizeof *z), *s;
    struct ht_transform_report report = {0};
    if (z == NULL) {
        return ht_fail_nomem(err, 3 * n * sizeof *z);
    }
    s = z + n;
    ht_status status = find_shift(job, site, choice, z, s, s + n, &report, err);
    if (status == HT_OK && report.shifted) {
        status = report.run_time ? leave_shift(job, site, z, s, err) : ht_fold_shift(job->block, site, z, err);
    }
    if (status == HT_OK) {
        status = ht_fold_job_scale(job, site, s, err);
    }
    float *beside = job->fronts[site->producers[0]].side.out_bias; /* of an earlier site: an output's as well */
    for (uint64_t j = 0; status == HT_OK && beside != NULL && j < n; j++) {
        beside[j] /= s[j];
    }
    ht_mem_free(z);
    job->n_sites++;
    return status == HT_OK ? ht_fold_note_add(job, site->name, choice, &report, err) : status;
}

bool ht_fold_shifts_at(const struct ht_fold_block *b, const struct ht_foldsite *site, const struct ht_choice *choice) {
    bool inside = site->span == HT_FOLD_CHANNELS || site->span == HT_FOLD_HEADS;
    bool norm = !ht_role_quantizable(site->producers[0]);
    return inside && (site->kinds & HT_FOLD_SCALE) != 0 && (norm || ht_choice_value(choice, "all") != 0) &&
           ht_fold_channels(b, site) != 0;
}

ht_status ht_fold_job_shift(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        if (ht_fold_shifts_at(job->block, site, choice)) {
            HT_TRY(shift_site(job, site, choice, err));
        }
    }
    return HT_OK;
}

/* ---- clusters ---------------------------------------------------------------------------------------------- */

static ht_status reorder(float *x, const uint32_t *order, uint64_t n, ht_err *err) {
    float *t = x != NULL ? ht_mem_alloc_array(n, sizeof *t) : NULL;
    if (x == NULL || t == NULL) {
        return x == NULL ? HT_OK : ht_fail_nomem(err, n * sizeof *t);
    }
    memcpy(t, x, n * sizeof *t);
    for (uint64_t j = 0; j < n; j++) {
        x[j] = t[order[j]];
    }
    ht_mem_free(t);
    return HT_OK;
}

/* What earlier parts left beside the members of a site whose channels change places. */
static ht_status reorder_fronts(struct ht_fold_job *job, const struct ht_foldsite *site, const uint32_t *order,
                                uint64_t n, ht_err *err) {
    const enum ht_role *outputs[2] = {site->producers, site->along};
    for (int k = 0; k < 2; k++) {
        for (const enum ht_role *role = outputs[k]; *role != HT_ROLE_OTHER; role++) {
            HT_TRY(reorder(job->fronts[*role].side.out_bias, order, n, err));
            HT_TRY(reorder(job->fronts[*role].unit, order, n, err));
        }
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        HT_TRY(reorder(job->fronts[*role].side.in_shift, order, n, err));
        HT_TRY(reorder(job->fronts[*role].side.in_scale, order, n, err));
    }
    return HT_OK;
}

bool ht_fold_order_folds(const struct ht_foldsite *site, const struct ht_front *front) {
    bool turned = (front->side.leaves & HT_LEAVES_HADAMARD) != 0; /* the order is behind it */
    return (site->kinds & HT_FOLD_PERMUTE) != 0 && site->span == HT_FOLD_CHANNELS && !turned;
}

bool ht_fold_clusters_at(const struct ht_fold_block *b, const struct ht_foldsite *site) {
    bool inside = site->span == HT_FOLD_CHANNELS || site->span == HT_FOLD_HEADS;
    return inside && ht_fold_inputs(b, site) != 0;
}

/* Every consumer of the site gets the clusters, and the order where no weight before can have it. */
static ht_status set_clusters(struct ht_fold_job *job, const struct ht_foldsite *site, const uint32_t *order,
                              const uint32_t *first, uint32_t n, ht_err *err) {
    uint64_t cols = ht_fold_inputs(job->block, site);
    bool folds = ht_fold_order_folds(site, &job->fronts[site->consumers[0]]);
    ht_fold_job_changed(job, site);
    if (folds) {
        HT_TRY(ht_fold_permute(job->block, site, order, err));
        HT_TRY(reorder_fronts(job, site, order, cols, err));
    } else {
        HT_TRY(ht_fold_permute_inputs(job->block, site, order, err));
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        struct ht_front *front = &job->fronts[*role];
        if (!folds) {
            HT_TRY(ht_front_add(front, job->block->matrices[*role].rows, cols, HT_LEAVES_PERM, 0, err));
            memcpy(front->side.perm, order, cols * sizeof *order);
        }
        front->clusters = ht_mem_alloc_array(n, sizeof *front->clusters);
        if (front->clusters == NULL) {
            return ht_fail_nomem(err, n * sizeof *first);
        }
        memcpy(front->clusters, first, n * sizeof *first);
        front->n_clusters = n;
    }
    return HT_OK;
}

static ht_status cluster_site(struct ht_fold_job *job, const struct ht_foldsite *site, const struct ht_choice *choice,
                              ht_err *err) {
    uint32_t k = (uint32_t)ht_choice_value(choice, "k");
    const struct ht_stats *stats = job->stats(job->ctx, site->consumers[0]);
    uint64_t cols = ht_fold_inputs(job->block, site);
    if (stats == NULL || stats->min == NULL) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "no token reached the inputs of layer %d",
                       (int)job->block->layer);
    }
    uint32_t n = 0, *order = ht_mem_alloc_array(cols + k, sizeof *order);
    if (order == NULL) {
        return ht_fail_nomem(err, (cols + k) * sizeof *order);
    }
    ht_status status =
        ht_order_cluster(stats->min, stats->max, (uint32_t)cols, k, job->seed, order, order + cols, &n, err);
    if (status == HT_OK) {
        status = set_clusters(job, site, order, order + cols, n, err);
    }
    ht_mem_free(order);
    job->n_sites++;
    const struct ht_transform_report report = {
        .channels = cols,
        .clusters = n,
        .run_time = (job->fronts[site->consumers[0]].side.leaves & HT_LEAVES_PERM) != 0};
    return status == HT_OK ? ht_fold_note_add(job, site->name, choice, &report, err) : status;
}

ht_status ht_fold_job_cluster(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err) {
    for (const struct ht_foldsite *site = job->sites; site != NULL && site->name != NULL; site++) {
        if (ht_fold_clusters_at(job->block, site)) {
            HT_TRY(cluster_site(job, site, choice, err));
        }
    }
    return HT_OK;
}
