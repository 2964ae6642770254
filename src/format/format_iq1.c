/* GGUF's lattices below 2 bits: 2048 points of 8 elements, each -1, 0 or 1; y = d * (2 s + 1) * (element + or - 1/8).
 *
 *     iq1_s  d | index[32] | (index_high, s, shift : u16)[8]                8 groups of 32, one shift each
 *     iq1_m  index[32] | (index_high and shift)[16] | (d and s : u16)[4]    16 groups of 16, one shift per 8
 *
 * Bit layouts are drawn in docs/formats.md. */
#include "format/lattice/lattice.h"

static const float levels[3] = {-1, 0, 1};
static const float first[HT_LANES] = {0.89f, 0.95f, 1.0f, 1.07f, 1.15f, 1.23f, 1.31f, 1.4f,
    1.5f, 1.6f, 1.72f, 1.85f, 2.0f, 2.2f, 2.4f, 2.7f};

static const struct ht_lattice iq1_s = {
    .spec = {.n_sub = 8, .sub_len = 32, .lo = 0, .hi = 2, .levels = levels, .q_min_hi = 1, .lattice = 1},
    .points = ht_lattice_points_iq1, .n_points = 2048, .chunks = ht_lattice_chunks_iq1, .n_chunks = 540,
    .len = 8, .base = levels, .is_signed = 1,
    .scale_len = 32, .n_scales = 8, .unit = 1.0f, .first = first};
static const struct ht_lattice iq1_m = {
    .spec = {.n_sub = 32, .sub_len = 8, .lo = 0, .hi = 2, .levels = levels, .q_min_hi = 1, .lattice = 1},
    .points = ht_lattice_points_iq1, .n_points = 2048, .chunks = ht_lattice_chunks_iq1, .n_chunks = 540,
    .len = 8, .base = levels, .is_signed = 1,
    .scale_len = 16, .n_scales = 8, .unit = 1.0f, .first = first};

/* ---- iq1_s: a word per group: 4 times the high 3 bits of an index, 3 bits of s, the shift's sign ---- */

static void iq1_s_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    parts->d = ht_get_u16(p);
    for (int g = 0; g < 8; g++) {
        unsigned word = ht_get_u16(p + 34 + 2 * g);
        for (int v = 0; v < 4; v++) {
            parts->index[4 * g + v] = (uint16_t)(p[2 + 4 * g + v] | (word >> 3 * v & 7) << 8);
        }
        parts->scale[g] = word >> 12 & 7;
        parts->shift[g] = (uint8_t)(word >> 15);
    }
}

static void iq1_s_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    ht_put_u16(p, parts->d);
    for (int g = 0; g < 8; g++) {
        unsigned word = (unsigned)parts->scale[g] << 12 | (unsigned)parts->shift[g] << 15;
        for (int v = 0; v < 4; v++) {
            p[2 + 4 * g + v] = (uint8_t)parts->index[4 * g + v];
            word |= (unsigned)parts->index[4 * g + v] >> 8 << 3 * v;
        }
        ht_put_u16(p + 34 + 2 * g, (uint16_t)word);
    }
}

HT_LATTICE_ROW(iq1_s)

const struct ht_format ht_format_iq1_s = {
    .name = "iq1_s", .summary = "ternary, 2048 points of 8 elements, 8 groups of 32 with 3-bit scales",
    .gguf_type = 19, .block_bytes = 50, .vector = 8, HT_LATTICE_FUNCTIONS(iq1_s),
};

/* ---- iq1_m: a nibble per point: the high 3 bits of its index and its shift's sign. The words at the end hold 4
 * times 3 bits of s each, and nibble k of d in the top of word k. ---- */

static void iq1_m_split(const uint8_t *p, struct ht_lattice_parts *parts) {
    unsigned d = 0;
    for (int v = 0; v < 32; v++) {
        unsigned nibble = p[32 + v / 2] >> 4 * (v % 2) & 15;
        parts->index[v] = (uint16_t)(p[v] | (nibble & 7) << 8);
        parts->shift[v] = (uint8_t)(nibble >> 3);
    }
    for (int g = 0; g < 16; g++) {
        unsigned word = ht_get_u16(p + 48 + g / 4 * 2);
        parts->scale[g] = word >> 3 * (g % 4) & 7;
        d |= word >> 12 << g / 4 * 4;
    }
    parts->d = (uint16_t)d;
}

static void iq1_m_join(const struct ht_lattice_parts *parts, uint8_t *p) {
    for (int v = 0; v < 32; v += 2) {
        unsigned low = parts->index[v] >> 8 | parts->shift[v] << 3;
        unsigned high = parts->index[v + 1] >> 8 | parts->shift[v + 1] << 3;
        p[v] = (uint8_t)parts->index[v];
        p[v + 1] = (uint8_t)parts->index[v + 1];
        p[32 + v / 2] = (uint8_t)(low | high << 4);
    }
    for (int k = 0; k < 4; k++) {
        unsigned word = (parts->d >> 4 * k & 15u) << 12;
        for (int g = 0; g < 4; g++) {
            word |= (unsigned)parts->scale[4 * k + g] << 3 * g;
        }
        ht_put_u16(p + 48 + 2 * k, (uint16_t)word);
    }
}

HT_LATTICE_ROW(iq1_m)

const struct ht_format ht_format_iq1_m = {
    .name = "iq1_m", .summary = "ternary, 2048 points of 8 elements, 16 groups of 16 with 3-bit scales",
    .gguf_type = 29, .block_bytes = 56, .vector = 8, HT_LATTICE_FUNCTIONS(iq1_m),
};
