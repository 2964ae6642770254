/* A qtensor's sizes, parts, grids, and decoding. */
#include "base/ckd.h"
#include "base/compiler.h"
#include "tensor/qtensor_impl.h"

static ht_status overflow(const char *name, uint64_t rows, uint64_t cols, ht_err *err) {
    return ht_fail(err, HT_INVAL, name, HT_NO_POS, "a matrix of %llu x %llu: expected at least 1 x 1, and a size below "
                   "2^56 bytes", (unsigned long long)rows, (unsigned long long)cols);
}

ht_status ht_qtensor_shape(struct ht_qtensor *q, const struct ht_scheme *scheme, uint64_t rows, uint64_t cols,
                           const char *name, ht_err *err) {
    uint64_t elems, bytes;
    memset(q, 0, sizeof *q);
    HT_TRY(ht_scheme_check(scheme, err));
    /* 16 bytes per element hold a code and a scale, zero and min of every element alone. */
    if (rows == 0 || cols == 0 || ht_ckd_mul(&elems, rows, cols) || ht_ckd_mul(&bytes, elems, 16) ||
        bytes >= UINT64_C(1) << 56) {
        return overflow(name, rows, cols, err);
    }
    q->scheme = *scheme;
    q->rows = rows;
    q->cols = cols;
    q->run = ht_scheme_run(scheme, cols);
    q->groups = ht_scheme_groups(scheme, cols);
    q->n_scales = scheme->granularity == HT_PER_TENSOR ? 1 : rows * q->groups;
    q->row_bytes = ht_code_row_bytes(scheme->format, cols);
    q->zero_bytes = scheme->zero == HT_ZERO_CODE ? ht_code_row_bytes(scheme->format, q->groups) : 0;
    const struct ht_code *c = scheme->format->code;
    q->n_levels = c->fitted ? (uint32_t)(c->hi - c->lo) + 1 : 0;
    return HT_OK;
}

static uint64_t scale_rows(const struct ht_qtensor *q) {
    return q->scheme.granularity == HT_PER_TENSOR ? 1 : q->rows;
}

bool ht_qtensor_part(struct ht_qtensor *q, size_t i, struct ht_qpart *part) {
    const struct ht_scheme *s = &q->scheme;
    uint64_t blocks = q->n_scales / HT_NESTED_BLOCK + (q->n_scales % HT_NESTED_BLOCK != 0);
    const struct {
        bool present;
        const char *suffix, *format;
        uint64_t ne[2];
        void **slot;
    } all[] = {
        {true, "codes", "u8", {q->row_bytes, q->rows}, (void **)&q->codes},
        {!s->nested, "scales", s->scale->name, {q->groups, scale_rows(q)}, &q->scales},
        {s->zero == HT_ZERO_CODE, "zeros", "u8", {q->zero_bytes, scale_rows(q)}, (void **)&q->zeros},
        {s->zero == HT_ZERO_OFFSET, "mins", s->scale->name, {q->groups, scale_rows(q)}, &q->mins},
        {q->n_levels > 0, "levels", "f32", {q->n_levels, 1}, (void **)&q->levels},
        {s->nested, "scale_codes", "u8", {q->groups, q->rows}, (void **)&q->scale_codes},
        {s->nested, "scale_map", "f32", {256, 1}, (void **)&q->scale_map},
        {s->nested, "scale2", "f32", {blocks, 1}, (void **)&q->scale2},
        {s->nested, "scale_offset", "f32", {1, 1}, (void **)&q->scale_offset},
    };
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        if (all[k].present && i-- == 0) {
            part->suffix = all[k].suffix;
            part->format = ht_format_find(all[k].format);
            part->ne[0] = all[k].ne[0];
            part->ne[1] = all[k].ne[1];
            part->n_dims = k >= 4 && k != 5 ? 1 : 2;
            part->bytes = part->ne[0] * part->ne[1] * part->format->block_bytes;
            part->slot = all[k].slot;
            return true;
        }
    }
    return false;
}

uint64_t ht_qtensor_bytes(const struct ht_qtensor *q) {
    struct ht_qtensor view = *q;
    struct ht_qpart part;
    uint64_t bytes = 0;
    for (size_t i = 0; ht_qtensor_part(&view, i, &part); i++) {
        bytes += part.bytes;
    }
    return bytes;
}

double ht_qtensor_bits(const struct ht_qtensor *q) {
    return 8.0 * (double)ht_qtensor_bytes(q) / ((double)q->rows * (double)q->cols);
}

ht_status ht_qtensor_init(struct ht_qtensor *q, const struct ht_scheme *scheme, uint64_t rows, uint64_t cols,
                          const char *name, ht_err *err) {
    struct ht_qpart part;
    HT_TRY(ht_qtensor_shape(q, scheme, rows, cols, name, err));
    q->owned = true;
    for (size_t i = 0; ht_qtensor_part(q, i, &part); i++) {
        *part.slot = ht_mem_calloc((size_t)part.bytes, 1);
        if (*part.slot == NULL) {
            ht_qtensor_deinit(q);
            return ht_fail_nomem(err, part.bytes);
        }
    }
    if (scheme->nested || scheme->granularity == HT_PER_TENSOR) {
        size_t n = (size_t)(scheme->nested ? q->n_scales : 3);
        q->exact = ht_mem_calloc(n, sizeof *q->exact);
        if (q->exact == NULL) {
            ht_qtensor_deinit(q);
            return ht_fail_nomem(err, n * sizeof *q->exact);
        }
    }
    return HT_OK;
}

void ht_qtensor_deinit(struct ht_qtensor *q) {
    struct ht_qpart part;
    for (size_t i = 0; q->owned && ht_qtensor_part(q, i, &part); i++) {
        ht_mem_free(*part.slot);
    }
    ht_mem_free(q->exact);
    memset(q, 0, sizeof *q);
}

/* ---- grids ------------------------------------------------------------------------------------------------- */

static uint64_t scale_index(const struct ht_qtensor *q, uint64_t r, uint64_t g) {
    return q->scheme.granularity == HT_PER_TENSOR ? 0 : r * q->groups + g;
}

static float scale_get(const struct ht_qtensor *q, const void *scales, uint64_t i) {
    const struct ht_format *f = q->scheme.scale;
    float v;
    f->decode((const uint8_t *)scales + i * f->block_bytes, &v, 1);
    return v;
}

static void scale_put(const struct ht_qtensor *q, void *scales, uint64_t i, float v) {
    const struct ht_format *f = q->scheme.scale;
    f->encode(&v, NULL, (uint8_t *)scales + i * f->block_bytes, 1);
}

struct ht_affine ht_qtensor_grid(const struct ht_qtensor *q, uint64_t r, uint64_t g) {
    struct ht_affine a = {0, 0, 0};
    uint64_t i = scale_index(q, r, g);
    if (q->scheme.nested) {
        a.scale = q->scale_map[q->scale_codes[i]] * q->scale2[i / HT_NESTED_BLOCK] + q->scale_offset[0];
        return a;
    }
    a.scale = scale_get(q, q->scales, i);
    if (q->scheme.zero == HT_ZERO_OFFSET) {
        a.min = scale_get(q, q->mins, i);
    } else if (q->scheme.zero == HT_ZERO_CODE) {
        bool tensor = q->scheme.granularity == HT_PER_TENSOR;
        a.zero = ht_code_get(q->scheme.format, q->zeros + (tensor ? 0 : r * q->zero_bytes), tensor ? 0 : g);
    }
    return a;
}

void ht_qtensor_set_grid(struct ht_qtensor *q, uint64_t r, uint64_t g, const struct ht_affine *a) {
    uint64_t i = scale_index(q, r, g);
    if (q->scheme.nested) {
        q->exact[i] = a->scale;
        return;
    }
    scale_put(q, q->scales, i, ht_scheme_snap_scale(&q->scheme, a->scale));
    if (q->scheme.zero == HT_ZERO_OFFSET) {
        scale_put(q, q->mins, i, a->min);
    } else if (q->scheme.zero == HT_ZERO_CODE) {
        bool tensor = q->scheme.granularity == HT_PER_TENSOR;
        ht_code_put(q->scheme.format, q->zeros + (tensor ? 0 : r * q->zero_bytes), tensor ? 0 : g, a->zero);
    }
}

/* ---- decoding ---------------------------------------------------------------------------------------------- */

void ht_qtensor_codes(const struct ht_qtensor *q, uint64_t row, int32_t *codes) {
    ht_code_unpack(q->scheme.format, q->codes + row * q->row_bytes, codes, (size_t)q->cols);
}

HT_CLONES
void ht_qtensor_group_values(const struct ht_qtensor *q, const struct ht_affine *a, const int32_t *codes, size_t n,
                             float *x) {
    const struct ht_code *c = q->scheme.format->code;
    const float *table = c->fitted ? q->levels : c->levels;
    if (table != NULL) {
        for (size_t i = 0; i < n; i++) {
            x[i] = a->scale * table[codes[i] - c->lo];
        }
    } else if (q->scheme.zero == HT_ZERO_OFFSET) {
        for (size_t i = 0; i < n; i++) {
            x[i] = a->scale * (float)codes[i] + a->min;
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            x[i] = a->scale * (float)(codes[i] - a->zero);
        }
    }
}

/* Codes of a run are unpacked in pieces that begin at a whole byte in every format. */
enum { PIECE = 480 };

void ht_qtensor_decode(const struct ht_qtensor *q, uint64_t row0, uint64_t n_rows, float *x) {
    int32_t codes[PIECE];
    for (uint64_t r = row0; r < row0 + n_rows; r++, x += q->cols) {
        const uint8_t *row = q->codes + r * q->row_bytes;
        struct ht_affine a = {0, 0, 0};
        uint64_t group = UINT64_MAX;
        for (uint64_t k = 0; k < q->cols; k += PIECE) {
            size_t n = q->cols - k < PIECE ? (size_t)(q->cols - k) : PIECE;
            ht_code_unpack(q->scheme.format, row + ht_code_row_bytes(q->scheme.format, k), codes, n);
            for (size_t i = 0; i < n;) {
                uint64_t g = (k + i) / q->run, left = (g + 1) * q->run - (k + i);
                size_t m = left < n - i ? (size_t)left : n - i;
                if (g != group) {
                    a = ht_qtensor_grid(q, r, g);
                    group = g;
                }
                ht_qtensor_group_values(q, &a, codes + i, m, x + k + i);
                i += m;
            }
        }
    }
}
