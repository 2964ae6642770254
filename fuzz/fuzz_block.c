/* Weights of any bytes through every kernel that reads them, at every level of this machine: decode, unpack, dot
 * products and matrix products in both modes, inputs of any bits. Nothing may be read or written out of bounds or
 * trap, and every level decodes to the same bits.
 *
 *     byte 0: format   byte 1: rows - 1, tokens - 1   byte 2: columns   then blocks, then inputs, both repeated */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/half.h"
#include "kernel/slots.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct input {
    const uint8_t *p;
    size_t n;
};

/* out[n]: the first half of the input over and over, or the second. */
static void take(const struct input *in, size_t half, void *out, size_t n) {
    size_t from = half * (in->n / 2), len = half ? in->n - from : in->n / 2;
    for (size_t i = 0; i < n; i++) {
        ((uint8_t *)out)[i] = len > 0 ? in->p[from + i % len] : 0;
    }
}

/* The same number, or both NaN. */
static int same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (ht_f32_bits(a[i]) != ht_f32_bits(b[i]) && !(isnan(a[i]) && isnan(b[i]))) {
            return 0;
        }
    }
    return 1;
}

static void decodes(const struct ht_mat *w) {
    size_t slot = ht_format_slot(w->format), n = (size_t)w->cols;
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    if (want && got) {
        w->format->decode(w->data, want, n);
        for (int l = 0; l < HT_CPU_LEVELS; l++) {
            const struct ht_kernel_table *t = ht_kernel_table_at((enum ht_cpu_level)l);
            if (t) {
                t->decode[slot](w->data, got, n);
                if (!same(want, got, n)) {
                    abort();
                }
            }
        }
    }
    free(want);
    free(got);
}

/* Codes of any bytes lie within the grid. */
static void unpacks(const struct ht_mat *w) {
    const struct ht_format *f = w->format;
    for (size_t b = 0; f->unpack && b < w->cols / f->block_elems; b++) {
        struct ht_grid grid;
        int8_t codes[HT_BLOCK_MAX];
        f->unpack((const uint8_t *)w->data + b * f->block_bytes, &grid, codes);
        if (grid.n_sub < 1 || grid.n_sub > HT_GRID_MAX_SUB || grid.n_sub * grid.sub_len != (int)f->block_elems) {
            abort();
        }
        for (uint32_t i = 0; i < f->block_elems; i++) {
            if (codes[i] < grid.lo || codes[i] > grid.hi) {
                abort();
            }
        }
    }
}

static void products(const struct ht_mat *w, const float *x, size_t n_tokens) {
    float *y = malloc(n_tokens * (size_t)w->rows * sizeof *y);
    void *scratch = NULL;
    if (posix_memalign(&scratch, 64, ht_matmul_scratch_bytes(w, n_tokens, 1)) != 0) {
        scratch = NULL;
    }
    for (int l = 0; l < HT_CPU_LEVELS && y && scratch; l++) {
        const struct ht_kernel_table *t = ht_kernel_table_at((enum ht_cpu_level)l);
        if (t) {
            ht_matmul_with(t, NULL, w, x, n_tokens, y, (size_t)w->rows, HT_MATH_EXACT, scratch);
            ht_matmul_with(t, NULL, w, x, n_tokens, y, (size_t)w->rows, HT_MATH_FAST, scratch);
        }
    }
    free(y);
    free(scratch);
}

/* Every run begins with each row of the table. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    for (size_t i = 0; i < ht_format_count(); i++) {
        uint8_t data[64];
        for (size_t k = 0; k < sizeof data; k++) {
            data[k] = (uint8_t)((i * 64 + k) * 2654435761u >> 13);
        }
        data[0] = (uint8_t)i;
        LLVMFuzzerTestOneInput(data, sizeof data);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) {
        return 0;
    }
    const struct ht_format *f = ht_format_at(data[0] % ht_format_count());
    if (f->kind == HT_KIND_INT) {
        return 0;
    }
    size_t rows = data[1] % 8 + 1u, n_tokens = data[1] / 8 + 1u, unit = f->block_elems;
    unit = f->unpack && unit % 32 != 0 ? unit * 32 : unit;
    size_t cols = (data[2] % 4 + 1u) * unit;
    struct input in = {data + 3, size - 3};
    size_t row_bytes = (size_t)ht_format_row_bytes(f, cols), shift = f->unpack && in.n % 2;
    uint8_t *bytes = malloc(rows * row_bytes + shift); /* blocks may begin at any address */
    float *x = malloc(n_tokens * cols * sizeof *x);
    if (bytes && x) {
        struct ht_mat w = {f, bytes + shift, rows, cols, row_bytes};
        take(&in, 0, bytes + shift, rows * row_bytes);
        take(&in, 1, x, n_tokens * cols * sizeof *x);
        decodes(&w);
        unpacks(&w);
        products(&w, x, n_tokens);
    }
    free(bytes);
    free(x);
    return 0;
}
