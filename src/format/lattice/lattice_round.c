/* Rounding to lattices: the best points and signs at given scales, exactly. A vector's nearest point by magnitudes is
 * the best where signs are free. Where the number of minus signs in 8 elements must be even and is not, one element
 * gets the wrong sign; which one, and which points go with it, is decided by the error of each choice. */
#include "format/lattice/lattice.h"

#include <math.h>

enum { VECTORS_MAX = 64, N = HT_BLOCK_MAX };

#define WEIGHT_FLOOR 0x1p-16f

static float reach(const struct ht_lattice *lat) {
    const float *levels = lat->spec.levels;
    float top = levels[lat->spec.hi - lat->spec.lo] + (lat->spec.q_min_hi ? HT_LATTICE_SHIFT : 0.0f);
    return 65504.0f * lat->unit * (float)(2 * lat->n_scales - 1) * top;
}

void ht_lattice_load(const struct ht_lattice *lat, struct ht_work *work, const float *x, const float *weight) {
    ht_search_load(work, x, weight, N, &lat->spec, reach(lat));
    for (int i = 0; i < N; i++) {
        work->w[i] = work->w[i] > WEIGHT_FLOOR ? work->w[i] : WEIGHT_FLOOR;
    }
}

/* Questions wait until all lanes are in use. flip 0: no wrong sign; k: element k - 1 of the vector has it. */
struct queue {
    const struct ht_lattice *lat;
    struct ht_lattice_lanes lanes;
    int n;
    uint8_t vector[HT_LANES], flip[HT_LANES];
    float best[VECTORS_MAX][9];
    uint16_t index[VECTORS_MAX][9];
};

static void answer(struct queue *q) {
    if (q->n == 0) {
        return;
    }
    for (int l = q->n; l < HT_LANES; l++) { /* lanes that nobody asks for */
        for (int i = 0; i < q->lat->len; i++) {
            q->lanes.x[i][l] = q->lanes.w[i][l] = 0.0f;
        }
        q->lanes.t[l] = q->lanes.shift[l] = 0.0f;
    }
    ht_lattice_find(q->lat, &q->lanes);
    for (int l = 0; l < q->n; l++) {
        q->best[q->vector[l]][q->flip[l]] = q->lanes.best[l];
        q->index[q->vector[l]][q->flip[l]] = (uint16_t)q->lanes.index[l];
    }
    q->n = 0;
}

static void ask(struct queue *q, const float *x, const float *w, float t, float shift, int vector, int flip) {
    int l = q->n, len = q->lat->len;
    for (int i = 0; i < len; i++) {
        float v = x[vector * len + i];
        v = q->lat->is_signed ? v : fabsf(v);
        q->lanes.x[i][l] = i == flip - 1 ? -v : v;
        q->lanes.w[i][l] = w[vector * len + i];
    }
    q->lanes.t[l] = t;
    q->lanes.shift[l] = shift;
    q->vector[l] = (uint8_t)vector;
    q->flip[l] = (uint8_t)flip;
    q->n++;
    if (q->n == HT_LANES) {
        answer(q);
    }
}

/* Whether the 8 elements from `at` on need one wrong sign. */
static int is_odd(const struct ht_lattice *lat, const float *x, float sign, int at) {
    int minus = 0;
    for (int i = at; i < at + 8; i++) {
        minus += x[i] * sign < 0.0f;
    }
    return lat->even && minus % 2 != 0;
}

/* Codes of the n elements from `at` on: 8, or those of one point where signs are free. */
static void take(const struct queue *q, const float *x, float sign, int at, int n, int8_t *codes) {
    const struct ht_lattice *lat = q->lat;
    int levels = lat->len == 8 ? 3 : 8, wrong_vector = -1, wrong = 0;
    if (n == 8 && is_odd(lat, x, sign, at)) {
        float least = INFINITY;
        for (int v = at / lat->len; v < (at + n) / lat->len; v++) {
            for (int k = 1; k <= lat->len; k++) {
                float more = q->best[v][k] - q->best[v][0];
                if (more < least || wrong_vector < 0) {
                    least = more;
                    wrong_vector = v;
                    wrong = k;
                }
            }
        }
    }
    for (int v = at / lat->len; v < (at + n) / lat->len; v++) {
        int flip = v == wrong_vector ? wrong : 0;
        unsigned point = lat->points[q->index[v][flip]];
        for (int i = 0; i < lat->len; i++) {
            int k = ht_lattice_digit(lat, point, i), e = v * lat->len + i;
            int minus = (x[e] * sign < 0.0f) != (i == flip - 1);
            codes[e] = (int8_t)(lat->is_signed ? k : minus ? levels - 1 - k : levels + k);
        }
    }
}

/* A wrong sign for element i of a point p costs 4 t w abs(x) p[i] more; at least that with the least magnitude, and at
 * most that with the point that is nearest without. Asks for the elements that these bounds leave. */
static void ask_flips(struct queue *q, const float *x, const float *w, float t, int at) {
    const struct ht_lattice *lat = q->lat;
    float most = INFINITY;
    for (int e = at; e < at + 8; e++) {
        unsigned point = lat->points[q->index[e / lat->len][0]];
        float cost = w[e] * fabsf(x[e]) * lat->base[ht_lattice_digit(lat, point, e % lat->len)];
        most = cost < most ? cost : most;
    }
    for (int e = at; e < at + 8; e++) {
        q->best[e / lat->len][e % lat->len + 1] = INFINITY;
        q->index[e / lat->len][e % lat->len + 1] = 0;
    }
    for (int e = at; e < at + 8; e++) {
        if (!(w[e] * fabsf(x[e]) * lat->base[0] > most)) {
            ask(q, x, w, t, 0.0f, e / lat->len, e % lat->len + 1);
        }
    }
}

/* Elements from .. to - 1, multiples of 8 or one point where signs are free. */
static void round_range(const struct ht_lattice *lat, const float *x, const float *w, const struct ht_grid *grid,
                        float down, int from, int to, int8_t *codes) {
    struct queue q;
    int step = to - from < 8 ? to - from : 8;
    q.lat = lat;
    q.n = 0;
    for (int at = from; at < to; at += lat->len) {
        float scale = grid->scale[at / lat->spec.sub_len], min = grid->min[at / lat->spec.sub_len];
        float shift = lat->spec.q_min_hi && (scale > 0.0f || scale < 0.0f) ? -min / scale : 0.0f;
        ask(&q, x, w, (lat->is_signed ? scale : fabsf(scale)) * down, shift, at / lat->len, 0);
    }
    answer(&q);
    for (int at = from; at < to && lat->even; at += step) {
        float scale = grid->scale[at / lat->spec.sub_len];
        if (is_odd(lat, x, scale < 0.0f ? -1.0f : 1.0f, at)) {
            ask_flips(&q, x, w, fabsf(scale) * down, at);
        }
    }
    answer(&q);
    for (int at = from; at < to; at += step) {
        take(&q, x, grid->scale[at / lat->spec.sub_len] < 0.0f && !lat->is_signed ? -1.0f : 1.0f, at, step, codes);
    }
}

void ht_lattice_round(const struct ht_lattice *lat, const float *x, const float *weight, const struct ht_grid *grid,
                      int8_t *codes) {
    struct ht_work work;
    ht_lattice_load(lat, &work, x, weight);
    round_range(lat, work.x, work.w, grid, work.down, 0, N, codes);
}

void ht_lattice_round_vector(const struct ht_lattice *lat, const float *x, const float *weight,
                             const struct ht_grid *grid, uint32_t at, int8_t *codes) {
    float w[N], largest = 0.0f;
    int n = lat->even ? 8 : lat->len, from = (int)at;
    for (int i = from; i < from + n && weight; i++) {
        largest = weight[i] > largest ? weight[i] : largest;
    }
    for (int i = from; i < from + n; i++) {
        float floor = largest * WEIGHT_FLOOR;
        w[i] = !(largest > 0.0f) ? 1.0f : weight[i] > floor ? weight[i] : floor;
    }
    round_range(lat, x, w, grid, 1.0f, from, from + n, codes);
}
