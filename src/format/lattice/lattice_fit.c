/* The search of the lattice formats.
 *
 * With a point p for each vector and t the scale, the weighted error of a group of elements is
 *     sum(w x x) - 2 t P + t t Q,    P = sum(w x p),    Q = sum(w p p)
 * so that P / Q is the best scale of these points. Steps:
 *   1. per group: the best of 16 scales if all vectors of levels could be stored; the nearest points there, found
 *      exactly, and their best scale
 *   2. one step d for which the groups' scales lie best on d * unit * (1, 3, 5 ...), errors weighted by Q
 *   3. with d rounded to f16: per group the best of the stored scales around, with the exact error of each
 *   4. d times 1 + e, e the block's relative error: the least error makes a block shorter by that much along itself,
 *      which in a model adds up from layer to layer where noise does not. At most 5 %; costs 1 to 5 % of the error
 * A second round with d refitted gains 0.1 to 0.4 % and costs half as much again (docs/measurements/encoders.md).
 * Minus signs: where their number in 8 elements must be even and is not, the search takes the wrong sign for the
 * element with the least w * abs(x); round finds the best of all. */
#include "format/lattice/lattice.h"

#include <math.h>



enum { VECTORS_MAX = 64, GROUPS_MAX = 16, TRIES_MAX = 8, N = HT_BLOCK_MAX };

#define LENGTHEN_MAX 0.05f

/* Per block, in its own scale: x has its sign only for points that carry signs, and where it gets the wrong one. */
struct state {
    struct ht_work work;
    float x[N];
    float t[GROUPS_MAX];                /* scale of each group */
    float shift[HT_GRID_MAX_SUB];       /* of each sub-block */
    float p[GROUPS_MAX], q[GROUPS_MAX]; /* P and Q of each group */
};

static float shift_of(const struct ht_lattice *lat, int minus) {
    return !lat->spec.q_min_hi ? 0.0f : minus ? -HT_LATTICE_SHIFT : HT_LATTICE_SHIFT;
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

/* The same number of scales for each group, and what each vector makes of them with either shift. */
struct trial {
    float t[GROUPS_MAX][TRIES_MAX];
    float best[2][VECTORS_MAX][TRIES_MAX];
};

/* HT_LANES / k vectors from v on, k scales each. */
HT_INLINE void ask_scales(const struct ht_lattice *lat, const struct state *st, struct trial *trial, int k, int v,
                          int minus, struct ht_lattice_lanes *lanes) {
    for (int j = 0; j < HT_LANES / k; j++) {
        int at = (v + j) * lat->len;
        for (int i = 0; i < lat->len; i++) {
            for (int l = 0; l < k; l++) {
                lanes->x[i][j * k + l] = st->x[at + i];
                lanes->w[i][j * k + l] = st->work.w[at + i];
            }
        }
        for (int l = 0; l < k; l++) {
            lanes->t[j * k + l] = trial->t[at / lat->scale_len][l];
            lanes->shift[j * k + l] = shift_of(lat, minus);
        }
    }
    ht_lattice_search(lat, lanes);
    for (int j = 0; j < HT_LANES / k; j++) {
        memcpy(trial->best[minus][v + j], lanes->best + j * k, sizeof(float) * (size_t)k);
    }
}

/* Takes the best of the k scales of group g; returns its error, less that of zeros. */
static float take_scale(const struct ht_lattice *lat, struct state *st, const struct trial *trial, int k, int g,
                        int *chosen) {
    int shifts = lat->spec.q_min_hi, per_sub = lat->spec.sub_len / lat->len, subs = lat->scale_len / lat->spec.sub_len;
    float err[TRIES_MAX] = {0}, part[2][2][TRIES_MAX] = {0};
    for (int s = 0; s < subs; s++) {
        for (int v = (g * subs + s) * per_sub; v < (g * subs + s + 1) * per_sub; v++) {
            for (int l = 0; l < k; l++) {
                part[s][0][l] += trial->best[0][v][l];
                part[s][1][l] += trial->best[shifts][v][l];
            }
        }
        for (int l = 0; l < k; l++) {
            err[l] += part[s][0][l] < part[s][1][l] ? part[s][0][l] : part[s][1][l];
        }
    }
    int best = 0;
    for (int l = 1; l < k; l++) {
        best = err[l] < err[best] ? l : best;
    }
    st->t[g] = trial->t[g][best];
    for (int s = 0; s < subs; s++) {
        st->shift[g * subs + s] = shift_of(lat, part[s][1][best] < part[s][0][best]);
    }
    *chosen = best;
    return err[best];
}

/* Every group takes the best of its k scales, 8 or 4; returns the block's error, less that of zeros. */
static float try_scales(const struct ht_lattice *lat, struct state *st, struct trial *trial, int k, int *chosen) {
    struct ht_lattice_lanes lanes;
    float err = 0.0f;
    for (int minus = 0; minus <= lat->spec.q_min_hi; minus++) {
        for (int v = 0; v < N / lat->len; v += HT_LANES / k) {
            if (k == 8) {
                ask_scales(lat, st, trial, 8, v, minus, &lanes);
            } else {
                ask_scales(lat, st, trial, 4, v, minus, &lanes);
            }
        }
    }
    for (int g = 0; g < N / lat->scale_len; g++) {
        err += take_scale(lat, st, trial, k, g, &chosen[g]);
    }
    return err;
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

/* ---- fit ---- */

/* The best of HT_LANES scales for group g if all vectors of levels could be stored; sets its shifts. The first scale
 * brings elements of one magnitude to the least level: a point that every lattice has, unlike those at other levels. */
static int relaxed_scale(const struct ht_lattice *lat, struct state *st, int g, const float *t, float energy) {
    int shifts = lat->spec.q_min_hi, sub_len = lat->spec.sub_len, subs = lat->scale_len / sub_len;
    float err[HT_LANES] = {0}, part[2][2][HT_LANES];
    for (int s = 0; s < subs; s++) {
        int at = g * lat->scale_len + s * sub_len;
        for (int minus = 0; minus <= shifts; minus++) {
            ht_lattice_relaxed(lat, st->x + at, st->work.w + at, sub_len, shift_of(lat, minus), t, part[s][minus]);
        }
        for (int l = 0; l < HT_LANES; l++) {
            err[l] += part[s][0][l] < part[s][shifts][l] ? part[s][0][l] : part[s][shifts][l];
        }
    }
    int best = err[0] < 1e-3f * energy ? 0 : ht_lane_lowest(err);
    for (int s = 0; s < subs; s++) {
        st->shift[g * subs + s] = shift_of(lat, part[s][shifts][best] < part[s][0][best]);
    }
    return best;
}

/* Step 1. */
static void first_scales(const struct ht_lattice *lat, struct state *st) {
    int len = lat->scale_len;
    for (int g = 0; g < N / len; g++) {
        float sum = 0.0f, weights = 0.0f, t[HT_LANES];
        for (int i = g * len; i < (g + 1) * len; i++) {
            sum += st->work.w[i] * st->x[i] * st->x[i];
            weights += st->work.w[i];
        }
        float rms = sqrtf(sum / weights);
        for (int l = 0; l < HT_LANES; l++) {
            t[l] = rms * lat->first[l];
        }
        st->t[g] = t[relaxed_scale(lat, st, g, t, sum)];
    }
    refit(lat, st);
}

/* Step 3: stored scales around the present ones. Returns the error, less that of zeros. */
static float stored_scales(const struct ht_lattice *lat, struct state *st, const float *scale, float d, int *q) {
    struct trial trial;
    int from[GROUPS_MAX], groups = N / lat->scale_len, k = lat->is_signed ? 4 : 8;
    for (int g = 0; g < groups; g++) {
        float v = d > 0.0f ? floorf(0.5f * (scale[g] / (d * lat->unit) - 1.0f)) - (float)(k / 2 - 1) : 0.0f;
        v = v > 0.0f ? v : 0.0f;
        from[g] = v < (float)(lat->n_scales - k) ? (int)v : lat->n_scales - k;
        for (int l = 0; l < k; l++) {
            trial.t[g][l] = d * (lat->unit * (float)(2 * (from[g] + l) + 1));
        }
    }
    float err = try_scales(lat, st, &trial, k, q);
    for (int g = 0; g < groups; g++) {
        q[g] += from[g];
    }
    return err;
}

static void fit_block(const struct ht_lattice *lat, struct state *st, struct ht_grid *grid) {
    int groups = N / lat->scale_len, per_scale = lat->scale_len / lat->spec.sub_len, q[GROUPS_MAX];
    float scale[GROUPS_MAX];
    take_signs(lat, st);
    first_scales(lat, st);
    for (int g = 0; g < groups; g++) {
        scale[g] = st->q[g] > 0.0f && st->p[g] > 0.0f ? st->p[g] / st->q[g] : 0.0f;
    }
    float d = ht_fit_storable(&st->work, ht_lattice_step(lat, scale, st->q, groups), &grid->d);
    float gain = -stored_scales(lat, st, scale, d, q), energy = 0.0f;
    if (!(gain > 0.0f)) {
        grid->d = 0; /* too small for f16: zeros are better */
        return;
    }
    for (int i = 0; i < N; i++) {
        energy += st->work.w[i] * st->x[i] * st->x[i];
    }
    float error = gain < energy ? 1.0f - gain / energy : 0.0f;
    (void)ht_fit_storable(&st->work, d * (1.0f + (error < LENGTHEN_MAX ? error : LENGTHEN_MAX)), &grid->d);
    for (int s = 0; s < lat->spec.n_sub; s++) {
        grid->q_scale[s] = (int8_t)q[s / per_scale];
        grid->q_min[s] = st->shift[s] < 0.0f;
    }
}

void ht_lattice_fit(const struct ht_lattice *lat, const float *x, const float *weight, struct ht_grid *grid) {
    struct state st;
    ht_grid_shape(&lat->spec, grid);
    ht_lattice_load(lat, &st.work, x, weight);
    memset(grid->q_min, 0, sizeof grid->q_min);
    memset(grid->q_scale, 0, sizeof grid->q_scale);
    grid->d = grid->dmin = 0;
    if (st.work.amax > 0.0f) {
        fit_block(lat, &st, grid);
    }
    ht_lattice_restore(lat, grid);
}
