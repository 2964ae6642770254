/* A tape in double: what each kind of step computes, written down a second time in the plainest way, and central
 * differences of it. Against these the f32 gradients are held.
 *
 * In double a step of 1e-5 leaves a truncation error of about 1e-10 and a rounding error of about 1e-11, both far
 * below the f32 gradient's own: what is compared is the formula, not the arithmetic. */
#ifndef HT_TESTS_TRAIN_TAPE_H
#define HT_TESTS_TRAIN_TAPE_H

#include <math.h>

#include "base/mem.h"
#include "base/rng.h"
#include "train/steps.h"

struct tape {
    const struct ht_train_block *b;
    double *values[HT_TAPE_MAX + 1]; /* [T, width] */
    double *params[HT_ROLES];
    const float *dy; /* loss = sum of dy * output */
};

static inline size_t tape_tokens(const struct tape *t) {
    return t->b->windows * t->b->tokens;
}

static inline void tape_norm(const struct tape *t, const struct ht_tape_step *s, size_t n) {
    const double *x = t->values[s->in[0]], *w = t->params[s->role];
    double *y = t->values[s->out];
    for (size_t at = 0; at < tape_tokens(t) * t->b->values[s->out].width; at += n) {
        double square = 0;
        for (size_t i = 0; i < n; i++) {
            square += x[at + i] * x[at + i];
        }
        for (size_t i = 0; i < n; i++) {
            y[at + i] = x[at + i] / sqrt(square / (double)n + (double)t->b->hp.rms_eps) * w[i];
        }
    }
}

static inline void tape_row_norm(const struct tape *t, const struct ht_tape_step *s) {
    tape_norm(t, s, t->b->values[s->out].width);
}

static inline void tape_head_norm(const struct tape *t, const struct ht_tape_step *s) {
    tape_norm(t, s, t->b->hp.head_dim);
}

static inline void tape_linear(const struct tape *t, const struct ht_tape_step *s) {
    size_t K = t->b->values[s->in[0]].width, R = t->b->values[s->out].width;
    const double *bias = ht_role_bias(s->role) != HT_ROLE_OTHER ? t->params[ht_role_bias(s->role)] : NULL;
    for (size_t i = 0; i < tape_tokens(t); i++) {
        for (size_t r = 0; r < R; r++) {
            double sum = bias != NULL ? bias[r] : 0;
            for (size_t k = 0; k < K; k++) {
                sum += t->values[s->in[0]][i * K + k] * t->params[s->role][r * K + k];
            }
            t->values[s->out][i * R + r] = sum;
        }
    }
}

static inline void tape_rope(const struct tape *t, const struct ht_tape_step *s) {
    size_t n = t->b->values[s->out].width, D = t->b->hp.head_dim, half = t->b->hp.rope_dim / 2;
    size_t step = t->b->rope == HT_ROPE_PAIRS ? 2 : 1, other = t->b->rope == HT_ROPE_PAIRS ? 1 : half;
    for (size_t i = 0; i < tape_tokens(t); i++) {
        const float *cs = t->b->angles + i % t->b->tokens * half * 2;
        for (size_t h = 0; h < n; h += D) {
            const double *x = t->values[s->in[0]] + i * n + h;
            double *y = t->values[s->out] + i * n + h;
            for (size_t k = 0; k < half; k++) {
                double c = (double)cs[2 * k], sn = (double)cs[2 * k + 1];
                y[k * step] = x[k * step] * c - x[k * step + other] * sn;
                y[k * step + other] = x[k * step] * sn + x[k * step + other] * c;
            }
        }
    }
}

static inline void tape_attend_query(const struct tape *t, const struct ht_tape_step *s, size_t row, size_t i, size_t h) {
    size_t D = t->b->hp.head_dim, kv = h / (t->b->hp.n_heads / t->b->hp.n_kv_heads);
    size_t wq = t->b->values[s->in[0]].width, wk = t->b->values[s->in[1]].width;
    const double *q = t->values[s->in[0]] + (row + i) * wq + h * D;
    double *y = t->values[s->out] + (row + i) * wq + h * D, p[64], sum = 0;
    for (size_t j = 0; j <= i; j++) {
        double dot = 0;
        for (size_t d = 0; d < D; d++) {
            dot += q[d] * t->values[s->in[1]][(row + j) * wk + kv * D + d];
        }
        p[j] = exp(dot / sqrt((double)D));
        sum += p[j];
    }
    for (size_t d = 0; d < D; d++) {
        y[d] = 0;
        for (size_t j = 0; j <= i; j++) {
            y[d] += p[j] / sum * t->values[s->in[2]][(row + j) * wk + kv * D + d];
        }
    }
}

static inline void tape_attend(const struct tape *t, const struct ht_tape_step *s) {
    for (size_t w = 0; w < t->b->windows; w++) {
        for (size_t i = 0; i < t->b->tokens; i++) {
            for (size_t h = 0; h < t->b->hp.n_heads; h++) {
                tape_attend_query(t, s, w * t->b->tokens, i, h);
            }
        }
    }
}

static inline void tape_gate(const struct tape *t, const struct ht_tape_step *s) {
    for (size_t i = 0; i < tape_tokens(t) * t->b->values[s->out].width; i++) {
        double g = t->values[s->in[0]][i];
        t->values[s->out][i] = g / (1 + exp(-g)) * t->values[s->in[1]][i];
    }
}

static inline void tape_add(const struct tape *t, const struct ht_tape_step *s) {
    for (size_t i = 0; i < tape_tokens(t) * t->b->values[s->out].width; i++) {
        t->values[s->out][i] = t->values[s->in[0]][i] + t->values[s->in[1]][i];
    }
}

static void (*const tape_fns[HT_STEPS])(const struct tape *t, const struct ht_tape_step *s) = {
    [HT_STEP_NORM] = tape_row_norm, [HT_STEP_HEAD_NORM] = tape_head_norm, [HT_STEP_LINEAR] = tape_linear,
    [HT_STEP_ROPE] = tape_rope,     [HT_STEP_ATTEND] = tape_attend,       [HT_STEP_GATE] = tape_gate,
    [HT_STEP_ADD] = tape_add,
};

static inline double tape_loss(const struct tape *t) {
    for (size_t i = 0; i < t->b->n_steps; i++) {
        if (t->b->steps[i].out >= 0) {
            tape_fns[t->b->steps[i].kind](t, &t->b->steps[i]);
        }
    }
    double sum = 0;
    for (size_t i = 0; i < tape_tokens(t) * t->b->values[t->b->output].width; i++) {
        sum += (double)t->dy[i] * t->values[t->b->output][i];
    }
    return sum;
}

static inline double *tape_copy(const float *x, size_t n) {
    double *d = ht_mem_alloc_array(n, sizeof *d);
    for (size_t i = 0; i < n; i++) {
        d[i] = (double)x[i];
    }
    return d;
}

static inline size_t tape_param_count(const struct ht_train_param *p) {
    return (size_t)(p->rows * (p->cols != 0 ? p->cols : 1));
}

/* Values and weights as they stand in the block. */
static inline struct tape tape_new(const struct ht_train_block *b, const float *dy) {
    struct tape t = {.b = b, .dy = dy};
    for (size_t i = 0; i < b->n_values; i++) {
        t.values[i] = tape_copy(b->values[i].x, b->windows * b->tokens * b->values[i].width);
    }
    for (int role = 0; role < HT_ROLES; role++) {
        t.params[role] = b->params[role].w != NULL ? tape_copy(b->params[role].w, tape_param_count(&b->params[role]))
                                                   : NULL;
    }
    return t;
}

static inline void tape_free(struct tape *t) {
    for (size_t i = 0; i <= HT_TAPE_MAX; i++) {
        ht_mem_free(t->values[i]);
    }
    for (int role = 0; role < HT_ROLES; role++) {
        ht_mem_free(t->params[role]);
    }
}

/* Holds gradient [n] of what lies at x (part of the tape) against central differences, at some of the elements.
 * tolerance is relative to the largest gradient there. Returns the largest difference, relative alike. */
static inline double tape_check(const struct tape *t, struct ht_rng *rng, double *x, const float *gradient, size_t n,
                                double tolerance, const char *what) {
    double top = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(gradient[i]));
        top = fmax(top, fabs((double)gradient[i]));
    }
    assert_true(top > 0);
    for (size_t c = 0; c < 40 && c < n; c++) {
        size_t i = n <= 40 ? c : (size_t)ht_rng_below(rng, n);
        double keep = x[i], h = 1e-5;
        x[i] = keep + h;
        double up = tape_loss(t);
        x[i] = keep - h;
        double difference = (up - tape_loss(t)) / (2 * h);
        x[i] = keep;
        double off = fabs(difference - (double)gradient[i]) / top;
        worst = fmax(worst, off);
        if (!(off <= tolerance)) {
            fail_msg("%s, element %zu of %zu: difference %.9g, gradient %.9g (largest %.3g)", what, i, n, difference,
                     (double)gradient[i], top);
        }
    }
    return worst;
}

#endif
