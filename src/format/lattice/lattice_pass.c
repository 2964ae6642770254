/* All points against all lanes. A point's sum is that of its two halves, and there are at most 81 different halves
 * (64 for points of 4 elements with 8 levels): their sums go into two tables of lanes. Points come in chunks of 4
 * that share the upper half, so that a chunk costs 4 comparisons and one addition per lane. */
#include "format/lattice/lattice.h"

#include <math.h>

#define ROWS 256 /* halves by level numbers: 4 of 2 bits, not all used; or 2 of 3 bits */

struct halves {
    float low[ROWS][HT_LANES], high[ROWS][HT_LANES];
};

/* w * (x - t * v)^2 - w * x * x for one element and the value v of one of its levels. */
HT_INLINE void element(const struct ht_lattice_lanes *in, int i, float base, float *out) {
    const float *x = in->x[i], *w = in->w[i], *t = in->t, *shift = in->shift;
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        float y = t[l] * (base + shift[l]);
        out[l] = w[l] * y * (y - 2.0f * x[l]);
    }
}

HT_INLINE void add_rows(const float *a, const float *b, float *out) {
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        out[l] = a[l] + b[l];
    }
}

/* 4 elements of 3 levels from `from` on. */
HT_INLINE void half_of_3(const struct ht_lattice *lat, const struct ht_lattice_lanes *in, int from,
                         float (*out)[HT_LANES]) {
    float one[4][3][HT_LANES], pair[2][16][HT_LANES];
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++) {
            element(in, from + i, lat->base[k], one[i][k]);
        }
    }
    for (int p = 0; p < 2; p++) {
        for (int a = 0; a < 3; a++) {
            for (int b = 0; b < 3; b++) {
                add_rows(one[2 * p][a], one[2 * p + 1][b], pair[p][a | b << 2]);
            }
        }
    }
    for (int b = 0; b < 11; b++) {
        for (int a = 0; a < 11 && b % 4 != 3; a += 1 + (a % 4 == 2)) {
            add_rows(pair[0][a], pair[1][b], out[a | b << 4]);
        }
    }
}

/* 2 elements of 8 levels. */
HT_INLINE void half_of_8(const struct ht_lattice *lat, const struct ht_lattice_lanes *in, int from,
                         float (*out)[HT_LANES]) {
    float one[2][8][HT_LANES];
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 8; k++) {
            element(in, from + i, lat->base[k], one[i][k]);
        }
    }
    for (int b = 0; b < 8; b++) {
        for (int a = 0; a < 8; a++) {
            add_rows(one[0][a], one[1][b], out[a | b << 3]);
        }
    }
}

HT_INLINE void fill(const struct ht_lattice *lat, const struct ht_lattice_lanes *in, struct halves *h) {
    if (lat->len == 8) {
        half_of_3(lat, in, 0, h->low);
        half_of_3(lat, in, 4, h->high);
        return;
    }
    half_of_8(lat, in, 0, h->low);
    half_of_8(lat, in, 2, h->high);
}

#define SET(a, value)                       \
    HT_LANE_LOOP                            \
    for (int l = 0; l < HT_LANES; l++) {    \
        (a)[l] = (value);                   \
    }

HT_INLINE float smaller(float a, float b) {
    return a < b ? a : b;
}

/* The least sums of a chunk; where at is wanted it gets the chunk's number in the lanes that it improves. */
#define TAKE_CHUNK(c)                                                                                             \
    do {                                                                                                          \
        const float *p0_ = h->low[(c)->low[0]], *p1_ = h->low[(c)->low[1]], *p2_ = h->low[(c)->low[2]];           \
        const float *p3_ = h->low[(c)->low[3]], *high_ = h->high[(c)->high];                                      \
        HT_LANE_LOOP                                                                                              \
        for (int l = 0; l < HT_LANES; l++) {                                                                      \
            float v_ = smaller(smaller(p0_[l], p1_[l]), smaller(p2_[l], p3_[l])) + high_[l];                      \
            if (want) {                                                                                           \
                int32_t less_ = -(int32_t)(v_ < best[l]); /* a choice by bits: not by a branch on any lane */     \
                at[l] = (at[l] & ~less_) | ((int32_t)((c) - lat->chunks) & less_);                                \
            }                                                                                                     \
            best[l] = smaller(v_, best[l]);                                                                       \
        }                                                                                                         \
    } while (0)

HT_INLINE void search(const struct ht_lattice *lat, const struct halves *h, float *least, int32_t *chunk, int want) {
    float best[HT_LANES];
    int32_t at[HT_LANES];
    const struct ht_lattice_chunk *end = lat->chunks + lat->n_chunks;
    SET(best, INFINITY)
    SET(at, 0)
    for (const struct ht_lattice_chunk *c = lat->chunks; c < end; c += 2) {
        TAKE_CHUNK(c);
        TAKE_CHUNK(c + 1);
    }
    SET(least, best[l])
    if (want) {
        SET(chunk, at[l])
    }
}

HT_CLONES
void ht_lattice_search(const struct ht_lattice *lat, struct ht_lattice_lanes *lanes) {
    struct halves h HT_ALIGNED(64);
    fill(lat, lanes, &h);
    search(lat, &h, lanes->best, NULL, 0);
}

HT_CLONES
void ht_lattice_find(const struct ht_lattice *lat, struct ht_lattice_lanes *lanes) {
    struct halves h HT_ALIGNED(64);
    int32_t chunk[HT_LANES];
    fill(lat, lanes, &h);
    search(lat, &h, lanes->best, chunk, 1);
    for (int l = 0; l < HT_LANES; l++) {
        const struct ht_lattice_chunk *c = &lat->chunks[chunk[l]];
        int best = 0;
        for (int i = 1; i < 4; i++) {
            best = h.low[c->low[i]][l] < h.low[c->low[best]][l] ? i : best;
        }
        lanes->index[l] = c->first + best;
    }
}

/* One element in all lanes: err += w * (x - t * (level + shift))^2 with the nearest level. */
HT_INLINE void add_nearest(const struct ht_lattice *lat, int n_levels, float x, float w, float shift, const float *t,
                           const float *inv, float *err) {
    float v[HT_LANES], q[HT_LANES];
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        v[l] = x * inv[l] - shift;
        q[l] = lat->base[0] + shift;
    }
    for (int k = 0; k + 1 < n_levels; k++) {
        float middle = 0.5f * (lat->base[k] + lat->base[k + 1]), step = lat->base[k + 1] - lat->base[k];
        HT_LANE_LOOP
        for (int l = 0; l < HT_LANES; l++) {
            q[l] += v[l] > middle ? step : 0.0f;
        }
    }
    HT_LANE_LOOP
    for (int l = 0; l < HT_LANES; l++) {
        float r = x - t[l] * q[l];
        err[l] += w * r * r;
    }
}

HT_CLONES
void ht_lattice_relaxed(const struct ht_lattice *lat, const float *x, const float *w, int n, float shift,
                        const float *t, float *err) {
    float inv[HT_LANES], scale[HT_LANES], sum[HT_LANES];
    SET(inv, ht_grid_inverse(t[l]))
    SET(scale, t[l])
    SET(sum, 0.0f)
    for (int i = 0; i < n; i++) {
        if (lat->len == 8) {
            add_nearest(lat, 3, x[i], w[i], shift, scale, inv, sum);
        } else {
            add_nearest(lat, 8, x[i], w[i], shift, scale, inv, sum);
        }
    }
    SET(err, sum[l])
}

/* 1 / position of the largest scale in units of the largest multiple. */
static const float step_table[2][HT_LANES] = {
    {1 / 1.06f, 1 / 1.045f, 1 / 1.03f, 1 / 1.015f, 1 / 1.00f, 1 / 0.985f, 1 / 0.97f, 1 / 0.955f,
     1 / 0.94f, 1 / 0.925f, 1 / 0.91f, 1 / 0.895f, 1 / 0.88f, 1 / 0.865f, 1 / 0.85f, 1 / 0.835f},
    {1 / 0.82f, 1 / 0.805f, 1 / 0.79f, 1 / 0.775f, 1 / 0.76f, 1 / 0.745f, 1 / 0.73f, 1 / 0.715f,
     1 / 0.70f, 1 / 0.685f, 1 / 0.67f, 1 / 0.655f, 1 / 0.64f, 1 / 0.625f, 1 / 0.61f, 1 / 0.595f}};

/* With multiples m fixed the best step is sum(c v m) / sum(c m m), and the larger the square of the first over the
 * second the smaller the error. */
HT_CLONES
float ht_lattice_step(const struct ht_lattice *lat, const float *scale, const float *curve, int n) {
    float largest = 0.0f, best = 0.0f, step = 0.0f, top = (float)(lat->n_scales - 1);
    for (int i = 0; i < n; i++) {
        largest = scale[i] > largest && curve[i] > 0.0f ? scale[i] : largest;
    }
    for (int k = 0; k < 2 && largest > 0.0f; k++) {
        float inv[HT_LANES], num[HT_LANES], den[HT_LANES];
        SET(inv, 0.5f * (2.0f * top + 1.0f) / (largest * step_table[k][l]))
        SET(num, 0.0f)
        SET(den, 0.0f)
        for (int i = 0; i < n; i++) {
            float v = scale[i], c = curve[i];
            HT_LANE_LOOP
            for (int l = 0; l < HT_LANES; l++) {
                float s = v * inv[l] - 0.5f;
                s = s > 0.0f ? s : 0.0f;
                s = s < top ? s : top;
                s = 2.0f * ((s + HT_ROUND_MAGIC) - HT_ROUND_MAGIC) + 1.0f;
                num[l] += c * v * s;
                den[l] += c * s * s;
            }
        }
        for (int l = 0; l < HT_LANES; l++) {
            float gain = den[l] > 0.0f ? num[l] * num[l] / den[l] : 0.0f;
            if (gain > best) {
                best = gain;
                step = num[l] / (den[l] * lat->unit);
            }
        }
    }
    return step;
}
