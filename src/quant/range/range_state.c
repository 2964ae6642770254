/* Streams, and the points that a stream or values become. */
#include <math.h>

#include "base/mem.h"
#include "quant/range/range_impl.h"

ht_status ht_range_state_init(struct ht_range_state *state, double momentum, ht_err *err) {
    if (!(momentum >= 0 && momentum < 1)) {
        return ht_fail(err, HT_INVAL, "momentum", HT_NO_POS, "expected at least 0 and below 1, found %g", momentum);
    }
    memset(state, 0, sizeof *state);
    state->momentum = momentum;
    return HT_OK;
}

/* Makes bins 2^shift times as wide. */
static void coarsen(struct ht_range_state *s, int shift) {
    for (int sign = 0; sign < 2; sign++) {
        uint64_t *c = s->count[sign];
        for (size_t i = 1; i < HT_RANGE_BINS; i++) {
            size_t to = shift < 32 ? i >> shift : 0;
            uint64_t n = c[i];
            c[i] = 0;
            c[to] += n; /* to <= i: nothing is moved twice */
        }
    }
}

static void widen(struct ht_range_state *s, int exponent) {
    if (s->n == s->n_zero) {
        s->exponent = exponent;
    } else if (exponent > s->exponent) {
        coarsen(s, exponent - s->exponent);
        s->exponent = exponent;
    }
}

static void see_bounds(struct ht_range_state *s, float min, float max) {
    s->min = s->n == 0 || min < s->min ? min : s->min;
    s->max = s->n == 0 || max > s->max ? max : s->max;
}

ht_status ht_range_state_add(struct ht_range_state *s, const float *x, size_t n, ht_err *err) {
    float min = INFINITY, max = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return ht_fail(err, HT_NUMERIC, NULL, HT_NO_POS, "value %zu of a batch of %zu is %f; the range of a stream "
                           "needs finite values", i, n, (double)x[i]);
        }
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    if (n == 0) {
        return HT_OK;
    }
    float amax = fmaxf(fabsf(min), fabsf(max));
    int exponent = 0;
    if (amax > 0) {
        frexp(amax, &exponent);
        widen(s, exponent);
    }
    double per_bin = amax > 0 ? ldexp(HT_RANGE_BINS, -s->exponent) : 0;
    see_bounds(s, min, max);
    for (size_t i = 0; i < n; i++) {
        if (x[i] == 0) {
            s->n_zero++;
        } else {
            s->count[x[i] < 0][(size_t)(fabs((double)x[i]) * per_bin)]++;
        }
    }
    s->n += n;
    s->n_batches++;
    s->sum_min = s->sum_min * s->momentum + min;
    s->sum_max = s->sum_max * s->momentum + max;
    s->sum_weight = s->sum_weight * s->momentum + 1;
    return HT_OK;
}

ht_status ht_range_state_merge(struct ht_range_state *s, const struct ht_range_state *later, ht_err *err) {
    if (s->momentum != later->momentum) {
        return ht_fail(err, HT_INVAL, "momentum", HT_NO_POS, "streams with momentum %g and %g cannot be joined",
                       s->momentum, later->momentum);
    }
    if (later->n == 0) {
        return HT_OK;
    }
    int shift = 0;
    if (later->n > later->n_zero) {
        widen(s, later->exponent);
        shift = s->exponent - later->exponent;
        for (int sign = 0; sign < 2; sign++) {
            for (size_t i = 0; i < HT_RANGE_BINS; i++) {
                s->count[sign][shift < 32 ? i >> shift : 0] += later->count[sign][i];
            }
        }
    }
    see_bounds(s, later->min, later->max);
    double fade = pow(s->momentum, (double)later->n_batches);
    s->sum_min = s->sum_min * fade + later->sum_min;
    s->sum_max = s->sum_max * fade + later->sum_max;
    s->sum_weight = s->sum_weight * fade + later->sum_weight;
    s->n += later->n;
    s->n_zero += later->n_zero;
    s->n_batches += later->n_batches;
    return HT_OK;
}

/* ---- points ------------------------------------------------------------------------------------------- */

static ht_status points_of_state(struct ht_range_points *p, const struct ht_range_state *s, ht_err *err) {
    float *x = ht_mem_alloc_array(2 * (2 * HT_RANGE_BINS + 1), sizeof *x), *mass = x + 2 * HT_RANGE_BINS + 1;
    if (x == NULL) {
        return ht_fail_nomem(err, 2 * (2 * HT_RANGE_BINS + 1) * sizeof *x);
    }
    double width = ldexp(1, s->exponent) / HT_RANGE_BINS;
    size_t n = 0;
    for (int i = -HT_RANGE_BINS; i <= HT_RANGE_BINS; i++) { /* ascending values */
        uint64_t count = i < 0 ? s->count[1][-i - 1] : i > 0 ? s->count[0][i - 1] : s->n_zero;
        if (count > 0) {
            float v = i < 0 ? (float)((i + 0.5) * width) : i > 0 ? (float)((i - 0.5) * width) : 0;
            x[n] = v < s->min ? s->min : v > s->max ? s->max : v;
            mass[n++] = (float)count;
        }
    }
    *p = (struct ht_range_points){.x = x, .mass = mass, .n = n, .min = s->min, .max = s->max, .owned = x};
    return HT_OK;
}

ht_status ht_range_points_init(struct ht_range_points *p, const struct ht_range_input *in, bool weighted,
                               ht_err *err) {
    if (in->x == NULL) {
        return points_of_state(p, in->state, err);
    }
    *p = (struct ht_range_points){
        .x = in->x, .mass = weighted ? in->weight : NULL, .n = in->n, .min = in->x[0], .max = in->x[0]};
    for (size_t i = 1; i < in->n; i++) {
        p->min = in->x[i] < p->min ? in->x[i] : p->min;
        p->max = in->x[i] > p->max ? in->x[i] : p->max;
    }
    return HT_OK;
}

void ht_range_points_deinit(struct ht_range_points *p) {
    ht_mem_free(p->owned);
    ht_mem_free_aligned(p->owned_aligned);
    p->owned = p->owned_aligned = NULL;
}

/* ---- quantiles: radix selection over the bits of floats, a byte at a time, without a copy -------------- */

/* Unsigned numbers in the order of the floats. */
static uint32_t key_of(float x, bool magnitude) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (magnitude) {
        return bits & 0x7fffffffu;
    }
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key, bool magnitude) {
    uint32_t bits = magnitude ? key : key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

float ht_range_quantile(const struct ht_range_points *p, double share, bool magnitude) {
    double total = 0, below = 0;
    for (size_t i = 0; i < p->n; i++) {
        total += p->mass != NULL ? p->mass[i] : 1;
    }
    double want = share * total;
    want -= 1e-12 * total; /* 0.99 * 100 must be 99, not a little more */
    uint32_t prefix = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        double sum[256] = {0};
        int last = 0;
        for (size_t i = 0; i < p->n; i++) {
            uint32_t key = key_of(p->x[i], magnitude);
            if (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)) {
                sum[key >> shift & 255] += p->mass != NULL ? p->mass[i] : 1;
            }
        }
        uint32_t digit = 256;
        for (int d = 0; d < 256 && digit == 256; d++) {
            last = sum[d] > 0 ? d : last;
            if (sum[d] > 0 && below + sum[d] >= want) {
                digit = (uint32_t)d;
            } else {
                below += sum[d];
            }
        }
        prefix |= (digit == 256 ? (uint32_t)last : digit) << shift;
    }
    return value_of(prefix, magnitude);
}
