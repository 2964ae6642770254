/* The specification of the matrix product: a row is brought to its plainest form, then every token is
 * multiplied with it. Any format of the table, any number of tokens. */
#include "kernel/slots.h"

void ht_rows_f32_ref(const struct ht_mat *w, size_t row0, size_t n_rows, const float *x, size_t n_tokens,
                     float *y, size_t y_stride, ht_decode_fn *decode, void *scratch) {
    float *row = scratch;
    size_t K = w->cols;
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *src = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t k = 0; k < K; k += HT_DECODE_ELEMS) {
            size_t n = K - k < HT_DECODE_ELEMS ? K - k : HT_DECODE_ELEMS;
            decode(src + ht_format_row_bytes(w->format, k), row, n);
            for (size_t t = 0; t < n_tokens; t++) {
                float s = ht_dot_f32_ref(row, x + t * K + k, n);
                y[t * y_stride + r] = k == 0 ? s : y[t * y_stride + r] + s;
            }
        }
    }
}

/* One block: scale, min and integer codes per sub-block (all levels of a table are integers). */
static float block_dot(const struct ht_grid *g, const int8_t *level, const struct ht_acts *acts, size_t t,
                       size_t k) {
    const int8_t *q = acts->q + t * acts->cols_padded + k;
    const float *d = acts->d + (t * acts->cols_padded + k) / 32;
    float sum = 0;
    /* A step is what shares both a weight scale and an activation scale. */
    int step = g->sub_len < 32 ? g->sub_len : 32;
    for (int i = 0; i < g->n_sub * g->sub_len; i += step) {
        int s = i / g->sub_len;
        int32_t dot = 0, qsum = 0;
        for (int j = i; j < i + step; j++) {
            dot += level[j] * q[j];
            qsum += q[j];
        }
        sum += d[i / 32] * (g->scale[s] * (float)dot - g->min[s] * (float)qsum);
    }
    return sum;
}

void ht_rows_q8_ref(const struct ht_mat *w, size_t row0, size_t n_rows, const struct ht_acts *acts, float *y,
                    size_t y_stride, void *scratch) {
    (void)scratch;
    const struct ht_format *f = w->format;
    struct ht_grid grid;
    int8_t codes[HT_BLOCK_MAX];
    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *src = (const uint8_t *)w->data + (row0 + r) * w->row_bytes;
        for (size_t t = 0; t < acts->n_tokens; t++) {
            y[t * y_stride + r] = 0;
        }
        for (size_t k = 0; k < w->cols; k += f->block_elems, src += f->block_bytes) {
            f->unpack(src, &grid, codes);
            for (uint32_t i = 0; grid.levels != NULL && i < f->block_elems; i++) {
                codes[i] = (int8_t)grid.levels[codes[i] - grid.lo];
            }
            for (size_t t = 0; t < acts->n_tokens; t++) {
                y[t * y_stride + r] += block_dot(&grid, codes, acts, t, k);
            }
        }
    }
}
