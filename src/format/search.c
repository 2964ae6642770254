#include "format/search.h"

#include <math.h>

#include "format/lanes.h"

/* ---- loading a block ---- */

/* The metric, the one place that says what "error" means to every encoder. h is the importance that the caller
 * gives (mean square of the input channel, the diagonal of the layer's Hessian), 1 without; s2 the mean of x * x:
 *
 *     w = h * (c * s2 + x * x)^p        c 1; eight codes with importance: 1.25
 *
 * The second factor asks for more care with large weights. With coarse grids, errors are large and go together with
 * those of their neighbours, and models answer better so; with fine ones h alone is as good or better. A table of
 * levels lies closer where weights are many and needs no such help. Measured as divergence from the 16-bit model:
 * docs/measurements/encoders.md and quantize.md. */
enum metric { POWER_0, POWER_QUARTER, POWER_HALF, POWER_HALF_FLAT };

static enum metric metric_of(const struct ht_grid_spec *spec, int weighted) {
    int codes = spec->hi - spec->lo + 1;
    if (codes >= 32 || spec->plain_error || (weighted && spec->levels && !spec->lattice)) {
        return POWER_0;
    }
    if (!weighted || spec->lattice) {
        return POWER_HALF;
    }
    return codes == 16 ? POWER_QUARTER : codes == 8 ? POWER_HALF_FLAT : POWER_HALF;
}

HT_INLINE void apply_metric(float *w, const float *x, const float *weight, float factor, int n, enum metric metric) {
    if (metric == POWER_0) {
        for (int i = 0; i < n; i++) {
            w[i] = weight ? weight[i] * factor : 1.0f;
        }
        return;
    }
    float sum[16] = {0}, s2 = 0.0f;
    for (int i = 0; i < n; i += 16) {
        for (int l = 0; l < 16; l++) {
            sum[l] += x[i + l] * x[i + l];
        }
    }
    for (int l = 0; l < 16; l++) {
        s2 += sum[l];
    }
    s2 *= (metric == POWER_HALF_FLAT ? 1.25f : 1.0f) / (float)n;
    for (int i = 0; i < n; i++) {
        w[i] = sqrtf(s2 + x[i] * x[i]);
    }
    if (metric == POWER_QUARTER) {
        for (int i = 0; i < n; i++) {
            w[i] = sqrtf(w[i]);
        }
    }
    if (weight) {
        for (int i = 0; i < n; i++) {
            w[i] *= weight[i] * factor;
        }
    }
}

HT_CLONES
void ht_search_load(struct ht_work *work, const float *x, const float *weight, int n,
                    const struct ht_grid_spec *spec, float limit) {
    int32_t a = ht_lane_largest_bits(x, n), cap = (int32_t)ht_f32_bits(limit);
    a = a < cap ? a : cap;
    work->down = a > 0 ? ht_lane_normalizer(a) : 1.0f;
    work->up = 1.0f / work->down;
    work->amax = ht_f32_from_bits((uint32_t)a) * work->down;
    float down = work->down;
    for (int i = 0; i < n; i++) {
        float v = x[i] > -limit ? x[i] : -limit; /* NaN goes the same way */
        v = v < limit ? v : limit;
        work->x[i] = v * down;
    }
    int32_t w_max = weight ? ht_lane_largest_bits(weight, n) : 0;
    int use = w_max > 0 && w_max < HT_F32_INF_BITS;
    apply_metric(work->w, work->x, use ? weight : NULL, ht_lane_normalizer(w_max), n, metric_of(spec, use));
}

HT_CLONES
float ht_search_extreme(const float *x, int n) {
    return ht_lane_extreme(x, n);
}

/* ---- candidates ---- */

/* 1 / scale per lane, 0 for what is too small to divide by. */
HT_INLINE float inverse(float s) {
    return s > 1e-30f || s < -1e-30f ? 1.0f / s : 0.0f;
}

HT_INLINE void candidates(struct ht_trials *t, float *scale, float *inv) {
    float s0 = t->scale0, s1 = t->scale1, up = t->up, down = t->down;
    const float *table = t->scale_table;
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        scale[l] = s0 + s1 * table[l];
    }
    if (up > 0.0f) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            scale[l] = ht_lane_to_f16(scale[l] * up) * down;
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        t->scale[l] = scale[l];
        inv[l] = inverse(scale[l]);
    }
}

/* Sums of one element with level q[l]. */
#define ADD_ELEMENT(xi, wi, q_l)                   \
    do {                                           \
        float r_ = (xi) - scale[l] * (q_l);        \
        float wr_ = (wi) * r_;                     \
        err[l] += wr_ * r_;                        \
        if (by != HT_BY_ERROR) {                   \
            wrq[l] += wr_ * (q_l);                 \
            wqq[l] += (wi) * (q_l) * (q_l);        \
        }                                          \
    } while (0)

/* Scores of a search without min, and the sums to memory. */
HT_INLINE int finish(enum ht_search_by by, const float *err, const float *wrq, const float *wqq, struct ht_trials *t) {
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        t->err[l] = t->score[l] = err[l];
    }
    if (by != HT_BY_ERROR) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            t->wrq[l] = wrq[l];
            t->wqq[l] = wqq[l];
        }
    }
    if (by == HT_BY_REFIT) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            t->score[l] = err[l] - wrq[l] * wrq[l] * inverse(wqq[l]);
        }
    }
    return ht_lane_lowest(t->score);
}

HT_INLINE int search_ints(const float *x, const float *w, int n, int lo, int hi, enum ht_search_by by,
                          struct ht_trials *t) {
    float scale[HT_LANES], inv[HT_LANES], err[HT_LANES] = {0}, wrq[HT_LANES] = {0}, wqq[HT_LANES] = {0};
    float low = (float)lo, high = (float)hi;
    candidates(t, scale, inv);
    for (int i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float q = xi * inv[l];
            q = q > low ? q : low;
            q = q < high ? q : high;
            q = (q + HT_ROUND_MAGIC) - HT_ROUND_MAGIC;
            ADD_ELEMENT(xi, wi, q);
        }
    }
    return finish(by, err, wrq, wqq, t);
}

HT_CLONES
int ht_search_ints(const float *x, const float *w, int n, int lo, int hi, enum ht_search_by by, struct ht_trials *t) {
    switch (by) {
    case HT_BY_ERROR: return search_ints(x, w, n, lo, hi, HT_BY_ERROR, t);
    case HT_BY_SUMS: return search_ints(x, w, n, lo, hi, HT_BY_SUMS, t);
    default: return search_ints(x, w, n, lo, hi, HT_BY_REFIT, t);
    }
}

HT_INLINE int search_levels(const float *x, const float *w, int n, const float *levels, enum ht_search_by by,
                            struct ht_trials *t) {
    float scale[HT_LANES], inv[HT_LANES], err[HT_LANES] = {0}, wrq[HT_LANES] = {0}, wqq[HT_LANES] = {0};
    float middle[15], step[15], first = levels[0];
    for (int k = 0; k < 15; k++) {
        middle[k] = 0.5f * (levels[k] + levels[k + 1]);
        step[k] = levels[k + 1] - levels[k];
    }
    candidates(t, scale, inv);
    for (int i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float v = xi * inv[l], q = first;
            for (int k = 0; k < 15; k++) {
                q += v > middle[k] ? step[k] : 0.0f;
            }
            ADD_ELEMENT(xi, wi, q);
        }
    }
    return finish(by, err, wrq, wqq, t);
}

HT_CLONES
int ht_search_levels(const float *x, const float *w, int n, const float *levels, enum ht_search_by by,
                     struct ht_trials *t) {
    switch (by) {
    case HT_BY_ERROR: return search_levels(x, w, n, levels, HT_BY_ERROR, t);
    case HT_BY_SUMS: return search_levels(x, w, n, levels, HT_BY_SUMS, t);
    default: return search_levels(x, w, n, levels, HT_BY_REFIT, t);
    }
}

/* Error of lane l after its codes have chosen scale and min: fit_affine.c derives the 2x2 system. */
HT_INLINE float refit_score(const struct ht_trials *t, int l, float sum_w, float sign) {
    float wrq = t->wrq[l], wqq = t->wqq[l], wr = t->wr[l], wq = t->wq[l], m = t->min[l];
    float det = wqq * sum_w - wq * wq, inv = det > 1e-6f * wqq * sum_w ? 1.0f / det : 0.0f;
    float scale = (wrq * sum_w - wr * wq) * inv, min = (wrq * wq - wr * wqq) * inv;
    float free = t->err[l] - scale * wrq + min * wr;
    float g = wrq - m * wq; /* min = 0 instead: residuals r - m */
    float bound = t->err[l] - 2.0f * m * wr + m * m * sum_w - g * g * inverse(wqq);
    return (m + min) * sign < 0.0f ? bound : free;
}

HT_INLINE int search_affine(const float *x, const float *w, int n, int hi, float sum_w, float sign,
                            enum ht_search_by by, struct ht_trials *t) {
    float scale[HT_LANES], inv[HT_LANES], min[HT_LANES], high = (float)hi;
    float err[HT_LANES] = {0}, wrq[HT_LANES] = {0}, wqq[HT_LANES] = {0}, wr[HT_LANES] = {0}, wq[HT_LANES] = {0};
    candidates(t, scale, inv);
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        float m = t->min0 + t->min1 * t->min_table[l];
        m = t->up > 0.0f ? ht_lane_to_f16(m * t->up) * t->down : m;
        min[l] = m * sign < 0.0f ? 0.0f : m;
        t->min[l] = min[l];
    }
    for (int i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            float v = xi + min[l], q = v * inv[l];
            q = q > 0.0f ? q : 0.0f;
            q = q < high ? q : high;
            q = (q + HT_ROUND_MAGIC) - HT_ROUND_MAGIC;
            float r = v - scale[l] * q, wri = wi * r;
            err[l] += wri * r;
            if (by != HT_BY_ERROR) {
                float wqi = wi * q;
                wrq[l] += wri * q;
                wqq[l] += wqi * q;
                wr[l] += wri;
                wq[l] += wqi;
            }
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        t->err[l] = t->score[l] = err[l];
    }
    if (by != HT_BY_ERROR) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            t->wrq[l] = wrq[l];
            t->wqq[l] = wqq[l];
            t->wr[l] = wr[l];
            t->wq[l] = wq[l];
        }
    }
    if (by == HT_BY_REFIT) {
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            t->score[l] = refit_score(t, l, sum_w, sign);
        }
    }
    return ht_lane_lowest(t->score);
}

HT_CLONES
int ht_search_affine(const float *x, const float *w, int n, int hi, float sum_w, float sign, enum ht_search_by by,
                     struct ht_trials *t) {
    switch (by) {
    case HT_BY_ERROR: return search_affine(x, w, n, hi, sum_w, sign, HT_BY_ERROR, t);
    case HT_BY_SUMS: return search_affine(x, w, n, hi, sum_w, sign, HT_BY_SUMS, t);
    default: return search_affine(x, w, n, hi, sum_w, sign, HT_BY_REFIT, t);
    }
}
