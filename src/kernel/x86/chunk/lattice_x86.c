#include "kernel/x86/chunk/lattice_x86.h"

#include <stddef.h>

#include "format/lattice/lattice.h"

struct ht_lattice_x86 ht_lattice_x86;

/* Level numbers of `bits` bits to bytes. */
static uint64_t bytes_of(unsigned point, int bits, int len, const uint8_t *level) {
    uint64_t v = 0;
    for (int i = 0; i < len; i++) {
        v |= (uint64_t)level[point >> bits * i & ((1u << bits) - 1)] << 8 * i;
    }
    return v;
}

static void fill8(uint64_t *out, const uint16_t *points, size_t n, const uint8_t *level) {
    for (size_t i = 0; i < n; i++) {
        out[i] = bytes_of(points[i], 2, 8, level);
    }
}

static void fill4(uint32_t *out, const uint16_t *points, size_t n, const uint8_t *level) {
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint32_t)bytes_of(points[i], 3, 4, level);
    }
}

void ht_lattice_x86_init(void) {
    static const uint8_t iq1[4] = {56, 64, 72, 64}, iq2[4] = {8, 25, 43, 0};
    static const uint8_t iq3_xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62}, iq3_s[8] = {1, 3, 5, 7, 9, 11, 13, 15};
    struct ht_lattice_x86 *t = &ht_lattice_x86;
    fill8(t->iq1, ht_lattice_points_iq1, 2048, iq1);
    fill8(t->iq2_xxs, ht_lattice_points_iq2_xxs, 256, iq2);
    fill8(t->iq2_xs, ht_lattice_points_iq2_xs, 512, iq2);
    fill8(t->iq2_s, ht_lattice_points_iq2_s, 1024, iq2);
    fill4(t->iq3_xxs, ht_lattice_points_iq3_xxs, 256, iq3_xxs);
    fill4(t->iq3_s, ht_lattice_points_iq3_s, 512, iq3_s);
    for (unsigned s = 0; s < 256; s++) {
        t->sign[s] = 0;
        for (int i = 0; i < 8; i++) {
            t->sign[s] |= (uint64_t)(s >> i & 1 ? 0xff : 1) << 8 * i;
        }
    }
    for (unsigned s = 0; s < 128; s++) {
        t->even[s] = t->sign[ht_lattice_signs_of(s)];
    }
}
