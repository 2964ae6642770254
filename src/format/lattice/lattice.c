/* Between what a block stores and what the rest of the library sees: grid and codes. */
#include "format/lattice/lattice.h"

#include <math.h>



/* ---- codes ---- */

/* Code of level number k with this sign; unsigned levels: -base[n-1] .. -base[0], base[0] .. base[n-1]. */
HT_INLINE int code_of(const struct ht_lattice *lat, int k, int negative) {
    int n = lat->len == 8 ? 3 : 8;
    if (lat->is_signed) {
        return k;
    }
    return negative ? n - 1 - k : n + k;
}

/* The inverse: *negative gets the sign. */
HT_INLINE int level_of(const struct ht_lattice *lat, int code, int *negative) {
    int n = lat->len == 8 ? 3 : 8;
    *negative = !lat->is_signed && code < n;
    if (lat->is_signed) {
        return code;
    }
    return code < n ? n - 1 - code : code - n;
}

/* Index of a point, -1: not in the table, which is ascending. */
static int find_point(const struct ht_lattice *lat, unsigned point) {
    int low = 0, high = lat->n_points - 1;
    while (low < high) {
        int mid = (low + high) / 2;
        if (lat->points[mid] < point) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return lat->points[low] == point ? low : -1;
}

/* Indices and signs of the 8 elements from `at` on; 0: no block can hold them. */
static int parts_of_8(const struct ht_lattice *lat, const int8_t *codes, int at, struct ht_lattice_parts *parts) {
    int bits = lat->len == 8 ? 2 : 3, negative, minus = 0;
    unsigned signs = 0;
    for (int v = 0; v < 8; v += lat->len) {
        unsigned point = 0;
        for (int i = 0; i < lat->len; i++) {
            point |= (unsigned)level_of(lat, codes[at + v + i], &negative) << bits * i;
            signs |= (unsigned)negative << (v + i);
            minus += negative;
        }
        int index = find_point(lat, point);
        if (index < 0) {
            return 0;
        }
        parts->index[(at + v) / lat->len] = (uint16_t)index;
    }
    parts->signs[at / 8] = (uint8_t)signs;
    return !lat->even || minus % 2 == 0;
}

void ht_lattice_unpack(const struct ht_lattice *lat, const struct ht_lattice_parts *parts, struct ht_grid *grid,
                       int8_t *codes) {
    int per_scale = lat->scale_len / lat->spec.sub_len;
    ht_grid_shape(&lat->spec, grid);
    grid->d = parts->d;
    grid->dmin = 0;
    for (int s = 0; s < lat->spec.n_sub; s++) {
        grid->q_scale[s] = (int8_t)parts->scale[s / per_scale];
        grid->q_min[s] = parts->shift[s];
    }
    ht_lattice_restore(lat, grid);
    for (int i = 0; i < HT_BLOCK_MAX; i++) {
        unsigned point = lat->points[parts->index[i / lat->len]];
        codes[i] = (int8_t)code_of(lat, ht_lattice_digit(lat, point, i % lat->len), parts->signs[i / 8] >> i % 8 & 1);
    }
}

/* Level and shift are added before they are scaled, as the formats define it; scale * level - min of the grid is the
 * same number but for the sign of zeros and where d is not finite. */
void ht_lattice_decode(const struct ht_lattice *lat, const struct ht_format *format, const void *src, float *x,
                       size_t n) {
    const uint8_t *p = src;
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    for (size_t at = 0; at < n; at += HT_BLOCK_MAX, p += format->block_bytes) {
        format->unpack(p, &grid, codes);
        for (int i = 0; i < HT_BLOCK_MAX; i++) {
            int s = i / grid.sub_len;
            float shift = !lat->spec.q_min_hi ? 0.0f : grid.q_min[s] ? -HT_LATTICE_SHIFT : HT_LATTICE_SHIFT;
            x[at + (size_t)i] = grid.scale[s] * (grid.levels[codes[i]] + shift);
        }
    }
}

void ht_lattice_pack(const struct ht_lattice *lat, const struct ht_grid *grid, const int8_t *codes,
                     struct ht_lattice_parts *parts) {
    int per_scale = lat->scale_len / lat->spec.sub_len;
    parts->d = grid->d;
    for (int s = 0; s < lat->spec.n_sub; s++) {
        parts->scale[s / per_scale] = (uint8_t)grid->q_scale[s];
        parts->shift[s] = grid->q_min[s];
    }
    for (int at = 0; at < HT_BLOCK_MAX; at += 8) {
        if (!parts_of_8(lat, codes, at, parts)) {
            struct ht_grid plain = {.n_sub = lat->spec.n_sub, .sub_len = lat->spec.sub_len};
            float value[HT_BLOCK_MAX] = {0};
            int8_t near[HT_BLOCK_MAX];
            plain.scale[at / lat->spec.sub_len] = 1.0f;
            for (int i = at; i < at + 8; i++) {
                value[i] = lat->spec.levels[codes[i] - lat->spec.lo];
            }
            for (int v = at; v < at + 8; v += lat->even ? 8 : lat->len) {
                ht_lattice_round_vector(lat, value, NULL, &plain, (uint32_t)v, near);
            }
            (void)parts_of_8(lat, near, at, parts);
        }
    }
}

/* ---- scales ---- */

static float stored_scale(const struct ht_lattice *lat, float d, int s) {
    return d * (lat->unit * (float)(2 * s + 1));
}

/* min of a sub-block: the shift that level minus min / scale has. */
static float stored_min(const struct ht_lattice *lat, float scale, int minus) {
    return lat->spec.q_min_hi ? scale * (minus ? HT_LATTICE_SHIFT : -HT_LATTICE_SHIFT) : 0.0f;
}

void ht_lattice_restore(const struct ht_lattice *lat, struct ht_grid *grid) {
    float d = ht_f16_to_f32(grid->d);
    for (int s = 0; s < lat->spec.n_sub; s++) {
        grid->scale[s] = stored_scale(lat, d, grid->q_scale[s]);
        grid->min[s] = stored_min(lat, grid->scale[s], grid->q_min[s]);
    }
}

static int is_stored(const struct ht_lattice *lat, const struct ht_grid *grid) {
    float d = ht_f16_to_f32(grid->d);
    for (int s = 0; s < lat->spec.n_sub; s++) {
        float scale = stored_scale(lat, d, grid->q_scale[s]);
        if (grid->scale[s] != scale || grid->min[s] != stored_min(lat, scale, grid->q_min[s])) {
            return 0;
        }
    }
    return 1;
}

void ht_lattice_snap(const struct ht_lattice *lat, struct ht_grid *grid) {
    float scale[HT_GRID_MAX_SUB] = {0}, ones[HT_GRID_MAX_SUB], largest = 0.0f;
    int per_scale = lat->scale_len / lat->spec.sub_len, groups = lat->spec.n_sub / per_scale;
    if (is_stored(lat, grid)) {
        return;
    }
    for (int s = 0; s < lat->spec.n_sub; s++) { /* levels have both signs: those of scales do not matter */
        float a = fabsf(grid->scale[s]);
        scale[s / per_scale] += a < INFINITY ? a / (float)per_scale : 0.0f;
        grid->q_min[s] = lat->spec.q_min_hi && grid->min[s] * grid->scale[s] > 0.0f;
    }
    for (int g = 0; g < groups; g++) {
        largest = scale[g] > largest ? scale[g] : largest;
        ones[g] = 1.0f;
    }
    for (int g = 0; g < groups && largest > 0.0f; g++) {
        scale[g] /= largest; /* so that sums stay in range */
    }
    grid->d = ht_fit_f16(ht_lattice_step(lat, scale, ones, groups) * largest);
    grid->dmin = 0;
    float step = ht_f16_to_f32(grid->d) / (largest > 0.0f ? largest : 1.0f);
    for (int s = 0; s < lat->spec.n_sub; s++) {
        grid->q_scale[s] = (int8_t)ht_lattice_nearest_scale(lat, scale[s / per_scale], step);
    }
    ht_lattice_restore(lat, grid);
}
