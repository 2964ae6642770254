/* What transforms of a block will leave to the run time, told by shapes: fold_turn.c does it. */
#include "quant/fold_job.h"

/* Of one part: the block, and what parts before it leave. */
struct expect {
    const struct ht_fold_block *block;
    const struct ht_foldsite *sites; /* the architecture's, or NULL */
    const struct ht_choice *choice;
    struct ht_front *fronts;
};

static bool more(const struct ht_foldsite *site) {
    return site != NULL && site->name != NULL;
}

/* A site that loses less without a shift gets none. */
static unsigned expect_shift(const struct expect *e) {
    bool any = false;
    for (const struct ht_foldsite *site = e->sites; more(site); site++) {
        if (!ht_fold_shifts_at(e->block, site, e->choice) || ht_fold_shift_folds(e->block, site)) {
            continue;
        }
        any = true;
        for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
            const enum ht_role bias = ht_role_bias(*role);
            bool own = bias != HT_ROLE_OTHER && e->block->vectors[bias].x != NULL && e->block->vectors[bias].used;
            e->fronts[*role].side.leaves |= HT_LEAVES_IN_SHIFT | (own ? 0u : HT_LEAVES_OUT_BIAS);
        }
    }
    return any && ht_choice_value(e->choice, "always") == 0 ? HT_EXPECT_LESS : HT_EXPECT_EXACT;
}

/* Clusters that stay empty are left out. */
static unsigned expect_cluster(const struct expect *e) {
    uint32_t k = (uint32_t)ht_choice_value(e->choice, "k");
    bool any = false;
    for (const struct ht_foldsite *site = e->sites; more(site); site++) {
        if (!ht_fold_clusters_at(e->block, site)) {
            continue;
        }
        any = true;
        uint64_t cols = ht_fold_inputs(e->block, site);
        bool folds = ht_fold_order_folds(site, &e->fronts[site->consumers[0]]);
        for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
            struct ht_front *front = &e->fronts[*role];
            front->side.leaves |= folds ? 0u : HT_LEAVES_PERM;
            front->n_clusters = k < cols ? k : (uint32_t)cols;
        }
    }
    return any && k > 1 ? HT_EXPECT_LESS : HT_EXPECT_EXACT;
}

static unsigned expect_turn(const struct expect *e) {
    for (enum ht_role role = 0; role < HT_ROLES; role++) {
        uint32_t block = ht_fold_turned_inputs(e->block, role, e->choice);
        if (block != 0) {
            e->fronts[role].side.leaves |= HT_LEAVES_HADAMARD;
            e->fronts[role].side.hadamard = block;
        }
    }
    return HT_EXPECT_EXACT;
}

static const struct {
    ht_part_fold *fold;
    unsigned (*expect)(const struct expect *e);
} expected[] = {
    {ht_fold_job_shift, expect_shift},
    {ht_fold_job_cluster, expect_cluster},
    {ht_fold_job_rotate_inputs, expect_turn},
};
enum { N_EXPECTED = sizeof expected / sizeof expected[0] };

unsigned ht_fold_expect(const struct ht_recipe *recipe, const struct ht_fold_block *block,
                        const struct ht_foldsite *sites, struct ht_front *fronts) {
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    unsigned all = HT_EXPECT_EXACT;
    for (size_t i = 0; i < w->n_transforms; i++) {
        const struct expect e = {block, sites, &w->transforms[i], fronts};
        size_t k = 0;
        while (k < N_EXPECTED && e.choice->part->fold != expected[k].fold) {
            k++;
        }
        /* Without a function of its own a part's leaves are the linear's matter, as a bias that centers outputs. */
        bool beside = e.choice->part->fold != NULL && e.choice->part->leaves != HT_LEAVES_NOTHING;
        all |= k < N_EXPECTED ? expected[k].expect(&e) : beside ? HT_EXPECT_MORE : HT_EXPECT_EXACT;
    }
    return all;
}
