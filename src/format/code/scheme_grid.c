/* The grid of one group: from a range to parameters as stored, and between values and codes. */
#include <math.h>
#include <stdlib.h>

#include "base/compiler.h"
#include "base/mem.h"
#include "format/scheme.h"

float ht_scheme_snap_scale(const struct ht_scheme *s, float x) {
    float y;
    uint8_t stored[4];
    if (s->scale->real == &ht_real_e8m0) {
        int e;
        float f = frexpf(x, &e); /* x = f * 2^e, f in [1/2, 1): 2^e is above x, or 2^(e-1) is x */
        x = x > 0 ? ldexpf(1.0f, f == 0.5f ? e - 1 : e < 128 ? e : 127) : 0;
    }
    s->scale->encode(&x, NULL, stored, 1);
    s->scale->decode(stored, &y, 1);
    return y;
}

static bool integers(const struct ht_scheme *s) {
    return s->format->code->levels == NULL && !s->format->code->fitted;
}

static float cover_symmetric(const struct ht_scheme *s, float lo, float hi) {
    const struct ht_code *c = s->format->code;
    float top = c->max_level, bottom = s->narrow ? -c->max_level : c->min_level;
    float above = hi > 0 ? hi / top : 0, below = lo < 0 ? lo / bottom : 0;
    return above > below ? above : below;
}

struct ht_affine ht_scheme_cover(const struct ht_scheme *s, float lo, float hi) {
    struct ht_affine a = {0, 0, 0};
    if (s->zero == HT_ZERO_NONE) {
        a.scale = ht_scheme_snap_scale(s, cover_symmetric(s, lo, hi));
        return a;
    }
    int32_t first = ht_scheme_lo(s), last = ht_scheme_hi(s);
    if (s->zero == HT_ZERO_CODE) {
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
    }
    /* In double: hi - lo may exceed the largest float. */
    float scale = (float)(((double)hi - (double)lo) / (last - first));
    a.scale = ht_scheme_snap_scale(s, scale);
    if (s->zero == HT_ZERO_OFFSET) {
        a.min = ht_scheme_snap_scale(s, (float)((double)lo - (double)a.scale * first));
        return a;
    }
    double z = a.scale > 0 ? nearbyint(first - (double)lo / (double)a.scale) : 0;
    z = z > first ? z : first;
    a.zero = (int32_t)(z < last ? z : last);
    return a;
}

float ht_scheme_value(const struct ht_scheme *s, const float *levels, const struct ht_affine *a, int32_t code) {
    const struct ht_code *c = s->format->code;
    const float *table = c->fitted ? levels : c->levels;
    if (table != NULL) {
        return a->scale * table[code - c->lo];
    }
    if (s->zero == HT_ZERO_OFFSET) {
        return a->scale * (float)code + a->min;
    }
    return a->scale * (float)(code - a->zero);
}

/* round(v) + zero within the codes. */
static int32_t nearest_integer(const struct ht_scheme *s, float v, int32_t zero) {
    int32_t lo = ht_scheme_lo(s), hi = ht_scheme_hi(s);
    float first = (float)(lo - zero), last = (float)(hi - zero);
    if (!(v > first)) {
        return v <= first ? lo : zero;
    }
    return v < last ? (int32_t)rintf(v) + zero : hi;
}

int32_t ht_scheme_nearest(const struct ht_scheme *s, const float *levels, const struct ht_affine *a, float x) {
    const struct ht_code *c = s->format->code;
    if (integers(s)) {
        if (a->scale == 0) {
            return s->zero == HT_ZERO_OFFSET ? ht_scheme_lo(s) : a->zero;
        }
        return nearest_integer(s, (x - a->min) / a->scale, a->zero);
    }
    if (a->scale == 0) {
        return c->fitted ? c->lo + ht_levels_nearest(levels, c->hi - c->lo + 1, 0) : c->zero;
    }
    if (s->format->real != NULL) {
        return c->nearest(c, x / a->scale);
    }
    float inverse = 1.0f / a->scale;
    float v = isinf(inverse) ? x / a->scale : x * inverse;
    return c->fitted ? c->lo + ht_levels_nearest(levels, c->hi - c->lo + 1, v) : c->nearest(c, v);
}

/* ---- ranges ---------------------------------------------------------------------------------------------- */

enum { LANES = 16 };

HT_CLONES
static void minmax(const float *x, size_t n, float *lo, float *hi) {
    float low[LANES], high[LANES];
    size_t i = 0;
    for (int k = 0; k < LANES; k++) {
        low[k] = high[k] = x[0];
    }
    for (; i + LANES <= n; i += LANES) {
        HT_LANE_LOOP
        for (int k = 0; k < LANES; k++) {
            low[k] = x[i + (size_t)k] < low[k] ? x[i + (size_t)k] : low[k];
            high[k] = x[i + (size_t)k] > high[k] ? x[i + (size_t)k] : high[k];
        }
    }
    for (; i < n; i++) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
    }
    *lo = low[0];
    *hi = high[0];
    for (int k = 1; k < LANES; k++) {
        *lo = low[k] < *lo ? low[k] : *lo;
        *hi = high[k] > *hi ? high[k] : *hi;
    }
}

ht_status ht_range_minmax(const void *ctx, const struct ht_scheme *s, const float *x, const float *weight, size_t n,
                          float *lo, float *hi, ht_err *err) {
    (void)ctx;
    (void)s;
    (void)weight;
    (void)err;
    minmax(x, n, lo, hi);
    return HT_OK;
}

ht_status ht_range_binary(const void *ctx, const struct ht_scheme *s, const float *x, const float *weight, size_t n,
                          float *lo, float *hi, ht_err *err) {
    (void)ctx;
    (void)s;
    (void)err;
    double sum = 0, mass = 0;
    for (int pass = 0; pass < 2 && mass == 0; pass++) { /* no importance anywhere: all count the same */
        for (size_t i = 0; i < n; i++) {
            double w = weight != NULL && pass == 0 ? (double)weight[i] : 1.0;
            sum += w * fabs((double)x[i]);
            mass += w;
        }
    }
    *hi = (float)(sum / mass);
    *lo = -*hi;
    return HT_OK;
}

struct weighed {
    float a, w; /* |x| and its importance */
};

static int by_magnitude(const void *p, const void *q) {
    float a = ((const struct weighed *)p)->a, b = ((const struct weighed *)q)->a;
    return (a < b) - (a > b);
}

/* With the k largest |x| nonzero the best alpha is their weighted mean and the error falls by
 * (sum w |x|)^2 / sum w; the best k is found by trying all. */
static double best_alpha(const struct weighed *e, size_t n, bool weighted) {
    double sum = 0, mass = 0, best = 0, alpha = 0;
    for (size_t k = 0; k < n; k++) {
        double w = weighted ? (double)e[k].w : 1.0;
        sum += w * (double)e[k].a;
        mass += w;
        if (mass > 0 && sum * sum / mass > best) {
            best = sum * sum / mass;
            alpha = sum / mass;
        }
    }
    return alpha;
}

enum { ON_STACK = 256 };

ht_status ht_range_ternary(const void *ctx, const struct ht_scheme *s, const float *x, const float *weight, size_t n,
                           float *lo, float *hi, ht_err *err) {
    (void)ctx;
    (void)s;
    struct weighed small[ON_STACK], *e = n <= ON_STACK ? small : ht_mem_alloc_array(n, sizeof *e);
    if (e == NULL) {
        return ht_fail_nomem(err, n * sizeof *e);
    }
    for (size_t i = 0; i < n; i++) {
        e[i] = (struct weighed){fabsf(x[i]), weight != NULL ? weight[i] : 1.0f};
    }
    qsort(e, n, sizeof *e, by_magnitude);
    double alpha = best_alpha(e, n, true);
    *hi = (float)(alpha > 0 ? alpha : best_alpha(e, n, false));
    *lo = -*hi;
    if (e != small) {
        ht_mem_free(e);
    }
    return HT_OK;
}

ht_range_fn *ht_scheme_range(const struct ht_scheme *s) {
    size_t levels = (size_t)(s->format->code->hi - s->format->code->lo) + 1;
    if (s->format->code->levels == NULL || levels > 3) {
        return ht_range_minmax;
    }
    return levels == 2 ? ht_range_binary : ht_range_ternary;
}
