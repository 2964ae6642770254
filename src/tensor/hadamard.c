#include "tensor/hadamard.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"

uint64_t ht_hadamard_block(uint64_t n) {
    return n & (~n + 1);
}

bool ht_hadamard_fits(uint64_t block, uint64_t n) {
    return block > 1 && (block & (block - 1)) == 0 && n % block == 0;
}

HT_CLONES
static void butterflies(float *x, size_t n, size_t half) {
    for (size_t at = 0; at < n; at += 2 * half) {
        for (size_t i = at; i < at + half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a + b;
            x[i + half] = a - b;
        }
    }
}

enum { LANES = 16 };

/* The first four steps, of blocks of 16 and more. a - b is b * -1 + a, to the last bit. */
HT_CLONES
static void within_lanes(float *x, size_t n) {
    static const float sign[4][LANES] = {
        {1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1},
        {1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1},
        {1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1},
        {1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1},
    };
    ht_lanes16 s[4], v;
    memcpy(s, sign, sizeof s);
    for (size_t at = 0; at < n; at += LANES) {
        memcpy(&v, x + at, sizeof v);
        v = v * s[0] + HT_SHUFFLE16(v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
        v = v * s[1] + HT_SHUFFLE16(v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
        v = v * s[2] + HT_SHUFFLE16(v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
        v = v * s[3] + HT_SHUFFLE16(v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
        memcpy(x + at, &v, sizeof v);
    }
}

void ht_hadamard(float *x, size_t n, size_t block) {
    size_t half = 1;
    if (block >= LANES) {
        within_lanes(x, n);
        half = LANES;
    }
    for (; half < block; half *= 2) {
        butterflies(x, n, half);
    }
    float norm = 1.0f / sqrtf((float)block);
    for (size_t i = 0; i < n; i++) {
        x[i] *= norm;
    }
}
