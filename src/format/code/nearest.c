/* Codes and levels: nearest code, decoding and encoding with the format's own levels. */
#include <math.h>

#include "base/compiler.h"
#include "format/code/rows.h"

int32_t ht_levels_nearest(const float *levels, int32_t n, float x) {
    int32_t below = 0, above = n - 1; /* the answer lies in below..above */
    while (below < above) {
        int32_t mid = (below + above) / 2;
        /* halves first: the sum of two large levels would overflow */
        if (x > 0.5f * levels[mid] + 0.5f * levels[mid + 1]) {
            below = mid + 1;
        } else {
            above = mid;
        }
    }
    return below;
}

int32_t ht_code_nearest_int(const struct ht_code *code, float x) {
    if (!(x > (float)code->lo)) {
        return x <= (float)code->lo ? code->lo : code->zero; /* NaN: 0 */
    }
    return x < (float)code->hi ? (int32_t)rintf(x) : code->hi;
}

int32_t ht_code_nearest_level(const struct ht_code *code, float x) {
    if (x != x) {
        return code->zero;
    }
    return code->lo + ht_levels_nearest(code->levels, code->hi - code->lo + 1, x);
}

int32_t ht_code_nearest(const struct ht_format *f, float x) {
    return f->code->nearest(f->code, x);
}

float ht_code_level(const struct ht_format *f, int32_t code) {
    const struct ht_code *c = f->code;
    return c->levels != NULL ? c->levels[code - c->lo] : (float)code;
}

enum { CHUNK = 240 }; /* whole blocks of every format: a multiple of 5 and of 8 */

void ht_code_decode(const struct ht_format *f, const void *src, float *x, size_t n) {
    const struct ht_code *c = f->code;
    const uint8_t *p = src;
    int32_t codes[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = n - i < CHUNK ? n - i : CHUNK;
        ht_code_unpack(f, p + ht_code_row_bytes(f, i), codes, m);
        if (c->levels != NULL) {
            for (size_t j = 0; j < m; j++) {
                x[i + j] = c->levels[codes[j] - c->lo];
            }
        } else {
            for (size_t j = 0; j < m; j++) {
                x[i + j] = (float)codes[j];
            }
        }
    }
}

void ht_code_encode(const struct ht_format *f, const float *x, void *dst, size_t n) {
    const struct ht_code *c = f->code;
    uint8_t *p = dst;
    int32_t codes[CHUNK];
    for (size_t i = 0; i < n; i += CHUNK) {
        size_t m = n - i < CHUNK ? n - i : CHUNK;
        for (size_t j = 0; j < m; j++) {
            codes[j] = c->nearest(c, x[i + j]);
        }
        ht_code_pack(f, codes, p + ht_code_row_bytes(f, i), m);
    }
}
