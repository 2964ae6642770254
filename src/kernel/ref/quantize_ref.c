#include <math.h>

#include "kernel/slots.h"

/* Below this the reciprocal of the scale would overflow; such a group is zero for every purpose. */
#define TINY 1e-36f

static void quantize_group(const float *x, int8_t *q, float *d) {
    float max = 0;
    bool finite = true;
    for (int i = 0; i < 32; i++) {
        float a = fabsf(x[i]);
        finite = finite && a <= 3.402823466e38f;
        max = a > max ? a : max;
    }
    if (!finite || max < TINY) {
        memset(q, 0, 32);
        *d = finite ? 0 : NAN;
        return;
    }
    float r = 127.0f / max;
    for (int i = 0; i < 32; i++) {
        q[i] = (int8_t)rintf(x[i] * r);
    }
    *d = max / 127.0f;
}

void ht_quantize_q8_ref(const float *x, size_t n, int8_t *q, float *d, int32_t *sum16) {
    for (size_t g = 0; g < n / 32; g++) {
        quantize_group(x + 32 * g, q + 32 * g, &d[g]);
        for (int h = 0; h < 2; h++) {
            int32_t sum = 0;
            for (int i = 0; i < 16; i++) {
                sum += q[32 * g + 16 * (size_t)h + (size_t)i];
            }
            sum16[2 * g + (size_t)h] = sum;
        }
    }
}
