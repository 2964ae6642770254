/* A scheme from any text; a qtensor of any bytes decodes and multiplies; any floats are encoded.
 *
 *     byte 0: what to do   byte 1: code format   byte 2: rows and scales   byte 3: columns   then bytes, repeated */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/qmatmul.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* Ways to give codes scales. Not all go with all formats: then the next that does. */
static const char *const parts[] = {":channel", ":g64", ":g7", ":g16:offset", ":tensor:asym", ":g16:scale=e8m0",
                                    ":g8:nested", ":token", ":g5:scale=bf16", ":g32:narrow:scale=f32"};
enum { N_PARTS = sizeof parts / sizeof parts[0] };

/* The scheme of two bytes: every code format of the table with every way; e8m0, which goes with none, gives the next. */
static void scheme_of(uint8_t format, uint8_t part, struct ht_scheme *s) {
    for (size_t f = 0; f < ht_format_count(); f++) {
        const struct ht_format *row = ht_format_at((format + f) % ht_format_count());
        for (size_t i = 0; row->code != NULL && i < N_PARTS; i++) {
            char text[64];
            snprintf(text, sizeof text, "%s%s", row->name, parts[(part + i) % N_PARTS]);
            if (ht_scheme_parse(text, s, NULL) == HT_OK) {
                return;
            }
        }
    }
    abort();
}

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

/* Every run begins with each scheme, decoded and encoded. */
int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    for (size_t i = 0; i < 2 * N_PARTS * ht_format_count(); i++) {
        uint8_t data[64];
        for (size_t k = 0; k < sizeof data; k++) {
            data[k] = (uint8_t)((i * 64 + k) * 2654435761u >> 13);
        }
        data[0] = (uint8_t)(1 + i % 2);
        data[1] = (uint8_t)(i / 2 / N_PARTS);
        data[2] = (uint8_t)(i / 2 % N_PARTS * 9 + 1);
        if (ht_format_at(data[1])->code != NULL) {
            LLVMFuzzerTestOneInput(data, sizeof data);
        }
    }
    return 0;
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
    scheme_of(data[1], data[2] / 9, &s);
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
