/* Lattice formats: a vector of 4 or 8 elements is stored as the index of one of a few hundred points.
 *
 * A block has 256 elements. With s the stored sub-scale of an element's group,
 *     y = f16(d) * unit * (2 s + 1) * sign * magnitude               iq2_*, iq3_*
 *     y = f16(d) * unit * (2 s + 1) * (level + or - 1/8)             iq1_*: the points carry their own signs
 * In the terms of format.h: codes index the signed values an element may take; scale[] as above, q_scale[] is s;
 * for iq1_*, min[] is minus or plus scale / 8 and q_min[] the bit that says which.
 *
 * round_vector minimizes the weighted squared error as its caller weighs it; fit and round apply the metric of
 * search.c to the importance first. Elements that weigh nothing get 1 / 65536 of the largest weight. */
#ifndef HT_FORMAT_LATTICE_H
#define HT_FORMAT_LATTICE_H

#include "format/fit.h"

#define HT_LATTICE_SHIFT 0.125f

struct ht_lattice_chunk { /* 4 points whose upper halves of elements are the same; the last one repeated for fewer */
    uint8_t high, low[4];
    uint16_t first; /* index of the first of them */
};

struct ht_lattice {
    struct ht_grid_spec spec; /* shape and levels of the grid, for format.h's side */
    const uint16_t *points;   /* [n_points] level numbers, element 0 lowest, 2 bits each (len 8) or 3 (len 4) */
    int n_points;
    const struct ht_lattice_chunk *chunks; /* the same points for the search */
    int n_chunks;             /* even */
    int len;                  /* elements of a point */
    const float *base;        /* values of the level numbers: 3 (len 8) or 8 (len 4) */
    int is_signed;            /* base has both signs; else signs are stored apart */
    int even;                 /* the number of minus signs of each 8 elements is even */
    int scale_len;            /* elements of a stored sub-scale */
    int n_scales;             /* values of a stored sub-scale: 8 or 16 */
    float unit;
    const float *first;       /* [HT_LANES] scales to try first, in units of the root of the mean square;
                               * the first takes equal magnitudes to the least level */
};

extern const uint16_t ht_lattice_points_iq2_xxs[256], ht_lattice_points_iq2_xs[512], ht_lattice_points_iq2_s[1024];
extern const uint16_t ht_lattice_points_iq3_xxs[256], ht_lattice_points_iq3_s[512], ht_lattice_points_iq1[2048];
extern const struct ht_lattice_chunk ht_lattice_chunks_iq2_xxs[104], ht_lattice_chunks_iq2_xs[162];
extern const struct ht_lattice_chunk ht_lattice_chunks_iq2_s[284], ht_lattice_chunks_iq3_xxs[88];
extern const struct ht_lattice_chunk ht_lattice_chunks_iq3_s[154], ht_lattice_chunks_iq1[540];

/* What a block stores, out of its bits. */
struct ht_lattice_parts {
    uint16_t d;
    uint16_t index[64]; /* of each point */
    uint8_t signs[32];  /* of each 8 elements, bit k set: element k is negative */
    uint8_t scale[16];  /* s of each group of scale_len elements */
    uint8_t shift[32];  /* iq1: 1: minus 1/8, of each sub-block of the grid */
};

/* ---- lattice.c: parts <-> grid and codes ---- */
void ht_lattice_unpack(const struct ht_lattice *lat, const struct ht_lattice_parts *parts, struct ht_grid *grid,
                       int8_t *codes);
void ht_lattice_decode(const struct ht_lattice *lat, const struct ht_format *format, const void *src, float *x,
                       size_t n);
/* Codes that no block can hold become the nearest that it can. */
void ht_lattice_pack(const struct ht_lattice *lat, const struct ht_grid *grid, const int8_t *codes,
                     struct ht_lattice_parts *parts);
void ht_lattice_restore(const struct ht_lattice *lat, struct ht_grid *grid);
void ht_lattice_snap(const struct ht_lattice *lat, struct ht_grid *grid);

/* ---- lattice_fit.c, lattice_round.c ---- */
/* Loads a block as ht_search_load does; no weight is below 1 / 65536. */
void ht_lattice_load(const struct ht_lattice *lat, struct ht_work *work, const float *x, const float *weight);
/* The s whose d * unit * (2 s + 1) is nearest to scale. */
int ht_lattice_nearest_scale(const struct ht_lattice *lat, float scale, float d);
void ht_lattice_fit(const struct ht_lattice *lat, const float *x, const float *weight, struct ht_grid *grid);
void ht_lattice_round(const struct ht_lattice *lat, const float *x, const float *weight, const struct ht_grid *grid,
                      int8_t *codes);
void ht_lattice_round_vector(const struct ht_lattice *lat, const float *x, const float *weight,
                             const struct ht_grid *grid, uint32_t at, int8_t *codes);

/* ---- lattice_pass.c: the nearest points of HT_LANES vectors at once, exactly ----
 * Lane l asks for the point p with the least  sum over i of w[i] * (x[i] - t * (p[i] + shift))^2. */
struct ht_lattice_lanes {
    float x[8][HT_LANES], w[8][HT_LANES]; /* the first len rows count */
    float t[HT_LANES], shift[HT_LANES];
    float best[HT_LANES];    /* the sum at that point, less the sum of w * x * x */
    int32_t index[HT_LANES]; /* of the point */
};

/* Fills best. */
void ht_lattice_search(const struct ht_lattice *lat, struct ht_lattice_lanes *lanes);
/* Fills best and index. */
void ht_lattice_find(const struct ht_lattice *lat, struct ht_lattice_lanes *lanes);

/* The same with every vector of levels allowed, for n elements at HT_LANES scales: err is the whole sum. */
void ht_lattice_relaxed(const struct ht_lattice *lat, const float *x, const float *w, int n, float shift,
                        const float *t, float *err);

/* The step d for which the n scales lie best on d * unit * (2 s + 1), errors weighted by curve. */
float ht_lattice_step(const struct ht_lattice *lat, const float *scale, const float *curve, int n);

/* Number of the level of element i of a point. */
HT_INLINE int ht_lattice_digit(const struct ht_lattice *lat, unsigned point, int i) {
    return lat->len == 8 ? point >> 2 * i & 3 : point >> 3 * i & 7;
}

/* 7 stored signs: the eighth makes the number of minus signs even. */
HT_INLINE uint8_t ht_lattice_signs_of(unsigned seven) {
    unsigned parity = seven ^ seven >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return (uint8_t)(seven | (parity & 1) << 7);
}

/* The word of 4 times 7 signs and a scale, which it returns. */
HT_INLINE uint8_t ht_lattice_get_word(const uint8_t *p, uint8_t *signs) {
    uint32_t word = ht_get_u16(p) | (uint32_t)ht_get_u16(p + 2) << 16;
    for (int v = 0; v < 4; v++) {
        signs[v] = ht_lattice_signs_of(word >> 7 * v & 127);
    }
    return (uint8_t)(word >> 28);
}

HT_INLINE void ht_lattice_put_word(uint8_t *p, const uint8_t *signs, unsigned scale) {
    uint32_t word = (uint32_t)scale << 28;
    for (int v = 0; v < 4; v++) {
        word |= (uint32_t)(signs[v] & 127) << 7 * v;
    }
    ht_put_u16(p, (uint16_t)word);
    ht_put_u16(p + 2, (uint16_t)(word >> 16));
}

/* The functions of a row: NAME_split takes a block's bits apart, NAME_join puts them together. */
#define HT_LATTICE_ROW(name)                                                                                        \
    static void name##_fit(const float *x, const float *weight, struct ht_grid *grid) {                             \
        ht_lattice_fit(&name, x, weight, grid);                                                                     \
    }                                                                                                               \
    static void name##_snap(struct ht_grid *grid) {                                                                 \
        ht_lattice_snap(&name, grid);                                                                               \
    }                                                                                                               \
    static void name##_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes) {      \
        ht_lattice_round(&name, x, weight, grid, codes);                                                            \
    }                                                                                                               \
    static void name##_round_vector(const float *x, const float *weight, const struct ht_grid *grid, uint32_t at,   \
                                    int8_t *codes) {                                                                \
        ht_lattice_round_vector(&name, x, weight, grid, at, codes);                                                 \
    }                                                                                                               \
    static void name##_pack(const struct ht_grid *grid, const int8_t *codes, void *dst) {                           \
        struct ht_lattice_parts parts;                                                                              \
        ht_lattice_pack(&name, grid, codes, &parts);                                                                \
        name##_join(&parts, dst);                                                                                   \
    }                                                                                                               \
    static void name##_unpack(const void *src, struct ht_grid *grid, int8_t *codes) {                               \
        struct ht_lattice_parts parts = {0};                                                                        \
        name##_split(src, &parts);                                                                                  \
        ht_lattice_unpack(&name, &parts, grid, codes);                                                              \
    }                                                                                                               \
    static void name##_decode(const void *src, float *x, size_t n) {                                                \
        ht_lattice_decode(&name, &ht_format_##name, src, x, n);                                                     \
    }                                                                                                               \
    static void name##_encode(const float *x, const float *weight, void *dst, size_t n) {                           \
        ht_grid_encode(&ht_format_##name, x, weight, dst, n);                                                       \
    }
#define HT_LATTICE_FUNCTIONS(name)                                                                                  \
    .kind = HT_KIND_LATTICE, .source = "GGUF: ggml i-quants", .block_elems = HT_BLOCK_MAX, .decode = name##_decode, \
    .encode = name##_encode, .fit = name##_fit, .snap = name##_snap, .round = name##_round,                         \
    .round_vector = name##_round_vector, .pack = name##_pack, .unpack = name##_unpack

#endif
