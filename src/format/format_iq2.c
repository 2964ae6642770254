/* GGUF's 2-bit lattices: points of 8 elements with magnitudes 8, 25, 43; y = d * (2 s + 1) / 8 * sign * magnitude.
 *
 *     iq2_xxs  d | 8 x (index[4] | signs and s : u32)                       256 points, 8 groups of 32
 *     iq2_xs   d | (index and signs : u16)[32] | scales[8]                  512 points, 16 groups of 16
 *     iq2_s    d | index[32] | signs[32] | index_high[8] | scales[8]        1024 points, 16 groups of 16
 *
 * The first two store 7 signs of 8; the number of minus signs is even. Bit layouts are drawn in docs/formats.md. */
#include "format/lattice/lattice.h"

static const float magnitudes[3] = {8, 25, 43};
static const float levels[6] = {-43, -25, -8, 8, 25, 43};
static const float first[HT_LANES] = {1 / 8.0f, 1 / 11.0f, 1 / 13.0f, 1 / 15.0f, 1 / 17.0f, 1 / 19.0f, 1 / 21.0f,
    1 / 23.0f, 1 / 25.0f, 1 / 27.0f, 1 / 29.0f, 1 / 32.0f, 1 / 35.0f, 1 / 39.0f, 1 / 44.0f, 1 / 50.0f};

#define IQ2(n_sub_, sub_len_, name_, n_points_, n_chunks_, even_)                                                    \
    {.spec = {.n_sub = (n_sub_), .sub_len = (sub_len_), .lo = 0, .hi = 5, .levels = levels, .lattice = 1},         \
     .points = ht_lattice_points_##name_, .n_points = (n_points_), .chunks = ht_lattice_chunks_##name_,            \
     .n_chunks = (n_chunks_), .len = 8, .base = magnitudes, .even = (even_), .scale_len = (sub_len_), .n_scales = 16,  \
     .unit = 0.125f, .first = first}

static const struct ht_lattice iq2_xxs = IQ2(8, 32, iq2_xxs, 256, 104, 1);
static const struct ht_lattice iq2_xs = IQ2(16, 16, iq2_xs, 512, 162, 1);
static const struct ht_lattice iq2_s = IQ2(16, 16, iq2_s, 1024, 284, 0);

/* ---- iq2_xxs: per 32 elements 4 indices, then 4 times 7 signs and 4 bits of scale in one word ---- */

static void iq2_xxs_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    parts->d = ht_get_u16(p);
    for (int g = 0; g < 8; g++) {
        const uint8_t *q = p + 2 + 8 * g;
        for (int v = 0; v < 4; v++) {
            parts->index[4 * g + v] = q[v];
        }
        parts->scale[g] = ht_lattice_get_word(q + 4, parts->signs + 4 * g);
    }
}

static void iq2_xxs_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    ht_put_u16(p, parts->d);
    for (int g = 0; g < 8; g++) {
        uint8_t *q = p + 2 + 8 * g;
        for (int v = 0; v < 4; v++) {
            q[v] = (uint8_t)parts->index[4 * g + v];
        }
        ht_lattice_put_word(q + 4, parts->signs + 4 * g, parts->scale[g]);
    }
}

HT_LATTICE_ROW(iq2_xxs)

const struct ht_format ht_format_iq2_xxs = {
    .name = "iq2_xxs", .summary = "2-bit, 256 points of 8 elements, 8 groups of 32 with 4-bit scales",
    .gguf_type = 16, .block_bytes = 66, .vector = 8, HT_LATTICE_FUNCTIONS(iq2_xxs),
};

/* ---- iq2_xs: 9 bits of index and 7 signs in a word; nibble g % 2 of scales[g / 2] is s of group g ---- */

static void get_scales(const uint8_t *scales, struct ht_lattice_parts *parts) {
    for (int g = 0; g < 16; g++) {
        parts->scale[g] = scales[g / 2] >> 4 * (g % 2) & 15;
    }
}

static void put_scales(const struct ht_lattice_parts *parts, uint8_t *scales) {
    for (int g = 0; g < 16; g += 2) {
        scales[g / 2] = (uint8_t)(parts->scale[g] | parts->scale[g + 1] << 4);
    }
}

static void iq2_xs_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    parts->d = ht_get_u16(p);
    for (int v = 0; v < 32; v++) {
        unsigned word = ht_get_u16(p + 2 + 2 * v);
        parts->index[v] = word & 511;
        parts->signs[v] = ht_lattice_signs_of(word >> 9);
    }
    get_scales(p + 66, parts);
}

static void iq2_xs_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    ht_put_u16(p, parts->d);
    for (int v = 0; v < 32; v++) {
        ht_put_u16(p + 2 + 2 * v, (uint16_t)(parts->index[v] | (parts->signs[v] & 127) << 9));
    }
    put_scales(parts, p + 66);
}

HT_LATTICE_ROW(iq2_xs)

const struct ht_format ht_format_iq2_xs = {
    .name = "iq2_xs", .summary = "2-bit, 512 points of 8 elements, 16 groups of 16 with 4-bit scales",
    .gguf_type = 17, .block_bytes = 74, .vector = 8, HT_LATTICE_FUNCTIONS(iq2_xs),
};

/* ---- iq2_s: bit pair v % 4 of index_high[v / 4] is the high 2 bits of index v ---- */

static void iq2_s_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    parts->d = ht_get_u16(p);
    for (int v = 0; v < 32; v++) {
        parts->index[v] = (uint16_t)(p[2 + v] | (p[66 + v / 4] >> 2 * (v % 4) & 3) << 8);
    }
    memcpy(parts->signs, p + 34, 32);
    get_scales(p + 74, parts);
}

static void iq2_s_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    ht_put_u16(p, parts->d);
    memset(p + 66, 0, 8);
    for (int v = 0; v < 32; v++) {
        p[2 + v] = (uint8_t)parts->index[v];
        p[66 + v / 4] = (uint8_t)(p[66 + v / 4] | parts->index[v] >> 8 << 2 * (v % 4));
    }
    memcpy(p + 34, parts->signs, 32);
    put_scales(parts, p + 74);
}

HT_LATTICE_ROW(iq2_s)

const struct ht_format ht_format_iq2_s = {
    .name = "iq2_s", .summary = "2-bit, 1024 points of 8 elements, all signs, 16 groups of 16 with 4-bit scales",
    .gguf_type = 22, .block_bytes = 82, .vector = 8, HT_LATTICE_FUNCTIONS(iq2_s),
};
