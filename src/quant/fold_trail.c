#include "quant/fold_trail.h"

#include "base/mem.h"
#include "tensor/hadamard.h"

struct ht_fold_step {
    const struct ht_foldsite *site; /* its consumers; NULL: the role alone */
    enum ht_role role;
    float *s;                    /* [cols] factors of columns, or NULL */
    const struct ht_rotation *q; /* of the stream, or NULL */
    struct ht_rotation own;      /* n 0: none */
    uint64_t hadamard;           /* 0: none */
};

void ht_fold_trail_deinit(struct ht_fold_trail *trail) {
    for (size_t i = 0; i < trail->n; i++) {
        ht_mem_free(trail->steps[i].s);
        ht_rotation_deinit(&trail->steps[i].own);
    }
    ht_mem_free(trail->steps);
    *trail = (struct ht_fold_trail){0};
}

static ht_status append(struct ht_fold_trail *trail, struct ht_fold_step **step, ht_err *err) {
    struct ht_fold_step *steps = ht_mem_realloc_array(trail->steps, trail->n + 1, sizeof *steps);
    if (steps == NULL) {
        return ht_fail_nomem(err, (trail->n + 1) * sizeof *steps);
    }
    trail->steps = steps;
    *step = &steps[trail->n++];
    **step = (struct ht_fold_step){.role = HT_ROLE_OTHER};
    return HT_OK;
}

ht_status ht_fold_trail_scale(struct ht_fold_trail *trail, const struct ht_fold_block *block,
                              const struct ht_foldsite *site, const float *s, ht_err *err) {
    struct ht_fold_step *step = NULL;
    if (trail == NULL) {
        return HT_OK;
    }
    uint64_t cols = ht_fold_inputs(block, site);
    HT_TRY(append(trail, &step, err));
    step->site = site;
    step->s = ht_mem_alloc_array(cols, sizeof *step->s);
    if (step->s == NULL) {
        return ht_fail_nomem(err, cols * sizeof *step->s);
    }
    ht_fold_widen(block, site, s, step->s);
    return HT_OK;
}

ht_status ht_fold_trail_rotate(struct ht_fold_trail *trail, const struct ht_foldsite *site, uint64_t n, uint64_t seed,
                               ht_err *err) {
    struct ht_fold_step *step = NULL;
    if (trail == NULL) {
        return HT_OK;
    }
    HT_TRY(append(trail, &step, err));
    step->site = site;
    return ht_rotation_init(&step->own, n, seed, err);
}

ht_status ht_fold_trail_stream(struct ht_fold_trail *trail, const struct ht_foldsite *site,
                               const struct ht_rotation *q, ht_err *err) {
    struct ht_fold_step *step = NULL;
    if (trail == NULL) {
        return HT_OK;
    }
    HT_TRY(append(trail, &step, err));
    step->site = site;
    step->q = q;
    return HT_OK;
}

ht_status ht_fold_trail_hadamard(struct ht_fold_trail *trail, enum ht_role role, uint64_t block, ht_err *err) {
    struct ht_fold_step *step = NULL;
    if (trail == NULL) {
        return HT_OK;
    }
    HT_TRY(append(trail, &step, err));
    step->role = role;
    step->hadamard = block;
    return HT_OK;
}

static bool reads(const struct ht_fold_step *step, enum ht_role role) {
    bool found = step->role == role;
    for (const enum ht_role *r = step->site != NULL ? step->site->consumers : NULL;
         r != NULL && *r != HT_ROLE_OTHER && !found; r++) {
        found = *r == role;
    }
    return found;
}

ht_status ht_fold_trail_apply(const struct ht_fold_trail *trail, enum ht_role role, struct ht_pool *pool, float *x,
                              uint64_t n, uint64_t cols, ht_err *err) {
    for (size_t i = 0; i < trail->n; i++) {
        const struct ht_fold_step *step = &trail->steps[i];
        const struct ht_rotation *q = step->q != NULL ? step->q : step->own.n != 0 ? &step->own : NULL;
        if (!reads(step, role)) {
            continue;
        }
        for (uint64_t j = 0; step->s != NULL && j < n * cols; j++) {
            x[j] *= step->s[j % cols];
        }
        if (q != NULL) {
            HT_TRY(ht_rotation_rows(q, pool, x, n * (cols / q->n), q->n, err));
        }
        for (uint64_t r = 0; step->hadamard != 0 && r < n; r++) {
            ht_hadamard(x + r * cols, (size_t)cols, (size_t)step->hadamard);
        }
    }
    return HT_OK;
}
