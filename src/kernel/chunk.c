#include "kernel/chunk.h"

#include <string.h>

/* HT_ORDER_LANES4: lane 8 h + 4 b + k holds group 8 h + 2 k + b. */
static size_t lanes4_group(size_t lane) {
    return lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2;
}

/* Groups of 16 by lane; 4^k is in the codes, so it is taken out of the scales and put into whole numbers. */
static void lanes4_scales(const struct ht_chunk_shape *shape, const float *d, const int32_t *sum16,
                          struct ht_chunk_acts *out) {
    static const float quarter[4] = {1.0f, 1.0f / 4, 1.0f / 16, 1.0f / 64};
    for (size_t i = 0; i < 16; i++) {
        size_t g = lanes4_group(i);
        out->d[i] = d[g / 2] * quarter[i % 4];
        out->ns[i] = -d[g / 2] * (float)sum16[g];
        if (shape->offset != 0) {
            int32_t start = -shape->offset * sum16[g] * (1 << 2 * (i % 4));
            memcpy(&out->ns[i], &start, sizeof start);
        }
    }
}

static void order_codes(const struct ht_chunk_shape *shape, const int8_t *q, int8_t *out) {
    for (size_t p = 0; p < 16 && shape->order == HT_ORDER_PIECES; p++) {
        memcpy(out + 16 * p, q + 16 * shape->piece[p], 16);
    }
    for (size_t i = 0; i < 64 && shape->order == HT_ORDER_LANES; i++) {
        memcpy(out + 4 * i, q + 16 * (i % 16) + 4 * (i / 16), 4);
    }
    for (size_t i = 0; i < 64 && shape->order == HT_ORDER_LANES4; i++) {
        memcpy(out + 4 * i, q + 16 * lanes4_group(i % 16) + 4 * ((i + i / 16) % 4), 4);
    }
    for (size_t i = 0; i < 32 && shape->order == HT_ORDER_EIGHTS; i++) {
        size_t v = i / 8, point = shape->group == 32 ? 4 * (i % 8) + v : 16 * (v / 2) + 2 * (i % 8) + v % 2;
        memcpy(out + 8 * i, q + 8 * point, 8);
    }
    for (size_t i = 0; i < 256 && shape->order == HT_ORDER_NIBBLES; i++) {
        out[i / 128 * 128 + i % 2 * 64 + i % 128 / 2] = q[i];
    }
}

void ht_chunk_acts_fill(const struct ht_chunk_shape *shape, const struct ht_acts *acts, size_t token,
                        struct ht_chunk_acts *out) {
    const int8_t *q = acts->q + token * acts->cols_padded;
    const float *d = acts->d + token * (acts->cols_padded / 32);
    const int32_t *sum16 = acts->sum16 + token * (acts->cols_padded / 16);
    float factor = shape->offset != 0 ? -(float)shape->offset : -1.0f;
    for (size_t c = 0; c < acts->cols_padded / 256; c++, out++, q += 256, d += 8, sum16 += 16) {
        order_codes(shape, q, out->q);
        for (size_t g = 0; g < 8 && shape->group == 32; g++) {
            out->d[g] = d[g];
            out->d[8 + g] = factor * d[g] * (float)(sum16[2 * g] + sum16[2 * g + 1]);
            out->ns[g] = out->ns[8 + g] = 0;
        }
        for (size_t g = 0; g < 16 && shape->group == 16; g++) {
            out->d[g] = d[g / 2];
            out->ns[g] = factor * d[g / 2] * (float)sum16[g];
        }
        if (shape->order == HT_ORDER_LANES4) {
            lanes4_scales(shape, d, sum16, out);
        }
    }
}

void ht_corrections_fill(const struct ht_chunk_shape *shape, const struct ht_acts *acts, size_t token,
                         int32_t *out) {
    const float *d = acts->d + token * (acts->cols_padded / 32);
    const int32_t *sum16 = acts->sum16 + token * (acts->cols_padded / 16);
    size_t per = (size_t)shape->group / 16;
    for (size_t g = 0; g < acts->cols_padded / 16 / per; g++) {
        int32_t sum = per == 2 ? sum16[2 * g] + sum16[2 * g + 1] : sum16[g];
        float scaled = d[g * per / 2] * (float)sum;
        out[g] = -shape->offset * sum;
        if (shape->offset == 0) {
            memcpy(&out[g], &scaled, sizeof scaled);
        }
    }
}
