/* The search of the lattice formats.
 *
 * With a point p for each vector and t the scale, the weighted error of a group of elements is
 *     sum(w x x) - 2 t P + t t Q,    P = sum(w x p),    Q = sum(w p p)
 * so that P / Q is the best scale of these points. Steps, each with the nearest points found exactly:
 *   1. per group: 16 scales (iq1: 8 with either shift); the best one is refitted to its points
 *   2. one step d for which the groups' scales lie best on d * unit * (1, 3, 5 ...), errors weighted by Q
 *   3. with d rounded to f16: per group the best of all stored scales
 *   4. d refitted to the points of step 3, and step 3 again
 * Minus signs: where their number in 8 elements must be even and is not, the search takes the wrong sign for the
 * element with the least w * abs(x); round tries all 8. */
#include "format/lattice.h"

#include <math.h>



enum { VECTORS_MAX = 64, GROUPS_MAX = 16, N = HT_BLOCK_MAX };

#define WEIGHT_FLOOR 0x1p-16f

/* Per block, in its own scale: x has its sign only for points that carry signs, and where it gets the wrong one. */
struct state {
    struct ht_work work;
    float x[N];
    float t[GROUPS_MAX];             /* scale of each group */
    float shift[HT_GRID_MAX_SUB];    /* of each sub-block */
    float p[GROUPS_MAX], q[GROUPS_MAX];
};

static float reach(const struct ht_lattice *lat) {
    const float *levels = lat->spec.levels;
    float top = levels[lat->spec.hi - lat->spec.lo] + (lat->spec.q_min_hi ? HT_LATTICE_SHIFT : 0.0f);
    return 65504.0f * lat->unit * (float)(2 * lat->n_scales - 1) * top;
}

static void load(const struct ht_lattice *lat, struct ht_work *work, const float *x, const float *weight) {
    ht_search_load(work, x, weight, N, &lat->spec, reach(lat));
    for (int i = 0; i < N; i++) {
        work->w[i] = work->w[i] > WEIGHT_FLOOR ? work->w[i] : WEIGHT_FLOOR;
    }
}

/* Takes the signs away as far as they can be stored. */
static void take_signs(const struct ht_lattice *lat, struct state *st) {
    const float *x = st->work.x, *w = st->work.w;
    for (int at = 0; at < N; at += 8) {
        int minus = 0, least = at;
        for (int i = at; i < at + 8; i++) {
            st->x[i] = lat->is_signed ? x[i] : fabsf(x[i]);
            minus += x[i] < 0.0f;
            least = w[i] * fabsf(x[i]) < w[least] * fabsf(x[least]) ? i : least;
        }
        if (lat->even && minus % 2 != 0) {
            st->x[least] = -st->x[least];
        }
    }
}

/* Vector v in all lanes. */
static void spread(const struct ht_lattice *lat, const struct state *st, int v, struct ht_lattice_lanes *lanes) {
    for (int i = 0; i < lat->len; i++) {
        for (int l = 0; l < HT_LANES; l++) {
            lanes->x[i][l] = st->x[v * lat->len + i];
            lanes->w[i][l] = st->work.w[v * lat->len + i];
        }
    }
}

/* Group g at the scales of the lanes (those of formats with a shift twice, plus shift first): takes the best.
 * Returns its error, less that of zeros. */
static float best_scale(const struct ht_lattice *lat, struct state *st, int g, struct ht_lattice_lanes *lanes,
                        int *lane) {
    int shifts = lat->spec.q_min_hi, per_sub = lat->spec.sub_len / lat->len, half = HT_LANES / 2;
    int subs = lat->scale_len / lat->spec.sub_len;
    float err[HT_LANES] = {0}, part[4][HT_LANES];
    for (int l = 0; l < HT_LANES; l++) {
        lanes->shift[l] = !shifts ? 0.0f : l < half ? HT_LATTICE_SHIFT : -HT_LATTICE_SHIFT;
    }
    for (int s = 0; s < subs; s++) {
        memset(part[s], 0, sizeof part[s]);
        for (int v = 0; v < per_sub; v++) {
            spread(lat, st, (g * subs + s) * per_sub + v, lanes);
            ht_lattice_search(lat, lanes);
            for (int l = 0; l < HT_LANES; l++) {
                part[s][l] += lanes->best[l];
            }
        }
        for (int l = 0; l < (shifts ? half : HT_LANES); l++) {
            float other = part[s][shifts ? l + half : l];
            err[l] += part[s][l] < other ? part[s][l] : other;
        }
    }
    int best = 0;
    for (int l = 1; l < (shifts ? half : HT_LANES); l++) {
        best = err[l] < err[best] ? l : best;
    }
    st->t[g] = lanes->t[best];
    for (int s = 0; s < subs; s++) {
        int minus = shifts && part[s][best + half] < part[s][best];
        st->shift[g * subs + s] = lanes->shift[minus ? best + half : best];
    }
    *lane = best;
    return err[best];
}

/* P and Q of each group with the points that are nearest at its present scale. */
static void refit(const struct ht_lattice *lat, struct state *st) {
    struct ht_lattice_lanes lanes;
    memset(st->p, 0, sizeof st->p);
    memset(st->q, 0, sizeof st->q);
    for (int v0 = 0; v0 < N / lat->len; v0 += HT_LANES) {
        for (int l = 0; l < HT_LANES; l++) {
            int at = (v0 + l) * lat->len;
            for (int i = 0; i < lat->len; i++) {
                lanes.x[i][l] = st->x[at + i];
                lanes.w[i][l] = st->work.w[at + i];
            }
            lanes.t[l] = st->t[at / lat->scale_len];
            lanes.shift[l] = st->shift[at / lat->spec.sub_len];
        }
        ht_lattice_find(lat, &lanes);
        for (int l = 0; l < HT_LANES; l++) {
            int at = (v0 + l) * lat->len, g = at / lat->scale_len;
            unsigned point = lat->points[lanes.index[l]];
            for (int i = 0; i < lat->len; i++) {
                float p = lat->base[ht_lattice_digit(lat, point, i)] + lanes.shift[l], wp = st->work.w[at + i] * p;
                st->p[g] += wp * st->x[at + i];
                st->q[g] += wp * p;
            }
        }
    }
}

/* ---- scales ---- */

int ht_lattice_nearest_scale(const struct ht_lattice *lat, float scale, float d) {
    float v = d > 0.0f ? rintf(0.5f * (scale / (d * lat->unit) - 1.0f)) : 0.0f;
    v = v > 0.0f ? v : 0.0f;
    return (int)(v < (float)(lat->n_scales - 1) ? v : (float)(lat->n_scales - 1));
}

float ht_lattice_step(const struct ht_lattice *lat, const float *scale, const float *curve, int n) {
    float largest = 0.0f, best = INFINITY, step = 0.0f;
    for (int i = 0; i < n; i++) {
        largest = scale[i] > largest && curve[i] > 0.0f ? scale[i] : largest;
    }
    for (int k = 0; k < 48; k++) { /* the largest at 1.06 to 0.59 of the range */
        float d = largest / (lat->unit * (float)(2 * lat->n_scales - 1) * (1.06f - 0.01f * (float)k));
        float num = 0.0f, den = 0.0f, err = 0.0f;
        for (int i = 0; i < n; i++) {
            float m = lat->unit * (float)(2 * ht_lattice_nearest_scale(lat, scale[i], d) + 1);
            num += curve[i] * scale[i] * m;
            den += curve[i] * m * m;
        }
        d = den > 0.0f ? num / den : d;
        for (int i = 0; i < n; i++) {
            float r = scale[i] - d * lat->unit * (float)(2 * ht_lattice_nearest_scale(lat, scale[i], d) + 1);
            err += curve[i] * r * r;
        }
        if (err < best) {
            best = err;
            step = d;
        }
    }
    return step;
}

/* ---- fit ---- */

/* Step 1 for group g. */
static void first_scale(const struct ht_lattice *lat, struct state *st, int g) {
    struct ht_lattice_lanes lanes;
    const float *x = st->work.x + g * lat->scale_len, *w = st->work.w + g * lat->scale_len;
    float sum = 0.0f, weights = 0.0f, amax = 0.0f;
    for (int i = 0; i < lat->scale_len; i++) {
        sum += w[i] * x[i] * x[i];
        weights += w[i];
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    }
    float rms = sqrtf(sum / weights);
    for (int l = 0; l < HT_LANES; l++) {
        lanes.t[l] = rms * lat->first[l];
    }
    int lane;
    best_scale(lat, st, g, &lanes, &lane);
}

/* Step 3: returns the error, less that of zeros. */
static float stored_scales(const struct ht_lattice *lat, struct state *st, float d, int8_t *q) {
    struct ht_lattice_lanes lanes;
    float err = 0.0f;
    int lane;
    for (int l = 0; l < HT_LANES; l++) {
        lanes.t[l] = d * (lat->unit * (float)(2 * (l % lat->n_scales) + 1));
    }
    for (int g = 0; g < N / lat->scale_len; g++) {
        err += best_scale(lat, st, g, &lanes, &lane);
        q[g] = (int8_t)lane;
    }
    return err;
}

static void fit_block(const struct ht_lattice *lat, struct state *st, struct ht_grid *grid) {
    int groups = N / lat->scale_len, per_scale = lat->scale_len / lat->spec.sub_len;
    float scale[GROUPS_MAX], best = 0.0f;
    int8_t q[GROUPS_MAX];
    uint16_t bits;
    take_signs(lat, st);
    for (int g = 0; g < groups; g++) {
        first_scale(lat, st, g);
    }
    refit(lat, st);
    for (int g = 0; g < groups; g++) {
        scale[g] = st->q[g] > 0.0f && st->p[g] > 0.0f ? st->p[g] / st->q[g] : 0.0f;
    }
    float d = ht_lattice_step(lat, scale, st->q, groups);
    for (int round = 0; round < 2; round++) {
        d = ht_fit_storable(&st->work, d, &bits);
        float err = stored_scales(lat, st, d, q);
        if (err < best) {
            best = err;
            grid->d = bits;
            for (int s = 0; s < lat->spec.n_sub; s++) {
                grid->q_scale[s] = q[s / per_scale];
                grid->q_min[s] = st->shift[s] < 0.0f;
            }
        }
        refit(lat, st);
        float num = 0.0f, den = 0.0f;
        for (int g = 0; g < groups; g++) {
            float m = lat->unit * (float)(2 * q[g] + 1);
            num += m * st->p[g];
            den += m * m * st->q[g];
        }
        d = den > 0.0f && num > 0.0f ? num / den : 0.0f;
    }
}

void ht_lattice_fit(const struct ht_lattice *lat, const float *x, const float *weight, struct ht_grid *grid) {
    struct state st;
    ht_grid_shape(&lat->spec, grid);
    load(lat, &st.work, x, weight);
    memset(grid->q_min, 0, sizeof grid->q_min);
    memset(grid->q_scale, 0, sizeof grid->q_scale);
    grid->d = grid->dmin = 0;
    if (st.work.amax > 0.0f) {
        fit_block(lat, &st, grid);
    }
    ht_lattice_restore(lat, grid);
}

/* ---- round ---- */

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

/* Codes of the 8 (or, where points are shorter and signs free, len) elements from `at` on. */
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

/* Elements from .. to - 1, multiples of 8 or of a point's length without parity. */
static void round_range(const struct ht_lattice *lat, const float *x, const float *w, const struct ht_grid *grid,
                        float down, int from, int to, int8_t *codes) {
    struct queue q;
    int step = to - from < 8 ? to - from : 8;
    q.lat = lat;
    q.n = 0;
    for (int at = from; at < to; at += step) {
        int s = at / lat->spec.sub_len;
        float scale = grid->scale[s], sign = scale < 0.0f && !lat->is_signed ? -1.0f : 1.0f;
        float shift = lat->spec.q_min_hi && (scale > 0.0f || scale < 0.0f) ? -grid->min[s] / scale : 0.0f;
        int odd = step == 8 && is_odd(lat, x, sign, at);
        for (int v = at / lat->len; v < (at + step) / lat->len; v++) {
            for (int flip = 0; flip <= (odd ? lat->len : 0); flip++) {
                ask(&q, x, w, scale * sign * down, shift, v, flip);
            }
        }
    }
    if (q.n > 0) {
        answer(&q);
    }
    for (int at = from; at < to; at += step) {
        float sign = grid->scale[at / lat->spec.sub_len] < 0.0f && !lat->is_signed ? -1.0f : 1.0f;
        take(&q, x, sign, at, step, codes);
    }
}

void ht_lattice_round(const struct ht_lattice *lat, const float *x, const float *weight, const struct ht_grid *grid,
                      int8_t *codes) {
    struct ht_work work;
    load(lat, &work, x, weight);
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
