#include "format/lanes.h"

void ht_grid_shape(const struct ht_grid_spec *spec, struct ht_grid *grid) {
    grid->n_sub = spec->n_sub;
    grid->sub_len = spec->sub_len;
    grid->lo = spec->lo;
    grid->hi = spec->hi;
    grid->levels = spec->levels;
}

void ht_grid_restore(struct ht_grid *grid) {
    float d = ht_f16_to_f32(grid->d), dmin = ht_f16_to_f32(grid->dmin);
    for (int s = 0; s < grid->n_sub; s++) {
        grid->scale[s] = d * (float)grid->q_scale[s];
        grid->min[s] = dmin * (float)grid->q_min[s];
    }
}

int ht_grid_is_stored(const struct ht_grid *grid) {
    float d = ht_f16_to_f32(grid->d), dmin = ht_f16_to_f32(grid->dmin);
    for (int s = 0; s < grid->n_sub; s++) {
        if (grid->scale[s] != d * (float)grid->q_scale[s] || grid->min[s] != dmin * (float)grid->q_min[s]) {
            return 0;
        }
    }
    return 1;
}

/* The code of position v = (x + min) / scale, which may be anything: NaN takes the lowest code. */
HT_INLINE float nearest_int(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (v + HT_ROUND_MAGIC) - HT_ROUND_MAGIC;
}

/* Counts the midpoints below v; a tie takes the lower code. */
HT_INLINE int nearest_level(float v, const float *levels, int lo, int hi) {
    int c = lo;
    for (int k = 0; k < hi - lo; k++) {
        c += v > 0.5f * (levels[k] + levels[k + 1]);
    }
    return c;
}

int ht_grid_nearest(const struct ht_grid *grid, int s, float x) {
    float v = (x + grid->min[s]) * ht_grid_inverse(grid->scale[s]);
    if (grid->levels) {
        return nearest_level(v, grid->levels, grid->lo, grid->hi);
    }
    return (int)nearest_int(v, (float)grid->lo, (float)grid->hi);
}

float ht_grid_value(const struct ht_grid *grid, int s, int code) {
    float level = grid->levels ? grid->levels[code - grid->lo] : (float)code;
    return grid->scale[s] * level - grid->min[s];
}

bool ht_grid_move(struct ht_grid *grid, float d, float dmin) {
    if (!ht_grid_is_stored(grid)) {
        return false;
    }
    uint16_t to_d = ht_f16_from_f32(ht_f16_to_f32(grid->d) + d);
    uint16_t to_dmin = ht_f16_from_f32(ht_f16_to_f32(grid->dmin) + dmin);
    bool finite = (to_d & 0x7c00u) != 0x7c00u && (to_dmin & 0x7c00u) != 0x7c00u;
    if (!finite || (to_d == grid->d && to_dmin == grid->dmin)) {
        return false;
    }
    grid->d = to_d;
    grid->dmin = to_dmin;
    ht_grid_restore(grid);
    return true;
}

HT_CLONES
static void round_ints(const float *x, const struct ht_grid *grid, int8_t *codes) {
    float lo = (float)grid->lo, hi = (float)grid->hi;
    int len = grid->sub_len;
    for (int s = 0; s < grid->n_sub; s++) {
        float inv = ht_grid_inverse(grid->scale[s]), min = grid->min[s];
        for (int i = s * len; i < (s + 1) * len; i++) {
            codes[i] = (int8_t)(int)nearest_int((x[i] + min) * inv, lo, hi);
        }
    }
}

/* Tables of 16, the usual ones: the same with the number of levels known. Sub-blocks are multiples of 16. */
HT_CLONES
static void round_levels_16(const float *x, const struct ht_grid *grid, int8_t *codes) {
    float middle[15];
    int len = grid->sub_len;
    for (int k = 0; k < 15; k++) {
        middle[k] = 0.5f * (grid->levels[k] + grid->levels[k + 1]);
    }
    for (int s = 0; s < grid->n_sub; s++) {
        float inv = ht_grid_inverse(grid->scale[s]), min = grid->min[s];
        for (int i = s * len; i < (s + 1) * len; i += HT_LANES) {
            int c[HT_LANES];
            HT_LANE_LOOP
            for (int l = 0; l < HT_LANES; l++) {
                float v = (x[i + l] + min) * inv;
                int above = grid->lo;
                HT_UNROLL
                for (int k = 0; k < 15; k++) {
                    above += v > middle[k];
                }
                c[l] = above;
            }
            for (int l = 0; l < HT_LANES; l++) {
                codes[i + l] = (int8_t)c[l];
            }
        }
    }
}

HT_CLONES
static void round_levels(const float *x, const struct ht_grid *grid, int8_t *codes) {
    int len = grid->sub_len;
    for (int s = 0; s < grid->n_sub; s++) {
        float inv = ht_grid_inverse(grid->scale[s]), min = grid->min[s];
        for (int i = s * len; i < (s + 1) * len; i++) {
            codes[i] = (int8_t)nearest_level((x[i] + min) * inv, grid->levels, grid->lo, grid->hi);
        }
    }
}

void ht_grid_round(const float *x, const float *weight, const struct ht_grid *grid, int8_t *codes) {
    (void)weight; /* the nearest point is the best whatever the element weighs */
    if (grid->levels && grid->hi - grid->lo == 15) {
        round_levels_16(x, grid, codes);
    } else if (grid->levels) {
        round_levels(x, grid, codes);
    } else {
        round_ints(x, grid, codes);
    }
}

HT_CLONES
static void grid_values(const struct ht_grid *grid, const int8_t *codes, float *x) {
    int len = grid->sub_len, lo = grid->lo;
    const float *levels = grid->levels;
    for (int s = 0; s < grid->n_sub; s++) {
        float scale = grid->scale[s], min = grid->min[s];
        if (levels) {
            for (int i = s * len; i < (s + 1) * len; i++) {
                x[i] = scale * levels[codes[i] - lo] - min;
            }
        } else {
            for (int i = s * len; i < (s + 1) * len; i++) {
                x[i] = scale * (float)codes[i] - min;
            }
        }
    }
}

void ht_grid_decode(const struct ht_format *format, const void *src, float *x, size_t n) {
    const uint8_t *p = src;
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    for (size_t i = 0; i < n; i += format->block_elems, p += format->block_bytes) {
        format->unpack(p, &grid, codes);
        grid_values(&grid, codes, x + i);
    }
}

void ht_grid_encode(const struct ht_format *format, const float *x, const float *weight, void *dst, size_t n) {
    uint8_t *p = dst;
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    for (size_t i = 0; i < n; i += format->block_elems, p += format->block_bytes) {
        const float *w = weight ? weight + i : NULL;
        format->fit(x + i, w, &grid);
        format->snap(&grid);
        format->round(x + i, w, &grid, codes);
        format->pack(&grid, codes, p);
    }
}
