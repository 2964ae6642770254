/* Codes times codes: the specification of kernel/intmul.h, any form and any number of rows and tokens. */
#include "base/compiler.h"
#include "kernel/intmul.h"

/* |w q| summed over a piece stays below 2^31 (ht_int_run_limit). */
HT_CLONES
static int32_t dot(const int16_t *w, const int8_t *q, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (int32_t)w[i] * q[i];
    }
    return sum;
}

static int32_t sum_of(const int8_t *q, size_t n) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += q[i];
    }
    return sum;
}

static float row_token(const struct ht_int_acts *a, const struct ht_int_scratch *s, const int16_t *w, size_t t) {
    float y = 0;
    for (size_t p = 0; p < a->n_pieces; p++) {
        const struct ht_int_piece *c = &a->pieces[p];
        const int8_t *q = a->q + t * a->width + c->at;
        size_t n = c->to - c->from, i = t * a->n_pieces + p;
        int64_t exact = dot(w + c->from, q, n);
        if (a->zeros) {
            int64_t zero_w = s->zero[p], zero_x = a->zero[i];
            exact += (int64_t)n * zero_w * zero_x - zero_w * sum_of(q, n) - zero_x * s->sum[p];
        }
        y += a->scale[i] * s->scale[p] * (float)exact;
    }
    return y;
}

void ht_int_ref(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n_rows, float *y,
                size_t y_stride, void *scratch) {
    struct ht_int_scratch s;
    ht_int_scratch_place(&s, f, a, scratch);
    int32_t *codes = (int32_t *)(void *)s.rows;
    int16_t *w = (int16_t *)(void *)(codes + a->width);
    for (size_t r = 0; r < n_rows; r++) {
        ht_qtensor_codes(f->w, row0 + r, codes);
        for (size_t k = 0; k < a->cols; k++) {
            w[k] = (int16_t)codes[k];
        }
        ht_int_grids(f, a, row0 + r, 1, 1, &s);
        for (size_t p = 0; p < a->n_pieces && a->zeros; p++) {
            s.sum[p] = 0; /* of codes alone */
            for (uint32_t k = a->pieces[p].from; k < a->pieces[p].to; k++) {
                s.sum[p] += codes[k];
            }
        }
        for (size_t t = 0; t < a->n_tokens; t++) {
            y[t * y_stride + r] = row_token(a, &s, w, t);
        }
    }
}
