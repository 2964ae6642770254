/* All points against all lanes. A point's sum is that of its two halves, and there are at most 81 different halves
 * (64 for points of 4 elements with 8 levels): their sums go into two tables of lanes, and each point costs one
 * addition and one comparison per lane. Points are independent of each other, so four go side by side. */
#include "format/lattice.h"

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

HT_INLINE int fill(const struct ht_lattice *lat, const struct ht_lattice_lanes *in, struct halves *h) {
    if (lat->len == 8) {
        half_of_3(lat, in, 0, h->low);
        half_of_3(lat, in, 4, h->high);
        return 8;
    }
    half_of_8(lat, in, 0, h->low);
    half_of_8(lat, in, 2, h->high);
    return 6;
}

#define MINIMUM(best, point)                                              \
    do {                                                                  \
        const float *a_ = h.low[(point) & mask], *b_ = h.high[(point) >> bits]; \
        HT_LANE_LOOP                                                      \
        for (int l = 0; l < HT_LANES; l++) {                              \
            float v_ = a_[l] + b_[l];                                     \
            (best)[l] = v_ < (best)[l] ? v_ : (best)[l];                  \
        }                                                                 \
    } while (0)

HT_CLONES
void ht_lattice_search(const struct ht_lattice *lat, struct ht_lattice_lanes *lanes) {
    struct halves h HT_ALIGNED(64);
    float b0[HT_LANES], b1[HT_LANES], b2[HT_LANES], b3[HT_LANES];
    const uint16_t *p = lat->points;
    int n = lat->n_points, bits = fill(lat, lanes, &h);
    unsigned mask = (1u << bits) - 1;
    for (int l = 0; l < HT_LANES; l++) {
        b0[l] = b1[l] = b2[l] = b3[l] = INFINITY;
    }
    for (int i = 0; i < n; i += 4) {
        MINIMUM(b0, p[i]);
        MINIMUM(b1, p[i + 1]);
        MINIMUM(b2, p[i + 2]);
        MINIMUM(b3, p[i + 3]);
    }
    for (int l = 0; l < HT_LANES; l++) {
        float a = b0[l] < b1[l] ? b0[l] : b1[l], b = b2[l] < b3[l] ? b2[l] : b3[l];
        lanes->best[l] = a < b ? a : b;
    }
}

#define LOWEST(best, at, i)                                               \
    do {                                                                  \
        const float *a_ = h.low[p[i] & mask], *b_ = h.high[p[i] >> bits]; \
        HT_LANE_LOOP                                                      \
        for (int l = 0; l < HT_LANES; l++) {                              \
            float v_ = a_[l] + b_[l];                                     \
            int32_t less_ = v_ < (best)[l];                               \
            (best)[l] = less_ ? v_ : (best)[l];                           \
            (at)[l] = less_ ? (i) : (at)[l];                              \
        }                                                                 \
    } while (0)

HT_CLONES
void ht_lattice_find(const struct ht_lattice *lat, struct ht_lattice_lanes *lanes) {
    struct halves h HT_ALIGNED(64);
    float b0[HT_LANES], b1[HT_LANES];
    int32_t i0[HT_LANES], i1[HT_LANES];
    const uint16_t *p = lat->points;
    int n = lat->n_points, bits = fill(lat, lanes, &h);
    unsigned mask = (1u << bits) - 1;
    for (int l = 0; l < HT_LANES; l++) {
        b0[l] = b1[l] = INFINITY;
        i0[l] = i1[l] = 0;
    }
    for (int i = 0; i < n; i += 2) {
        LOWEST(b0, i0, i);
        LOWEST(b1, i1, i + 1);
    }
    for (int l = 0; l < HT_LANES; l++) {
        int second = b1[l] < b0[l] || (b1[l] == b0[l] && i1[l] < i0[l]);
        lanes->best[l] = second ? b1[l] : b0[l];
        lanes->index[l] = second ? i1[l] : i0[l];
    }
}
