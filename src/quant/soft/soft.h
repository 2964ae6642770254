/* A matrix whose rounding is learned. Every weight stands at a POSITION on the grid of its group, the
 * index of a level with a fraction between two of them, and carries an offset v:
 *
 *     index = clip(round(position(w) + v)),   value = scale * level[index] + base
 *
 * For integers that is AutoRound's w^ = s * (clip(round(w / s + v) + z) - z) (Cheng et al. 2023, arXiv 2309.05516,
 * eq. 3); positions between unequal levels are taken linearly, so that tables (nf4, iq4_nl) are served alike.
 *
 * Gradients are straight-through (Bengio et al. 2013, arXiv 1308.3432): rounding counts as the identity, clipping
 * stops v but not scale and base. With d = dL/dvalue:
 *     dL/dv     = d * scale * (distance of the two levels around)          0 where clipped
 *     dL/dscale = d * (level[index] - (w - base) / scale)                  d * level[index] where clipped
 *     dL/dbase  = 0                                                        d where clipped
 *
 * Grids of GGUF formats are found by the format's own search, or given, and stay. Those of schemes with a scale per
 * group or channel can be learned: cover(low * lo, high * hi) of the group's range lo..hi with low, high in [0.5, 1];
 * or, where grids are given, the given scale times a factor in [0.5, 1.5]. */
#ifndef HT_QUANT_SOFT_SOFT_H
#define HT_QUANT_SOFT_SOFT_H

#include "base/pool.h"
#include "tensor/qtensor.h"
#include "tensor/role.h"

/* Where one linear goes. Exactly one of q and format is set. */
struct ht_learn_linear {
    enum ht_role role;        /* of the block; ht_relax does not look at it */
    struct ht_qtensor *q;     /* initialized with scheme and shape (ht_qtensor_init); filled here */
    const struct ht_format *format; /* a grid format of GGUF that rounds each weight on its own */
    void *bytes;              /* [rows, row_bytes] of format; filled here */
    const float *importance;  /* [cols] >= 0 for the grids' search, or NULL */
    bool given;               /* q or bytes hold grids and codes already: learning starts there */
};

struct ht_soft_grid {
    float scale, base;
    float lo, hi;         /* range of the group; given: scale and base as they were */
    float share[2];       /* low, high; given: of the scale, and 1 + the move of base in old scales */
    float moment[2][2];   /* Adam's, of low and high */
};

struct ht_soft {
    struct ht_pool *pool;
    const struct ht_learn_linear *to;
    const float *w; /* [rows, cols] */
    uint64_t rows, cols;
    uint64_t run, runs;         /* columns per grid; grids per row */
    struct ht_soft_grid *grids; /* [rows, runs] */
    bool ranges;                /* low and high are learned */
    const float *levels;        /* ascending; NULL: integers from `first` on */
    int32_t first, count;       /* code of level 0 of integers; levels */
    float *own_levels;
    int32_t *codes;             /* [count] code of each level; NULL: first + index */
    int32_t *start;             /* [rows, cols] index that was given, or NULL */
    struct ht_grid *blocks;     /* [rows, cols / block_elems] GGUF formats */
    float *v;                   /* [rows, cols] */
    float *best_v;              /* of the best step */
    struct ht_soft_grid *best_grids;
    float *m1, *m2;             /* Adam's moments of v, or NULL */
};

ht_status ht_soft_init(struct ht_soft *s, struct ht_pool *pool, const struct ht_learn_linear *to, const float *w,
                       uint64_t rows, uint64_t cols, bool ranges, bool adam, ht_err *err);
void ht_soft_deinit(struct ht_soft *s);
/* Grids and codes were given: moves each weight of w, which s reads, as little as it takes for its code to be the
 * nearest, and by a quarter of a step more, so that it does not fall back at once. */
void ht_soft_adopt(const struct ht_soft *s, float *w);
/* out [rows, cols]: what the present v and grids decode to. */
void ht_soft_values(const struct ht_soft *s, float *out);
/* One weight in parts: value = low + up * gap, up 0 or 1, and its fraction between the two; all [rows, cols]. */
void ht_soft_cells(const struct ht_soft *s, float *low, float *gap, float *fraction);

struct ht_soft_step {
    float lr, lr_range; /* of v; of low and high */
    float bound;        /* |v| <= bound */
    bool adam;
    uint32_t step;      /* 1, 2, ... */
};
/* dw [rows, cols]: gradient of the loss with respect to the values. */
void ht_soft_update(struct ht_soft *s, const float *dw, const struct ht_soft_step *step);
void ht_soft_keep(struct ht_soft *s);    /* the present state is the best */
void ht_soft_restore(struct ht_soft *s); /* back to it */
/* Codes into to->q or to->bytes. HT_NOMEM. */
ht_status ht_soft_encode(const struct ht_soft *s, ht_err *err);

#endif
