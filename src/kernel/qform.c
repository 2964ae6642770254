#include "kernel/qform.h"

#include <math.h>
#include <string.h>

#include "base/compiler.h"

/* Bytes of integer levels: level - smallest, which becomes the shape's offset. */
static bool set_lookup(struct ht_qform *f) {
    float lo = f->level[0], hi = f->level[0];
    for (int i = 1; i < 1 << f->bits; i++) {
        lo = fminf(lo, f->level[i]);
        hi = fmaxf(hi, f->level[i]);
    }
    if (f->bits > 4 || lo >= 0 || !(hi - lo <= 128)) { /* 128: pairs of products stay in 16 bits (rows_q8_avx2.c) */
        return false;
    }
    for (int i = 0; i < 16; i++) {
        f->byte_of[i] = (uint8_t)(f->level[i % (1 << f->bits)] - lo);
    }
    f->lookup = true;
    f->shape.offset = (int)-lo;
    return true;
}

static void set_real(struct ht_qform *f, const struct ht_real *r) {
    f->kind = HT_Q_REAL;
    f->sign_shift = 16 - f->bits;
    f->magnitude_shift = 10 - r->mantissa_bits;
    f->magnitude_mask = (1u << (f->bits - 1)) - 1;
    f->max_magnitude = r->has_nan && !r->has_inf ? r->max_code : f->magnitude_mask;
    f->factor = ldexpf(1, 15 - r->bias);
}

void ht_qform_init(struct ht_qform *f, const struct ht_qtensor *w, const struct ht_kernels *ops) {
    const struct ht_format *format = w->scheme.format;
    const struct ht_code *c = format->code;
    const float *levels = c->fitted ? w->levels : c->levels;
    memset(f, 0, sizeof *f);
    f->w = w;
    f->f32_from_f16 = ops->f32_from_f16;
    f->integer = true;
    for (int32_t i = 0; levels != NULL && i <= c->hi - c->lo; i++) {
        f->integer = f->integer && fabsf(levels[i]) <= 65535.0f && levels[i] == rintf(levels[i]);
    }
    if (c->bits < 1 || c->bits > 8) {
        return;
    }
    f->bits = c->bits;
    f->lo = (float)c->lo;
    for (int32_t i = 0; i < 1 << f->bits; i++) {
        int32_t code = i <= c->hi - c->lo ? i + c->lo : c->zero;
        f->level[i] = levels != NULL ? levels[code - c->lo] : (float)code;
    }
    f->shape = (struct ht_chunk_shape){
        .piece = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, .offset = -c->lo};
    f->shape.group = w->run % 32 == 0 || w->groups == 1 ? 32 : 16;
    f->shape.order = f->bits == 4 ? HT_ORDER_NIBBLES : HT_ORDER_PIECES;
    f->kind = levels == NULL ? HT_Q_INTEGER : f->bits <= 4 ? HT_Q_TABLE16 : HT_Q_TABLE;
    const struct ht_real *r = format->real;
    if (f->kind == HT_Q_TABLE && r != NULL && r->sign_bits == 1 && r->exponent_bits <= 5 && r->mantissa_bits <= 10) {
        set_real(f, r);
    }
    if (f->kind == HT_Q_INTEGER && w->scheme.zero != HT_ZERO_NONE) {
        f->shape.offset = 0;
    }
    f->has_bytes = (w->run % 16 == 0 || w->groups == 1) &&
                   (f->kind == HT_Q_INTEGER || (f->integer && f->kind == HT_Q_TABLE16 && set_lookup(f)));
}

/* n stored scales (or mins) from index i on. */
static void read_scales(const struct ht_qform *f, const void *stored, uint64_t i, size_t n, float *out) {
    const struct ht_format *format = f->w->scheme.scale;
    const uint8_t *src = (const uint8_t *)stored + i * format->block_bytes;
    if (strcmp(format->name, "f16") == 0) {
        f->f32_from_f16((const void *)src, out, n);
    } else {
        format->decode(src, out, n);
    }
}

static void read_zeros(const struct ht_qform *f, uint64_t row, uint64_t first, size_t n, struct ht_qgrids *g) {
    const struct ht_qtensor *w = f->w;
    uint64_t skip = first % 8; /* eight codes are whole bytes */
    bool tensor = w->scheme.granularity == HT_PER_TENSOR;
    const uint8_t *src = w->zeros + (tensor ? 0 : row * w->zero_bytes);
    src += (first - skip) / 8 * w->scheme.format->code->bits;
    ht_code_unpack(w->scheme.format, src, g->codes, n + (size_t)skip);
    for (size_t i = 0; i < n; i++) {
        g->shift[i] = (float)g->codes[i + skip];
    }
}

/* n scales from number i on, as ht_qtensor_grid has them. */
HT_CLONES
static void nested_scales(const struct ht_qtensor *w, uint64_t i, uint64_t n, float *out) {
    const float *map = w->scale_map, offset = w->scale_offset[0];
    for (uint64_t end = i + n, stop; i < end; i = stop) {
        float unit = w->scale2[i / HT_NESTED_BLOCK];
        stop = (i / HT_NESTED_BLOCK + 1) * HT_NESTED_BLOCK;
        stop = stop < end ? stop : end;
        for (uint64_t k = i; k < stop; k++) {
            *out++ = map[w->scale_codes[k]] * unit + offset;
        }
    }
}

void ht_qgrids_row(const struct ht_qform *f, uint64_t row, uint64_t first, uint64_t n, struct ht_qgrids *g) {
    const struct ht_qtensor *w = f->w;
    uint64_t i = (w->scheme.granularity == HT_PER_TENSOR ? 0 : row * w->groups) + first;
    g->first = first;
    if (w->scheme.nested) {
        nested_scales(w, i, n, g->scale);
        return;
    }
    read_scales(f, w->scales, i, (size_t)n, g->scale);
    if (w->scheme.zero == HT_ZERO_OFFSET) {
        read_scales(f, w->mins, i, (size_t)n, g->shift);
    } else if (w->scheme.zero == HT_ZERO_CODE) {
        read_zeros(f, row, first, (size_t)n, g);
    }
}

void ht_qgrids_rows(const struct ht_qform *f, uint64_t row0, uint64_t n, struct ht_qgrids *g) {
    const struct ht_qtensor *w = f->w;
    g->first = 0;
    if (w->scheme.granularity != HT_PER_TENSOR && !w->scheme.nested && w->scheme.zero == HT_ZERO_NONE) {
        read_scales(f, w->scales, row0, (size_t)n, g->scale);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        struct ht_affine a = ht_qtensor_grid(w, row0 + i, 0);
        g->scale[i] = a.scale;
        g->shift[i] = w->scheme.zero == HT_ZERO_OFFSET ? a.min : (float)a.zero;
    }
}

/* out[i] = x[(at + i) / per], i < n. */
HT_CLONES
static void repeat(const float *x, size_t at, size_t per, size_t n, float *out) {
    if (per == 1) {
        memcpy(out, x + at, n * sizeof *out);
    } else if (per == 2 && at % 2 == 0) {
        for (size_t i = 0; i < n / 2; i++) {
            out[2 * i] = out[2 * i + 1] = x[at / 2 + i];
        }
        if (n % 2 != 0) {
            out[n - 1] = x[(at + n - 1) / 2];
        }
    } else {
        for (size_t i = 0; i < n;) {
            size_t end = (at + i) / per * per + per - at;
            float v = x[(at + i) / per];
            for (end = end < n ? end : n; i < end; i++) {
                out[i] = v;
            }
        }
    }
}

void ht_qgrids_expand(const struct ht_qform *f, struct ht_qgrids *g, uint64_t first, size_t n, float *s, float *m) {
    const struct ht_qtensor *w = f->w;
    uint64_t unit = (uint64_t)f->shape.group, all = (w->cols + unit - 1) / unit;
    size_t per = (size_t)(w->groups == 1 ? all : w->run / unit);
    size_t there = all - first < n ? (size_t)(all - first) : n, at = (size_t)first - (size_t)g->first * per;
    size_t groups = (at + there - 1) / per + 1;
    repeat(g->scale, at, per, there, s);
    memset(s + there, 0, (n - there) * sizeof *s);
    if (f->shape.offset != 0) {
        return;
    }
    for (size_t i = 0; i < groups; i++) {
        float shift = w->scheme.zero == HT_ZERO_CODE ? g->scale[i] * (g->shift[i] - f->lo)
                      : w->scheme.zero == HT_ZERO_OFFSET ? -(g->shift[i] + g->scale[i] * f->lo) : 0;
        g->shift[i] = shift;
    }
    repeat(g->shift, at, per, there, m);
    memset(m + there, 0, (n - there) * sizeof *m);
}

static size_t part_bytes(uint64_t n) {
    return ((size_t)n + 7) * sizeof(float) / 64 * 64 + 64;
}

size_t ht_qgrids_bytes(uint64_t n) {
    return 3 * part_bytes(n);
}

void ht_qgrids_place(struct ht_qgrids *g, uint64_t n, void *memory) {
    char *p = memory;
    g->first = 0;
    g->scale = (float *)memory;
    g->shift = (float *)(void *)(p + part_bytes(n));
    g->codes = (int32_t *)(void *)(p + 2 * part_bytes(n));
}
