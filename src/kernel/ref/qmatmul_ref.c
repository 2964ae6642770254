/* Products with a qtensor, and integer-only layers. */
#include "kernel/qmatmul.h"

#include <math.h>

#include "base/error.h"
#include "format/half.h"
#include "kernel/qform.h"
#include "kernel/slots.h"

enum { PIECE = 480 }; /* codes unpacked at a time: whole bytes in every format */

static const float *levels_of(const struct ht_qtensor *w) {
    const struct ht_code *c = w->scheme.format->code;
    return c->fitted ? w->levels : c->levels;
}

void ht_q_decode_ref(const struct ht_qform *f, const struct ht_qgrids *g, uint64_t row, uint64_t col0, size_t n,
                     float *x) {
    const struct ht_qtensor *w = f->w;
    const struct ht_format *format = w->scheme.format;
    const float *levels = levels_of(w);
    const uint8_t *codes = w->codes + row * w->row_bytes + ht_code_row_bytes(format, col0);
    int32_t code[PIECE];
    for (size_t k = 0; k < n; k++) {
        if (k % PIECE == 0) {
            ht_code_unpack(format, codes + ht_code_row_bytes(format, k), code, n - k < PIECE ? n - k : PIECE);
        }
        size_t group = (size_t)((col0 + k) / w->run - g->first);
        int32_t c = code[k % PIECE];
        float level = levels != NULL ? levels[c - format->code->lo] : (float)c;
        switch (w->scheme.zero) {
        case HT_ZERO_CODE: x[k] = g->scale[group] * (level - g->shift[group]); break;
        case HT_ZERO_OFFSET: x[k] = g->scale[group] * level + g->shift[group]; break;
        default: x[k] = g->scale[group] * level; break;
        }
    }
}

bool ht_qmatmul_is_integer(const struct ht_qtensor *w) {
    const struct ht_code *c = w->scheme.format->code;
    const float *levels = levels_of(w);
    for (int32_t i = 0; levels != NULL && i <= c->hi - c->lo; i++) {
        if (!(fabsf(levels[i]) <= 65535.0f) || levels[i] != rintf(levels[i])) {
            return false;
        }
    }
    return true;
}

/* Rows of x are padded with zeros to whole groups of 32. */
static size_t padded(uint64_t cols) {
    return (size_t)((cols + 31) / 32 * 32);
}

static size_t aligned(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

size_t ht_qmatmul_ref_scratch_bytes(const struct ht_qtensor *w, size_t n_tokens) {
    size_t p = padded(w->cols);
    return aligned(p * 4) + aligned(n_tokens * p) + aligned(n_tokens * p / 32 * 4) + aligned(n_tokens * p / 16 * 4);
}

/* n <= HT_DECODE_ELEMS */
static float dot_bf16(const float *w, const float *x, size_t n) {
    float rounded[HT_DECODE_ELEMS];
    for (size_t i = 0; i < n; i++) {
        rounded[i] = ht_bf16_to_f32(ht_bf16_from_f32(x[i]));
    }
    return ht_dot_f32_ref(w, rounded, n);
}

static void rows_exact(const struct ht_qtensor *w, uint64_t row0, uint64_t n_rows, const float *x, size_t n_tokens,
                       float *y, size_t y_stride, bool bf16, float *row) {
    size_t K = (size_t)w->cols;
    for (uint64_t r = 0; r < n_rows; r++) {
        ht_qtensor_decode(w, row0 + r, 1, row);
        for (size_t t = 0; t < n_tokens; t++) {
            float sum = 0;
            for (size_t k = 0; k < K; k += HT_DECODE_ELEMS) {
                size_t n = K - k < HT_DECODE_ELEMS ? K - k : HT_DECODE_ELEMS;
                sum += (bf16 ? dot_bf16 : ht_dot_f32_ref)(row + k, x + t * K + k, n);
            }
            y[t * y_stride + r] = sum;
        }
    }
}

/* One row and one token; level [K]. */
static float dot_fast(const struct ht_qtensor *w, uint64_t row, const int32_t *level, const int8_t *q, const float *d) {
    float y = 0;
    for (uint64_t g = 0; g < w->groups; g++) {
        struct ht_affine a = ht_qtensor_grid(w, row, g);
        uint64_t end = w->cols - g * w->run < w->run ? w->cols : (g + 1) * w->run;
        for (uint64_t k = g * w->run, next; k < end; k = next) {
            int32_t dot = 0, sum = 0;
            next = (k / 32 + 1) * 32 < end ? (k / 32 + 1) * 32 : end;
            for (uint64_t i = k; i < next; i++) {
                dot += level[i] * q[i];
                sum += q[i];
            }
            y += d[k / 32] * (a.scale * (float)(dot - a.zero * sum) + a.min * (float)sum);
        }
    }
    return y;
}

void ht_qmatmul_ref(const struct ht_qtensor *w, uint64_t row0, uint64_t n_rows, const float *x, size_t n_tokens,
                    float *y, size_t y_stride, enum ht_math math, void *scratch) {
    size_t K = (size_t)w->cols, p = padded(K);
    char *at = scratch;
    float *row = (float *)at;
    if (math != HT_MATH_FAST || !ht_qmatmul_is_integer(w)) {
        rows_exact(w, row0, n_rows, x, n_tokens, y, y_stride, math == HT_MATH_BF16, row);
        return;
    }
    const float *levels = levels_of(w);
    int32_t *level = (int32_t *)at;
    int8_t *q = (int8_t *)(at += aligned(p * 4));
    float *d = (float *)(at += aligned(n_tokens * p));
    int32_t *sum16 = (int32_t *)(at + aligned(n_tokens * p / 32 * 4));
    for (size_t t = 0; t < n_tokens; t++) {
        memset(row, 0, p * sizeof *row);
        memcpy(row, x + t * K, K * sizeof *row);
        ht_quantize_q8_ref(row, p, q + t * p, d + t * p / 32, sum16 + t * p / 16);
    }
    for (uint64_t r = 0; r < n_rows; r++) {
        ht_qtensor_codes(w, row0 + r, level);
        for (size_t k = 0; levels != NULL && k < K; k++) {
            level[k] = (int32_t)levels[level[k] - w->scheme.format->code->lo];
        }
        for (size_t t = 0; t < n_tokens; t++) {
            y[t * y_stride + r] = dot_fast(w, row0 + r, level, q + t * p, d + t * p / 32);
        }
    }
}

/* ---- without any float ------------------------------------------------------------------------------------------ */

ht_status ht_requant_from(double M, struct ht_requant *r, ht_err *err) {
    if (!(M >= 0x1p-32 && M < 0x1p30)) {
        return ht_fail(err, HT_INVAL, "requant", HT_NO_POS, "multiplier %g: expected 2^-32 <= M < 2^30", M);
    }
    int e;
    double m = nearbyint(ldexp(frexp(M, &e), 31)); /* [2^30, 2^31] */
    if (m == 0x1p31) {
        m = 0x1p30;
        e++;
    }
    r->multiplier = (int32_t)m;
    r->shift = 31 - e;
    return HT_OK;
}

int32_t ht_requant_apply(struct ht_requant r, int32_t acc, int32_t zero, int32_t lo, int32_t hi) {
    int64_t product = (int64_t)acc * r.multiplier, half = INT64_C(1) << (r.shift - 1);
    int64_t v = product + half, unit = INT64_C(1) << r.shift;
    int64_t q = v / unit - (v % unit < 0); /* floor */
    q += zero;
    return (int32_t)(q < lo ? lo : q > hi ? hi : q);
}

void ht_int_layer_ref(const struct ht_int_layer *l, const int8_t *x, size_t n_tokens, int8_t *y) {
    int32_t K = (int32_t)l->cols;
    for (uint64_t r = 0; r < l->rows; r++) {
        const int8_t *w = l->w + r * l->cols;
        int32_t sum_w = 0;
        for (int32_t k = 0; k < K; k++) {
            sum_w += w[k];
        }
        for (size_t t = 0; t < n_tokens; t++) {
            const int8_t *q = x + t * l->cols;
            int32_t dot = 0, sum_x = 0;
            for (int32_t k = 0; k < K; k++) {
                dot += q[k] * w[k];
                sum_x += q[k];
            }
            int64_t acc = (int64_t)dot - (int64_t)l->zero_w * sum_x - (int64_t)l->zero_x * sum_w +
                          (int64_t)K * l->zero_x * l->zero_w + (l->bias != NULL ? l->bias[r] : 0);
            acc = acc < INT32_MIN ? INT32_MIN : acc > INT32_MAX ? INT32_MAX : acc;
            y[t * l->rows + r] =
                (int8_t)ht_requant_apply(l->requant[r], (int32_t)acc, l->zero_y, l->lo, l->hi);
        }
    }
}
