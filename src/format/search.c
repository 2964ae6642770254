#include "format/search.h"

#include <float.h>
#include <math.h>

#define ROUND_MAGIC 12582912.0f /* as in grid.c */

/* The metric, the one place that says what "error" means to every encoder.
 *
 *     with importance h (mean square of the input channel):  w = h
 *     without:  w = sqrt(s2 + x * x),  s2 the mean of x * x
 *
 * h is the diagonal of the layer's Hessian. Without it, larger weights get more care: their errors cost more
 * than the squared error tells. */
HT_CLONES
static void apply_metric(float *w, const float *x, const float *weight, float w_scale, int n) {
    float sum[16] = {0};
    for (int i = 0; i < n; i += 16) {
        for (int l = 0; l < 16; l++) {
            sum[l] += x[i + l] * x[i + l];
        }
    }
    float s2 = 0.0f;
    for (int l = 0; l < 16; l++) {
        s2 += sum[l];
    }
    s2 /= (float)n;
    if (weight) {
        for (int i = 0; i < n; i++) {
            w[i] = weight[i] * w_scale;
        }
    } else {
        for (int i = 0; i < n; i++) {
            w[i] = sqrtf(s2 + x[i] * x[i]);
        }
    }
}

/* Largest magnitude; NaN counts as 0. */
HT_CLONES
static float largest(const float *x, int n) {
    float m[16] = {0};
    for (int i = 0; i < n; i += 16) {
        for (int l = 0; l < 16; l++) {
            float a = fabsf(x[i + l]);
            m[l] = a > m[l] ? a : m[l];
        }
    }
    float best = 0.0f;
    for (int l = 0; l < 16; l++) {
        best = m[l] > best ? m[l] : best;
    }
    return best;
}

/* Power of two that brings a > 0 into [1, 2), as far as it is a normal float whose inverse is one too. */
static float normalizer(float a) {
    int e;
    frexpf(a, &e);
    e = 1 - e;
    return ldexpf(1.0f, e > 126 ? 126 : e < -126 ? -126 : e);
}

HT_CLONES
static void scale_values(float *y, const float *x, int n, float limit, float factor) {
    for (int i = 0; i < n; i++) {
        float v = x[i] > -limit ? x[i] : -limit;
        v = v < limit ? v : limit;
        y[i] = v * factor;
    }
}

void ht_search_load(struct ht_work *work, const float *x, const float *weight, int n, float limit) {
    float a = largest(x, n);
    a = a < limit ? a : limit;
    work->down = a > 0.0f ? normalizer(a) : 1.0f;
    work->up = 1.0f / work->down;
    work->amax = a * work->down;
    scale_values(work->x, x, n, limit, work->down);
    float w_max = weight ? largest(weight, n) : 0.0f;
    if (w_max > FLT_MAX) { /* Inf: no sense in it */
        w_max = 0.0f;
    }
    apply_metric(work->w, work->x, w_max > 0.0f ? weight : NULL, w_max > 0.0f ? normalizer(w_max) : 1.0f, n);
}

/* 1 / scale per lane, 0 for what is too small to divide by. */
HT_INLINE void inverses(const float *scale, float *inv) {
    for (int l = 0; l < HT_LANES; l++) {
        float s = scale[l];
        inv[l] = s > 1e-30f || s < -1e-30f ? 1.0f / s : 0.0f;
    }
}

HT_CLONES
void ht_search_ints(const float *x, const float *w, int n, int lo, int hi, struct ht_trials *t) {
    float scale[HT_LANES], inv[HT_LANES], err[HT_LANES], wrq[HT_LANES], wqq[HT_LANES];
    float low = (float)lo, high = (float)hi;
    for (int l = 0; l < HT_LANES; l++) {
        scale[l] = t->scale[l];
        err[l] = wrq[l] = wqq[l] = 0.0f;
    }
    inverses(scale, inv);
    for (int i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        for (int l = 0; l < HT_LANES; l++) {
            float q = xi * inv[l];
            q = q > low ? q : low;
            q = q < high ? q : high;
            q = (q + ROUND_MAGIC) - ROUND_MAGIC;
            float r = xi - scale[l] * q, wr = wi * r;
            err[l] += wr * r;
            wrq[l] += wr * q;
            wqq[l] += wi * q * q;
        }
    }
    for (int l = 0; l < HT_LANES; l++) {
        t->err[l] = err[l];
        t->wrq[l] = wrq[l];
        t->wqq[l] = wqq[l];
    }
}

HT_CLONES
void ht_search_levels(const float *x, const float *w, int n, const float *levels, int count, struct ht_trials *t) {
    float scale[HT_LANES], inv[HT_LANES], err[HT_LANES], wrq[HT_LANES], wqq[HT_LANES];
    float middle[HT_BLOCK_MAX], step[HT_BLOCK_MAX];
    for (int k = 0; k < count - 1; k++) {
        middle[k] = 0.5f * (levels[k] + levels[k + 1]);
        step[k] = levels[k + 1] - levels[k];
    }
    for (int l = 0; l < HT_LANES; l++) {
        scale[l] = t->scale[l];
        err[l] = wrq[l] = wqq[l] = 0.0f;
    }
    inverses(scale, inv);
    for (int i = 0; i < n; i++) {
        float xi = x[i], wi = w[i], v[HT_LANES], q[HT_LANES];
        for (int l = 0; l < HT_LANES; l++) {
            v[l] = xi * inv[l];
            q[l] = levels[0];
        }
        for (int k = 0; k < count - 1; k++) {
            for (int l = 0; l < HT_LANES; l++) {
                q[l] += v[l] > middle[k] ? step[k] : 0.0f;
            }
        }
        for (int l = 0; l < HT_LANES; l++) {
            float r = xi - scale[l] * q[l], wr = wi * r;
            err[l] += wr * r;
            wrq[l] += wr * q[l];
            wqq[l] += wi * q[l] * q[l];
        }
    }
    for (int l = 0; l < HT_LANES; l++) {
        t->err[l] = err[l];
        t->wrq[l] = wrq[l];
        t->wqq[l] = wqq[l];
    }
}

HT_CLONES
void ht_search_affine(const float *x, const float *w, int n, int hi, struct ht_trials *t) {
    float scale[HT_LANES], inv[HT_LANES], min[HT_LANES];
    float err[HT_LANES], wrq[HT_LANES], wqq[HT_LANES], wr[HT_LANES], wq[HT_LANES];
    float high = (float)hi;
    for (int l = 0; l < HT_LANES; l++) {
        scale[l] = t->scale[l];
        min[l] = t->min[l];
        err[l] = wrq[l] = wqq[l] = wr[l] = wq[l] = 0.0f;
    }
    inverses(scale, inv);
    for (int i = 0; i < n; i++) {
        float xi = x[i], wi = w[i];
        for (int l = 0; l < HT_LANES; l++) {
            float q = (xi + min[l]) * inv[l];
            q = q > 0.0f ? q : 0.0f;
            q = q < high ? q : high;
            q = (q + ROUND_MAGIC) - ROUND_MAGIC;
            float r = xi - (scale[l] * q - min[l]), wri = wi * r, wqi = wi * q;
            err[l] += wri * r;
            wrq[l] += wri * q;
            wqq[l] += wqi * q;
            wr[l] += wri;
            wq[l] += wqi;
        }
    }
    for (int l = 0; l < HT_LANES; l++) {
        t->err[l] = err[l];
        t->wrq[l] = wrq[l];
        t->wqq[l] = wqq[l];
        t->wr[l] = wr[l];
        t->wq[l] = wq[l];
    }
}
