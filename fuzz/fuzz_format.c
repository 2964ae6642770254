/* decode takes any bytes; encode takes any finite floats and any importance; what they give goes round.
 *
 *     byte 0: what to do   byte 1: format   then blocks or floats, repeated until they fill a block */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/format.h"
#include "format/half.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* The input over and over: short ones reach long blocks, too. */
static void fill(void *dst, size_t bytes, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < bytes; i++) {
        ((uint8_t *)dst)[i] = size > 0 ? data[i % size] : 0;
    }
}

static void any_bytes(const struct ht_format *f, const uint8_t *data, size_t size) {
    size_t blocks = size / f->block_bytes + 1, n = blocks * f->block_elems;
    uint8_t *src = malloc(blocks * f->block_bytes + 1);
    float *x = malloc(n * sizeof *x + 1);
    if (src && x) {
        fill(src, blocks * f->block_bytes, data, size);
        f->decode(src, x, n);
        for (size_t b = 0; b < blocks && f->fit; b++) {
            struct ht_grid grid;
            int8_t codes[HT_BLOCK_MAX];
            uint8_t back[512];
            f->unpack(src + b * f->block_bytes, &grid, codes);
            f->pack(&grid, codes, back);
            if (memcmp(back, src + b * f->block_bytes, f->block_bytes) != 0) { /* several bytes for the same codes */
                float y[HT_BLOCK_MAX];
                f->decode(back, y, f->block_elems);
                for (uint32_t i = 0; i < f->block_elems; i++) {
                    if (ht_f32_bits(y[i]) != ht_f32_bits(x[b * f->block_elems + i])) {
                        abort();
                    }
                }
            }
        }
    }
    free(src);
    free(x);
}

static void any_floats(const struct ht_format *f, const uint8_t *data, size_t size, int weighted) {
    size_t each = weighted ? 8 : 4, n = (size / each / f->block_elems + 1) * f->block_elems;
    float *x = malloc(n * sizeof *x + 1), *w = malloc(n * sizeof *w + 1), *y = malloc(n * sizeof *y + 1);
    uint8_t *dst = malloc((size_t)ht_format_row_bytes(f, n) + 1);
    if (x && w && y && dst) {
        size_t half = weighted ? size / 2 : 0;
        fill(x, n * sizeof *x, data, size - half);
        fill(w, n * sizeof *w, data + size - half, half);
        for (size_t i = 0; i < n; i++) {
            if (f->fit && !isfinite(x[i])) {
                x[i] = 0.0f;
            }
        }
        f->encode(x, weighted ? w : NULL, dst, n);
        f->decode(dst, y, n);
        for (size_t i = 0; i < n && f->fit; i++) {
            if (!isfinite(y[i])) {
                abort();
            }
        }
    }
    free(x);
    free(w);
    free(y);
    free(dst);
}

/* Every run begins with each row of the table once in each way. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    for (size_t i = 0; i < 4 * ht_format_count(); i++) {
        uint8_t data[64];
        for (size_t k = 0; k < sizeof data; k++) {
            data[k] = (uint8_t)((i * 64 + k) * 2654435761u >> 13);
        }
        data[0] = (uint8_t)(i % 4);
        data[1] = (uint8_t)(i / 4);
        LLVMFuzzerTestOneInput(data, sizeof data);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    const struct ht_format *f = ht_format_at(data[1] % ht_format_count());
    switch (data[0] % 4) {
    case 0: any_bytes(f, data + 2, size - 2); break;
    case 1: any_floats(f, data + 2, size - 2, 0); break;
    default: any_floats(f, data + 2, size - 2, 1); break;
    }
    return 0;
}
