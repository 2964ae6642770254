/* Channels in another order: which order, and what moves with it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "quant/transform/transform_impl.h"

/* ---- orders ------------------------------------------------------------------------------------------------ */

struct ranked {
    float key;
    uint32_t channel;
};

static int falling(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? 1 : -1) : (x->channel > y->channel) - (x->channel < y->channel);
}

static ht_status rank(const float *importance, uint32_t n, struct ranked **out, ht_err *err) {
    *out = ht_mem_alloc_array(n, sizeof **out);
    if (*out == NULL) {
        return ht_fail_nomem(err, n * sizeof **out);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(importance[i])) {
            ht_mem_free(*out);
            return ht_fail(err, HT_NUMERIC, "order", i, "the importance of channel %u is not finite", i);
        }
        (*out)[i] = (struct ranked){importance[i], i};
    }
    qsort(*out, n, sizeof **out, falling);
    return HT_OK;
}

ht_status ht_order_sort(const float *importance, uint32_t n, uint32_t *order, ht_err *err) {
    struct ranked *r;
    HT_TRY(rank(importance, n, &r, err));
    for (uint32_t i = 0; i < n; i++) {
        order[i] = r[i].channel;
    }
    ht_mem_free(r);
    return HT_OK;
}

ht_status ht_order_deal(const float *importance, uint32_t n, uint32_t group, uint32_t *order, ht_err *err) {
    struct ranked *r;
    if (group == 0 || n % group != 0) {
        return ht_fail(err, HT_INVAL, "order", HT_NO_POS, "groups of %u do not divide %u channels", group, n);
    }
    HT_TRY(rank(importance, n, &r, err));
    uint32_t hands = n / group;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t turn = i / hands, at = i % hands;
        /* back and forth, so that nobody always gets the best of a round */
        uint32_t hand = turn % 2 == 0 ? at : hands - 1 - at;
        order[hand * group + turn] = r[i].channel;
    }
    ht_mem_free(r);
    return HT_OK;
}

/* ---- clusters ---------------------------------------------------------------------------------------------- */

struct kmeans {
    const float *low, *high; /* [n] the points */
    uint32_t n, k;
    double (*center)[2];     /* [k] */
    double *near;            /* [n] squared distance to the nearest center so far */
    uint32_t *of;            /* [n] cluster */
};

static double distance(const struct kmeans *m, uint32_t i, uint32_t c) {
    double a = m->low[i] - m->center[c][0], b = m->high[i] - m->center[c][1];
    return a * a + b * b;
}

/* First centers: each next one drawn with the squared distance to those before (k-means++). */
static void seed_centers(struct kmeans *m, struct ht_rng *rng) {
    uint32_t pick = (uint32_t)ht_rng_below(rng, m->n), wanted = m->k;
    for (m->k = 0; m->k < wanted;) {
        m->center[m->k][0] = m->low[pick];
        m->center[m->k][1] = m->high[pick];
        double total = 0;
        for (uint32_t i = 0; i < m->n; i++) {
            double d = distance(m, i, m->k);
            m->near[i] = m->k == 0 || d < m->near[i] ? d : m->near[i];
            total += m->near[i];
        }
        m->k++;
        if (!(total > 0)) {
            return; /* fewer different points than clusters */
        }
        double left = ht_rng_uniform(rng) * total;
        pick = m->n - 1;
        for (uint32_t i = 0; i < m->n; i++) {
            left -= m->near[i];
            if (left < 0 && m->near[i] > 0) {
                pick = i;
                break;
            }
        }
    }
}

/* Returns whether a point changed its cluster. */
static bool assign(struct kmeans *m) {
    bool moved = false;
    for (uint32_t i = 0; i < m->n; i++) {
        uint32_t best = 0;
        for (uint32_t c = 1; c < m->k; c++) {
            best = distance(m, i, c) < distance(m, i, best) ? c : best;
        }
        moved |= m->of[i] != best;
        m->of[i] = best;
    }
    return moved;
}

static void move_centers(struct kmeans *m) {
    for (uint32_t c = 0; c < m->k; c++) {
        double low = 0, high = 0, count = 0;
        for (uint32_t i = 0; i < m->n; i++) {
            if (m->of[i] == c) {
                low += m->low[i];
                high += m->high[i];
                count++;
            }
        }
        if (count > 0) { /* an empty one stays */
            m->center[c][0] = low / count;
            m->center[c][1] = high / count;
        }
    }
}

/* Clusters by falling width, each in the order of its channels; empty ones are left out. */
static uint32_t lay_out(const struct kmeans *m, uint32_t *order, uint32_t *first) {
    uint32_t at = 0, n_clusters = 0;
    double before = INFINITY;
    uint32_t last = 0;
    for (uint32_t turn = 0; turn < m->k; turn++) {
        uint32_t best = m->k;
        double width = -INFINITY;
        for (uint32_t c = 0; c < m->k; c++) {
            double w = m->center[c][1] - m->center[c][0];
            bool later = w < before || (w == before && turn > 0 && c > last);
            if (later && w > width) {
                best = c;
                width = w;
            }
        }
        if (best == m->k) {
            break;
        }
        before = width;
        last = best;
        uint32_t start = at;
        for (uint32_t i = 0; i < m->n; i++) {
            if (m->of[i] == best) {
                order[at++] = i;
            }
        }
        if (at > start) {
            first[n_clusters++] = start;
        }
    }
    return n_clusters;
}

ht_status ht_order_cluster(const float *min, const float *max, uint32_t n, uint32_t k, uint64_t seed, uint32_t *order,
                           uint32_t *first, uint32_t *n_clusters, ht_err *err) {
    if (n == 0 || k == 0) {
        return ht_fail(err, HT_INVAL, "clusters", HT_NO_POS, "expected at least 1 cluster of 1 channel");
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(min[i]) || !isfinite(max[i])) {
            return ht_fail(err, HT_NUMERIC, "clusters", i, "the range of channel %u is not finite", i);
        }
    }
    struct ht_rng rng;
    ht_rng_init(&rng, seed);
    struct kmeans m = {.low = min, .high = max, .n = n, .k = k < n ? k : n};
    m.center = ht_mem_calloc(m.k, sizeof *m.center);
    m.near = ht_mem_alloc_array(n, sizeof *m.near);
    m.of = ht_mem_calloc(n, sizeof *m.of);
    ht_status status = HT_OK;
    if (m.center == NULL || m.near == NULL || m.of == NULL) {
        status = ht_fail_nomem(err, n * (sizeof *m.near + sizeof *m.of));
        goto done;
    }
    seed_centers(&m, &rng);
    for (int round = 0; (assign(&m) || round == 0) && round < 100; round++) {
        move_centers(&m);
    }
    *n_clusters = lay_out(&m, order, first);
done:
    ht_mem_free(m.center);
    ht_mem_free(m.near);
    ht_mem_free(m.of);
    return status;
}

/* ---- folds ------------------------------------------------------------------------------------------------- */

/* Every channel once, and those of a head inside of it. segment: channels that stay together. */
static ht_status check_order(const struct ht_foldsite *site, const uint32_t *order, uint64_t n, uint64_t segment,
                             ht_err *err) {
    bool *seen = ht_mem_calloc(n, sizeof *seen);
    if (seen == NULL) {
        return ht_fail_nomem(err, n);
    }
    ht_status status = HT_OK;
    for (uint64_t j = 0; j < n && status == HT_OK; j++) {
        if (order[j] >= n || seen[order[j]] || order[j] / segment != j / segment) {
            status = ht_fail(err, HT_INVAL, site->name, j, "expected every channel once%s; position %llu has %u",
                             segment < n ? " and in its own head" : "", (unsigned long long)j, order[j]);
        } else {
            seen[order[j]] = true;
        }
    }
    ht_mem_free(seen);
    return status;
}

/* x [n] in pieces of `segment`: piece p takes the order of segment p / group. */
static void reorder(float *x, uint64_t n, const uint32_t *order, uint64_t segment, uint64_t group, float *t) {
    memcpy(t, x, n * sizeof *x);
    for (uint64_t at = 0; at < n; at += segment) {
        uint64_t from = at / segment / group * segment;
        for (uint64_t i = 0; i < segment; i++) {
            x[at + i] = t[at + order[from + i] - from];
        }
    }
}

static void reorder_columns(struct ht_fold_matrix *m, const uint32_t *order, uint64_t segment, uint64_t group,
                            float *t) {
    for (uint64_t r = 0; r < m->rows; r++) {
        reorder(m->w + r * m->cols, m->cols, order, segment, group, t);
    }
}

/* Outputs of a member: rows of a linear with its bias, elements of a norm. */
static ht_status reorder_outputs(struct ht_fold_block *b, enum ht_role role, const uint32_t *order, float *t,
                                 ht_err *err) {
    struct ht_fold_matrix *m = &b->matrices[role];
    struct ht_fold_vector *v = &b->vectors[m->w != NULL ? ht_role_bias(role) : role];
    if (m->w != NULL) {
        float *rows = ht_mem_alloc_aligned(m->rows * m->cols, sizeof *rows);
        if (rows == NULL) {
            return ht_fail_nomem(err, m->rows * m->cols * sizeof *rows);
        }
        for (uint64_t r = 0; r < m->rows; r++) {
            memcpy(rows + r * m->cols, m->w + order[r] * m->cols, m->cols * sizeof *rows);
        }
        memcpy(m->w, rows, m->rows * m->cols * sizeof *rows);
        ht_mem_free_aligned(rows);
    }
    if (v->x != NULL) {
        reorder(v->x, v->n, order, v->n, 1, t);
    }
    return HT_OK;
}

ht_status ht_fold_permute(struct ht_fold_block *block, const struct ht_foldsite *site, const uint32_t *order,
                          ht_err *err) {
    HT_TRY(ht_fold_check(block, site, HT_FOLD_PERMUTE, err));
    bool heads = site->span == HT_FOLD_HEADS;
    uint64_t n = ht_fold_channels(block, site), segment = heads ? block->head_dim : n;
    uint64_t group = heads ? block->n_heads / block->n_kv_heads : 1, wide = n * group;
    HT_TRY(check_order(site, order, n, segment, err));
    float *t = ht_mem_alloc_array(wide, sizeof *t);
    if (t == NULL) {
        return ht_fail_nomem(err, wide * sizeof *t);
    }
    ht_status status = HT_OK;
    const enum ht_role *outputs[2] = {site->producers, site->along};
    for (int k = 0; k < 2; k++) {
        for (const enum ht_role *role = outputs[k]; *role != HT_ROLE_OTHER; role++) {
            if (*role == HT_ROLE_TOKEN_EMBD) {
                reorder_columns(&block->matrices[*role], order, segment, 1, t);
            } else {
                HT_TRY_DONE(reorder_outputs(block, *role, order, t, err));
            }
        }
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        reorder_columns(&block->matrices[*role], order, segment, group, t);
    }
done:
    ht_mem_free(t);
    return status;
}

ht_status ht_fold_permute_inputs(struct ht_fold_block *block, const struct ht_foldsite *site, const uint32_t *order,
                                 ht_err *err) {
    uint64_t n = ht_fold_inputs(block, site);
    if (n == 0) {
        return ht_fail(err, HT_INVAL, site->name, HT_NO_POS, "no inputs to reorder in layer %d", (int)block->layer);
    }
    HT_TRY(check_order(site, order, n, n, err));
    float *t = ht_mem_alloc_array(n, sizeof *t);
    if (t == NULL) {
        return ht_fail_nomem(err, n * sizeof *t);
    }
    for (const enum ht_role *role = site->consumers; *role != HT_ROLE_OTHER; role++) {
        reorder_columns(&block->matrices[*role], order, n, 1, t);
    }
    ht_mem_free(t);
    return HT_OK;
}
