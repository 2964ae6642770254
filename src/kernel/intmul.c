#include "kernel/intmul.h"

#include <string.h>

#include "base/compiler.h"

#define TILE_BYTES (128u << 10)
#define TILE_MIN_COUNT 32
#define ROWS_MAX_TOKENS 8 /* in passes of HT_ROWS_Q8_TOKENS; docs/measurements/kernels.md, as in matmul.c */

/* ---- pieces --------------------------------------------------------------------------------------------------- */

static uint64_t most(const struct ht_scheme *s) {
    int64_t lo = s->format->code->lo, hi = s->format->code->hi;
    return (uint64_t)(s->zero == HT_ZERO_CODE ? hi - lo : -lo > hi ? -lo : hi);
}

uint64_t ht_int_run_limit(const struct ht_scheme *w, const struct ht_scheme *x) {
    uint64_t limit = (uint64_t)INT32_MAX / (most(w) * most(x));
    return limit > 0 ? limit : 1;
}

static bool plain_integers(const struct ht_scheme *s) {
    const struct ht_code *c = s->format->code;
    return c->levels == NULL && !c->fitted && c->bits > 0 && s->zero != HT_ZERO_OFFSET;
}

bool ht_int_is_served(const struct ht_scheme *w, const struct ht_scheme *x) {
    return plain_integers(w) && w->format->code->hi <= INT16_MAX && plain_integers(x) && x->format->code->bits <= 8;
}

static size_t max_pieces(const struct ht_qtensor *w, size_t n_segments, const struct ht_scheme *x) {
    return (size_t)(w->groups + n_segments + w->cols / ht_int_run_limit(&w->scheme, x) + 1);
}

static size_t max_width(const struct ht_qtensor *w, size_t n_pieces) {
    return ((size_t)w->cols + 3 * n_pieces + 63) & ~(size_t)63;
}

static void cut(struct ht_int_acts *a, const struct ht_qtensor *w, const struct ht_int_x *x) {
    uint64_t limit = ht_int_run_limit(&w->scheme, x->scheme);
    uint32_t at = 0, segment = 0;
    a->n_pieces = 0;
    a->natural = a->vectors = true;
    for (uint64_t k = 0, end; k < w->cols; k = end) {
        segment += segment + 1 < x->n_segments && k >= x->first[segment + 1];
        uint64_t to = segment + 1 < x->n_segments ? x->first[segment + 1] : w->cols, group = k / w->run;
        end = (group + 1) * w->run;
        end = end < to ? end : to;
        end = end - k < limit ? end : k + limit;
        end = end < w->cols ? end : w->cols;
        a->pieces[a->n_pieces++] = (struct ht_int_piece){(uint32_t)k, (uint32_t)end, (uint32_t)group, segment, at};
        a->natural = a->natural && at == k;
        a->vectors = a->vectors && k % 64 == 0;
        at += (uint32_t)(end - k + 3) & ~(uint32_t)3;
    }
    a->width = (at + 63) & ~(size_t)63;
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

static size_t take(size_t *at, size_t bytes) {
    size_t start = *at;
    *at = (start + bytes + 63) & ~(size_t)63;
    return start;
}

struct thread_layout {
    size_t panel, rows, scale, zero, sum, grids, total;
};

static struct thread_layout thread_layout_of(size_t width, size_t n_pieces, uint64_t groups) {
    struct thread_layout l;
    size_t per_row = n_pieces * HT_PANEL_ROWS * sizeof(float), at = 0;
    l.panel = take(&at, width * HT_PANEL_ROWS);
    l.rows = take(&at, 17 * (width + 64));
    l.scale = take(&at, per_row);
    l.zero = take(&at, per_row);
    l.sum = take(&at, per_row);
    l.grids = take(&at, ht_qgrids_bytes(groups > HT_PANEL_ROWS ? groups : HT_PANEL_ROWS));
    l.total = at;
    return l;
}

void ht_int_scratch_place(struct ht_int_scratch *s, const struct ht_qform *f, const struct ht_int_acts *a,
                          void *memory) {
    struct thread_layout l = thread_layout_of(a->width, a->n_pieces, f->w->groups);
    char *base = memory;
    s->panel = (uint8_t *)base + l.panel;
    s->rows = (uint8_t *)base + l.rows;
    s->scale = (float *)(void *)(base + l.scale);
    s->zero = (int32_t *)(void *)(base + l.zero);
    s->sum = (int32_t *)(void *)(base + l.sum);
    ht_qgrids_place(&s->grids, f->w->groups > HT_PANEL_ROWS ? f->w->groups : HT_PANEL_ROWS, base + l.grids);
}

struct layout {
    size_t pieces, q, sum, scale, zero, threads, total;
};

static struct layout layout_of(size_t n_pieces, size_t width, size_t n_tokens) {
    struct layout l;
    size_t at = 0;
    l.pieces = take(&at, n_pieces * sizeof(struct ht_int_piece));
    l.q = take(&at, (n_tokens + 1) * width);
    l.sum = take(&at, n_tokens * n_pieces * sizeof(int32_t));
    l.scale = take(&at, n_tokens * n_pieces * sizeof(float));
    l.zero = take(&at, n_tokens * n_pieces * sizeof(int32_t));
    l.threads = l.total = at;
    return l;
}

size_t ht_int_scratch_bytes(const struct ht_qtensor *w, size_t n_segments, const struct ht_scheme *x, size_t max_tokens,
                            int threads) {
    size_t pieces = max_pieces(w, n_segments, x), width = max_width(w, pieces);
    return layout_of(pieces, width, max_tokens).total +
           (size_t)threads * thread_layout_of(width, pieces, w->groups).total;
}

void ht_int_grids(const struct ht_qform *f, const struct ht_int_acts *a, uint64_t row0, size_t n, size_t stride,
                  struct ht_int_scratch *s) {
    bool one = f->w->groups == 1;
    if (one) {
        ht_qgrids_rows(f, row0, n, &s->grids);
    }
    for (size_t r = 0; r < n; r++) {
        if (!one) {
            ht_qgrids_row(f, row0 + r, 0, f->w->groups, &s->grids);
        }
        for (size_t p = 0; p < a->n_pieces; p++) {
            size_t g = one ? r : a->pieces[p].group;
            s->scale[p * stride + r] = s->grids.scale[g];
            if (a->zeros) {
                s->zero[p * stride + r] = f->w->scheme.zero == HT_ZERO_CODE ? (int32_t)s->grids.shift[g] : 0;
            }
        }
    }
}

/* ---- activations ---------------------------------------------------------------------------------------------- */

void ht_int_begin_with(const struct ht_kernel_table *table, struct ht_int_job *j, const struct ht_qtensor *w,
                       const struct ht_int_x *x, size_t n_tokens, void *scratch) {
    struct ht_int_acts *a = &j->acts;
    size_t pieces = max_pieces(w, x->n_segments, x->scheme);
    struct layout l = layout_of(pieces, max_width(w, pieces), n_tokens);
    char *base = scratch;
    memset(j, 0, sizeof *j);
    j->table = table;
    ht_qform_init(&j->form, w, &table->ops);
    a->n_tokens = n_tokens;
    a->cols = (size_t)w->cols;
    a->shift = x->scheme->format->code->hi > INT8_MAX ? 128 : 0;
    a->zeros = w->scheme.zero == HT_ZERO_CODE || x->scheme->zero == HT_ZERO_CODE || a->shift != 0;
    a->pieces = (struct ht_int_piece *)(void *)(base + l.pieces);
    a->q = (int8_t *)base + l.q;
    a->sum = (int32_t *)(void *)(base + l.sum);
    a->scale = (float *)(void *)(base + l.scale);
    a->zero = (int32_t *)(void *)(base + l.zero);
    j->threads = base + l.threads;
    cut(a, w, x);
    j->thread_bytes = thread_layout_of(a->width, a->n_pieces, w->groups).total;
    if (a->zeros) {
        a->ones = a->q + n_tokens * a->width;
        memset(a->ones, 0, a->width);
        for (size_t p = 0; p < a->n_pieces; p++) {
            memset(a->ones + a->pieces[p].at, 1, a->pieces[p].to - a->pieces[p].from);
        }
    }
}

void ht_int_begin(struct ht_int_job *j, const struct ht_qtensor *w, const struct ht_int_x *x, size_t n_tokens,
                  void *scratch) {
    ht_int_begin_with(ht_kernel_table(), j, w, x, n_tokens, scratch);
}

/* q = codes - shift; their sum. */
HT_CLONES
static int32_t put(const int16_t *codes, size_t n, int32_t shift, int8_t *q) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t v = codes[i] - shift;
        q[i] = (int8_t)v;
        sum += v;
    }
    return sum;
}

void ht_int_token(const struct ht_int_job *j, size_t t, const int16_t *codes, const struct ht_affine *grids) {
    const struct ht_int_acts *a = &j->acts;
    const int32_t factor = a->zeros ? 1 : j->form.w->scheme.format->code->lo;
    int8_t *q = a->q + t * a->width;
    for (size_t p = 0, end; p < a->n_pieces; p++) {
        const struct ht_int_piece *c = &a->pieces[p];
        const struct ht_affine *g = &grids[c->segment];
        size_t i = t * a->n_pieces + p, n = c->to - c->from;
        a->sum[i] = factor * put(codes + c->from, n, a->shift, q + c->at);
        a->scale[i] = g->scale;
        a->zero[i] = g->zero - a->shift;
        end = p + 1 < a->n_pieces ? a->pieces[p + 1].at : a->width;
        memset(q + c->at + n, 0, end - c->at - n);
    }
}

/* ---- the product ---------------------------------------------------------------------------------------------- */

struct run {
    const struct ht_int_job *j;
    ht_int_fn *fn;
    size_t tile_rows, pass; /* rows of a task; tokens of a call */
    float *y;
    size_t y_stride;
};

static void run_task(void *ctx, size_t task, int thread) {
    const struct run *r = ctx;
    const struct ht_int_job *j = r->j;
    uint64_t row0 = task * r->tile_rows, left = j->form.w->rows - row0;
    size_t n_rows = left < r->tile_rows ? (size_t)left : r->tile_rows;
    struct ht_int_acts a = j->acts;
    for (size_t t = 0; t < j->acts.n_tokens; t += r->pass) {
        a.n_tokens = j->acts.n_tokens - t < r->pass ? j->acts.n_tokens - t : r->pass;
        r->fn(&j->form, &a, row0, n_rows, r->y + t * r->y_stride + row0, r->y_stride,
              j->threads + (size_t)thread * j->thread_bytes);
        a.q += r->pass * a.width;
        a.sum += r->pass * a.n_pieces;
        a.scale += r->pass * a.n_pieces;
        a.zero += r->pass * a.n_pieces;
    }
}

static size_t rows_per_tile(const struct ht_qtensor *w) {
    size_t rows = (size_t)(TILE_BYTES / w->row_bytes), most_rows = (size_t)w->rows / TILE_MIN_COUNT;
    rows = rows < most_rows ? rows : most_rows;
    return rows < 16 ? 16 : rows / 16 * 16;
}

void ht_int_run(struct ht_int_job *j, struct ht_pool *pool, float *y, size_t y_stride) {
    const struct ht_qtensor *w = j->form.w;
    size_t T = j->acts.n_tokens;
    struct run r = {.j = j, .fn = j->table->int_tile, .tile_rows = HT_PANEL_ROWS, .pass = T, .y = y};
    r.y_stride = y_stride;
    if (j->form.kind != HT_Q_INTEGER) {
        r.fn = ht_int_ref;
    } else if (T <= ROWS_MAX_TOKENS && j->acts.vectors) {
        r.fn = j->table->int_rows;
        r.tile_rows = rows_per_tile(w);
        r.pass = HT_ROWS_Q8_TOKENS;
    }
    ht_pool_run(pool, (size_t)((w->rows + r.tile_rows - 1) / r.tile_rows), run_task, &r);
}
