/* What was kept, as a sidecar. */
#include <string.h>

#include "base/mem.h"
#include "format/half.h"
#include "quant/outlier/outlier.h"

static bool whole_column(const uint8_t *keep, uint64_t rows, uint64_t cols, uint64_t j) {
    for (uint64_t i = 0; i < rows; i++) {
        if (keep[i * cols + j] != HT_KEEP_VALUE) {
            return false;
        }
    }
    return true;
}

static bool is_entry(uint8_t keep) {
    return keep == HT_KEEP_VALUE || keep == HT_KEEP_REST;
}

/* Entries of a row, in order; side NULL: only counted. code [cols]: what the codes stand for. */
static uint64_t sparse_row(const uint8_t *keep, const bool *column, const float *values, const float *code,
                           uint64_t cols, struct ht_sidecar *side, uint64_t at) {
    uint64_t n = 0;
    for (uint64_t j = 0; j < cols; j++) {
        if (column[j] || !is_entry(keep[j])) {
            continue;
        }
        if (side != NULL) {
            side->sp_idx[at + n] = (uint32_t)j;
            side->sp_val[at + n] = ht_f16_from_f32(values[j] - code[j]);
        }
        n++;
    }
    return n;
}

static void fill(const struct ht_qtensor *q, const uint8_t *keep, const bool *column, const float *values, float *code,
                 struct ht_sidecar *side) {
    uint64_t cols = q->cols, at = 0, k = 0;
    for (uint64_t j = 0; side->n_out > 0 && j < cols; j++) {
        if (column[j]) {
            side->out_idx[k] = (uint32_t)j;
            for (uint64_t i = 0; i < q->rows; i++) {
                side->out_val[i * side->n_out + k] = ht_f16_from_f32(values[i * cols + j]);
            }
            k++;
        }
    }
    for (uint64_t i = 0; side->n_sparse > 0 && i < q->rows; i++) {
        ht_qtensor_decode(q, i, 1, code);
        at += sparse_row(keep + i * cols, column, values + i * cols, code, cols, side, at);
        side->sp_ptr[i + 1] = (uint32_t)at;
    }
}

ht_status ht_outlier_store(const struct ht_qtensor *q, const uint8_t *keep, const float *values, uint32_t rank,
                           struct ht_sidecar *side, ht_err *err) {
    uint64_t cols = q->cols, sparse = 0, out = 0;
    bool *column = ht_mem_calloc(cols, sizeof *column);
    float *code = ht_mem_alloc_array(cols, sizeof *code);
    ht_status status = column == NULL || code == NULL ? ht_fail_nomem(err, cols * 5) : HT_OK;
    if (status != HT_OK) {
        goto done;
    }
    for (uint64_t j = 0; keep != NULL && j < cols; j++) {
        column[j] = whole_column(keep, q->rows, cols, j);
        out += column[j];
    }
    for (uint64_t i = 0; keep != NULL && i < q->rows; i++) {
        sparse += sparse_row(keep + i * cols, column, NULL, NULL, cols, NULL, 0);
    }
    side->rows = q->rows;
    side->cols = cols;
    side->n_out = (uint32_t)out;
    side->n_sparse = sparse;
    side->rank = rank;
    side->leaves |= (out > 0 ? HT_LEAVES_COLUMNS : 0u) | (sparse > 0 ? HT_LEAVES_SPARSE : 0u) |
                    (rank > 0 ? HT_LEAVES_LOWRANK : 0u);
    HT_TRY_DONE(ht_sidecar_init(side, NULL, err));
    if (keep != NULL) {
        fill(q, keep, column, values, code, side);
    }
done:
    ht_mem_free(code);
    ht_mem_free(column);
    return status;
}

void ht_outlier_bias(const float *w, const float *values, uint64_t rows, uint64_t cols, const float *mean,
                     float *bias) {
    for (uint64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (uint64_t j = 0; j < cols; j++) {
            sum += ((double)w[i * cols + j] - (double)values[i * cols + j]) * (double)mean[j];
        }
        bias[i] += (float)sum;
    }
}
