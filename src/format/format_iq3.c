/* GGUF's 3-bit lattices: points of 4 elements with 8 magnitudes.
 *
 *     iq3_xxs  d | index[64] | (signs and s : u32)[8]                           256 points, 8 groups of 32
 *     iq3_s    d | index[64] | index_high[8] | signs[32] | scales[4]            512 points, 8 groups of 32
 *
 * iq3_xxs: magnitudes 4 to 62, y = d * (2 s + 1) / 4 * value, 7 signs of 8 stored, the number of minus signs even.
 * iq3_s: magnitudes 1, 3 .. 15, y = d * (2 s + 1) * value. Bit layouts are drawn in docs/formats.md. */
#include "format/lattice/lattice.h"

static const float xxs_magnitudes[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float xxs_levels[16] = {-62, -52, -44, -36, -28, -20, -12, -4, 4, 12, 20, 28, 36, 44, 52, 62};
static const float xxs_first[HT_LANES] = {1 / 4.0f, 1 / 12.0f, 1 / 14.0f, 1 / 16.0f, 1 / 18.0f, 1 / 20.0f, 1 / 22.0f,
    1 / 24.0f, 1 / 26.0f, 1 / 28.0f, 1 / 30.0f, 1 / 32.0f, 1 / 34.0f, 1 / 37.0f, 1 / 41.0f, 1 / 46.0f};
static const float s_magnitudes[8] = {1, 3, 5, 7, 9, 11, 13, 15};
static const float s_levels[16] = {-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13, 15};
static const float s_first[HT_LANES] = {1 / 1.0f, 1 / 2.8f, 1 / 3.3f, 1 / 3.7f, 1 / 4.1f, 1 / 4.5f, 1 / 4.9f, 1 / 5.3f,
    1 / 5.7f, 1 / 6.2f, 1 / 6.7f, 1 / 7.2f, 1 / 7.8f, 1 / 8.5f, 1 / 9.5f, 1 / 11.0f};

static const struct ht_lattice iq3_xxs = {
    .spec = {.n_sub = 8, .sub_len = 32, .lo = 0, .hi = 15, .levels = xxs_levels, .lattice = 1},
    .points = ht_lattice_points_iq3_xxs, .n_points = 256, .chunks = ht_lattice_chunks_iq3_xxs, .n_chunks = 88,
    .len = 4, .base = xxs_magnitudes, .even = 1,
    .scale_len = 32, .n_scales = 16, .unit = 0.25f, .first = xxs_first};
static const struct ht_lattice iq3_s = {
    .spec = {.n_sub = 8, .sub_len = 32, .lo = 0, .hi = 15, .levels = s_levels, .lattice = 1},
    .points = ht_lattice_points_iq3_s, .n_points = 512, .chunks = ht_lattice_chunks_iq3_s, .n_chunks = 154,
    .len = 4, .base = s_magnitudes,
    .scale_len = 32, .n_scales = 16, .unit = 1.0f, .first = s_first};

/* ---- iq3_xxs: signs and s in words as iq2_xxs has them ---- */

static void iq3_xxs_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    parts->d = ht_get_u16(p);
    for (int v = 0; v < 64; v++) {
        parts->index[v] = p[2 + v];
    }
    for (int g = 0; g < 8; g++) {
        parts->scale[g] = ht_lattice_get_word(p + 66 + 4 * g, parts->signs + 4 * g);
    }
}

static void iq3_xxs_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    ht_put_u16(p, parts->d);
    for (int v = 0; v < 64; v++) {
        p[2 + v] = (uint8_t)parts->index[v];
    }
    for (int g = 0; g < 8; g++) {
        ht_lattice_put_word(p + 66 + 4 * g, parts->signs + 4 * g, parts->scale[g]);
    }
}

HT_LATTICE_ROW(iq3_xxs)

const struct ht_format ht_format_iq3_xxs = {
    .name = "iq3_xxs", .summary = "3-bit, 256 points of 4 elements, 8 groups of 32 with 4-bit scales",
    .gguf_type = 18, .block_bytes = 98, .vector = 8, HT_LATTICE_FUNCTIONS(iq3_xxs),
};

/* ---- iq3_s: bit v % 8 of index_high[v / 8] is bit 8 of index v; nibble g % 2 of scales[g / 2] is s of group g ---- */

static void iq3_s_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    parts->d = ht_get_u16(p);
    for (int v = 0; v < 64; v++) {
        parts->index[v] = (uint16_t)(p[2 + v] | (p[66 + v / 8] >> v % 8 & 1) << 8);
    }
    memcpy(parts->signs, p + 74, 32);
    for (int g = 0; g < 8; g++) {
        parts->scale[g] = p[106 + g / 2] >> 4 * (g % 2) & 15;
    }
}

static void iq3_s_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    ht_put_u16(p, parts->d);
    memset(p + 66, 0, 8);
    for (int v = 0; v < 64; v++) {
        p[2 + v] = (uint8_t)parts->index[v];
        p[66 + v / 8] = (uint8_t)(p[66 + v / 8] | parts->index[v] >> 8 << v % 8);
    }
    memcpy(p + 74, parts->signs, 32);
    for (int g = 0; g < 8; g += 2) {
        p[106 + g / 2] = (uint8_t)(parts->scale[g] | parts->scale[g + 1] << 4);
    }
}

HT_LATTICE_ROW(iq3_s)

const struct ht_format ht_format_iq3_s = {
    .name = "iq3_s", .summary = "3-bit, 512 points of 4 elements, all signs, 8 groups of 32 with 4-bit scales",
    .gguf_type = 21, .block_bytes = 110, .vector = 4, HT_LATTICE_FUNCTIONS(iq3_s),
};
