/* Which windows are taken: shares of the sources, and within a source at random or far apart. */
#include <math.h>
#include <stdlib.h> /* qsort */

#include "base/mem.h"
#include "base/rng.h"
#include "calib/data.h"

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

void ht_data_shares(uint64_t total, const uint64_t *there, const uint32_t *weights, size_t n,
                    uint64_t *shares) {
    uint64_t left = total;
    memset(shares, 0, n * sizeof *shares);
    for (bool more = true; more && left > 0;) {
        uint64_t sum = 0, start = left;
        more = false;
        for (size_t i = 0; i < n; i++) {
            sum += shares[i] < there[i] ? (weights != NULL ? weights[i] : 1) : 0;
        }
        for (size_t i = 0; i < n && sum > 0; i++) {
            uint64_t room = there[i] - shares[i], w = weights != NULL ? weights[i] : 1;
            uint64_t part = (uint64_t)((double)start * (double)w / (double)sum);
            part = part < room ? part : room;
            part = part < left ? part : left;
            shares[i] += part;
            left -= part;
            more |= part > 0;
        }
    }
    for (size_t i = 0; left > 0 && i < n; i++) { /* what rounding has left: one each, the first first */
        if (shares[i] < there[i] && (weights == NULL || weights[i] > 0)) {
            shares[i]++;
            left--;
        }
    }
}

ht_status ht_pick_random(uint64_t n, uint64_t k, uint64_t seed, uint64_t *picked, ht_err *err) {
    struct ht_rng rng;
    uint64_t *all = ht_mem_alloc_array(n, sizeof *all);
    if (all == NULL) {
        return ht_fail_nomem(err, n * sizeof *all);
    }
    ht_rng_init(&rng, seed);
    for (uint64_t i = 0; i < n; i++) {
        all[i] = i;
    }
    for (uint64_t i = 0; i < k; i++) { /* Fisher and Yates, the first k */
        uint64_t j = i + ht_rng_below(&rng, n - i), t = all[i];
        all[i] = all[j];
        all[j] = t;
        picked[i] = all[i];
    }
    qsort(picked, k, sizeof *picked, by_value);
    ht_mem_free(all);
    return HT_OK;
}

/* ---- far apart
 * --------------------------------------------------------------------------------------------- */

struct count {
    int32_t id;
    float root; /* sqrt of its share */
};

struct center {
    const int32_t *windows;
    uint32_t window;
    uint64_t n;
    struct count *counts; /* [n, window] by rising id */
    uint32_t *sizes;      /* [n] */
    double *nearest;      /* [n] squared Hellinger distance to the nearest taken one */
    uint64_t last;        /* taken last */
};

static int by_id(const void *a, const void *b) {
    const struct count *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static void count_task(void *ctx, size_t i, int thread) {
    const struct center *c = ctx;
    struct count *row = c->counts + i * c->window;
    uint32_t n = 0;
    (void)thread;
    for (uint32_t k = 0; k < c->window; k++) {
        row[k] = (struct count){c->windows[i * c->window + k], 1};
    }
    qsort(row, c->window, sizeof *row, by_id);
    for (uint32_t k = 0; k < c->window; k++) {
        if (n > 0 && row[n - 1].id == row[k].id) {
            row[n - 1].root++;
        } else {
            row[n++] = row[k];
        }
    }
    for (uint32_t k = 0; k < n; k++) {
        row[k].root = sqrtf(row[k].root / (float)c->window);
    }
    c->sizes[i] = n;
    c->nearest[i] = INFINITY;
}

static void distance_task(void *ctx, size_t i, int thread) {
    const struct center *c = ctx;
    const struct count *a = c->counts + i * c->window, *b = c->counts + c->last * c->window;
    const struct count *a_end = a + c->sizes[i], *b_end = b + c->sizes[c->last];
    double common = 0;
    (void)thread;
    while (a < a_end && b < b_end) {
        if (a->id == b->id) {
            common += (double)a->root * b->root;
        }
        int32_t x = a->id, y = b->id;
        a += x <= y;
        b += y <= x;
    }
    double distance = i == c->last ? -1 : 1 - common; /* never taken again */
    c->nearest[i] = distance < c->nearest[i] ? distance : c->nearest[i];
}

ht_status ht_pick_diverse(struct ht_pool *pool, const int32_t *windows, uint64_t n, uint32_t window,
                          uint64_t k, uint64_t seed, uint64_t *picked, ht_err *err) {
    struct ht_rng rng;
    struct center c = {.windows = windows, .window = window, .n = n};
    c.counts = ht_mem_alloc_array(n, window * sizeof *c.counts);
    c.sizes = ht_mem_alloc_array(n, sizeof *c.sizes);
    c.nearest = ht_mem_alloc_array(n, sizeof *c.nearest);
    ht_status status = HT_OK;
    if (c.counts == NULL || c.sizes == NULL || c.nearest == NULL) {
        status = ht_fail_nomem(err, n * window * sizeof *c.counts);
        goto done;
    }
    ht_pool_run(pool, n, count_task, &c);
    ht_rng_init(&rng, seed);
    c.last = k > 0 ? ht_rng_below(&rng, n) : 0;
    for (uint64_t t = 0; t < k; t++) {
        picked[t] = c.last;
        ht_pool_run(pool, n, distance_task, &c);
        uint64_t best = 0;
        for (uint64_t i = 1; i < n; i++) {
            best = c.nearest[i] > c.nearest[best] ? i : best;
        }
        c.last = best;
    }
    qsort(picked, k, sizeof *picked, by_value);
done:
    ht_mem_free(c.counts);
    ht_mem_free(c.sizes);
    ht_mem_free(c.nearest);
    return status;
}
