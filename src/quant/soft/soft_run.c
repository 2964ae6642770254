#include "quant/soft/soft_run.h"

#include <math.h>

#include "base/compiler.h"

#define LANES 16u /* sums of their own, added up in order */

HT_INLINE float clamp(float x, float lo, float hi) {
    x = x > lo ? x : lo;
    return x < hi ? x : hi;
}

HT_CLONES
void ht_soft_run_values(const struct ht_soft_run *r, float *out) {
    const float scale = r->scale, base = r->base, first = r->first, top = r->top;
    const float *w = r->w, *v = r->v;
    for (size_t i = 0; i < r->n; i++) {
        float at = clamp((w[i] - base) / scale - first, 0, top);
        out[i] = scale * (first + clamp(floorf(at + v[i] + 0.5f), 0, top)) + base;
    }
}

struct lanes {
    float scale[LANES], base[LANES], move[LANES];
};

/* n <= LANES weights from i on: gradients of scale and base, and dv = the gradient of v, 0 where clipped. */
HT_INLINE void gradients(const struct ht_soft_run *r, const float *dw, size_t i, size_t n, struct lanes *l) {
    const float scale = r->scale, base = r->base, first = r->first, top = r->top;
    const float *w = r->w + i, *v = r->v + i;
    for (size_t k = 0; k < n; k++) {
        float x = (w[k] - base) / scale, raw = x - first, d = dw[i + k];
        float at = clamp(raw, 0, top), level = first + clamp(floorf(at + v[k] + 0.5f), 0, top);
        bool inside = raw >= 0 && raw <= top;
        l->scale[k] += d * (inside ? level - x : level);
        l->base[k] += inside ? 0 : d;
        l->move[k] = inside ? d * scale : 0;
    }
}

HT_INLINE void move_signs(const struct ht_soft_run *r, const struct ht_soft_run_step *s, size_t i, size_t n,
                          const struct lanes *l) {
    float *v = r->v + i;
    for (size_t k = 0; k < n; k++) {
        float sign = (float)((l->move[k] > 0) - (l->move[k] < 0));
        v[k] = clamp(v[k] - s->lr * sign, -s->bound, s->bound);
    }
}

HT_INLINE void move_adam(const struct ht_soft_run *r, const struct ht_soft_run_step *s, size_t i, size_t n,
                         const struct lanes *l) {
    float *v = r->v + i, *m1 = s->m1 + i, *m2 = s->m2 + i;
    for (size_t k = 0; k < n; k++) {
        float d = l->move[k];
        m1[k] = HT_SOFT_BETA1 * m1[k] + (1 - HT_SOFT_BETA1) * d;
        m2[k] = HT_SOFT_BETA2 * m2[k] + (1 - HT_SOFT_BETA2) * d * d;
        float size = sqrtf(m2[k] / s->part2);
        float step = size > 0 ? m1[k] / s->part1 / size : 0;
        v[k] = clamp(v[k] - s->lr * step, -s->bound, s->bound);
    }
}

HT_CLONES
static void update_signs(const struct ht_soft_run *r, const struct ht_soft_run_step *s, struct lanes *l) {
    size_t i = 0;
    for (; i + LANES <= r->n; i += LANES) {
        gradients(r, s->dw, i, LANES, l);
        move_signs(r, s, i, LANES, l);
    }
    gradients(r, s->dw, i, r->n - i, l);
    move_signs(r, s, i, r->n - i, l);
}

HT_CLONES
static void update_adam(const struct ht_soft_run *r, const struct ht_soft_run_step *s, struct lanes *l) {
    size_t i = 0;
    for (; i + LANES <= r->n; i += LANES) {
        gradients(r, s->dw, i, LANES, l);
        move_adam(r, s, i, LANES, l);
    }
    gradients(r, s->dw, i, r->n - i, l);
    move_adam(r, s, i, r->n - i, l);
}

void ht_soft_run_update(const struct ht_soft_run *r, const struct ht_soft_run_step *s, float *dscale, float *dbase) {
    struct lanes l = {{0}, {0}, {0}};
    if (s->m1 != NULL) {
        update_adam(r, s, &l);
    } else {
        update_signs(r, s, &l);
    }
    *dscale = *dbase = 0;
    for (size_t k = 0; k < LANES; k++) {
        *dscale += l.scale[k];
        *dbase += l.base[k];
    }
}
