/* A scheme from any text; a qtensor of any bytes decodes and multiplies; any floats are encoded. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/qmatmul.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const schemes[] = {
    "int4:g64", "int3:g7", "uint4:g32", "uint2:g16:offset", "int8:channel", "int5:tensor:asym", "fp8_e4m3:channel",
    "fp8_e5m2:g16:scale=e8m0", "fp4_e2m1:g32:scale=e8m0", "nf4:g64", "nf4:g8:nested", "fp4:g64", "pot4:g9", "apot5:token",
    "kmeans4:g32", "log5:channel", "pow3:tensor", "binary:g40", "ternary:g12", "ternary_b3:g33", "uint16:g5:scale=bf16",
};
enum { N_SCHEMES = sizeof schemes / sizeof schemes[0] };

static void scheme_text(const uint8_t *data, size_t size) {
    char text[200], out[HT_SCHEME_TEXT], again[HT_SCHEME_TEXT];
    struct ht_scheme s, t;
    size_t n = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, n);
    text[n] = '\0';
    if (ht_scheme_parse(text, &s, NULL) != HT_OK) {
        return;
    }
    ht_scheme_text(&s, out);
    if (ht_scheme_parse(out, &t, NULL) != HT_OK || strcmp(ht_scheme_text(&t, again), out) != 0) {
        abort();
    }
}

static void fill(void *dst, size_t bytes, const uint8_t *data, size_t size, size_t *at) {
    uint8_t *p = dst;
    for (size_t i = 0; i < bytes; i++) {
        p[i] = size > 0 ? data[(*at)++ % size] : 0;
    }
}

static void use(struct ht_qtensor *q, const float *x, float *y) {
    void *scratch = aligned_alloc(64, (ht_qmatmul_ref_scratch_bytes(q, 1) + 63) / 64 * 64);
    float out[16];
    ht_qtensor_decode(q, 0, q->rows, y);
    if (scratch != NULL) {
        ht_qmatmul_ref(q, 0, q->rows, x, 1, out, 16, HT_MATH_EXACT, scratch);
        ht_qmatmul_ref(q, 0, q->rows, x, 1, out, 16, HT_MATH_FAST, scratch);
    }
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 4) {
        return 0;
    }
    if (data[0] == 0) {
        scheme_text(data + 1, size - 1);
        return 0;
    }
    struct ht_scheme s;
    struct ht_qtensor q;
    uint64_t rows = 1 + data[2] % 9, cols = 1 + data[3];
    size_t at = 0, n = (size_t)(rows * cols);
    if (ht_scheme_parse(schemes[data[1] % N_SCHEMES], &s, NULL) != HT_OK) {
        abort();
    }
    float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
    if (x != NULL && y != NULL && ht_qtensor_init(&q, &s, rows, cols, NULL, NULL) == HT_OK) {
        fill(x, n * sizeof *x, data + 4, size - 4, &at);
        if (data[0] % 2) {
            struct ht_qpart part;
            for (size_t i = 0; ht_qtensor_part(&q, i, &part); i++) {
                fill(*part.slot, (size_t)part.bytes, data + 4, size - 4, &at);
            }
            use(&q, x, y);
        } else {
            struct ht_qtensor_options o = {.allow_nonfinite = true, .rounding = (enum ht_rounding)(data[0] / 2 % 4)};
            ht_status status = ht_qtensor_encode(&q, x, &o, NULL, NULL);
            if (status == HT_OK) {
                use(&q, x, y);
                for (size_t i = 0; i < n; i++) {
                    if (isnan(y[i])) {
                        abort();
                    }
                }
            } else if (status != HT_NUMERIC && status != HT_NOMEM) {
                abort();
            }
        }
        ht_qtensor_deinit(&q);
    }
    free(x);
    free(y);
    return 0;
}
