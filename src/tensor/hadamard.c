#include "tensor/hadamard.h"

#include <math.h>

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

void ht_hadamard(float *x, size_t n, size_t block) {
    for (size_t half = 1; half < block; half *= 2) {
        butterflies(x, n, half);
    }
    float norm = 1.0f / sqrtf((float)block);
    for (size_t i = 0; i < n; i++) {
        x[i] *= norm;
    }
}
