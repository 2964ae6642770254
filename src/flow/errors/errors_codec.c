#include "flow/errors.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "tensor/qtensor.h"

/* Fewer values than this per scale say too little of a distribution for a histogram of it. */
#define ENTROPY_RUN 2048u

static int by_value(const void *a, const void *b) {
    float p = *(const float *)a, q = *(const float *)b;
    return (p > q) - (p < q);
}

/* Finite levels, ascending, each once: what range parts and cell widths need. */
static ht_status sort_levels(struct ht_codec *c, ht_err *err) {
    const struct ht_code *code = c->format->code;
    size_t n = (size_t)(code->hi - code->lo) + 1, used = 0;
    c->levels = ht_mem_alloc_array(n, sizeof *c->levels);
    if (c->levels == NULL) {
        return ht_fail_nomem(err, n * sizeof *c->levels);
    }
    for (size_t i = 0; i < n; i++) {
        float v = code->levels[i];
        if (v - v == 0) {
            c->levels[used++] = v;
        }
    }
    qsort(c->levels, used, sizeof *c->levels, by_value);
    size_t kept = 0;
    for (size_t i = 0; i < used; i++) {
        if (kept == 0 || c->levels[i] != c->levels[kept - 1]) {
            c->levels[kept++] = c->levels[i];
        }
    }
    c->grid.levels = c->levels;
    c->grid.lo = 0;
    c->grid.hi = (int)kept - 1;
    return HT_OK;
}

static ht_status parse_scheme(const char *text, struct ht_codec *c, ht_err *err) {
    HT_TRY(ht_scheme_parse(text, &c->scheme, err));
    c->scaled = true;
    c->format = c->scheme.format;
    ht_scheme_text(&c->scheme, c->name);
    c->whole = c->scheme.nested || c->format->code->fitted;
    c->grid = (struct ht_range_grid){NULL, ht_scheme_lo(&c->scheme), ht_scheme_hi(&c->scheme),
                                     c->scheme.zero == HT_ZERO_NONE, c->scheme.zero == HT_ZERO_CODE};
    return c->format->code->levels != NULL && !c->whole ? sort_levels(c, err) : HT_OK;
}

ht_status ht_codec_parse(const char *text, struct ht_codec *c, ht_err *err) {
    char near[128];
    *c = (struct ht_codec){.format = ht_format_find(text)};
    if (strchr(text, ':') != NULL) {
        return parse_scheme(text, c, err);
    }
    if (c->format == NULL) {
        ht_nearest(text, ht_format_name_at, NULL, ht_format_count(), near, sizeof near);
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "no format is called '%.64s'%s%s", text,
                       near[0] != '\0' ? "; did you mean " : "", near);
    }
    if (c->format->kind == HT_KIND_CODE) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                       "%s needs scales: say which weights share one, as in %s:g64, %s:channel or %s:tensor",
                       c->format->name, c->format->name, c->format->name, c->format->name);
    }
    if (c->format->kind == HT_KIND_INT || c->format->encode == NULL) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "weights are not stored as %s", c->format->name);
    }
    snprintf(c->name, sizeof c->name, "%s", c->format->name);
    return HT_OK;
}

ht_status ht_codec_set_range(struct ht_codec *c, const char *range, ht_err *err) {
    HT_TRY(ht_range_parse(range, &c->range, err));
    if (c->range.part->part.needs != HT_NEEDS_NOTHING || c->range.part->streams) {
        return ht_fail(err, HT_INVAL, "range", HT_NO_POS, "%s is not for weights alone: %s", c->range.part->part.name,
                       c->range.part->part.summary);
    }
    snprintf(c->range_name, sizeof c->range_name, "%s", range);
    return HT_OK;
}

void ht_codec_deinit(struct ht_codec *c) {
    ht_mem_free(c->levels);
    c->levels = NULL;
}

bool ht_codec_fits(const struct ht_codec *c, uint64_t cols) {
    if (c->scaled) {
        bool entropy = c->range.part != NULL && strcmp(c->range.part->part.name, "entropy") == 0;
        return !entropy || c->scheme.granularity == HT_PER_TENSOR || ht_scheme_run(&c->scheme, cols) >= ENTROPY_RUN;
    }
    return cols % c->format->block_elems == 0;
}

double ht_codec_bits(const struct ht_codec *c, uint64_t rows, uint64_t cols) {
    struct ht_qtensor q;
    if (!c->scaled) {
        return ht_format_bits(c->format);
    }
    return ht_qtensor_shape(&q, &c->scheme, rows, cols, NULL, NULL) == HT_OK ? ht_qtensor_bits(&q) : 0;
}

const char *ht_codec_group(const struct ht_codec *c) {
    switch (c->format->kind) {
    case HT_KIND_FLOAT: return "floats";
    case HT_KIND_BLOCK: return "blocks with a scale";
    case HT_KIND_KBLOCK: return "blocks with sub-scales";
    case HT_KIND_LUT: return "tables of levels";
    case HT_KIND_LATTICE: return "lattices, trellises";
    default: return "codes with scales";
    }
}

ht_status ht_codec_room_init(struct ht_codec_room *room, uint64_t cols, ht_err *err) {
    *room = (struct ht_codec_room){.y = ht_mem_alloc_array(cols, sizeof *room->y),
                                   .cell = ht_mem_alloc_array(cols, sizeof *room->cell),
                                   .bytes = ht_mem_alloc_array(cols, 8)};
    return room->y == NULL || room->cell == NULL || room->bytes == NULL ? ht_fail_nomem(err, cols * 16) : HT_OK;
}

void ht_codec_room_deinit(struct ht_codec_room *room) {
    ht_mem_free(room->y);
    ht_mem_free(room->cell);
    ht_mem_free(room->bytes);
}

/* ---- formats that bring their scales ------------------------------------------------------------------- */

static void format_row(const struct ht_codec *c, const float *x, uint64_t cols, struct ht_codec_room *room,
                       struct ht_error_sums *sums) {
    const struct ht_format *f = c->format;
    bool cells = ht_error_knows_cells(f);
    f->encode(x, NULL, room->bytes, cols);
    f->decode(room->bytes, room->y, cols);
    if (cells) {
        ht_error_cells(f, room->bytes, x, cols, room->cell);
    }
    ht_error_add(sums, x, room->y, cells ? room->cell : NULL, cols);
}

/* ---- codes with scales from outside -------------------------------------------------------------------- */

static struct ht_affine cover(const struct ht_codec *c, const struct ht_range *r) {
    float low, high;
    ht_range_reach(&c->grid, r, &low, &high);
    return ht_scheme_cover(&c->scheme, low, high);
}

/* Width of the cell of a level, in levels. */
static float level_width(const struct ht_codec *c, float level) {
    int lo = 0, hi = c->grid.hi;
    if (c->levels == NULL) {
        return 1;
    }
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (c->levels[mid] < level) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return ht_error_width(c->levels, c->grid.hi + 1, lo);
}

static void code_run(const struct ht_codec *c, const struct ht_affine *a, const float *x, uint64_t n, float *y,
                     float *cell) {
    for (uint64_t i = 0; i < n; i++) {
        int32_t code = ht_scheme_nearest(&c->scheme, NULL, a, x[i]);
        float level = c->levels != NULL ? ht_code_level(c->format, code) : (float)code;
        bool first = c->levels != NULL ? level <= c->levels[0] : code <= c->grid.lo;
        bool last = c->levels != NULL ? level >= c->levels[c->grid.hi] : code >= c->grid.hi;
        y[i] = ht_scheme_value(&c->scheme, NULL, a, code);
        cell[i] = ht_error_cell(x[i], y[i], a->scale * level_width(c, level), first, last);
    }
}

static ht_status scheme_row(const struct ht_codec *c, const struct ht_affine *tensor, const float *x, uint64_t cols,
                            struct ht_codec_room *room, struct ht_error_sums *sums, ht_err *err) {
    uint64_t run = tensor != NULL ? cols : ht_scheme_run(&c->scheme, cols);
    for (uint64_t i = 0; i < cols; i += run) {
        uint64_t n = cols - i < run ? cols - i : run;
        struct ht_affine a;
        if (tensor != NULL) {
            a = *tensor;
        } else {
            struct ht_range_input in = {.x = x + i, .n = n};
            struct ht_range r;
            HT_TRY(ht_range_fit(&c->range, &in, &c->grid, &r, err));
            a = cover(c, &r);
        }
        code_run(c, &a, x + i, n, room->y + i, room->cell + i);
    }
    ht_error_add(sums, x, room->y, room->cell, cols);
    return HT_OK;
}

ht_status ht_codec_fit_tensor(const struct ht_codec *c, const struct ht_range_state *state, struct ht_affine *out,
                              ht_err *err) {
    struct ht_range_input in = {.state = state};
    struct ht_range r;
    HT_TRY(ht_range_fit(&c->range, &in, &c->grid, &r, err));
    *out = cover(c, &r);
    return HT_OK;
}

ht_status ht_codec_rows(const struct ht_codec *c, const struct ht_affine *tensor, const float *x, uint64_t rows,
                        uint64_t cols, struct ht_codec_room *room, struct ht_error_sums *sums, ht_err *err) {
    for (uint64_t r = 0; r < rows; r++, x += cols) {
        if (c->scaled) {
            HT_TRY(scheme_row(c, tensor, x, cols, room, sums, err));
        } else {
            format_row(c, x, cols, room, sums);
        }
    }
    return HT_OK;
}

/* ---- schemes that look at the whole matrix ------------------------------------------------------------- */

ht_status ht_codec_whole(const struct ht_codec *c, const float *x, uint64_t rows, uint64_t cols, struct ht_pool *pool,
                         struct ht_error_sums *sums, ht_err *err) {
    struct ht_qtensor q;
    struct ht_qtensor_options o = {.name = c->name, .pool = pool};
    float *y = ht_mem_alloc_array(cols, sizeof *y);
    if (y == NULL) {
        return ht_fail_nomem(err, cols * sizeof *y);
    }
    ht_status status = ht_qtensor_init(&q, &c->scheme, rows, cols, c->name, err);
    if (status == HT_OK) {
        status = ht_qtensor_encode(&q, x, &o, NULL, err);
        for (uint64_t r = 0; r < rows && status == HT_OK; r++) {
            ht_qtensor_decode(&q, r, 1, y);
            ht_error_add(sums, x + r * cols, y, NULL, cols);
        }
        ht_qtensor_deinit(&q);
    }
    ht_mem_free(y);
    return status;
}
