/* ONE BLOCK on its way through step 1: transforms change several linears and norms at once, at the fold sites of the
 * architecture. What a transform of part.c sees: the block in f32, the sites, and statistics by role. */
#ifndef HT_QUANT_FOLD_JOB_H
#define HT_QUANT_FOLD_JOB_H

#include "base/pool.h"
#include "quant/fold_trail.h"
#include "quant/job.h"
#include "quant/transform/rotation.h"
#include "quant/transform/transform.h"
#include "tensor/fold.h"

/* What a part that looks at statistics did at one site: plain numbers, work files hold it as it is. */
struct ht_fold_note {
    char site[32], part[32]; /* a fold site, or (clip) the role of a matrix */
    int32_t layer;
    uint32_t reserved;
    struct ht_transform_report report;
};

struct ht_fold_job {
    struct ht_pool *pool;
    struct ht_fold_block *block;     /* changed in place */
    const struct ht_foldsite *sites; /* the architecture's; name NULL ends them */
    struct ht_front *fronts;         /* [HT_ROLES] what is left in front of each linear; NULL: nothing may be */
    struct ht_fold_trail *trail;     /* takes down what happens to inputs, of parts that need no statistics; or NULL */
    const struct ht_rotation *stream; /* of the residual stream, the same for every layer; NULL: there is none */
    uint64_t seed;
    bool values_turned;              /* the cache turns keys and values by H itself */
    const struct ht_recipe *recipe;  /* for parts that try: what becomes of a matrix afterwards */
    /* Statistics of the input of a linear as the block stands; NULL: none were collected. */
    const struct ht_stats *(*stats)(void *ctx, enum ht_role role);
    /* The grid that a linear will have: a format of the table in *block, else NULL and a scheme. */
    ht_status (*grid)(void *ctx, enum ht_role role, const struct ht_format **block, struct ht_scheme *scheme,
                      ht_err *err);
    /* The inputs of the site's consumers were divided by s [inputs]: stats follow. False: they cannot. */
    bool (*divided)(void *ctx, const struct ht_foldsite *site, const float *s);
    void *ctx;
    bool stale; /* stats are not those of the block any more: true before each part, which clears it where they are */
    /* what happened, added up over sites */
    uint64_t n_sites, channels, dead, clamped, cut, trials;
    struct ht_fold_note *notes; /* [n_notes] of parts that look at statistics; the caller's to release, ht_mem_free */
    size_t n_notes;
};

/* Weights of the site's members are others now: what clipping took down of them holds no more. */
void ht_fold_job_changed(struct ht_fold_job *job, const struct ht_foldsite *site);
/* Consumers of the site read x / s, and the matrix in front of it gives y / s: the block, the trail and the producer's
 * unit. */
ht_status ht_fold_job_scale(struct ht_fold_job *job, const struct ht_foldsite *site, const float *s, ht_err *err);
/* One more note, its numbers added to the job's sums. HT_NOMEM. */
ht_status ht_fold_note_add(struct ht_fold_job *job, const char *site, const struct ht_choice *choice,
                           const struct ht_transform_report *report, ht_err *err);

ht_status ht_fold_job_migrate(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_search(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_clip(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_equalize(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_rotate(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_rotate_inputs(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_shift(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_order(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_fold_job_cluster(struct ht_fold_job *job, const struct ht_choice *choice, ht_err *err);

/* Where these parts work and what they leave there; shapes decide, and that a matrix or vector is there at all. */
bool ht_fold_shifts_at(const struct ht_fold_block *b, const struct ht_foldsite *site, const struct ht_choice *choice);
/* All biases that a folded shift changes are in the file. */
bool ht_fold_shift_folds(const struct ht_fold_block *b, const struct ht_foldsite *site);
bool ht_fold_clusters_at(const struct ht_fold_block *b, const struct ht_foldsite *site);
/* front: of the site's consumers. */
bool ht_fold_order_folds(const struct ht_foldsite *site, const struct ht_front *front);
/* Block of the transform in front of this role's inputs; 0: none, as of an odd number of inputs. */
uint32_t ht_fold_turned_inputs(const struct ht_fold_block *b, enum ht_role role, const struct ht_choice *choice);
/* fold_expect.c: what the recipe's transforms will leave in front of the linears of a block, before any of it is
 * done: fronts [HT_ROLES] get leaves, hadamard and n_clusters, and no memory. Where matrices and vectors point to is
 * not read, only whether they do. Returns enum ht_expect. */
unsigned ht_fold_expect(const struct ht_recipe *recipe, const struct ht_fold_block *block,
                        const struct ht_foldsite *sites, struct ht_front *fronts);

/* What the rest of the recipe, its rules included, makes of matrices and tokens of a role: ctx is a struct ht_fold_job.
 * Inputs of a linear that the rules keep in floating point, or whose weights stay there, come back as they are. */
ht_status ht_fold_try_weights(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols,
                              const float *s, float *out, ht_err *err);
ht_status ht_fold_try_inputs(void *ctx, enum ht_role role, const float *x, uint64_t rows, uint64_t cols,
                             const float *s, float *out, ht_err *err);

#endif
